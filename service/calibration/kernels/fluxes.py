"""Fluxes in apertures, with Gaussian weights and with the PSF, of a source whose neighbours are hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "GAUSSIAN_SIGMAS",
    "MAX_GAUSSIAN_HALF_SIZE",
    "ApertureFluxes",
    "PsfFluxes",
    "PsfStamps",
    "TophatFluxes",
    "measure_aperture_fluxes",
    "measure_gaussian_flux",
    "measure_psf_flux",
    "measure_tophat_fluxes",
]

_MAX_EXPONENT = 14.0
#: Standard deviations that a Gaussian flux sums over along the axes, and the most pixels that these may be.
GAUSSIAN_SIGMAS, MAX_GAUSSIAN_HALF_SIZE = 4.0, 1000.0


class ApertureFluxes(NamedTuple):
    """Sums over circles without fractional pixels: radii in px (r,); fluxes and errors in counts (n, r, 2).

    Method: Rubin CircularApertureFlux above ``maxSincRadius``.
    """

    radii: NDArray[np.float64]
    values: NDArray[np.float64]


class TophatFluxes(NamedTuple):
    """Fluxes in circles less those of annuli scaled to their areas.

    Method: Rubin CompensatedTophatFlux.

    Attributes
    ----------
    radii : ndarray of float64, shape (r,)
        Of the circles, px.
    inner_scale, outer_scale : float
        The annuli in units of them.
    values : ndarray of float64, shape (n, r, 2)
        Fluxes and errors in counts.
    mask_bits : ndarray of int32, shape (n, r)
        OR of the mask over the box around the annulus.
    bounds : ndarray of bool, shape (n, r)
        Set where the box is not inside the image; nothing else is filled there.
    """

    radii: NDArray[np.float64]
    inner_scale: float
    outer_scale: float
    values: NDArray[np.float64]
    mask_bits: NDArray[np.int32]
    bounds: NDArray[np.bool_]


class PsfFluxes(NamedTuple):
    """Unweighted least-squares amplitudes of the PSF.

    Method: Rubin PsfFlux.

    Attributes
    ----------
    bad_bits : int
        Pixels with any of these mask bits are left out.
    values : ndarray of float64, shape (n, 4)
        Flux, error, area, chi2; left alone where there are no pixels.
    pixels : ndarray of int32, shape (n,)
        Number of pixels used.
    truncated : ndarray of bool, shape (n,)
        Set where the stamp is not inside the image.
    """

    bad_bits: int
    values: NDArray[np.float64]
    pixels: NDArray[np.int32]
    truncated: NDArray[np.bool_]


class PsfStamps(NamedTuple):
    """PSFs drawn at sub-pixel positions (m, kh, kw), and their lower-left pixels (m,) in array coordinates."""

    images: NDArray[np.float32]
    x0: NDArray[np.int32]
    y0: NDArray[np.int32]


# here and below, reassociation lets the sums run in vector registers; results change by rounding only
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _disc_sums(
    image: NDArray[np.float32], variance: NDArray[np.float32], x: float, y: float, radius: float
) -> tuple[float, float]:
    """Sums of values and variances over the pixels whose centres lie in the circle, which must be on the image."""
    flux = 0.0
    spread = 0.0
    for row in range(int(np.ceil(y - radius)), int(np.floor(y + radius)) + 1):
        half = np.sqrt(max(radius * radius - (row - y) * (row - y), 0.0))
        first, end = int(np.ceil(x - half)), int(np.floor(x + half)) + 1
        values, variances = image[row, first:end], variance[row, first:end]
        for k in range(len(values)):
            flux += values[k]
            spread += variances[k]
    return flux, spread


@njit(cache=True, nogil=True, error_model="numpy")
def _inside(shape: tuple[int, int], x: float, y: float, radius: float) -> bool:
    """Whether all pixels that the circle's bounding box touches are on the image; not where x or y is not finite."""
    return (
        np.floor(x - radius + 0.5) >= 0.0
        and np.floor(y - radius + 0.5) >= 0.0
        and np.ceil(x + radius - 0.5) <= shape[1] - 1
        and np.ceil(y + radius - 0.5) <= shape[0] - 1
    )


@njit(cache=True, nogil=True, error_model="numpy")
def measure_aperture_fluxes(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    apertures: ApertureFluxes,
    source: int,
    x: float,
    y: float,
) -> None:
    """Fill the values of one source at (x, y); they are left alone where the circle is not inside the image."""
    for k in range(len(apertures.radii)):
        if _inside(image.shape, x, y, apertures.radii[k]):
            flux, spread = _disc_sums(image, variance, x, y, apertures.radii[k])
            apertures.values[source, k, 0] = flux
            apertures.values[source, k, 1] = np.sqrt(max(spread, 0.0))


@njit(cache=True, nogil=True, error_model="numpy")
def _bits_of_box(mask: NDArray[np.int32], column: int, row: int, half: int) -> int:
    bits = 0
    for j in range(max(row - half, 0), min(row + half + 1, len(mask))):
        line = mask[j, max(column - half, 0) : column + half + 1]
        for k in range(len(line)):
            bits |= line[k]
    return bits


@njit(cache=True, nogil=True, error_model="numpy")
def measure_tophat_fluxes(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.int32],
    tophats: TophatFluxes,
    source: int,
    x: float,
    y: float,
) -> None:
    """Fill the values of one source at (x, y)."""
    height, width = image.shape
    inner_scale, outer_scale = tophats.inner_scale, tophats.outer_scale
    scale = 1.0 / (outer_scale * outer_scale - inner_scale * inner_scale)
    for k in range(len(tophats.radii)):
        radius = tophats.radii[k]
        half = int(np.ceil(radius * outer_scale))
        # the rounded centre and the box around its floor must both fit; also where the centre is not finite
        if not (half <= x < width - half - 0.5 and half <= y < height - half - 0.5):
            tophats.bounds[source, k] = True
            continue
        core, core_variance = _disc_sums(image, variance, x, y, radius)
        outer, outer_variance = _disc_sums(image, variance, x, y, radius * outer_scale)
        inner, inner_variance = core, core_variance
        if inner_scale != 1.0:
            inner, inner_variance = _disc_sums(image, variance, x, y, radius * inner_scale)
        spread = core_variance + scale * scale * (outer_variance - inner_variance)
        tophats.values[source, k, 0] = core - scale * (outer - inner)
        tophats.values[source, k, 1] = np.sqrt(max(spread, 0.0))
        tophats.mask_bits[source, k] = _bits_of_box(mask, int(np.floor(x)), int(np.floor(y)), half)


@njit(cache=True, nogil=True, error_model="numpy")
def _gaussian_sum(
    image: NDArray[np.float32], x: float, y: float, half: float, wxx: float, wyy: float, wxy: float
) -> float:
    """Sum of the pixels times a Gaussian of peak 1, where its exponent allows."""
    height, width = image.shape
    total = 0.0
    step = np.exp(-wxx)
    for row in range(max(int(y - half - 0.5), 0), min(int(y + half + 0.5), height - 1) + 1):
        dy = row - y
        middle = -wxy * dy / wxx
        square = middle * middle - (wyy * dy * dy - _MAX_EXPONENT) / wxx
        reach = np.sqrt(max(square, 0.0))
        # limited before they become integers, for which they may be too large
        first = int(max(np.ceil(x + middle - reach), np.floor(x - half - 0.5), 0.0))
        last = int(min(np.floor(x + middle + reach), np.floor(x + half + 0.5), width - 1.0))
        if square < 0.0 or first > last:
            continue
        line = image[row, first : last + 1]
        # along a row the logarithm of the weight is quadratic, so the weight follows from two multiplications a pixel
        dx = first - x
        weight = np.exp(-0.5 * (wxx * dx * dx + 2.0 * wxy * dx * dy + wyy * dy * dy))
        ratio = np.exp(-(wxx * (dx + 0.5) + wxy * dy))
        for k in range(len(line)):
            total += weight * line[k]
            weight *= ratio
            ratio *= step
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def measure_gaussian_flux(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    shape: NDArray[np.float64],
    x: float,
    y: float,
    values: NDArray[np.float64],
) -> None:
    """Flux of one source at (x, y), weighted by a Gaussian of its own shape.

    Method: Rubin GaussianFlux.

    Parameters
    ----------
    image, variance : ndarray of float32, shape (h, w)
        Counts, and counts squared.
    shape : ndarray of float64, shape (3,)
        xx, yy, xy in px^2.
    x, y : float
        Array coordinates.
    values : ndarray of float64, shape (2,)
        Filled with flux and error; left alone where the shape is singular or not finite or the centre off the image.
    """
    height, width = image.shape
    xx, yy, xy = shape[0], shape[1], shape[2]
    determinant = xx * yy - xy * xy
    if not (0.0 <= x < width and 0.0 <= y < height and determinant > 0.0 and xx > 0.0 and np.isfinite(xx + yy)):
        return
    half = min(GAUSSIAN_SIGMAS * np.sqrt(max(xx, yy)), MAX_GAUSSIAN_HALF_SIZE)
    total = _gaussian_sum(image, x, y, half, yy / determinant, xx / determinant, -xy / determinant)
    values[0] = 2.0 * total
    values[1] = 2.0 * np.sqrt(max(variance[int(y), int(x)], 0.0) * np.pi * np.sqrt(determinant))


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _psf_sums(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad_bits: int,
    stamp: NDArray[np.float32],
    box: tuple[int, int, int, int, int, int],
) -> tuple[int, float, float, float, float]:
    """Number of good pixels and sums of phi, phi^2, phi d and phi^2 v over them."""
    y0, x0, j_low, j_high, i_low, i_high = box
    first, end = x0 + i_low, x0 + i_high
    n = 0
    phi_sum = phi_square = phi_data = phi_variance = 0.0
    for j in range(j_low, j_high):
        phis, bits = stamp[j, i_low:i_high], mask[y0 + j, first:end]
        values, spreads = image[y0 + j, first:end], variance[y0 + j, first:end]
        for i in range(len(phis)):
            bad = (bits[i] & bad_bits) != 0
            phi = 0.0 if bad else np.float64(phis[i])
            n += 0 if bad else 1
            phi_sum += phi
            phi_square += phi * phi
            phi_data += phi * (0.0 if bad else np.float64(values[i]))
            phi_variance += phi * phi * (0.0 if bad else np.float64(spreads[i]))
    return n, phi_sum, phi_square, phi_data, phi_variance


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _psf_chi2(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad_bits: int,
    stamp: NDArray[np.float32],
    box: tuple[int, int, int, int, int, int],
    flux: float,
) -> float:
    y0, x0, j_low, j_high, i_low, i_high = box
    first, end = x0 + i_low, x0 + i_high
    chi2 = 0.0
    for j in range(j_low, j_high):
        phis, bits = stamp[j, i_low:i_high], mask[y0 + j, first:end]
        values, spreads = image[y0 + j, first:end], variance[y0 + j, first:end]
        for i in range(len(phis)):
            residual = values[i] - flux * phis[i]
            chi2 += 0.0 if bits[i] & bad_bits else residual * residual / spreads[i]
    return chi2


@njit(cache=True, nogil=True, error_model="numpy")
def measure_psf_flux(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.int32],
    fluxes: PsfFluxes,
    source: int,
    stamp: NDArray[np.float32],
    x0: int,
    y0: int,
) -> None:
    """Fill the values of one source, whose stamp's lower-left pixel is (x0, y0)."""
    height, width = image.shape
    j_low, j_high = max(-y0, 0), min(height - y0, stamp.shape[0])
    i_low, i_high = max(-x0, 0), min(width - x0, stamp.shape[1])
    fluxes.truncated[source] = j_high - j_low < stamp.shape[0] or i_high - i_low < stamp.shape[1]
    if j_low >= j_high or i_low >= i_high:
        return
    box = (y0, x0, j_low, j_high, i_low, i_high)
    n, phi_sum, phi_square, phi_data, phi_variance = _psf_sums(image, variance, mask, fluxes.bad_bits, stamp, box)
    fluxes.pixels[source] = n
    if n > 0 and phi_square > 0.0:
        flux = phi_data / phi_square
        fluxes.values[source, 0] = flux
        fluxes.values[source, 1] = np.sqrt(phi_variance) / phi_square
        fluxes.values[source, 2] = phi_sum * phi_sum / phi_square
        fluxes.values[source, 3] = _psf_chi2(image, variance, mask, fluxes.bad_bits, stamp, box, flux)
