"""Work on pixels that requests ask for: bounded in how much is done at a time, and kept once it is done."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from api.dependencies import missing_product, product_problem
from api.problem_types import PROBLEM_TYPES
from api.problems import Problem
from service import formats
from service.formats.background_plane import write_background_plane
from service.formats.compressed import write_compressed
from service.formats.pyramid import Pyramid, write_bit_pyramid, write_pyramid
from service.formats.sections import ImageFile
from service.formats.stretch import Limits, find_limits
from service.jobs.version import code_version
from service.storage.blobs import FileReader
from service.storage.derived import DerivedFiles
from service.storage.products import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.settings import Settings
    from service.storage import Storage
    from service.storage.blobs import BlobReader
    from service.storage.records import JobRecord, ProductRecord

__all__ = ["IMAGE", "MASK_LIMITS", "ImageWork", "content_key", "image_problem"]

T = TypeVar("T")

#: Of a mask 1 is drawn where a bit is set, else 0.
MASK_LIMITS = (0.0, 1.0)
IMAGE = "preliminary_visit_image"
_BACKGROUND = "preliminary_visit_image_background"
_MAX_WAITING = 64  # requests; those after them come again later
_MAX_KNOWN_LIMITS = 1000


def content_key(*parts: object) -> str:
    """Digest of what the bytes of an answer depend on; other code may write other bytes."""
    return hashlib.sha256(" ".join(map(str, (*parts, code_version()))).encode()).hexdigest()


def image_problem(error: Exception) -> Problem:
    """The answer to a request that an image cannot serve."""
    code = getattr(error, "code", "")
    return Problem(code if code in PROBLEM_TYPES else "preview.failed", str(error))


class ImageWork:
    """Stored images as planes, and what is made of them.

    Parameters
    ----------
    storage : Storage
        Has the images.
    settings : Settings
        Limits, and where made things are kept.
    """

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self.derived = DerivedFiles(settings.image_cache_dir, settings.image_cache_bytes)
        self._max_compressed = settings.max_compressed_pixels
        self._drawing = CapacityLimiter(settings.image_threads)
        self._building = CapacityLimiter(settings.image_builds)
        self._limits: dict[tuple[str, Limits], tuple[float, float]] = {}
        self._lock = threading.Lock()

    async def draw(self, work: Callable[[], T]) -> T:
        """Do what takes moments, in a thread of its own; as many at a time as ``image_threads``.

        Raises
        ------
        Problem
            ``image.busy``: too many wait already.
        """
        return await _bounded(work, self._drawing)

    async def build(self, work: Callable[[], T]) -> T:
        """Do what takes seconds and the memory of a plane; as many at a time as ``image_builds``."""
        return await _bounded(work, self._building)

    def stored(self, job: JobRecord, product: str) -> ProductRecord:
        """The file of an image product.

        Raises
        ------
        Problem
            ``product.unknown``, ``product.not_made``, ``job.not_ready``, ``job.gone``.
        """
        if PRODUCTS[product].kind != "image":
            raise product_problem("product.unknown", product, "{} is not an image.")
        stored = self._storage.jobs.product(job, product, "fits")
        if stored is None:
            raise missing_product(job, product)
        return stored

    def source(self, job: JobRecord, stored: ProductRecord) -> BlobReader:
        """The pixels of a product, to be read in parts; of the background those that were subtracted."""
        if stored.product != _BACKGROUND:
            return self._storage.blobs.open(stored.sha256)
        image = self.stored(job, IMAGE)

        def make(path: Path) -> None:
            with self._storage.blobs.local_copy(stored.sha256) as components, self.opened(job, image) as like:
                write_background_plane(path, formats.read_background(components), like.plane(None))

        return FileReader(self.derived.open(content_key("background", stored.sha256, image.sha256), make))

    @contextmanager
    def opened(self, job: JobRecord, stored: ProductRecord) -> Iterator[ImageFile]:
        """The planes of a product."""
        with self.source(job, stored) as source:
            yield ImageFile(source)

    async def from_pyramid(
        self,
        key: str,
        job: JobRecord,
        stored: ProductRecord,
        plane: str | None,
        work: Callable[[Pyramid], T],
        *,
        bits: bool = False,
    ) -> T:
        """What can be drawn from the pyramid of a plane, which is built where it is not there; of a mask's bits too."""

        def make(path: Path) -> None:
            with self.opened(job, stored) as image:
                (write_bit_pyramid if bits else write_pyramid)(path, image.plane(plane))

        def drawn_if_there() -> T | None:
            found = self.derived.find(key)
            if found is None:
                return None
            with found:
                return work(Pyramid(found))

        done = await self.draw(drawn_if_there)
        if done is not None:
            return done
        with await self.build(lambda: self.derived.open(key, make)) as file:
            return await self.draw(lambda: work(Pyramid(file)))

    def limits(self, key: str, pyramid: Pyramid, limits: Limits) -> tuple[float, float]:
        """Limits as numbers, the same for all tiles of an image."""
        if pyramid.is_mask:
            return MASK_LIMITS
        known = self._limits.get((key, limits))
        if known is None:
            known = find_limits(pyramid.overview(), limits)
            with self._lock:
                if len(self._limits) >= _MAX_KNOWN_LIMITS:
                    self._limits.clear()
                self._limits[key, limits] = known
        return known

    def compressed(self, key: str, stored: ProductRecord, compression: str) -> FileReader:
        """A tile-compressed copy of a file.

        Raises
        ------
        Problem
            ``image.too_large``.
        """

        def make(path: Path) -> None:
            with self._storage.blobs.open(stored.sha256) as source:
                image = ImageFile(source)
                pixels = max(plane.bbox.width * plane.bbox.height for plane in image.planes.values())
                if pixels > self._max_compressed:
                    raise Problem(
                        "image.too_large",
                        f"The image has {pixels} pixels; up to {self._max_compressed} are compressed here.",
                    )
                write_compressed(path, source, image, compression)

        return FileReader(self.derived.open(key, make))


async def _bounded(work: Callable[[], T], limiter: CapacityLimiter) -> T:
    if limiter.statistics().tasks_waiting >= _MAX_WAITING:
        raise Problem("image.busy", "Too many pictures are being made.", headers={"Retry-After": "2"})
    return await anyio.to_thread.run_sync(work, limiter=limiter)
