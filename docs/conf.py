"""Sphinx reads this: how docs/ becomes a site (``make docs``)."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "visitcal"
author = "The visitcal developers"
version = release = installed_version("visitcal")

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build", "making"]
nitpicky = True
# The libraries' own pages are elsewhere, and a build asks nobody.
nitpick_ignore_regex = [
    ("py:.*", r"(astropy|collections|httpx|numpy|pathlib|photutils|types|typing|pydantic)\..*"),
    ("py:.*", r"(Path|Any|Self|Table|CCDData|Literal\[.*|Callable\[.*|Mapping\[.*|TracebackType)"),
]

myst_enable_extensions = ["colon_fence", "dollarmath", "fieldlist"]
myst_heading_anchors = 4  # the anchors that forges give headings
suppress_warnings = ["myst.header"]  # tables of many rows stand below deeper headings

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc says the types
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = f"visitcal {release}"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
math_number_all = False
