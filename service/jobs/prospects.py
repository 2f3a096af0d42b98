"""What a job could compute of a file, what it lacks, and how to give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.refcats.coverage import is_far

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.formats import Inspection

__all__ = ["LACKS", "Prospect", "References", "prospects"]

#: What it costs to go without, and how to give it.
LACKS: dict[str, tuple[str, str]] = {
    "gain": (
        "the noise is taken from the image alone, the same for bright pixels and faint ones",
        "metadata gain, in electrons per count; or a companion variance, weight, ivar or sigma",
    ),
    "read_noise": ("it is taken as 0 where the variance is built", "metadata read_noise, in electrons"),
    "exposure_time": ("effective time and magnitudes per second are not known", "metadata exposure_time, in seconds"),
    "band": ("photometric references cannot be chosen", "metadata band: u, g, r, i, z, y or another of the catalogue"),
    "mjd": ("references are taken at their own epoch", "metadata mjd, TAI, of mid-exposure"),
    "wcs": ("stars cannot be matched with references", "metadata ra, dec (deg) and pixel_scale (arcsec)"),
    "variance": ("it is built from gain and read noise, or measured", "a companion variance, weight, ivar or sigma"),
}


@dataclass(frozen=True, slots=True)
class References:
    """A reference catalogue for one of the uses.

    Parameters
    ----------
    name : str
        How it was named.
    bands : tuple of str or None
        Its passbands; None where it is not there.
    info : mapping or None
        What its ingest noted; None where only its host knows.
    """

    name: str
    bands: tuple[str, ...] | None
    info: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Prospect:
    """Whether something can be computed.

    Parameters
    ----------
    possible : bool
        As far as headers tell.
    reason, remedy : str or None
        Why not, and what would help.
    """

    possible: bool
    reason: str | None = None
    remedy: str | None = None


_YES = Prospect(possible=True)


def prospects(
    inspection: Inspection,
    problem: str | None,
    references: Mapping[str, References | None],
    loader: Mapping[str, Any],
) -> dict[str, Prospect]:
    """What would come of a job.

    Parameters
    ----------
    inspection : Inspection
        What the headers say.
    problem : str or None
        Why nothing would.
    references : mapping
        Catalogue by use (``astrometry``, ``photometry``); None where none is named.
    loader : mapping
        ``filter_map`` and ``any_filter_maps_to_this`` of the photometric references.
    """
    if problem is not None:
        return dict.fromkeys(("image", "astrometry", "photometry"), Prospect(possible=False, reason=problem))
    astrometry = _matched(inspection, references.get("astrometry"), "astrometry")
    photometry = _matched(inspection, references.get("photometry"), "photometry")
    if photometry.possible:
        photometry = _passband(inspection, references["photometry"], loader)
    return {"image": _YES, "astrometry": astrometry, "photometry": photometry}


def _matched(inspection: Inspection, references: References | None, use: str) -> Prospect:
    if references is None:
        return Prospect(
            possible=False, reason="no reference catalogue is named", remedy=f"references, or {use}: its name"
        )
    if references.bands is None:
        return Prospect(
            possible=False, reason=f"there is no reference catalogue {references.name}", remedy="see /v1/refcats"
        )
    if "wcs" in inspection.missing:
        return Prospect(possible=False, reason="the pointing is not known", remedy=LACKS["wcs"][1])
    ra, dec = (inspection.values.get(name) for name in ("ra", "dec"))
    if references.info is not None and ra is not None and dec is not None and is_far(references.info, ra, dec):
        reason = f"{references.name} has no stars around RA {ra:.3f}, Dec {dec:.3f}"
        return Prospect(possible=False, reason=reason, remedy="another catalogue, or metadata ra, dec (deg)")
    return _YES


def _passband(inspection: Inspection, references: References | None, loader: Mapping[str, Any]) -> Prospect:
    bands: Sequence[str] = (references.bands or ()) if references is not None else ()
    band = inspection.values.get("band")
    wanted = loader.get("any_filter_maps_to_this")
    if wanted is None and band is None:
        return Prospect(possible=False, reason="the band is not known", remedy=LACKS["band"][1])
    wanted = wanted or (loader.get("filter_map") or {}).get(band, band)
    if wanted not in bands:
        return Prospect(
            possible=False,
            reason=f"the catalogue has no passband {wanted} for the band {band}; it has {', '.join(bands) or 'none'}",
            remedy="config photometry.ref_loader.filter_map or any_filter_maps_to_this, or another catalogue",
        )
    return _YES
