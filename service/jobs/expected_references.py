"""Where the references of a job should be on its image, by the pointing that its file came with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from service import formats, refcats
from service.jobs.instruments import reading_with
from service.jobs.references import open_reference
from service.jobs.spec import child_spec
from service.storage.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.exposure.geometry import Box
    from service.settings import Settings
    from service.storage import Storage
    from service.storage.records import JobRecord

__all__ = ["ExpectedReferences", "NothingExpectedError", "expected_references"]


class NothingExpectedError(LookupError):
    """It cannot be said where references should be; the message says why."""


@dataclass(frozen=True, slots=True)
class ExpectedReferences:
    """References by the first pointing.

    Parameters
    ----------
    catalog : str
        Name of the catalogue.
    box : Box
        Of the image, parent frame.
    x, y : ndarray of float64, shape (n,)
        Pixels, also some way beyond the image.
    flux : ndarray of float64, shape (n,)
        In the brightest of the catalogue's bands (nJy), to tell bright from faint.
    """

    catalog: str
    box: Box
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]


def expected_references(
    storage: Storage, settings: Settings, job: JobRecord, *, margins: Sequence[float] = (0.25, 3.0)
) -> ExpectedReferences:
    """References of a job, as its calibration met them first.

    Parameters
    ----------
    storage, settings : Storage, Settings
        Have the input and the catalogues.
    job : JobRecord
        The job, in whatever phase.
    margins : sequence of float
        How far beyond the image references are looked for, as parts of its longer side: the next where none is found.

    Raises
    ------
    NothingExpectedError
        The job names no catalogue that is here, its file has no pointing, or its image is too large to be read whole or
        was not read by the job itself.
    """
    use = next((use for use in ("astrometry", "photometry") if job.spec["references"].get(use)), None)
    if use is None or job.spec["references"][use].get("remote"):
        raise NothingExpectedError("The run has no reference catalogue that is held here.")
    if (job.pixels or 0) > settings.max_compressed_pixels:
        raise NothingExpectedError("The image is too large to be read for this.")
    if not storage.jobs.products(job):
        # perhaps its bytes ended the child that was to read them
        raise NothingExpectedError("The run has not read its image.")
    with tempfile.TemporaryDirectory(dir=settings.scratch_dir, prefix="references-") as scratch:
        try:
            spec = child_spec(storage, settings, job, Path(scratch))
            catalog = open_reference(spec, spec["references"][use])
            known = reading_with(spec["instrument"]["reading"])
            exposure = formats.read_exposure(
                Path(spec["exposures"][0]["path"]), metadata=spec["metadata"], instrument=lambda _: known
            ).exposure
        except (NotFoundError, formats.FormatError, refcats.RefcatError) as error:
            raise NothingExpectedError(f"The input of the run cannot be read any more: {error}.") from error
    box = exposure.masked_image.bbox
    if exposure.wcs is None:
        raise NothingExpectedError("The file says nothing about where the telescope pointed.")
    for margin in margins:
        reach = int(margin * max(box.width, box.height))
        found = catalog.loader.load_pixel_box(box, exposure.wcs, margin=reach, epoch=exposure.visit_info.mjd_mid_tai)
        if len(found):
            break
    fluxes = [np.asarray(found.table[f"{band}_flux"]) for band in found.bands]
    return ExpectedReferences(
        catalog.name,
        box,
        np.asarray(found.table["centroid_x"]),
        np.asarray(found.table["centroid_y"]),
        np.fmax.reduce(fluxes) if fluxes else np.zeros(len(found)),
    )
