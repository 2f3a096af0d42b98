"""Which flux column of a reference catalogue stands for a band of the camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.refcats.errors import RefcatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["flux_column"]


def flux_column(
    names: Iterable[str],
    band: str | None,
    *,
    any_filter_maps_to_this: str | None = None,
    filter_map: Mapping[str, str] | None = None,
) -> str:
    """Name of the reference flux column for a band of the camera.

    Parameters
    ----------
    names : iterable of str
        Columns of the reference catalogue.
    band : str or None
        Band of the exposure.
    any_filter_maps_to_this : str, optional
        Reference passband to take whatever the band is.
    filter_map : mapping of str to str, optional
        Camera band to reference passband; a lookup without any bandpass correction.

    Returns
    -------
    str
        ``<passband>_flux``.

    Raises
    ------
    RefcatError
        ``refcat.no_filter``: no such column. ``refcat.bad_filter_map``: both ways of choosing are given.
    """
    names = set(names)
    if any_filter_maps_to_this is not None and filter_map:
        raise RefcatError("refcat.bad_filter_map", "any_filter_maps_to_this and filter_map exclude each other")
    if any_filter_maps_to_this is not None:
        wanted = any_filter_maps_to_this
    else:
        wanted = (filter_map or {}).get(band or "", band or "")
    if f"{wanted}_flux" in names:
        return f"{wanted}_flux"
    bands = sorted(name.removesuffix("_flux") for name in names if name.endswith("_flux"))
    raise RefcatError(
        "refcat.no_filter",
        f"the reference catalogue has no passband '{wanted}' for band '{band}'; it has {', '.join(bands) or 'none'}",
        band=band,
        bands=bands,
    )
