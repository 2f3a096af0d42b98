"""All single-source measurements of one catalogue, in upstream's order of execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.calibration.measurement.aperture_flux import measure_sinc_apertures
from service.calibration.measurement.centroid import measure_sdss_centroid
from service.calibration.measurement.context import MeasurementContext
from service.calibration.measurement.extendedness import measure_size_extendedness
from service.calibration.measurement.moments import measure_hsm_psf_moments
from service.calibration.measurement.noise_replacement import noise_replaced_plane, plain_plane
from service.calibration.measurement.pixel_flags import measure_pixel_flags
from service.calibration.measurement.sources import measure_at_centroids
from service.calibration.statistics import plane_statistics

if TYPE_CHECKING:
    from service.calibration.config.measurement import MeasurementConfig
    from service.calibration.statistics import ClippedStatistics
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure

__all__ = ["measure"]


def measure(catalog: SourceCatalog, exposure: Exposure, config: MeasurementConfig) -> ClippedStatistics:
    """Measure every source of a catalogue with all others hidden behind noise.

    Fills, in place, the columns of those plugins that the catalogue's schema has; the exposure is as it was afterwards.
    What cannot be measured of a source is NaN with flags set.

    Method: Rubin SingleFrameMeasurementTask. Pixels outside all footprints keep their values; inside, only the source
    that is measured is visible: children of blends with the pixels that the deblender gave them, all others with
    those of the image.

    Parameters
    ----------
    catalog : SourceCatalog
        Rows with footprints; ``slot_Centroid`` may hold positions of an earlier run, which are the start of this one.
    exposure : Exposure
        With PSF; background subtracted.
    config : MeasurementConfig
        Settings.

    Returns
    -------
    ClippedStatistics
        Of the whole image in counts; the noise that hides neighbours has its mean and standard deviation.

    Raises
    ------
    ValueError
        The exposure has no PSF or the catalogue no footprints.
    """
    if exposure.psf is None:
        raise ValueError("measurement needs a PSF")
    if catalog.footprints is None:
        raise ValueError("measurement needs footprints")
    image = exposure.masked_image
    if config.do_replace_with_noise:
        with noise_replaced_plane(image, catalog.footprints, config.noise_replacer) as (plane, pixels):
            _run(MeasurementContext(catalog, image, exposure.psf, plane, config.keep_stale_flags), config)
    else:
        plane = plain_plane(image, catalog.footprints)
        pixels = plane_statistics(image.image)
        _run(MeasurementContext(catalog, image, exposure.psf, plane, config.keep_stale_flags), config)
    return pixels


def _run(context: MeasurementContext, config: MeasurementConfig) -> None:
    """Run the plugins, each on the same pixels: where footprints overlap, the one before left another noise."""
    measure_sdss_centroid(context, config.centroid)
    if context.has("ext_shapeHSM_HsmPsfMoments_flag"):
        measure_hsm_psf_moments(context, config.moments)
    measure_at_centroids(context, config)
    measure_sinc_apertures(context, config.circular_aperture)
    if context.has("base_ClassificationSizeExtendedness_flag"):
        measure_size_extendedness(context, config.size_extendedness)
    measure_pixel_flags(context, config.pixel_flags)
    context.set_flag("base_InvalidPsf_flag", context.invalid_psf)
