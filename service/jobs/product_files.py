"""The files of a calibration result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, cast

from service import formats
from service.jobs.hashed_file import HashedFile
from service.jobs.outcome import ProductFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.calibration.result import CalibrationResult
    from service.exposure.catalog import SourceCatalog

__all__ = ["write_products"]

_FITS, _PNG = "application/fits", "image/png"


@dataclass(slots=True)
class _Writer:
    """Collects the files as they are written."""

    directory: Path
    files: list[ProductFile] = field(default_factory=list)

    def add(
        self,
        product: str,
        file_format: str,
        media_type: str,
        suffix: str,
        write: Callable[[BinaryIO], object],
        rows: int | None = None,
    ) -> None:
        path = self.directory / f"{product}{suffix}"
        with HashedFile(path) as file:
            write(cast("BinaryIO", file))
        self.files.append(ProductFile(product, file_format, media_type, str(path), rows, file.sha256))

    def add_fits(self, product: str, write: Callable[[BinaryIO], object]) -> None:
        self.add(product, "fits", _FITS, ".fits", write)

    def add_picture(self, product: str, png: Callable[[], bytes]) -> None:
        self.add(product, "png", _PNG, ".png", lambda file: file.write(png()))

    def add_catalog(self, product: str, catalog: SourceCatalog | None) -> None:
        if catalog is not None:
            self._add_table(product, len(catalog), lambda file: formats.write_catalog(catalog, file, "parquet"))

    def add_footprints(self, product: str, catalog: SourceCatalog | None) -> None:
        if catalog is not None and catalog.footprints is not None:
            self._add_table(product, len(catalog), lambda file: formats.write_footprints(file, catalog))

    def _add_table(self, product: str, rows: int, write: Callable[[BinaryIO], object]) -> None:
        media_type, suffix = formats.CATALOG_FORMATS["parquet"]
        self.add(product, "parquet", media_type, suffix, write, rows)


def write_products(result: CalibrationResult, directory: Path) -> tuple[ProductFile, ...]:
    """Write every product that a result has; what was not reached is absent.

    Parameters
    ----------
    result : CalibrationResult
        Complete or partial.
    directory : Path
        Where the files go, each under the id of its product.

    Returns
    -------
    tuple of ProductFile
        What was written.
    """
    writer = _Writer(directory)
    exposure, background = result.exposure, result.background
    image, wcs = exposure.masked_image, exposure.wcs
    name = "preliminary_visit_image"
    writer.add_fits(
        name, lambda file: formats.write_exposure(file, exposure, backgrounds=background, summary=result.summary)
    )
    writer.add_picture(name, lambda: formats.preview_png(image.image))
    if len(background) > 0:
        name = "preliminary_visit_image_background"
        writer.add_fits(name, lambda file: formats.write_background(file, background))
        writer.add_picture(name, lambda: formats.background_png(background))
    if result.mask is not None:
        writer.add_fits("preliminary_visit_mask", lambda file: formats.write_mask(file, image, wcs))
    ratio = result.background_to_photometric_ratio
    if ratio is not None:
        writer.add_fits(
            "background_to_photometric_ratio",
            lambda file: formats.write_image(file, ratio, wcs=wcs, x0=image.x0, y0=image.y0),
        )
    writer.add_catalog("single_visit_psf_star", result.psf_stars)
    writer.add_footprints("single_visit_psf_star_footprints", result.psf_stars)
    writer.add_catalog("single_visit_star_unstandardized", result.stars)
    writer.add_footprints("single_visit_star_footprints", result.stars)
    writer.add_catalog("initial_astrometry_match_detector", result.astrometry_matches)
    writer.add_catalog("initial_photometry_match_detector", result.photometry_matches)
    photo_calib = result.applied_photo_calib
    if photo_calib is not None:
        writer.add(
            "initial_photoCalib_detector",
            "json",
            "application/json",
            ".json",
            lambda file: formats.write_photo_calib(file, photo_calib),
        )
    return tuple(writer.files)
