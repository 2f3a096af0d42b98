"""Reference stars as the calibration sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from service.exposure.catalog import Column, Schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.exposure.catalog import SourceCatalog
    from service.exposure.geometry import Box
    from service.exposure.wcs import Wcs

__all__ = ["ReferenceCatalog", "ReferenceLoader", "reference_schema"]

_POSITION = (
    Column("id", "i8", "", "identifier, unique in the catalogue"),
    Column("coord_ra", "f8", "rad", "ICRS right ascension at the epoch of the exposure"),
    Column("coord_dec", "f8", "rad", "ICRS declination at the epoch of the exposure"),
    Column("coord_raErr", "f4", "rad", "error of right ascension times cos(dec), 1 sigma"),
    Column("coord_decErr", "f4", "rad", "error of declination, 1 sigma"),
    Column("epoch", "f8", "d", "MJD (TAI) of the catalogue position"),
    Column("pm_ra", "f8", "rad/yr", "proper motion in right ascension times cos(dec)"),
    Column("pm_dec", "f8", "rad/yr", "proper motion in declination"),
    Column("pm_raErr", "f4", "rad/yr", "error of pm_ra"),
    Column("pm_decErr", "f4", "rad/yr", "error of pm_dec"),
    Column("parallax", "f8", "rad", "parallax"),
    Column("parallaxErr", "f4", "rad", "error of the parallax"),
    Column("pm_flag", "?", "", "proper motion unusable"),
    Column("parallax_flag", "?", "", "parallax unusable"),
    Column("centroid_x", "f8", "pix", "pixel position by the current WCS, parent frame"),
    Column("centroid_y", "f8", "pix", "pixel position by the current WCS, parent frame"),
    Column("hasCentroid", "?", "", "the pixel position is set"),
)


def reference_schema(bands: Sequence[str], extra: Sequence[Column] = ()) -> Schema:
    """Columns of a reference catalogue with some passbands.

    Parameters
    ----------
    bands : sequence of str
        Names of the reference passbands: each has ``<band>_flux`` and ``<band>_fluxErr`` in nJy.
    extra : sequence of Column
        Further columns of the catalogue, e.g. ``photometric``, ``resolved``, ``variable``.
    """
    fluxes = [
        column
        for band in bands
        for column in (
            Column(f"{band}_flux", "f8", "nJy", f"flux in {band}"),
            Column(f"{band}_fluxErr", "f8", "nJy", f"error of the flux in {band}"),
        )
    ]
    return Schema([*_POSITION, *fluxes, *extra])


@dataclass(slots=True)
class ReferenceCatalog:
    """References of one region at the epoch of the exposure.

    Parameters
    ----------
    table : SourceCatalog
        Columns of `reference_schema`, without footprints.
    bands : tuple of str
        Reference passbands.
    name : str
        Catalogue name, for provenance.
    metadata : dict
        RA, DEC, RADIUS (deg) of the loaded region, JEPOCH and the like.
    has_proper_motion : bool
        The catalogue has epochs and proper motions, so that its positions could be moved to the epoch asked for.
    """

    table: SourceCatalog
    bands: tuple[str, ...]
    name: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    has_proper_motion: bool = False

    def __len__(self) -> int:
        return len(self.table)


class ReferenceLoader(Protocol):
    """Where the calibration gets references from; positions come back at ``epoch``."""

    name: str
    bands: tuple[str, ...]

    def load_pixel_box(
        self, bbox: Box, wcs: Wcs, *, margin: int, epoch: float, parallax: bool = False
    ) -> ReferenceCatalog:
        """References that fall in ``bbox`` grown by ``margin`` pixels, with ``centroid_x/y``.

        Parameters
        ----------
        bbox : Box
            Of the exposure.
        wcs : Wcs
            Current WCS.
        margin : int
            Pixels added on each side.
        epoch : float
            MJD TAI to which proper motions are applied; NaN applies none.
        parallax : bool
            Also shift by the parallax, to where the stars are seen from the Earth at the epoch.
        """

    def load_circle(
        self, ra: float, dec: float, radius: float, *, epoch: float, parallax: bool = False
    ) -> ReferenceCatalog:
        """References within ``radius`` of a position, all in deg."""
