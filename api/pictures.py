"""Pictures of stored images with what the catalogues of their job say drawn over them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from api.dependencies import missing_product, product_problem
from api.image_work import IMAGE, MASK_LIMITS
from service import formats
from service.formats.errors import FormatError
from service.formats.marks import MARK_COLUMNS, MATCH_COLUMNS, match_marks, source_marks
from service.formats.overlay import Frame, draw_marks, draw_residuals, tint
from service.formats.preview import binned_bits, binned_plane, block_side, encode_picture
from service.formats.stretch import shade

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from api.dependencies import Services
    from api.picture_options import Look
    from service.exposure.catalog import SourceCatalog
    from service.exposure.geometry import Box
    from service.exposure.wcs import Wcs
    from service.formats.marks import Marks
    from service.formats.sections import ImageFile, Plane
    from service.storage.records import JobRecord, ProductRecord

__all__ = ["MATCHES", "SOURCES", "draw_picture", "read_rows"]

#: Catalogues behind the overlays.
SOURCES = {"sources": "single_visit_star_unstandardized", "psf_stars": "single_visit_psf_star"}
MATCHES = "initial_astrometry_match_detector"
_MAX_ROWS = 200_000


def draw_picture(
    services: Services,
    job: JobRecord,
    stored: ProductRecord,
    look: Look,
    size: int,
    kind: str,
    find_box: Callable[[Plane], Box] | None = None,
) -> bytes:
    """A picture as a file.

    Parameters
    ----------
    services : Services
        Have the files.
    job : JobRecord
        Whose image and catalogues these are.
    stored : ProductRecord
        The image.
    look : Look
        How it is to look.
    size : int
        Pixels of the longer side at most.
    kind : {"png", "jpg"}
        Of the file.
    find_box : callable, optional
        The part of the plane to draw; all by default.

    Raises
    ------
    Problem
        An overlay is not there, or too large.
    FormatError, ValueError
        The image cannot be drawn so.
    """
    with services.images.opened(job, stored) as image:
        plane = image.plane(look.plane)
        box = plane.bbox if find_box is None else find_box(plane)
        frame = Frame(box, block_side(box.shape, size))
        style = replace(look.style, limits=MASK_LIMITS) if plane.mask_planes else look.style
        picture = shade(binned_plane(plane, box, frame.step), style)
        if look.overlays:
            masks = [name.removeprefix("mask:") for name in look.overlays if name.startswith("mask:")]
            picture = _tinted(services, job, image, frame, masks, picture) if masks else picture.convert("RGB")
            _draw_catalogs(services, job, look, frame, plane.wcs(), picture)
    return encode_picture(picture, kind)


def _tinted(
    services: Services, job: JobRecord, image: ImageFile, frame: Frame, names: Sequence[str], picture: Image
) -> Image:
    """Mask planes of the file itself, or else of the exposure of the same pixels."""
    with ExitStack() as stack:
        if "MASK" not in image.planes:
            image = stack.enter_context(services.images.opened(job, services.images.stored(job, IMAGE)))
        mask = image.plane("MASK")
        unknown = [name for name in names if name not in mask.mask_planes]
        if unknown:
            raise FormatError(
                "image.no_plane", f"the mask has no plane {', '.join(unknown)}; it has {', '.join(mask.mask_planes)}"
            )
        return tint(picture, binned_bits(mask, frame.box, frame.step), mask.mask_planes, names)


def _draw_catalogs(
    services: Services, job: JobRecord, look: Look, frame: Frame, wcs: Wcs | None, picture: Image
) -> None:
    for name, product in SOURCES.items():
        if name in look.overlays:
            draw_marks(picture, frame, source_marks(read_rows(services, job, product, MARK_COLUMNS)))
    if not {"references", "residuals"} & set(look.overlays):
        return
    if wcs is None:
        raise FormatError("image.no_wcs", "the image has no astrometric solution to place references by")
    references, sources = _pairs(services, job, wcs)
    if "references" in look.overlays:
        draw_marks(picture, frame, references)
    if "residuals" in look.overlays:
        draw_residuals(picture, frame, references, sources, wcs, look.vector_scale)


def _pairs(services: Services, job: JobRecord, wcs: Wcs) -> tuple[Marks, Marks]:
    return match_marks(read_rows(services, job, MATCHES, MATCH_COLUMNS), wcs)


def read_rows(services: Services, job: JobRecord, product: str, columns: Sequence[str]) -> SourceCatalog:
    """Some columns of a catalogue of a job.

    Raises
    ------
    Problem
        The job has none, or it has too many rows.
    """
    stored = services.storage.jobs.product(job, product, "parquet")
    if stored is None:
        raise missing_product(job, product)
    if (stored.rows or 0) > _MAX_ROWS:
        raise product_problem("image.too_large", product, f"{{}} has {stored.rows} rows; up to {_MAX_ROWS} are drawn.")
    with services.storage.blobs.local_copy(stored.sha256) as path:
        return formats.read_catalog(path, columns=columns)
