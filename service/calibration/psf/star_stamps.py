"""The sample of the PSF fit, and what a first model tells about it: fluxes, neighbours, and the sky left over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StarStamps", "model_fluxes", "noise_weight", "without_neighbors", "without_pedestal"]

_ACCURACY = 0.01  # of the model, relative
_NEIGHBOR_ACCURACY = 0.05  # of the first model: what it does not describe is no neighbour
_CORE = 1.5  # radius within which fluxes are fitted, FWHM
_OWN = 1.0  # nothing nearer than so many FWHM is taken for a neighbour
_KEPT = 0.6  # and nothing nearer than these is masked
_SIGMA_PER_FWHM = 1.0 / 2.3548
_RING = 0.5  # inner radius of the ring that measures the pedestal, half stamps
_MIN_RING = 50  # px
_PEDESTAL_PRIOR = 0.3  # sky sigma
_CLIP = 3.0
_WHOLE = slice(None)


@dataclass(frozen=True, slots=True)
class StarStamps:
    """What the fit reads of each star.

    Parameters
    ----------
    image : ndarray of float32, shape (n, size, size)
        Counts; 0 in masked pixels.
    weight : ndarray of float32, same shape
        Inverse variance, counts^-2; 0 in masked pixels.
    flux : ndarray of float64, shape (n,)
        Flux by which the stamp is normalised, counts.
    shift : ndarray of float64, shape (n, 2)
        Position (x, y) relative to the stamp's centre pixel, within [-0.5, 0.5].
    sky_variance : float
        Counts squared.
    gain : float
        Electrons per count.
    """

    image: NDArray[np.float32]
    weight: NDArray[np.float32]
    flux: NDArray[np.float64]
    shift: NDArray[np.float64]
    sky_variance: float
    gain: float

    def select(self, rows: NDArray[np.intp], part: slice = _WHOLE) -> StarStamps:
        """Some of the stars, and of their rows and columns."""
        image, weight = (plane[:, part, part][rows] for plane in (self.image, self.weight))
        return replace(self, image=image, weight=weight, flux=self.flux[rows], shift=self.shift[rows])

    def inner(self, half: int) -> StarStamps:
        """The stamps cut down to ``2 half + 1`` pixels, where they are larger."""
        cut = _middle(self.image.shape[1], half)
        return replace(self, image=self.image[:, cut, cut], weight=self.weight[:, cut, cut])

    def distance2(self) -> NDArray[np.float32]:
        """Squared distance of every pixel from its star, px^2; shape of the images."""
        size = self.image.shape[1]
        r = np.arange(size) - size // 2
        x2, y2 = (((r - self.shift[:, k, None]) ** 2).astype(np.float32) for k in (0, 1))
        return np.asarray(y2[:, :, None] + x2[:, None, :])


def _middle(size: int, half: int) -> slice:
    return slice(max(0, size // 2 - half), size // 2 + half + 1)


def noise_weight(stamps: StarStamps, expected: NDArray[np.float32], accuracy: float) -> NDArray[np.float32]:
    """Inverse variance that the model expects: sky, light, and its own relative error; 0 in masked pixels.

    Parameters
    ----------
    stamps : StarStamps
        The sample.
    expected : ndarray of float32, shape (n, size, size)
        Models in counts.
    accuracy : float
        Relative error of the models.

    Returns
    -------
    ndarray of float32, shape (n, size, size)
        Counts^-2. Unlike weights made of the data it does not favour pixels that are low by chance.
    """
    variance = np.maximum(expected, 0) / np.float32(stamps.gain)
    variance += np.float32(stamps.sky_variance)
    variance += (np.float32(accuracy) * expected) ** 2
    return np.divide(np.float32(1), variance, out=np.zeros_like(expected), where=stamps.weight > 0)


def model_fluxes(stamps: StarStamps, models: NDArray[np.float32], fwhm: float) -> NDArray[np.float64]:
    """Flux of each star as the model fits it to the core, where neighbours add little.

    Parameters
    ----------
    stamps : StarStamps
        The sample.
    models : ndarray of float32, shape (n, size, size)
        Models of unit flux.
    fwhm : float
        Width of the PSF in px.

    Returns
    -------
    ndarray of float64, shape (n,)
        Counts; the flux given where the fit has no positive one.
    """
    half = int(_CORE * fwhm) + 1
    cut = _middle(models.shape[1], half)
    stamps, models = stamps.inner(half), models[:, cut, cut]
    weight = noise_weight(stamps, stamps.flux[:, None, None].astype(np.float32) * models, _ACCURACY)
    weight *= stamps.distance2() < (_CORE * fwhm) ** 2
    weight *= models
    moment = np.einsum("nij,nij->n", weight, stamps.image, dtype=np.float64)
    norm = np.einsum("nij,nij->n", weight, models, dtype=np.float64)
    fitted = np.divide(moment, norm, out=np.zeros(len(norm)), where=norm > 0)
    return np.where(np.isfinite(fitted) & (fitted > 0), fitted, stamps.flux)


def without_neighbors(stamps: StarStamps, models: NDArray[np.float32], fwhm: float, threshold: float) -> StarStamps:
    """Mask what sticks out of a stamp beside the model: neighbours too faint for the detection that found the star.

    Parameters
    ----------
    stamps : StarStamps
        The sample.
    models : ndarray of float32, shape (n, size, size)
        Models of unit flux.
    fwhm : float
        Width of the PSF in px.
    threshold : float
        Significance of a neighbour in the residual smoothed with a Gaussian of the PSF's width, sigma.

    Returns
    -------
    StarStamps
        With weight 0 within a FWHM of a neighbour, but not in the star's own core.
    """
    expected = stamps.flux[:, None, None].astype(np.float32) * models
    residual = (stamps.image - expected) * np.sqrt(noise_weight(stamps, expected, _NEIGHBOR_ACCURACY))
    sigma = fwhm * _SIGMA_PER_FWHM
    smoothed = gaussian_filter(residual, sigma, axes=(1, 2), mode="constant")
    smoothed *= np.float32(2.0 * np.sqrt(np.pi) * sigma)  # unit variance of white noise
    distance2 = stamps.distance2()
    found = (smoothed > threshold) & (distance2 > (_OWN * fwhm) ** 2)
    masked = maximum_filter(found, 2 * round(fwhm) + 1, axes=(1, 2)) & (distance2 > (_KEPT * fwhm) ** 2)
    return replace(stamps, weight=np.where(masked, np.float32(0), stamps.weight))


def without_pedestal(stamps: StarStamps, models: NDArray[np.float32]) -> tuple[StarStamps, float]:
    """Subtract the sky level that all stamps share.

    The background was fitted with the faint sources in it that are masked in the stamps, so it is too high there. Of
    the mean residuals in the outer parts of the stamps, what grows with the flux of the star belongs to the PSF, and
    what does not is sky. Stars all of the same flux cannot tell: a prior keeps the pedestal at zero then.

    Parameters
    ----------
    stamps : StarStamps
        The sample, neighbours masked.
    models : ndarray of float32, shape (n, size, size)
        Models of unit flux.

    Returns
    -------
    stamps : StarStamps
        Corrected where not masked.
    pedestal : float
        What was subtracted, counts.
    """
    half = 0.5 * stamps.image.shape[1]
    distance2 = stamps.distance2()
    ring = (stamps.weight > 0) & (distance2 > (_RING * half) ** 2) & (distance2 < half**2)
    n = np.count_nonzero(ring, axis=(1, 2))
    expected = stamps.flux[:, None, None].astype(np.float32) * models
    wing, level = (
        np.einsum("nij,nij->n", ring.astype(np.float32), plane, dtype=np.float64) / np.maximum(n, 1)
        for plane in (expected, stamps.image - expected)
    )
    variance = stamps.sky_variance / np.maximum(n, 1) + (_NEIGHBOR_ACCURACY * wing) ** 2
    use = n >= _MIN_RING
    scale = max(float(stamps.flux.max()), 1.0)
    design = np.stack([np.ones(len(n)), stamps.flux / scale], axis=1) / np.sqrt(variance)[:, None]
    data = level / np.sqrt(variance)
    prior = np.diag([1.0 / (_PEDESTAL_PRIOR**2 * stamps.sky_variance), 1e-12])
    solution = np.zeros(2)
    for _ in range(3):
        a, b = design[use], data[use]
        solution = np.linalg.solve(a.T @ a + prior, a.T @ b)
        pull = np.abs(data - design @ solution)
        use = (n >= _MIN_RING) & (pull <= _CLIP * max(1.0, 1.4826 * float(np.median(pull))))
    pedestal = float(solution[0])
    image = np.where(stamps.weight > 0, stamps.image - np.float32(pedestal), stamps.image)
    return replace(stamps, image=image), pedestal
