"""From the columns of somebody's file to ours: names, units, magnitudes to fluxes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from service.refcats.errors import RefcatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["ColumnPlan", "Table", "plan_columns"]

Table = dict[str, "NDArray[Any]"]

_AB_ZERO_NJY = 31.4
_POGSON = np.log(10.0) / 2.5
_YEAR_OF_MJD_0 = 2000.0 - 51544.5 / 365.25
#: Julian years that an epoch may be.
_YEARS = (1800.0, 2200.0)

#: Our columns, the unit that they are stored in, and what other catalogues call them.
_POSITION: dict[str, tuple[str, tuple[str, ...]]] = {
    "id": ("", ("id", "source_id", "objid", "objID", "ID", "Source")),
    "ra": ("deg", ("ra", "RA", "RA_ICRS", "raMean", "coord_ra", "RAJ2000", "ALPHA_J2000")),
    "dec": ("deg", ("dec", "DEC", "Dec", "DE_ICRS", "decMean", "coord_dec", "DEJ2000", "DELTA_J2000")),
    "ra_err": ("mas", ("ra_err", "ra_error", "raErr", "e_RA_ICRS", "coord_raErr")),
    "dec_err": ("mas", ("dec_err", "dec_error", "decErr", "e_DE_ICRS", "coord_decErr")),
    "pmra": ("mas/yr", ("pmra", "pm_ra", "pmRA")),
    "pmdec": ("mas/yr", ("pmdec", "pm_dec", "pmDE")),
    "pmra_err": ("mas/yr", ("pmra_err", "pmra_error", "pm_raErr", "e_pmRA")),
    "pmdec_err": ("mas/yr", ("pmdec_err", "pmdec_error", "pm_decErr", "e_pmDE")),
    "parallax": ("mas", ("parallax", "Plx")),
    "parallax_err": ("mas", ("parallax_err", "parallax_error", "parallaxErr", "e_Plx")),
    "epoch": ("yr", ("epoch", "ref_epoch", "Epoch")),
}
_FLAGS = ("photometric", "resolved", "variable")
#: Columns that a refusal names.
_LISTED = 20
_REQUIRED = ("ra", "dec")
_PHOTOMETRY = re.compile(r"^(?P<band>.+?)_(?P<kind>mag|mag_?[eE]rr(or)?|flux|flux_?[eE]rr(or)?)$")
#: Gaia's fluxes are electrons per second; these are the AB magnitudes of one.
_GAIA_ZERO_POINTS = {"phot_g_mean": 25.7934, "phot_bp_mean": 25.3806, "phot_rp_mean": 25.1161}


@dataclass(frozen=True, slots=True)
class _Photometry:
    """Where the flux of one band comes from."""

    value: str
    error: str | None
    is_magnitude: bool
    offset: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How to turn chunks of one file into our columns.

    Parameters
    ----------
    columns : dict of str to (str, float)
        Our name to their name and the factor to our unit.
    bands : dict of str to _Photometry
        Band to its source.
    epoch : float or None
        Julian year of all rows, where there is no column.
    flags : dict of str to str
        Our boolean columns to theirs.
    """

    columns: dict[str, tuple[str, float]]
    bands: dict[str, _Photometry]
    epoch: float | None = None
    flags: dict[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> list[str]:
        """Columns to read from the file."""
        theirs = [name for name, _ in self.columns.values()]
        for photometry in self.bands.values():
            theirs += [name for name in (photometry.value, photometry.error) if name is not None]
        theirs += self.flags.values()
        return list(dict.fromkeys(theirs))

    @property
    def names(self) -> list[str]:
        """Our columns in the order of the store."""
        present = [name for name in _POSITION if name in self.columns or name == "id" or self._is_constant(name)]
        fluxes = [f"{band}_{kind}" for band in self.bands for kind in ("flux", "fluxErr")]
        return [*present, *fluxes, *self.flags]

    def _is_constant(self, name: str) -> bool:
        return name == "epoch" and self.epoch is not None

    def apply(self, chunk: Table, first_row: int) -> Table:
        """Our columns of a chunk.

        Parameters
        ----------
        chunk : dict of str to ndarray
            Their columns, missing values as NaN.
        first_row : int
            Number of rows before this chunk; becomes the id where there is none.

        Raises
        ------
        RefcatError
            ``refcat.bad_values``: a coordinate is outside its range, or a column is not numeric.
        """
        n = len(next(iter(chunk.values())))
        table: Table = {}
        for name in self.names:
            if name in self.columns:
                theirs, factor = self.columns[name]
                table[name] = _numeric(chunk[theirs], theirs, name) * factor if name != "id" else _ids(chunk[theirs])
                if name == "epoch":
                    table[name] = _julian_years(table[name], theirs, in_days=factor != 1.0)
            elif name == "id":
                table[name] = np.arange(first_row + 1, first_row + n + 1, dtype=np.int64)
            elif name == "epoch":
                table[name] = np.full(n, self.epoch)
        for name, theirs in self.flags.items():
            table[name] = _numeric(chunk[theirs], theirs, name) > 0.5
        for band, photometry in self.bands.items():
            table[f"{band}_flux"], table[f"{band}_fluxErr"] = _fluxes(chunk, photometry)
        return _checked({name: table[name] for name in self.names})


def plan_columns(
    units: Mapping[str, str],
    *,
    mapping: Mapping[str, str] | None = None,
    epoch: float | None = None,
    magnitude_offsets: Mapping[str, float] | None = None,
) -> ColumnPlan:
    """Decide where each of our columns comes from.

    Parameters
    ----------
    units : mapping of str to str
        Columns of the file and their units, empty where the file gives none.
    mapping : mapping of str to str, optional
        Our name to the file's; comes before the names recognised by themselves.
    epoch : float, optional
        Julian year of the positions, where no column has it.
    magnitude_offsets : mapping of str to float, optional
        Per band, added to magnitudes to make them AB.

    Returns
    -------
    ColumnPlan

    Raises
    ------
    RefcatError
        ``refcat.missing_column``: no position or no such column; ``refcat.bad_unit``: a unit cannot be converted;
        ``refcat.bad_mapping``: the mapping names something that is no column of ours.
    """
    mapping = dict(mapping or {})
    offsets = dict(magnitude_offsets or {})
    for ours, theirs in mapping.items():
        if ours not in _POSITION and ours not in _FLAGS and _PHOTOMETRY.match(ours) is None:
            raise RefcatError("refcat.bad_mapping", f"'{ours}' is not a reference column; ra, dec, r_mag, ... are")
        if theirs not in units:
            raise RefcatError("refcat.missing_column", f"the file has no column '{theirs}' for '{ours}'", column=theirs)
    columns = _positions(units, mapping)
    bands = _bands(units, mapping, offsets)
    if not bands:
        raise RefcatError(
            "refcat.missing_column",
            "the file has no magnitude or flux: name one <band>_mag (AB) or <band>_flux (nJy), or map it; "
            f"there are {_listed(units)}",
            columns=list(units),
        )
    unknown = sorted(set(offsets) - set(bands))
    if unknown:
        raise RefcatError("refcat.bad_mapping", f"magnitude offset for a band that is not there: {', '.join(unknown)}")
    flags = {name: mapping.get(name, name) for name in _FLAGS if mapping.get(name, name) in units}
    return ColumnPlan(columns, bands, None if "epoch" in columns else epoch, flags)


def _listed(names: Iterable[str]) -> str:
    first = [f"{name:.60}" for name in islice(names, _LISTED + 1)]
    return ", ".join(first[:_LISTED]) + (", ..." if len(first) > _LISTED else "")


def _positions(units: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, tuple[str, float]]:
    columns: dict[str, tuple[str, float]] = {}
    upstream = mapping.get("ra", "coord_ra") == "coord_ra" and not {"ra", "RA"} & set(units)
    for ours, (unit, known_names) in _POSITION.items():
        candidates = (mapping[ours],) if ours in mapping else known_names
        theirs = next((name for name in candidates if name in units), None)
        if theirs is not None:
            given = units[theirs] or (_in_radians(unit) if upstream else unit)
            columns[ours] = (theirs, _factor(given, unit, theirs))
        elif ours in _REQUIRED:
            raise RefcatError(
                "refcat.missing_column", f"the file has no column for '{ours}'", column=ours, columns=list(units)
            )
    return columns


def _in_radians(unit: str) -> str:
    """Unit of a column without one in a catalogue with Rubin's names, whose angles are radians."""
    return {"deg": "rad", "mas": "rad", "mas/yr": "rad/yr"}.get(unit, unit)


def _bands(
    units: Mapping[str, str], mapping: Mapping[str, str], offsets: Mapping[str, float]
) -> dict[str, _Photometry]:
    theirs_of = {name: name for name in units if _PHOTOMETRY.match(name) and name not in mapping.values()}
    theirs_of.update({ours: theirs for ours, theirs in mapping.items() if _PHOTOMETRY.match(ours)})
    found: dict[str, dict[str, str]] = {}
    for ours, theirs in theirs_of.items():
        match = _PHOTOMETRY.match(ours)
        if match is not None:
            kind = match["kind"].lower().replace("_", "").replace("error", "err")
            found.setdefault(match["band"], {})[kind] = theirs
    bands: dict[str, _Photometry] = {}
    for band, kinds in found.items():
        if "flux" in kinds:
            scale = _flux_scale(band, kinds["flux"], units[kinds["flux"]])
            bands[band] = _Photometry(kinds["flux"], kinds.get("fluxerr"), is_magnitude=False, scale=scale)
        elif "mag" in kinds:
            bands[band] = _Photometry(kinds["mag"], kinds.get("magerr"), is_magnitude=True, offset=offsets.get(band, 0))
    return bands


def _flux_scale(band: str, name: str, unit: str) -> float:
    """NJy of one unit of a flux column."""
    if band in _GAIA_ZERO_POINTS and not unit.lower().endswith("jy"):
        return float(10.0 ** ((_AB_ZERO_NJY - _GAIA_ZERO_POINTS[band]) / 2.5))
    return _factor(unit or "nJy", "nJy", name)


def _factor(given: str, wanted: str, name: str) -> float:
    """Factor from a unit to ours."""
    if given == wanted or not wanted:
        return 1.0
    from astropy import units as u

    try:
        return float(u.Unit(given.strip("'\" ")).to(u.Unit(wanted)))
    except (ValueError, TypeError) as error:
        raise RefcatError(
            "refcat.bad_unit", f"column '{name}' is in '{given}', which is no {wanted}", column=name, unit=given
        ) from error


def _numeric(values: NDArray[Any], theirs: str, ours: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise RefcatError(
            "refcat.bad_values", f"column '{theirs}' (for '{ours}') is not numeric", column=theirs
        ) from error


def _ids(values: NDArray[Any]) -> NDArray[np.int64]:
    try:
        whole = values.dtype.kind != "f" or bool(np.all(values == np.floor(values)))
        ids = values.astype(np.int64) if whole else None
    except (ValueError, TypeError, OverflowError):
        ids = None
    if ids is None:
        raise RefcatError("refcat.bad_values", "the identifiers are not whole numbers", column="id")
    return ids


def _julian_years(epochs: NDArray[np.float64], theirs: str, *, in_days: bool) -> NDArray[np.float64]:
    """Epochs as Julian years; those in days, as in Rubin's catalogues, count from MJD 0."""
    known = epochs[np.isfinite(epochs)]
    if not in_days and known.size and known.min() > 10_000:  # MJD without a unit
        epochs, in_days = epochs / 365.25, True
    years = epochs + _YEAR_OF_MJD_0 if in_days else epochs
    known = years[np.isfinite(years)]
    if known.size and not (known.min() > _YEARS[0] and known.max() < _YEARS[1]):
        raise RefcatError(
            "refcat.bad_values", f"column '{theirs}' (for 'epoch') is neither Julian years nor MJD", column=theirs
        )
    return years


def _fluxes(chunk: Mapping[str, NDArray[Any]], source: _Photometry) -> tuple[NDArray[Any], NDArray[Any]]:
    """Flux and its error in nJy; NaN for absurd magnitudes (99, -999), which mark what was not measured."""
    value = _numeric(chunk[source.value], source.value, source.value)
    error = np.full(value.shape, np.nan)
    if source.error is not None:
        error = _numeric(chunk[source.error], source.error, source.error)
    if not source.is_magnitude:
        return value * source.scale, error * source.scale
    value = np.where((value > -30) & (value < 50), value + source.offset, np.nan)
    flux = 10.0 ** ((_AB_ZERO_NJY - value) / 2.5)
    return flux, flux * np.where((error >= 0) & (error < 50), error, np.nan) * _POGSON


def _checked(table: Table) -> Table:
    ra, dec = table["ra"], table["dec"]
    finite = np.isfinite(ra) & np.isfinite(dec)
    if np.any(np.abs(dec[finite]) > 90.0) or np.any(np.abs(ra[finite]) > 360.0):
        raise RefcatError("refcat.bad_values", "coordinates outside 0..360 and -90..90 degrees: is the unit right?")
    table = {name: values[finite] for name, values in table.items()}
    table["ra"] = np.mod(table["ra"], 360.0)
    return table


def band_names(names: Iterable[str]) -> tuple[str, ...]:
    """Passbands of stored columns."""
    return tuple(name.removesuffix("_flux") for name in names if name.endswith("_flux"))
