"""Lists that come in pages, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visitcal.steps import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from visitcal.steps import Listing
    from visitcal.transport import Transport

__all__ = ["pages"]


def pages(
    transport: Transport,
    path: str,
    params: Mapping[str, Any],
    *,
    limit: int | None,
    size: int,
    make: Callable[[Any], Any] = lambda document: document,
) -> Listing[Any]:
    """The items of a list, fetched page by page as they are taken.

    Parameters
    ----------
    transport : Transport
        How to ask.
    path : str
        Of the list.
    params : mapping
        Query parameters of every page.
    limit : int or None
        So many items at most.
    size : int
        Of a page.
    make : callable
        What becomes of an item.
    """
    after: str | None = None
    left = limit
    while left is None or left > 0:
        page = yield from transport.get(path, **params, limit=size if left is None else min(left, size), after=after)
        for item in page["items"]:
            yield Item(make(item))
        after = page["next"]
        if after is None:
            return
        if left is not None:
            left -= len(page["items"])
