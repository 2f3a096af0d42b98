"""Repair an exposure: interpolate across defects, find cosmic rays and replace their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.calibration.cosmic_ray_fill import fill_pixels
from service.calibration.defects import interpolate_defects
from service.calibration.errors import TooManyCosmicRays
from service.calibration.kernels.cosmic_rays import grow_round, label_runs, mark_candidates, scan
from service.calibration.statistics import plane_median
from service.exposure.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.cosmic_rays import CosmicRayConfig, RepairConfig
    from service.exposure.exposure import Exposure
    from service.exposure.masked_image import MaskedImage
    from service.exposure.psf import Psf

__all__ = ["CosmicRays", "RepairResult", "psf_ratios", "repair"]

_BAD_PLANES = ("BAD", "SAT", "INTRP", "NO_DATA")


@dataclass(frozen=True, slots=True)
class CosmicRays:
    """Groups of connected cosmic-ray pixels.

    Parameters
    ----------
    pixels : ndarray of int64, shape (n,)
        Flat indices into the image, ascending within a group.
    offsets : ndarray of int64, shape (groups + 1,)
        Where the groups start.
    """

    pixels: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def grouped(cls, pixels: NDArray[np.int64], labels: NDArray[np.int64]) -> CosmicRays:
        """Pixels in raster order by ascending label."""
        order = np.argsort(labels, kind="stable")
        _, counts = np.unique(labels, return_counts=True)
        return cls(pixels[order], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def select(self, groups: NDArray[np.bool_]) -> CosmicRays:
        """The groups where an array is True."""
        sizes = np.diff(self.offsets)
        return CosmicRays(
            self.pixels[np.repeat(groups, sizes)],
            np.concatenate([[0], np.cumsum(sizes[groups])]).astype(np.int64),
        )


@dataclass(frozen=True, slots=True)
class RepairResult:
    """Numbers of a repair.

    Parameters
    ----------
    cosmic_ray_count : int
        Groups of connected pixels.
    pixel_count : int
        Their pixels, after growth.
    first_scan : CosmicRays
        All groups of the first scan, before the cut on charge.
    accepted : CosmicRays
        Those with enough charge, before growth.
    cosmic_rays : CosmicRays
        The same groups after growth; pixels of two groups may overlap.
    background : float
        Median of the image, counts; NaN where the search is off.
    ratios : tuple of float
        Limits on the neighbour-to-peak ratio along rows, columns and diagonals.
    """

    cosmic_ray_count: int
    pixel_count: int
    first_scan: CosmicRays
    accepted: CosmicRays
    cosmic_rays: CosmicRays
    background: float = float("nan")
    ratios: tuple[float, float, float] = (float("nan"),) * 3


def repair(
    exposure: Exposure, config: RepairConfig, *, keep_cosmic_rays: bool, median: float | None = None
) -> RepairResult:
    """Interpolate across defects; mark cosmic rays and, unless they are kept, replace their pixels.

    A pixel is a cosmic ray where it is significant and sharper than the PSF. Pixels that were found get the plane
    CR, and INTRP where they are replaced; the variance stays. The CR plane of earlier calls is cleared.

    Method: Rubin RepairTask and ``findCosmicRays`` (after the SDSS photometric pipeline). Difference: ``fill="lpc"``
    replaces pixels by linear prediction as was intended upstream, whose code always fills with noise.

    Parameters
    ----------
    exposure : Exposure
        With a PSF; its background is subtracted. Modified in place.
    config : RepairConfig
        Limits.
    keep_cosmic_rays : bool
        Leave the pixels as they are and INTRP unset.
    median : float, optional
        Of the image, counts; found by a pass over it where it is not known or defects are interpolated.

    Returns
    -------
    RepairResult
        Counts and groups.

    Raises
    ------
    TooManyCosmicRays
        More pixels than ``n_cr_pixel_max``; the image is as it was and the CR plane is empty.
    RuntimeError
        The exposure has no PSF.
    """
    masked = exposure.masked_image
    defects = [Box(defect.x0, defect.y0, defect.width, defect.height) for defect in config.defects]
    n_interpolated = interpolate_defects(masked, defects)
    none = CosmicRays(np.empty(0, np.int64), np.zeros(1, np.int64))
    if not config.do_cosmic_ray:
        return RepairResult(0, 0, none, none, none)
    if exposure.psf is None:
        raise RuntimeError("the cosmic-ray search needs a PSF")
    masked.clear_planes(["CR"])
    ratios = psf_ratios(exposure.psf, config.cosmicray.cond3_fac2)
    background = plane_median(masked.image) if median is None or n_interpolated else median
    first_scan = _first_scan(masked, config.cosmicray, background, ratios)
    accepted = _with_charge(first_scan, masked.image, background, config.cosmicray.min_dn)
    grown = _grown(accepted, masked, config.cosmicray, background, ratios, keep=keep_cosmic_rays)
    return RepairResult(
        cosmic_ray_count=len(grown),
        pixel_count=np.unique(grown.pixels).size,
        first_scan=first_scan,
        accepted=accepted,
        cosmic_rays=grown,
        background=background,
        ratios=(float(ratios[0]), float(ratios[1]), float(ratios[2])),
    )


def psf_ratios(psf: Psf, factor: float) -> NDArray[np.float64]:
    """Limits on a pixel's neighbour-to-peak ratio along rows, columns and diagonals.

    Parameters
    ----------
    psf : Psf
        Its kernel image at the average position counts.
    factor : float
        Multiplies the ratios of the PSF itself.

    Returns
    -------
    ndarray of float64, shape (3,)
    """
    kernel = psf.kernel_image().astype(np.float64)
    y, x = kernel.shape[0] // 2, kernel.shape[1] // 2
    if not kernel[y, x] > 0:
        return np.zeros(3)  # such a PSF is no guide: only pixels with nothing beside them are too sharp
    core = kernel[y - 1 : y + 2, x - 1 : x + 2] / kernel[y, x]
    means = (core[1, ::2].mean(), core[::2, 1].mean(), core[::2, ::2].mean())
    return factor * np.array(means)


def _first_scan(
    masked: MaskedImage, config: CosmicRayConfig, background: float, ratios: NDArray[np.float64]
) -> CosmicRays:
    pixels = scan(
        masked.image,
        masked.mask,
        masked.variance,
        background,
        ratios,
        config.min_sigma,
        config.cond3_fac,
        np.int32(masked.planes.bitmask(_BAD_PLANES)),
        np.int32(masked.planes.bitmask(["INTRP"])),
        config.n_cr_pixel_max,
        _candidates(masked, config.min_sigma),
    )
    if pixels.size > config.n_cr_pixel_max:
        raise _too_many(config)
    return CosmicRays.grouped(pixels, label_runs(pixels, masked.shape[1]))


def _candidates(masked: MaskedImage, min_sigma: float) -> NDArray[np.uint8]:
    """Pixels that need a test, a bit each: all where significance is no matter of the variance."""
    height, width = masked.shape
    marks = np.full((height, -(-width // 8)), 255, np.uint8)
    if min_sigma > 0:
        threads.each(
            lambda rows: mark_candidates(masked.image, masked.variance, min_sigma, rows.start, marks[rows]),
            threads.bands(height),
        )
    return marks


def _with_charge(found: CosmicRays, image: NDArray[np.float32], background: float, min_charge: float) -> CosmicRays:
    """Groups whose summed excess over the background reaches a limit."""
    if not len(found):
        return found
    charge = np.add.reduceat(image.ravel()[found.pixels].astype(np.float64) - background, found.offsets[:-1])
    return found.select(charge >= min_charge)


def _grown(
    found: CosmicRays,
    masked: MaskedImage,
    config: CosmicRayConfig,
    background: float,
    ratios: NDArray[np.float64],
    *,
    keep: bool,
) -> CosmicRays:
    """Grow groups among their neighbours, with what is known filled in; mark them and fill or restore them."""
    image, mask = masked.image.ravel(), masked.mask.ravel()
    cr, interpolated = (np.int32(masked.planes.bitmask([name])) for name in ("CR", "INTRP"))
    bad = np.int32(masked.planes.bitmask(_BAD_PLANES))
    originals = [(found.pixels, image[found.pixels])]
    mask[found.pixels] |= cr
    if config.niteration:
        # noise, whatever the final fill: a linear prediction beside a bright ray is itself too bright to grow against
        to_grow = config.model_copy(update={"fill": "noise"})
        fill_pixels(masked, found.pixels, found.offsets, background, bad, to_grow)
    too_many = False
    for _ in range(config.niteration):
        pixels, offsets, touched, before = grow_round(
            masked.image, masked.variance, found.pixels, found.offsets, background, ratios, 0.5 * config.min_sigma
        )
        originals.append((touched, before))
        found = CosmicRays(pixels, offsets)
        mask[pixels] |= cr
        too_many = found.pixels.size > config.n_cr_pixel_max
        if too_many or not touched.size:
            break
    if keep or too_many:
        for touched, before in reversed(originals):
            image[touched[::-1]] = before[
                ::-1
            ]  # a pixel may have been touched repeatedly: the first value is the last one set
    if too_many:
        mask[found.pixels] &= ~cr
        raise _too_many(config)
    if not keep:
        fill_pixels(masked, found.pixels, found.offsets, background, bad, config)
        mask[found.pixels] |= interpolated
    return found


def _too_many(config: CosmicRayConfig) -> TooManyCosmicRays:
    return TooManyCosmicRays("too many cosmic-ray pixels", maxCosmicRays=config.n_cr_pixel_max)
