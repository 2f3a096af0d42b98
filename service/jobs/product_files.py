"""The files of a calibration result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service import formats
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
        write: Callable[[Path], object],
        rows: int | None = None,
    ) -> None:
        path = self.directory / f"{product}{suffix}"
        write(path)
        self.files.append(ProductFile(product, file_format, media_type, str(path), rows))

    def add_catalog(self, product: str, catalog: SourceCatalog | None) -> None:
        if catalog is None:
            return
        media_type, suffix = formats.CATALOG_FORMATS["parquet"]
        self.add(
            product,
            "parquet",
            media_type,
            suffix,
            lambda path: formats.write_catalog(catalog, path, "parquet"),
            len(catalog),
        )

    def add_footprints(self, product: str, catalog: SourceCatalog | None) -> None:
        if catalog is None or catalog.footprints is None:
            return
        media_type, suffix = formats.CATALOG_FORMATS["parquet"]
        self.add(
            product,
            "parquet",
            media_type,
            suffix,
            lambda path: formats.write_footprints(path, catalog),
            len(catalog),
        )


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
    writer.add(
        "preliminary_visit_image",
        "fits",
        _FITS,
        ".fits",
        lambda path: formats.write_exposure(path, exposure, backgrounds=background, summary=result.summary),
    )
    writer.add(
        "preliminary_visit_image", "png", _PNG, ".png", lambda path: path.write_bytes(formats.preview_png(image.image))
    )
    if len(background) > 0:
        name = "preliminary_visit_image_background"
        writer.add(name, "fits", _FITS, ".fits", lambda path: formats.write_background(path, background))
        drawn = background.image()
        writer.add(
            name,
            "png",
            _PNG,
            ".png",
            lambda path: path.write_bytes(formats.preview_png(drawn, stretch="linear", limits="minmax")),
        )
    if result.mask is not None:
        writer.add("preliminary_visit_mask", "fits", _FITS, ".fits", lambda path: formats.write_mask(path, image, wcs))
    ratio = result.background_to_photometric_ratio
    if ratio is not None:
        writer.add(
            "background_to_photometric_ratio",
            "fits",
            _FITS,
            ".fits",
            lambda path: formats.write_image(path, ratio, wcs=wcs, x0=image.x0, y0=image.y0),
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
            lambda path: formats.write_photo_calib(path, photo_calib),
        )
    return tuple(writer.files)
