"""Normalisation of the calibration flux and aperture corrections: measured on PSF stars, applied to stars.

``correction = reference flux / flux`` as a smooth function of position; corrected flux = flux x correction.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from service.calibration.aperture_fit import fit_ratio
from service.calibration.errors import MeasureApCorrError, NormalizedCalibrationFluxError
from service.calibration.psf_star_match import closest_stars
from service.exposure.ap_corr import ApCorrMap, ChebyshevField

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.aperture_correction import (
        ApplyApertureCorrectionConfig,
        MeasureApertureCorrectionConfig,
        NormalizedCalibrationFluxConfig,
    )
    from service.exposure.catalog import SourceCatalog
    from service.exposure.geometry import Box

__all__ = [
    "apply_aperture_correction",
    "measure_aperture_correction",
    "normalize_calibration_flux",
    "remeasure_aperture_correction",
]

_log = logging.getLogger(__name__)

#: Fluxes that get a correction wherever the map has one.
_CORRECTED = ("base_GaussianFlux", "base_PsfFlux")


def normalize_calibration_flux(
    catalog: SourceCatalog,
    ap_corr_map: ApCorrMap,
    bbox: Box,
    config: NormalizedCalibrationFluxConfig,
    *,
    measure: bool,
) -> None:
    """Write the normalised calibration flux: the compensated top-hat flux times one factor.

    Method: Rubin NormalizedCalibrationFluxTask.

    Parameters
    ----------
    catalog : SourceCatalog
        The columns of the normalised flux (counts) and, when measuring, ``apcorr_<raw>_used`` are set in place.
    ap_corr_map : ApCorrMap
        Gets the factor when measuring, else gives it; without an entry the factor is 1.
    bbox : Box
        Domain of the map.
    config : NormalizedCalibrationFluxConfig
        Names and limits.
    measure : bool
        Fit the factor to the PSF stars of this catalogue.

    Raises
    ------
    NormalizedCalibrationFluxError
        No PSF star has both fluxes.
    """
    raw, result = config.raw_flux_name, config.normalized_flux_name
    if measure:
        ap_corr_map[f"{raw}_instFlux"] = _measured_factor(catalog, bbox, config)
        ap_corr_map[f"{raw}_instFluxErr"] = ChebyshevField.constant(bbox, 0.0)
    elif f"{raw}_instFlux" not in ap_corr_map:
        _log.warning("the aperture-correction map has no %s: the flux is not normalised", raw)
    factor: NDArray[np.float64] = np.ones(len(catalog))
    if f"{raw}_instFlux" in ap_corr_map:
        factor = ap_corr_map[f"{raw}_instFlux"].evaluate(catalog["slot_Centroid_x"], catalog["slot_Centroid_y"])
    catalog[f"{result}_instFlux"] = catalog[f"{raw}_instFlux"] * factor
    catalog[f"{result}_instFluxErr"] = catalog[f"{raw}_instFluxErr"] * factor
    catalog[f"{result}_flag"] = catalog[f"{raw}_flag"] | ~(factor > 0)


def measure_aperture_correction(
    catalog: SourceCatalog, bbox: Box, config: MeasureApertureCorrectionConfig
) -> ApCorrMap:
    """Fit the aperture corrections to the PSF stars.

    Method: Rubin MeasureApCorrTask.

    Parameters
    ----------
    catalog : SourceCatalog
        Measured PSF stars; ``apcorr_<flux>_used`` is set in place.
    bbox : Box
        Domain of the fields, parent frame.
    config : MeasureApertureCorrectionConfig
        Fluxes, orders and clipping.

    Returns
    -------
    ApCorrMap
        ``<flux>_instFlux`` and ``<flux>_instFluxErr`` of each flux.

    Raises
    ------
    MeasureApCorrError
        Too few stars for a flux that may not fail.
    """
    result = ApCorrMap()
    stars = _bright_stars(catalog, config.signal_to_noise_flux, config)
    for name in config.flux_names:
        if f"{name}_instFlux" not in catalog:
            continue
        try:
            orders = config.order_x, config.order_y
            fit_field, error = _fit(catalog, name, config.ref_flux_name, stars, bbox, orders, config)
        except MeasureApCorrError as failure:
            if name not in config.allow_failure:
                raise
            _log.warning("%s", failure)
            continue
        result[f"{name}_instFlux"] = fit_field
        result[f"{name}_instFluxErr"] = ChebyshevField.constant(bbox, error)
    return result


def remeasure_aperture_correction(
    psf_stars: SourceCatalog,
    stars: SourceCatalog,
    ap_corr_map: ApCorrMap,
    bbox: Box,
    config: MeasureApertureCorrectionConfig,
    *,
    radius: float,
) -> None:
    """Fit the aperture corrections again, to the PSF stars as they are measured among all stars.

    There neighbours are deblended or hidden down to the limit of the detection. The map of the PSF stage stays where
    less than ``config.remeasure_min_fraction`` of its stars could be used again.

    Parameters
    ----------
    psf_stars : SourceCatalog
        ``calib_psf_used`` says which stars to use; ``apcorr_<flux>_used`` is set afresh in place.
    stars : SourceCatalog
        Deblended and measured, with the normalised calibration flux; the corrections not applied yet.
    ap_corr_map : ApCorrMap
        Of the PSF stage; its fields are replaced in place.
    bbox : Box
        Domain of the fields, parent frame.
    config : MeasureApertureCorrectionConfig
        Fluxes, orders and clipping.
    radius : float
        Largest distance between a PSF star and its star, px.

    Notes
    -----
    Has no counterpart upstream, where corrections are those of the PSF stage.
    """
    rows, matched = closest_stars(psf_stars, stars, radius)
    alone = psf_stars["calib_psf_used"][rows] & ~stars["deblend_skipped"][matched] & ~stars["deblend_failed"][matched]
    matched, first = np.unique(matched[alone], return_index=True)
    rows = rows[alone][first]
    again = stars.select(matched)
    again["calib_psf_used"] = True
    try:
        fields = measure_aperture_correction(again, bbox, config)
    except MeasureApCorrError as failure:
        _log.warning("%s: the aperture corrections of the PSF stage stay", failure)
        return
    used = [f"apcorr_{name}_used" for name in config.flux_names if f"{name}_instFlux" in fields]
    least = config.remeasure_min_fraction
    few = [n for n in used if np.count_nonzero(again[n]) < least * np.count_nonzero(psf_stars[n])]
    if few:
        _log.warning("too few PSF stars were deblended: the aperture corrections of the PSF stage stay")
        return
    ap_corr_map.update(fields)
    for name in used:
        psf_stars[name] = False
        psf_stars[name][rows] = again[name]


def apply_aperture_correction(
    catalog: SourceCatalog, ap_corr_map: ApCorrMap, config: ApplyApertureCorrectionConfig
) -> None:
    """Multiply the PSF and Gaussian fluxes and their errors by their corrections, in place.

    The corrections' own errors are not added. Rows where the correction is not finite and positive keep their flux
    and are flagged; so are all rows of a flux that the map does not have.

    Method: Rubin ApplyApCorrTask; unlike there the applied factors are written too.

    Parameters
    ----------
    catalog : SourceCatalog
        With ``<flux>_apCorr``, ``<flux>_apCorrErr`` and ``<flux>_flag_apCorr`` columns.
    ap_corr_map : ApCorrMap
        Corrections.
    config : ApplyApertureCorrectionConfig
        Flags.
    """
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    for name in _CORRECTED:
        if f"{name}_instFlux" not in ap_corr_map:
            _log.warning("the aperture-correction map has no %s", name)
            catalog[f"{name}_flag_apCorr"] = True
            continue
        correction = ap_corr_map[f"{name}_instFlux"].evaluate(x, y)
        good = np.isfinite(correction) & (correction > 0)
        factor = np.where(good, correction, 1.0)
        catalog[f"{name}_instFlux"] *= factor
        catalog[f"{name}_instFluxErr"] *= factor
        catalog[f"{name}_flag_apCorr"] = ~good
        catalog[f"{name}_apCorr"] = correction
        if f"{name}_instFluxErr" in ap_corr_map:
            catalog[f"{name}_apCorrErr"] = ap_corr_map[f"{name}_instFluxErr"].evaluate(x, y)
        if config.do_flag_ap_corr_failures:
            catalog[f"{name}_flag"] |= ~good


def _measured_factor(catalog: SourceCatalog, bbox: Box, config: NormalizedCalibrationFluxConfig) -> ChebyshevField:
    """Constant field, fitted to the bright PSF stars, or the median ratio of all PSF stars where those are too few."""
    raw, reference = config.raw_flux_name, config.ref_flux_name
    stars = _bright_stars(catalog, raw, config)
    try:
        return _fit(catalog, raw, reference, stars, bbox, (0, 0), config)[0]
    except MeasureApCorrError as failure:
        _log.warning("%s: falling back to the median of all PSF stars", failure)
    used = catalog["calib_psf_used"]
    good = used & ~catalog[f"{raw}_flag"] & ~catalog[f"{reference}_flag"]
    good &= np.isfinite(catalog[f"{raw}_instFlux"]) & np.isfinite(catalog[f"{reference}_instFlux"])
    good &= catalog[f"{raw}_instFlux"] != 0
    if not good.any():
        raise NormalizedCalibrationFluxError(
            "no PSF star to normalise the calibration flux with",
            n_initial_sources=int(np.count_nonzero(used)),
            n_calib_flux_flag=int(np.count_nonzero(used & catalog[f"{raw}_flag"])),
            n_ref_flux_flag=int(np.count_nonzero(used & catalog[f"{reference}_flag"])),
        )
    ratio = catalog[f"{reference}_instFlux"][good] / catalog[f"{raw}_instFlux"][good]
    return ChebyshevField.constant(bbox, float(np.median(ratio)))


def _bright_stars(
    catalog: SourceCatalog, flux_name: str, config: MeasureApertureCorrectionConfig | NormalizedCalibrationFluxConfig
) -> NDArray[np.bool_]:
    """PSF stars above the signal-to-noise ratio, or the brightest where those are too few."""
    flux: NDArray[Any] = catalog[f"{flux_name}_instFlux"]
    error: NDArray[Any] = catalog[f"{flux_name}_instFluxErr"]
    ratio = np.divide(flux, error, out=np.full(len(flux), np.nan), where=(error > 0) & np.isfinite(flux))
    used: NDArray[np.bool_] = catalog["calib_psf_used"]
    bright = used & (ratio > config.signal_to_noise_min)
    if np.count_nonzero(bright) < config.min_stars:
        brightest = np.sort(ratio[used & np.isfinite(ratio)])[-config.min_stars :]
        bright = used & (ratio >= brightest.min(initial=np.inf))
    return np.asarray(bright)


def _fit(
    catalog: SourceCatalog,
    name: str,
    reference_name: str,
    stars: NDArray[np.bool_],
    bbox: Box,
    orders: tuple[int, int],
    config: MeasureApertureCorrectionConfig | NormalizedCalibrationFluxConfig,
) -> tuple[ChebyshevField, float]:
    """Correction of one flux and its error; flags the stars that were used."""
    flux: NDArray[Any] = catalog[f"{name}_instFlux"]
    reference: NDArray[Any] = catalog[f"{reference_name}_instFlux"]
    good = stars & ~catalog[f"{reference_name}_flag"] & np.isfinite(reference)
    good &= ~catalog[f"{name}_flag"] & np.isfinite(flux) & (flux > 0)
    error: NDArray[Any] = catalog[f"{reference_name}_instFluxErr"]
    if config.weight_by_noise:
        good &= (reference > 0) & np.isfinite(error)
    rows = np.flatnonzero(good)
    x, y = catalog["slot_Centroid_x"][rows], catalog["slot_Centroid_y"][rows]
    catalog[f"apcorr_{name}_used"] = False
    sigma = np.hypot(error[rows] / reference[rows], config.weight_floor) if config.weight_by_noise else None
    fit = fit_ratio(name, x, y, reference[rows] / flux[rows], bbox, orders, config, sigma)
    catalog[f"apcorr_{name}_used"][rows[fit.kept]] = True
    return fit.field, fit.error
