"""The zero point, star by star."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.analysis.diagnostics.diagnostic import Diagnostic, MissingError, Quantity, Series, histogram, spread
from service.analysis.plot import Bars, Line, Panel, Points
from service.exposure.photo_calib import nanojansky_to_abmag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.analysis.diagnostics.results import JobResults
    from service.exposure.catalog import SourceCatalog

__all__ = ["zero_point"]

_WIDTH = 6.0  # of the histogram, in scatters to each side


def zero_point(results: JobResults) -> Diagnostic:
    """Reference less instrumental magnitude: histogram with the limits of the clip, by magnitude and by colour."""
    matches = results.table("photometry_matches")
    photometry = results.config.get("photometry") or {}
    band = _band(matches, results, photometry.get("ref_loader") or {})
    flux_field = f"src_{photometry.get('flux_field', 'slot_CalibFlux_instFlux')}"
    if flux_field not in matches:
        raise MissingError(f"The matches have no column {flux_field}.")
    flux = np.asarray(matches[flux_field], np.float64)
    instrumental = np.full(len(flux), np.nan)
    np.log10(flux, out=instrumental, where=flux > 0)
    instrumental *= -2.5
    reference = nanojansky_to_abmag(matches[f"ref_{band}_flux"])
    difference = reference - instrumental
    if not np.isfinite(difference).any():
        raise MissingError("No pair has two magnitudes.")
    median, sigma = spread(difference)
    fitted, scatter = results.number("metadata", "zero_point"), results.number("metadata", "zero_point_scatter")
    center = fitted if np.isfinite(fitted) else median
    width = scatter if np.isfinite(scatter) and scatter > 0 else sigma
    clip = float(photometry.get("n_sigma", 3.0)) * max(width, 1e-4)
    color_name, color = _color(matches, results, band)
    columns = {
        "x": Series(matches["src_slot_Centroid_x"], "pix", "centroid, parent frame"),
        "y": Series(matches["src_slot_Centroid_y"], "pix", "centroid, parent frame"),
        "reference_magnitude": Series(reference, "mag", f"AB magnitude of the reference in {band}"),
        "difference": Series(difference, "mag", "reference less instrumental magnitude"),
    }
    if color_name:
        columns["color"] = Series(color, "mag", f"{color_name} of the reference")
    panels = _panels(difference, reference, center, clip, band)
    if color_name:
        colored = _against(color, difference, center, clip, "by colour", f"{color_name} [mag]")
        panels.append(colored)
    numbers = _numbers(results, difference, median, sigma)
    note = "Dashed: the zero point and the limits of the clip, as its last pass has them but for its centre."
    if photometry.get("apply_color_terms"):
        note += " The zero point has colour terms, which the differences here do not."
    return Diagnostic(numbers, {"matches": columns}, tuple(panels), note)


def _numbers(results: JobResults, difference: NDArray[np.float64], median: float, sigma: float) -> dict[str, Quantity]:
    fitted = {
        "zero_point": ("mag", "AB magnitude of one count, as fitted"),
        "zero_point_sigma": ("mag", "its formal error"),
        "zero_point_scatter": ("mag", "MAD sigma of the stars behind it"),
    }
    numbers = {name: Quantity(results.number("metadata", name), unit, doc) for name, (unit, doc) in fitted.items()}
    pairs = int(np.isfinite(difference).sum())
    return numbers | {
        "zero_point_n_stars": Quantity(results.count("metadata", "zero_point_n_stars"), "", "stars behind it"),
        "n_matches": Quantity(pairs, "", "pairs with two magnitudes"),
        "difference_median": Quantity(median, "mag", "median over all pairs, clipped ones too"),
        "difference_scatter": Quantity(sigma, "mag", "MAD sigma over all pairs"),
    }


def _band(matches: SourceCatalog, results: JobResults, loader: object) -> str:
    """Passband of the references, chosen as the calibration chooses it."""
    settings = loader if isinstance(loader, dict) else {}
    own = None if results.file is None else results.file.about.filter.band
    mapped = (settings.get("filter_map") or {}).get(own)
    for band in (settings.get("any_filter_maps_to_this"), mapped, own):
        if band is not None and f"ref_{band}_flux" in matches:
            return str(band)
    raise MissingError("The matches have no reference flux in the band of the exposure.")


def _color(matches: SourceCatalog, results: JobResults, band: str) -> tuple[str, NDArray[np.float64]]:
    """A colour of the references, that of the calibration where it says one; no name where there is none."""
    named = results.metadata.get("zero_point_color")
    bands = named.split("-") if isinstance(named, str) else []
    if len(bands) != 2 or not all(f"ref_{name}_flux" in matches for name in bands):
        names = [name[4:-5] for name in matches.schema.names if name.startswith("ref_") and name.endswith("_flux")]
        bands = [band, next((name for name in names if name != band), band)]
        if bands[0] == bands[1]:
            return "", np.zeros(0)
    first, second = (nanojansky_to_abmag(matches[f"ref_{name}_flux"]) for name in bands)
    return f"{bands[0]} - {bands[1]}", first - second


def _panels(
    difference: NDArray[np.float64], reference: NDArray[np.float64], center: float, clip: float, band: str
) -> list[Panel]:
    reach = _WIDTH / 3.0 * clip
    edges, counts = histogram(difference, center - reach, center + reach)
    top = float(counts.max(initial=1.0)) * 1.05
    limits = [
        Line(np.array([place, place]), np.array([0.0, top]), "b", is_dashed=True)
        for place in (center - clip, center, center + clip)
    ]
    label = "reference less instrumental [mag]"
    return [
        Panel("all pairs", label, "pairs", (Bars(edges, counts), *limits), y_range=(0.0, top)),
        _against(reference, difference, center, clip, "by magnitude", f"reference {band} [mag]"),
    ]


def _against(
    x: NDArray[np.float64], difference: NDArray[np.float64], center: float, clip: float, title: str, label: str
) -> Panel:
    """Differences over something, with the limits of the clip."""
    known = x[np.isfinite(x)]
    span = np.array([known.min(initial=np.inf), known.max(initial=-np.inf)]) if known.size else np.array([0.0, 1.0])
    lines = [Line(span, np.full(2, place), "b", is_dashed=True) for place in (center - clip, center, center + clip)]
    reach = _WIDTH / 3.0 * clip
    shown = np.clip(difference, center - reach, center + reach)
    return Panel(title, label, "reference less instrumental [mag]", (Points(x, shown), *lines))
