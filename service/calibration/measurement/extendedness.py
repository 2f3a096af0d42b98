"""Star or galaxy, by size and by the ratio of two fluxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.config.measurement import ExtendednessConfig

if TYPE_CHECKING:
    from service.calibration.config.measurement import SizeExtendednessConfig
    from service.calibration.measurement.context import MeasurementContext
    from service.exposure.catalog import SourceCatalog

__all__ = ["classify_extendedness", "measure_size_extendedness"]

_SIZE = "base_ClassificationSizeExtendedness"
_RATIO = "base_ClassificationExtendedness"


def measure_size_extendedness(context: MeasurementContext, config: SizeExtendednessConfig) -> None:
    """Fill ``base_ClassificationSizeExtendedness``: 0 where the source has the PSF's size, towards 1 where it has not.

    Method: Rubin ClassificationSizeExtendedness, ``1 - exp(-chi2 / 2)``, ``chi2 = ((T - T_psf) / T_psf^exponent)^2``
    with the traces T of the moments; the flag is that of the source's or the PSF's shape.
    """
    catalog = context.catalog
    source = catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"]
    psf = catalog["slot_PsfShape_xx"] + catalog["slot_PsfShape_yy"]
    failed = catalog["slot_Shape_flag"] | ~np.isfinite(source) | ~(psf > 0.0)
    chi = np.full(len(catalog), np.nan)
    chi[~failed] = (source[~failed] - psf[~failed]) / psf[~failed] ** config.exponent
    context.set_value(f"{_SIZE}_value", 1.0 - np.exp(-0.5 * chi**2))
    context.set_flag(f"{_SIZE}_flag", failed)


def classify_extendedness(catalog: SourceCatalog, config: ExtendednessConfig | None = None) -> None:
    """Fill ``base_ClassificationExtendedness``: 0 for stars, 1 for galaxies, NaN where a flux is missing or flagged.

    A catalogue-level plugin: it wants aperture-corrected fluxes.

    Method: Rubin ClassificationExtendedness.
    """
    config = config or ExtendednessConfig()
    model, psf = catalog["slot_ModelFlux_instFlux"], catalog["slot_PsfFlux_instFlux"]
    failed = catalog["slot_ModelFlux_flag"] | catalog["slot_PsfFlux_flag"] | ~np.isfinite(model) | ~np.isfinite(psf)
    value = np.where(config.flux_ratio * model < psf, 0.0, 1.0)
    catalog[f"{_RATIO}_value"] = np.where(failed, np.nan, value)
    catalog[f"{_RATIO}_flag"] = failed
