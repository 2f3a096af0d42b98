"""What a program writes into a document that is written by hand otherwise: it stands between two marks."""

from __future__ import annotations

__all__ = ["with_marked_text"]


def with_marked_text(document: str, name: str, text: str) -> str:
    r"""A document with a text between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``, instead of what stood there.

    Raises
    ------
    ValueError
        It has no such marks.

    Examples
    --------
    >>> with_marked_text("<!-- n: begin -->\n1\n<!-- n: end -->\n", "n", "2\n")
    '<!-- n: begin -->\n2\n<!-- n: end -->\n'
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the document has no marks for {name}")
    return f"{before}{begin}{text}{end}{after}"
