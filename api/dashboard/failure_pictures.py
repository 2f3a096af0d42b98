"""Pictures that show why a job failed: its image with what matters marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from api.image_work import IMAGE
from api.pictures import SOURCES, read_rows
from service.formats.marks import MARK_COLUMNS, source_marks
from service.jobs.expected_references import NothingExpectedError, expected_references
from service.storage.products import PRODUCTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from api.dependencies import Services
    from service.exposure.geometry import Box
    from service.storage.records import JobRecord

__all__ = ["PICTURES", "FieldPicture", "Picture", "field_picture", "picture_of"]

_SIZE = 1024
_MOST_MARKS = 400
_RIM = 0.03  # of the longer side of what is shown


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of picture: what is drawn over the image, the product that needs, and what is seen."""

    overlay: str
    needs: str
    caption: str


#: Kinds of pictures. ``references`` is drawn by the page itself, ``headers`` is a table.
PICTURES = {
    "image": Kind("", "", "The image as far as it was reduced."),
    "psf_stars": Kind(
        "psf_stars",
        "single_visit_psf_star",
        "Sources of the PSF stage. Red: made the PSF; green: not chosen; yellow: flagged.",
    ),
    "detected": Kind("mask:DETECTED", "", "Pixels of detected sources are tinted."),
    "sources": Kind("sources", "single_visit_star_unstandardized", "All sources. Red: PSF stars; yellow: flagged."),
    "mask": Kind("mask:BAD,mask:SAT,mask:NO_DATA,mask:EDGE", "", "Masked pixels are tinted."),
    "cosmic_rays": Kind("mask:CR", "", "Pixels that were taken for cosmic rays are tinted."),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture at an address, or (``is_field``) one that is fetched as a part of the page."""

    src: str
    caption: str
    is_field: bool = False


def picture_of(services: Services, job: JobRecord, kind: str) -> Picture | None:
    """The picture of a kind, as far as the job got; None where it has no image."""
    made = {product.product for product in services.storage.jobs.products(job)}
    if IMAGE not in made or kind == "headers":
        return None
    if kind == "references":
        caption = (
            "Circles: brightest sources that were found on the image. "
            "Crosses: where the references should be, by the pointing that the file came with."
        )
        return Picture(f"/parts/jobs/{job.id}/field", caption, is_field=True)
    chosen = PICTURES.get(kind, PICTURES["image"])
    if chosen.needs and chosen.needs not in made:
        chosen = PICTURES["image"]
    overlay = f"&overlay={chosen.overlay}" if chosen.overlay else ""
    return Picture(f"/v1/jobs/{job.id}/images/image.png?size={_SIZE}{overlay}", chosen.caption)


@dataclass(frozen=True, slots=True)
class FieldPicture:
    """Sources and references in a frame whose y goes down; units are pixels of the image.

    Parameters
    ----------
    box : Box
        The image, parent frame.
    frame : tuple of float
        Left, top, width and height of what is shown: the image, and references beyond it.
    sources, references : list of (float, float)
        Places in the frame, brightest first; whose origin is the upper left corner of the image.
    catalog : str
        Of the references.
    outside : int
        References of those that lie beyond the image.
    reason : str
        Why there are no references, where there are none.
    """

    box: Box | None
    frame: tuple[float, float, float, float]
    sources: list[tuple[float, float]]
    references: list[tuple[float, float]]
    catalog: str = ""
    outside: int = 0
    reason: str = ""


def field_picture(services: Services, job: JobRecord) -> FieldPicture:
    """What was found, and what should be there by the first pointing."""
    try:
        expected = expected_references(services.storage, services.settings, job)
    except NothingExpectedError as error:
        return FieldPicture(None, (0, 0, 0, 0), [], [], reason=str(error))
    box = expected.box
    x, y = _sources(services, job)
    order = np.argsort(-expected.flux, kind="stable")[:_MOST_MARKS]
    references = _placed(box, expected.x[order], expected.y[order])
    outside = sum(not (0 <= u <= box.width and 0 <= v <= box.height) for u, v in references)
    return FieldPicture(
        box,
        _frame(box, references),
        _placed(box, x, y),
        references,
        expected.catalog,
        outside,
        "" if references else f"{expected.catalog} has no star here.",
    )


def _frame(box: Box, places: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """What holds the image and all places, with a rim."""
    across, down = zip((0.0, 0.0), (box.width, box.height), *places, strict=True)
    rim = _RIM * max(max(across) - min(across), max(down) - min(down))
    left, top = min(across) - rim, min(down) - rim
    return left, top, max(across) + rim - left, max(down) + rim - top


def _sources(services: Services, job: JobRecord) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places of the brightest sources, of the last catalogue that was made."""
    made = {product.product for product in services.storage.jobs.products(job)}
    product = next((SOURCES[name] for name in ("psf_stars", "sources") if SOURCES[name] in made), None)
    if product is None or product not in PRODUCTS:
        return np.empty(0), np.empty(0)
    rows = read_rows(services, job, product, (*MARK_COLUMNS, "base_PsfFlux_instFlux"))
    marks = source_marks(rows)
    flux = dict(zip(rows["id"].tolist(), np.nan_to_num(rows["base_PsfFlux_instFlux"]).tolist(), strict=True))
    order = np.argsort([-flux[one] for one in marks.ids.tolist()], kind="stable")[:_MOST_MARKS]
    return marks.x[order], marks.y[order]


def _placed(box: Box, x: NDArray[Any], y: NDArray[Any]) -> list[tuple[float, float]]:
    good = np.isfinite(x + y)
    across, down = x[good] - box.x0 + 0.5, box.height - (y[good] - box.y0) - 0.5
    return [(round(float(u), 1), round(float(v), 1)) for u, v in zip(across, down, strict=True)]
