"""JSON pointers into a document as it was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["json_pointer", "pointer_into"]


def json_pointer(location: Sequence[str | int]) -> str:
    """RFC 6901 pointer of a path into a document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def pointer_into(document: Any, location: Sequence[str | int], kind: str) -> str:
    """Pointer to a fault.

    Parameters
    ----------
    document : Any
        The JSON value that was validated.
    location : sequence of str or int
        Where the validator saw the fault. Where one of several models is chosen, this path names the choice too; that
        part is in no document and is left out.
    kind : str
        The validator's name of the fault; ``missing`` ends in a part that is not in the document and belongs there.
    """
    kept: list[str | int] = []
    node = document
    for index, part in enumerate(location):
        inside = isinstance(node, dict) and part in node
        if isinstance(node, list) and isinstance(part, str) and part.isdigit():
            part = int(part)
        inside = inside or (isinstance(node, list) and isinstance(part, int) and part < len(node))
        if inside:
            node = node[part]
            kept.append(part)
        elif kind == "missing" and index == len(location) - 1:
            kept.append(part)
    return json_pointer(kept)
