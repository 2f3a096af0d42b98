"""The calibration of one exposure, from post-ISR pixels to a calibrated image, star catalogues and statistics.

Method: the sequence of Rubin's ``CalibrateImageTask``. Classic variant: two passes of background, cosmic-ray repair,
detection, measurement and PSF fit; a last repair and measurement; aperture corrections; astrometry; stars; photometry.
Adaptive variant: one pass with a search for the detection threshold, and a new background before the stars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.calibration import (
    adaptive_detection,
    aperture_correction,
    background,
    blend_parts,
    cosmic_rays,
    deblend,
    detection,
    illumination,
    psf_star_match,
    sky_sources,
    snap_combine,
    star_background,
    star_selection,
    statistics,
    summary_stats,
)
from service.calibration.astrometry import astrometry, coordinates
from service.calibration.astrometry.references import load_references
from service.calibration.config import CalibrateImageConfig
from service.calibration.errors import AlgorithmError, AllCentroidsFlaggedError, AstrometryError
from service.calibration.input_errors import DataIdError
from service.calibration.kernels.mask_counts import counts_by_bit
from service.calibration.measurement import extendedness, footprint_area, measure
from service.calibration.measurement.columns import configured_columns
from service.calibration.photometry import calibrated, photometry
from service.calibration.progress import OnProgress, Progress, stages_of
from service.calibration.psf import gaussian, measure_psf, shapelets
from service.calibration.result import CalibrationResult
from service.exposure.ap_corr import ApCorrMap
from service.exposure.catalog import SourceCatalog
from service.exposure.ids import IdGenerator, packed_catalog_id
from service.exposure.photo_calib import PhotoCalib
from service.exposure.star_schema import psf_star_schema, star_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.calibration.astrometry.astrometry import AstrometryResult
    from service.calibration.detection import DetectionResult
    from service.calibration.psf.shapelets import ShapeletsResult
    from service.calibration.threshold_search import Thresholds
    from service.exposure.exposure import Exposure
    from service.exposure.reference import ReferenceCatalog, ReferenceLoader

__all__ = ["CalibrateImage", "References"]

#: Beginnings of the header cards that a calibration writes.
_OWN_CARDS = ("FAILURE.", "SFM_ASTROM_OFFSET_", "REF_CAT_SOURCE_DENSITY", "PSF_ADAPTIVE_", "BGMEAN", "BGVAR")
#: Planes of what a calibration has found.
_OWN_PLANES = ("DETECTED", "DETECTED_NEGATIVE", "NOT_DEBLENDED")


@dataclass(frozen=True, slots=True)
class References:
    """Where references come from; None switches the fit off.

    Parameters
    ----------
    astrometry, photometry : ReferenceLoader or None
        One loader may serve both.
    """

    astrometry: ReferenceLoader | None = None
    photometry: ReferenceLoader | None = None


class CalibrateImage:
    """Calibrate exposures with one configuration.

    Parameters
    ----------
    config : CalibrateImageConfig, optional
        Defaults of Rubin's task, improved where the specification recommends it.
    """

    def __init__(self, config: CalibrateImageConfig | None = None) -> None:
        self.config = config or CalibrateImageConfig()

    @np.errstate(over="ignore")  # a pixel near the largest float32 becomes infinite, which is no good pixel anywhere
    def run(
        self,
        exposures: Sequence[Exposure],
        references: References | None = None,
        on_progress: OnProgress | None = None,
        *,
        illumination_correction: NDArray[np.float32] | None = None,
    ) -> CalibrationResult:
        """Calibrate one visit of one detector.

        Parameters
        ----------
        exposures : sequence of Exposure
            One exposure or two snaps, post-ISR, background still in; modified in place.
        references : References, optional
            Without a loader the step that needs it is left out, with a warning.
        on_progress : OnProgress, optional
            Called at the start and the end of each stage.
        illumination_correction : ndarray of float32, shape of the image, optional
            Response to the uniform background over response to stars; used only with
            ``config.do_illumination_correction``.

        Returns
        -------
        CalibrationResult
            Complete; or partial, with ``failure`` set, where the data do not allow more.

        Raises
        ------
        RuntimeError
            Not one or two exposures.
        InvalidQuantumError
            An illumination correction is asked for and missing, of another shape, or the flat was not applied.
        """
        run = _Run(self.config, references or References(), Progress(on_progress, stages_of(self.config)))
        run.combine_snaps(exposures)
        if self.config.do_illumination_correction:
            run.correct_illumination(illumination_correction)
        elif illumination_correction is not None:
            run.result.warnings.append("the illumination correction is not used: do_illumination_correction is off")
        try:
            run.load_references()
            run.compute_psf()
            run.correct_apertures()
            run.fit_astrometry()
            run.remeasure_background()
            run.find_stars()
            run.match_psf_stars()
            run.check_astrometry()
            run.fit_photometry()
            run.summarize()
            run.calibrate_pixels()
        except AlgorithmError as failure:
            run.keep_partial_results(failure)
        return run.result


class _Run:
    """State of one calibration; each method is a step of `CalibrateImage.run`."""

    def __init__(self, config: CalibrateImageConfig, references: References, stage: Progress) -> None:
        self.config = config
        self.references = references
        self.stage = stage
        self.result: CalibrationResult
        self.exposure: Exposure
        self.catalog_id = (0, 32)
        self.shapelets: ShapeletsResult | None = None
        self.thresholds: Thresholds | None = None
        self.astrometry: AstrometryResult | None = None
        self.reference_catalog: ReferenceCatalog | None = None
        self.postponed: AlgorithmError | None = None
        self.median: float | None = None
        self.failed_stage = ""
        self.psf_is_final = False
        self.wcs_is_final = False

    @property
    def metadata(self) -> dict[str, Any]:
        return self.result.metadata

    def _note(self, task: str, **numbers: float) -> None:
        """Put the numbers of a sub-task into the metadata, by upstream's names."""
        self.metadata.update({f"{task}.{name}": value for name, value in numbers.items()})

    def _note_detection(self, task: str, found: DetectionResult) -> None:
        smooth = found.kernel_width > 0
        width = found.kernel_width
        self._note(task, doSmooth=smooth, sigma=found.sigma, smoothingKernelWidth=width, nGrow=found.n_grow)

    @property
    def ratio(self) -> NDArray[np.float32] | None:
        return self.result.background_to_photometric_ratio

    def combine_snaps(self, exposures: Sequence[Exposure]) -> None:
        with self.stage("snap_combine"):
            self.exposure = snap_combine.combine_snaps(exposures, self.config.snap_combine)
        self.result = CalibrationResult(self.exposure)
        psf = self.exposure.psf
        if psf is not None and not 0 < psf.determinant_radius() < np.inf:
            self.exposure.psf = None  # the first guess takes the size of a PSF that the exposure comes with
        self.exposure.ap_corr_map = None
        self.exposure.photo_calib = None
        self.exposure.metadata[illumination.APPLIED_KEY] = False
        for key in [key for key in self.exposure.metadata if key.startswith(_OWN_CARDS)]:
            del self.exposure.metadata[key]  # of a calibration before this one
        self.exposure.masked_image.clear_planes(_OWN_PLANES)
        detector = self.exposure.detector.id if self.exposure.detector else 0
        visit = self.exposure.visit_info.visit
        try:
            self.catalog_id = packed_catalog_id(visit, detector)
        except ValueError as error:
            raise DataIdError(
                "Visit numbers reach up to 2^30 or are days with a number of the night; detectors up to 255",
                visit=visit,
                detector=detector,
            ) from error

    def correct_illumination(self, illumination_correction: NDArray[np.float32] | None) -> None:
        ratio = illumination.apply_illumination_correction(self.exposure, illumination_correction)
        self.result.background_to_photometric_ratio = ratio

    def load_references(self) -> None:
        loader, exposure = self.references.astrometry, self.exposure
        with self.stage("references") as numbers:
            if loader is None or exposure.wcs is None:
                return
            self.reference_catalog = load_references(exposure, loader, self.config.astrometry.ref_loader)
            numbers["references"] = len(self.reference_catalog)
            if len(self.reference_catalog) and not self.reference_catalog.has_proper_motion:
                self.result.warnings.append(f"'{loader.name}' has no proper motions: positions stay at its epoch")
            density = astrometry.source_density(self.reference_catalog, exposure)
            self.metadata["ref_cat_source_density"] = density
            exposure.metadata["REF_CAT_SOURCE_DENSITY"] = density

    def compute_psf(self) -> None:
        config, exposure = self.config, self.exposure
        ids = IdGenerator(*self.catalog_id)
        with self.stage("psf.first_pass") as numbers:
            gaussian.install_simple_psf(exposure, config.install_simple_psf)
            background.subtract_background(
                exposure, self.result.background, config.psf_subtract_background, ratio=self.ratio
            )
            numbers |= self._psf_pass(ids, first=True)
        if not config.do_adaptive_threshold_detection:
            with self.stage("psf.second_pass") as numbers:
                gaussian.install_simple_psf(exposure, config.install_simple_psf)
                numbers |= self._psf_pass(ids, first=False)
        with self.stage("psf.measure") as numbers:
            repaired = cosmic_rays.repair(exposure, config.psf_repair, keep_cosmic_rays=False, median=self.median)
            numbers["cosmic_ray_count"] = repaired.cosmic_ray_count
            self._note("psf_repair", cosmic_ray_count=repaired.cosmic_ray_count)
            assert self.result.psf_stars is not None  # noqa: S101 -- set by the passes
            assert exposure.psf is not None  # noqa: S101 -- set by the passes
            self.metadata["final_psf_sigma"] = numbers["final_psf_sigma"] = exposure.psf.determinant_radius()
            self.psf_is_final = True
            measure.measure(self.result.psf_stars, exposure, config.psf_source_measurement)
            self._check_centroids(self.result.psf_stars)

    def _psf_pass(self, ids: IdGenerator, *, first: bool) -> dict[str, Any]:
        """Repair, detect, measure and fit the PSF once; the passes differ in the PSF they start from."""
        config, exposure = self.config, self.exposure
        cosmic_rays.repair(exposure, config.psf_repair, keep_cosmic_rays=True, median=self.median)
        detected = self._detect_psf_sources(ids)
        self._note_detection("psf_detection", detected)
        counts = {
            "positive_footprint_count": detected.n_positive,
            "negative_footprint_count": detected.n_negative,
            "positive_peak_count": detected.n_positive_peaks,
            "negative_peak_count": detected.n_negative_peaks,
        }
        prefixes = ["initial_psf"] if first else []
        if config.do_adaptive_threshold_detection or not first:  # the last pass
            prefixes.append("simple_psf")
        for prefix in prefixes:
            self.metadata.update({f"{prefix}_{name}": value for name, value in counts.items()})
        footprints = detected.footprints
        schema = psf_star_schema().extended(configured_columns(config.psf_source_measurement, calibrated=False))
        catalog = SourceCatalog.allocate(schema, len(footprints), footprints)
        catalog["id"] = ids.take(len(catalog))
        self.result.psf_stars = catalog
        if first and config.do_compute_shapelet_decomposition:
            self.shapelets = shapelets.compute_rough_shapelets(
                catalog, exposure, config.compute_shapelet_decomposition, seed=self.catalog_id[0] & 0xFFFFFFFF
            )
        pixels = measure.measure(catalog, exposure, config.psf_source_measurement)
        self.median = pixels.median  # of the image, which stays as it is until the next repair
        if first and self.shapelets is not None:
            self.shapelets = shapelets.finish_shapelets_iq(self.shapelets, catalog)
        fitted = measure_psf.measure_psf(catalog, exposure, config.psf_measure_psf, sky_sigma=pixels.stdev)
        self._note(
            "psf_measure_psf",
            spatialFitChi2=fitted.spatial_fit_chi2,
            numAvailStars=fitted.num_avail_stars,
            numGoodStars=fitted.num_good_stars,
            avgX=fitted.avg_x,
            avgY=fitted.avg_y,
        )
        return counts | {"psf_stars": fitted.num_good_stars, "psf_sigma": fitted.psf.determinant_radius()}

    def _detect_psf_sources(self, ids: IdGenerator) -> DetectionResult:
        config, exposure = self.config, self.exposure
        if not config.do_adaptive_threshold_detection:
            return detection.detect_sources(
                exposure, config.psf_detection, backgrounds=self.result.background, ratio=self.ratio
            )
        found = adaptive_detection.detect_adaptively(
            exposure, config.psf_detection, config.psf_adaptive_threshold_detection, ids
        )
        self.thresholds = found.thresholds
        thresholds = {
            "psf_adaptive_threshold_value": found.thresholds.value,
            "psf_adaptive_include_threshold_multiplier": found.thresholds.multiplier,
        }
        self.metadata.update(thresholds)
        exposure.metadata.update({name.upper(): value for name, value in thresholds.items()})
        return found.detection

    def _check_centroids(self, catalog: SourceCatalog) -> None:
        if not np.all(catalog["slot_Centroid_flag"]):
            return
        psf = self.exposure.psf
        assert psf is not None  # noqa: S101 -- the caller measured it
        ixx, iyy, ixy = (float(value) for value in psf.shape())
        score = self.shapelets.iq_score if self.shapelets is not None else np.nan
        raise AllCentroidsFlaggedError(
            f"All source centroids (out of {len(catalog)}) flagged",
            n_sources=len(catalog),
            shapelets_iq_score=score,
            psf_shape_ixx=ixx,
            psf_shape_iyy=iyy,
            psf_shape_ixy=ixy,
            psf_size=psf.determinant_radius(),
        )

    def correct_apertures(self) -> None:
        config, exposure, catalog = self.config, self.exposure, self.result.psf_stars
        assert catalog is not None  # noqa: S101 -- compute_psf made it
        with self.stage("aperture_correction"):
            normalization = ApCorrMap()
            aperture_correction.normalize_calibration_flux(
                catalog, normalization, exposure.bbox, config.psf_normalized_calibration_flux, measure=True
            )
            corrections = aperture_correction.measure_aperture_correction(
                catalog, exposure.bbox, config.measure_aperture_correction
            )
            corrections.update(normalization)
            exposure.ap_corr_map = corrections

    def fit_astrometry(self) -> None:
        if self.references.astrometry is None:
            self.exposure.wcs = None
            self.result.warnings.append("no astrometric references: the WCS is not fitted")
            return
        catalog = self.result.psf_stars
        assert catalog is not None  # noqa: S101 -- compute_psf made it
        with self.stage("astrometry") as numbers:
            try:
                self._solve_astrometry(catalog, numbers)
            except AstrometryError as failure:
                if not self.config.find_stars_after_astrometry_failure:
                    raise
                self.postponed = failure
                self.failed_stage = self.stage.stage

    def _solve_astrometry(self, catalog: SourceCatalog, numbers: dict[str, Any]) -> None:
        exposure, config = self.exposure, self.config
        if exposure.wcs is None or self.reference_catalog is None:
            raise AstrometryError("The exposure has no initial WCS")
        coordinates.update_sky_coordinates(
            catalog, exposure.wcs, include_covariance=config.do_include_astrometric_errors
        )
        solved = astrometry.solve(
            exposure, catalog, self.reference_catalog, config.astrometry, load_wider=self._load_wider
        )
        self.astrometry = solved
        self.result.astrometry_matches = solved.matches
        if solved.wide_search and solved.offset_mean <= config.astrometry.max_mean_distance_arcsec:
            self.result.warnings.append(
                f"the pointing was off by {solved.initial_to_final:.0f} arcsec; the wide search found the field"
            )
        found = {
            "astrometry_matches_count": len(solved.matches),
            "initial_to_final_wcs": solved.initial_to_final,
            "astrom_offset_mean": solved.offset_mean,
            "astrom_offset_std": solved.offset_std,
            "astrom_offset_median": solved.offset_median,
        }
        numbers |= found
        self.metadata.update(found)

    def _load_wider(self, margin: int) -> ReferenceCatalog:
        assert self.references.astrometry is not None  # noqa: S101 -- asked for by a fit that has references
        options = self.config.astrometry.ref_loader.model_copy(update={"pixel_margin": margin})
        return load_references(self.exposure, self.references.astrometry, options)

    def remeasure_background(self) -> None:
        """Fit the background of the adaptive variant afresh, now that the PSF is known."""
        self.metadata["adaptive_threshold_value"] = np.nan
        if not self.config.remeasures_star_background:
            return
        with self.stage("stars.background") as numbers:
            found = star_background.remeasure_star_background(
                self.exposure, self.result.background, self.config, ratio=self.ratio
            )
            self.metadata["adaptive_threshold_value"] = numbers["threshold"] = found.threshold
            numbers |= {"detected_fraction": found.detected_fraction, "pedestal": found.pedestal}

    def find_stars(self) -> None:
        config, exposure = self.config, self.exposure
        ids = IdGenerator(*self.catalog_id)
        with self.stage("stars.detect") as numbers:
            detected = self._detect_stars(ids)
            self._note_detection("star_detection", detected)
            sky = sky_sources.find_sky_footprints(
                exposure.masked_image, config.star_sky_sources, seed=self.catalog_id[0]
            )
            self._note("star_sky_sources", sky_footprint_count=len(sky))
            schema = star_schema().extended(configured_columns(config.star_measurement, calibrated=True))
            footprints = blend_parts.split_big_blends(detected.footprints, exposure, config.star_deblend)
            sources = SourceCatalog.allocate(schema, len(footprints), footprints)
            empty_sky = SourceCatalog.allocate(schema, len(sky), sky)
            empty_sky["sky_source"] = True
            sources = SourceCatalog.concatenate([sources, empty_sky])
            sources["id"] = ids.take(len(sources))
            numbers |= {"footprints": detected.n_positive, "peaks": detected.n_positive_peaks}
            if config.do_downsample_footprints:
                wanted = config.downsample_max_footprints
                sources = sources.select(star_selection.downsampled_rows(sources, wanted, exposure.exposure_id))
        with self.stage("stars.deblend") as numbers:
            sources = deblend.deblend(sources, exposure, config.star_deblend, ids)
            real = ~sources["sky_source"]
            self.metadata["post_deblend_source_count"] = numbers["sources"] = int(real.sum())
            self.metadata["failed_deblend_source_count"] = int((sources["deblend_failed"] & real).sum())
        with self.stage("stars.measure") as numbers:
            measure.measure(sources, exposure, config.star_measurement)
            self.metadata["saturated_source_count"] = int(sources["base_PixelFlags_flag_saturated"].sum())
            self.metadata["bad_source_count"] = int(sources["base_PixelFlags_flag_bad"].sum())
            self._finish_star_catalog(sources)
            stars = sources.select(star_selection.select_stars(sources, config.star_selector))
            self.result.stars = stars
            self.metadata["star_count"] = numbers["stars"] = int((~stars["sky_source"]).sum())

    def _detect_stars(self, ids: IdGenerator) -> DetectionResult:
        config, backgrounds = self.config, self.result.background
        if self.thresholds is None:
            return detection.detect_sources(
                self.exposure, config.star_detection, backgrounds=backgrounds, ratio=self.ratio
            )
        found = adaptive_detection.detect_stars_adaptively(
            self.exposure,
            config.star_detection,
            config.star_threshold_search,
            self.thresholds,
            len(self.astrometry.matches) if self.astrometry is not None else 0,
            ids,
            inherit_detection=config.psf_adaptive_threshold_detection.inherit_detection,
            re_estimate_background=not config.do_remeasure_star_background,
            backgrounds=backgrounds,
            ratio=self.ratio,
        )
        return found.detection

    def _finish_star_catalog(self, sources: SourceCatalog) -> None:
        exposure, config = self.exposure, self.config
        assert exposure.ap_corr_map is not None  # noqa: S101 -- correct_apertures made it
        aperture_correction.normalize_calibration_flux(
            sources, exposure.ap_corr_map, exposure.bbox, config.star_normalized_calibration_flux, measure=False
        )
        if config.measure_aperture_correction.remeasure_on_stars:
            assert self.result.psf_stars is not None  # noqa: S101 -- compute_psf made it
            aperture_correction.remeasure_aperture_correction(
                self.result.psf_stars,
                sources,
                exposure.ap_corr_map,
                exposure.bbox,
                config.measure_aperture_correction,
                radius=self._match_radius(),
            )
        aperture_correction.apply_aperture_correction(
            sources, exposure.ap_corr_map, config.star_apply_aperture_correction
        )
        extendedness.classify_extendedness(sources, config.star_measurement.extendedness)
        footprint_area.measure_footprint_area(sources)
        star_selection.set_primary_flags(sources)

    def _match_radius(self) -> float:
        """Largest distance between a PSF star and itself among the stars, px."""
        psf, bbox = self.exposure.psf, self.exposure.bbox
        assert psf is not None  # noqa: S101 -- compute_psf made it
        return max(3.0, psf.determinant_radius(*bbox.center))

    def match_psf_stars(self) -> None:
        exposure, stars, psf_stars = self.exposure, self.result.stars, self.result.psf_stars
        assert stars is not None  # noqa: S101 -- find_stars made it
        assert psf_stars is not None  # noqa: S101 -- compute_psf made it
        with self.stage("stars.match") as numbers:
            matched = psf_star_match.match_psf_stars(psf_stars, stars, self._match_radius())
            self.metadata["matched_psf_star_count"] = numbers["matched"] = matched
            if self.astrometry is not None and exposure.wcs is not None:
                coordinates.update_sky_coordinates(
                    stars, exposure.wcs, include_covariance=self.config.do_include_astrometric_errors
                )

    def check_astrometry(self) -> None:
        if self.postponed is not None:
            raise self.postponed
        if self.astrometry is None:
            return
        try:
            astrometry.check(self.astrometry, self.config.astrometry)
        except AstrometryError:
            self.failed_stage = "astrometry"
            assert self.result.stars is not None  # noqa: S101 -- find_stars made it
            self.result.stars["coord_ra"] = self.result.stars["coord_dec"] = np.nan
            raise
        self.wcs_is_final = True

    def fit_photometry(self) -> None:
        loader, stars = self.references.photometry, self.result.stars
        assert stars is not None  # noqa: S101 -- find_stars made it
        if loader is None or not self.wcs_is_final:
            why = "no photometric references" if loader is None else "no WCS"
            self.result.warnings.append(f"{why}: the zero point is not fitted, fluxes stay in counts")
            return
        with self.stage("photometry") as numbers:
            solved = photometry.solve(self.exposure, stars, loader, self.config.photometry)
            self.result.photometry_matches = solved.matches
            self.exposure.photo_calib = solved.photo_calib
            self.metadata["photometry_matches_count"] = len(solved.matches)
            self.metadata.update(solved.numbers)
            numbers |= {"zero_point": solved.zero_point, "sigma": solved.sigma, "stars": solved.n_good}
            calibrated.add_calibrated_columns(stars, solved.photo_calib)

    def summarize(self) -> None:
        with self.stage("summary"):
            self._summarize()

    def _summarize(self) -> None:
        summary = summary_stats.compute_summary_stats(
            self.exposure, self.result.stars, self.result.background, self.config.compute_summary_stats
        )
        if self.shapelets is not None:
            self.shapelets.fill(summary)
        self.result.summary = summary

    def calibrate_pixels(self) -> None:
        result, exposure = self.result, self.exposure
        with self.stage("calibrate_pixels"):
            result.metadata |= self._residual_background()
            result.mask = exposure.masked_image.mask
            photo_calib = exposure.photo_calib
            if photo_calib is not None and self.config.do_calibrate_pixels:
                exposure.masked_image.scale(photo_calib.mean)
                exposure.unit = "nJy"
                exposure.photo_calib = PhotoCalib(1.0, photo_calib.error)
                result.background = result.background.scaled(photo_calib.mean)
                result.applied_photo_calib = photo_calib
            mask = exposure.masked_image.mask
            counts = counts_by_bit(mask)
            for name, bit in exposure.masked_image.planes.items():
                result.metadata[f"{name.lower()}_mask_fraction"] = int(counts[bit]) / mask.size

    def _residual_background(self) -> dict[str, float]:
        masked_image, stars = self.exposure.masked_image, self.result.stars
        assert stars is not None  # noqa: S101 -- find_stars made it
        planes = ("BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA", "SAT", "SUSPECT", "SPIKE")
        pixels = statistics.plane_statistics(
            masked_image.image, masked_image.mask, masked_image.planes.bitmask(planes), num_sigma=np.inf, num_iter=1
        )
        sky = stars["base_CircularApertureFlux_12_0_flux"][stars["sky_source"]]
        if self.config.ignore_truncated_sky_sources:
            sky = sky[np.isfinite(sky)]
        return {
            "bg_subtracted_skyPixel_instFlux_median": pixels.median,
            "bg_subtracted_skyPixel_instFlux_stdev": pixels.stdev,
            "bg_subtracted_skySource_flux_median": float(np.median(sky)) if sky.size else np.nan,
            "bg_subtracted_skySource_flux_stdev": float(np.std(sky)) if sky.size else np.nan,
        }

    def keep_partial_results(self, failure: AlgorithmError) -> None:
        """Drop what was not finished, keep the rest, and say why."""
        if not self.psf_is_final:
            self.exposure.psf = None
            if not self.config.keep_unfinished_psf_stars:
                self.result.psf_stars = None
        if not self.wcs_is_final:
            self.exposure.wcs = None
        self.result.failure = failure
        stage = self.failed_stage or self.stage.stage
        annotation = {"message": str(failure), "type": failure.type_name, "stage": stage}
        self.metadata["failure"] = annotation | ({"metadata": failure.numbers} if failure.numbers else {})
        cards: dict[str, Any] = {"FAILURE.MESSAGE": failure.message, "FAILURE.TYPE": failure.type_name}
        cards |= {f"FAILURE.METADATA.{name.upper()}": value for name, value in failure.numbers.items()}
        self.exposure.metadata.update(cards)
        self._summarize()
