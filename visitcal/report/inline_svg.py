"""Figures inside a page: without scripts, addresses or names that meet those of other figures."""

from __future__ import annotations

import re
from itertools import accumulate
from xml.etree import ElementTree as ET

__all__ = ["SvgError", "inline_svg"]

SVG = "http://www.w3.org/2000/svg"
_ELEMENTS = frozenset(
    {
        "svg", "g", "defs", "style", "title", "desc", "path", "polyline", "polygon", "line", "rect", "circle",
        "ellipse", "text", "tspan", "image", "clipPath", "linearGradient", "radialGradient", "stop", "marker",
        "pattern", "use",
    }
)  # fmt: skip
_ID_LISTS = frozenset({"aria-labelledby", "aria-describedby"})
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]*")
_LOCAL = re.compile(r"url\(\s*['\"]?#([^'\")\s]+)['\"]?\s*\)")


class SvgError(ValueError):
    """The figure is no SVG document."""


def inline_svg(document: bytes, name: str) -> str:
    """A figure as an element of a page.

    Elements that draw nothing, handlers of events and addresses outside the figure are left out; ids, and what refers
    to them, begin with `name`; rules of style hold inside the figure only.

    Parameters
    ----------
    document : bytes
        SVG.
    name : str
        Id of the figure, unlike that of any other.

    Raises
    ------
    SvgError
        It is no SVG, or declares entities.
    """
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document:
        raise SvgError("a figure with a document type may unfold without end")
    try:
        root = ET.fromstring(document)  # noqa: S314 - what is dangerous needs a document type
    except ET.ParseError as error:
        raise SvgError(f"not SVG: {error}") from error
    if root.tag != f"{{{SVG}}}svg":
        raise SvgError("not SVG")
    _clean(root, name)
    root.set("id", name)
    root.attrib.pop("height", None)  # it follows from the width: a narrow page makes that smaller
    return ET.tostring(root, encoding="unicode").strip()


def _clean(element: ET.Element, name: str) -> None:
    for child in list(element):
        space, _, tag = str(child.tag)[1:].partition("}")
        if space != SVG or tag not in _ELEMENTS:
            element.remove(child)
        else:
            _clean(child, name)
    if element.tag == f"{{{SVG}}}style":
        element.text = _scoped(element.text or "", name)
    element.tag = str(element.tag).rpartition("}")[2]
    element.attrib = {
        key.rpartition("}")[2]: cleaned
        for key, value in element.attrib.items()
        if (cleaned := _attribute(key, value, name)) is not None
    }


def _attribute(key: str, value: str, name: str) -> str | None:
    """What becomes of an attribute; None where it goes."""
    plain = key.rpartition("}")[2].lower()
    if plain.startswith("on") or (key.startswith("{") and plain != "href"):
        return None
    if plain == "href":
        return _reference(value, name)
    if plain == "id":
        return f"{name}-{value}"
    if plain in _ID_LISTS:
        return " ".join(f"{name}-{one}" for one in value.split())
    foreign = _LOCAL.sub("", value).lower()
    return None if "url(" in foreign or "\\" in foreign else _LOCAL.sub(rf"url(#{name}-\1)", value)


def _reference(value: str, name: str) -> str | None:
    if value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return value if _PICTURE.fullmatch(value) else None


def _scoped(rules: str, name: str) -> str:
    """Rules of style, nested in the figure; what imports or escapes is left out."""
    depth = list(accumulate((sign == "{") - (sign == "}") for sign in rules))
    is_closed = not depth or (min(depth) >= 0 and depth[-1] == 0)
    if not is_closed or re.search(r"@import|url\(|\\|<|/\*|[\"']", rules, re.IGNORECASE):
        return ""
    return f"#{name} {{ {rules} }}"
