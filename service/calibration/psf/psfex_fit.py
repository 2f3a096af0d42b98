"""The PSFEx fit: make the grid, refine it, clean the sample, four times with rising accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from service.calibration.errors import NonfinitePsfShapeError, PsfexNoGoodStarsError
from service.calibration.kernels.psfex import fit_grid_pixels, fit_refinement
from service.exposure.psf.lanczos import lanczos_matrices

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PsfexFit", "StarStamps"]

_ACCURACIES = (0.2, 0.1, 0.05, 0.01)
_RIDGE_MAKE = 1e3
_RIDGE_REFINE = 1e4
_REFINED_PIXELS = 400
_REFINED_REACH = 40  # grid pixels
_CLIP = 3.0
_CHUNK = 32  # grids drawn together: 1 MB


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
        Catalogue flux by which the stamp is normalised, counts.
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


@dataclass(slots=True)
class PsfexFit:
    """Components of a pixel-basis PSF and the stars that made them.

    Method: PSFEx as Rubin's meas_extensions_psfex runs it, including what differs there from the published program:
    the refinement treats every grid pixel by itself, and masked pixels may count as zeros.

    Parameters
    ----------
    stamps : StarStamps
        The sample.
    basis : ndarray of float64, shape (n, terms)
        Spatial polynomial at each star.
    fwhm : float
        Typical full width at half maximum in px.
    oversampling : int
        Grid pixels a detector pixel.
    refine_basis : {"PIXEL", "PIXEL_AUTO"}
        Refine always, or below a FWHM of 3 px only.
    masked_pixels : {"zero_full_weight", "zero_weight"}
        What masked pixels are when the grid is made.

    Attributes
    ----------
    components : ndarray of float64, shape (terms, grid, grid)
        The model after `run`.
    used : ndarray of bool, shape (n,)
        Stars that survived all cleaning.
    """

    stamps: StarStamps
    basis: NDArray[np.float64]
    fwhm: float
    oversampling: int = 2
    refine_basis: Literal["PIXEL", "PIXEL_AUTO"] = "PIXEL_AUTO"
    masked_pixels: Literal["zero_full_weight", "zero_weight"] = "zero_full_weight"
    components: NDArray[np.float64] = field(init=False)
    used: NDArray[np.bool_] = field(init=False)
    _grid: int = field(init=False)
    _to_stamp: tuple[NDArray[np.float32], NDArray[np.float32]] = field(init=False)
    _profiles: NDArray[np.float32] = field(init=False)
    _known: NDArray[np.bool_] = field(init=False)
    _refined: NDArray[np.int64] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        size, step = self.stamps.image.shape[1], self.oversampling
        self._grid = 2 * (step * size // 2) + 1
        dx, dy = self.stamps.shift.T
        self._to_stamp = (
            lanczos_matrices(-step * dy, self._grid, size, step),
            lanczos_matrices(-step * dx, self._grid, size, step),
        )
        self._profiles = self._resampled_profiles()
        self._known = np.zeros((0, 0), np.bool_) if self.masked_pixels == "zero_full_weight" else self._known_pixels()
        self.components = np.zeros((self.basis.shape[1], self._grid, self._grid))
        self.used = np.ones(len(self.basis), np.bool_)

    def run(self) -> None:
        """Fit the model.

        Raises
        ------
        PsfexNoGoodStarsError
            The cleaning removed every star.
        NonfinitePsfShapeError
            The stars are so faint or so bright that the model is not finite.
        """
        for accuracy, following in zip(_ACCURACIES, (*_ACCURACIES[1:], None), strict=True):
            self._make(accuracy)
            self._refine()
            if following is not None:
                self._clean(accuracy)
        self._apodise()
        self._clean(_ACCURACIES[-1])
        self._refine()

    def _make(self, accuracy: float) -> None:
        """Fit every grid pixel to the resampled stars."""
        alive = np.flatnonzero(self.used)
        whole = alive.size == self.used.size
        profiles = self._profiles if whole else self._profiles[alive]
        known = self._known if whole or not self._known.size else self._known[alive]
        flat = fit_grid_pixels(
            profiles,
            known,
            self.stamps.flux[alive],
            self.basis[alive],
            self.stamps.sky_variance,
            self.stamps.gain,
            accuracy,
            _RIDGE_MAKE,
        )
        self.components = flat.reshape(-1, self._grid, self._grid)

    def _refine(self) -> None:
        """Correct the pixels that carry the core from the residuals of the stamps, where the PSF is undersampled."""
        if self.refine_basis == "PIXEL_AUTO" and self.fwhm >= 3.0:
            return
        if self._refined is None:
            self._refined = self._core_pixels()
        alive = np.flatnonzero(self.used)
        flux = self.stamps.flux[alive]
        residual = self.stamps.image[alive] - flux[:, None, None].astype(np.float32) * self._models(alive)
        change = fit_refinement(
            residual,
            self.stamps.weight[alive],
            flux,
            self.stamps.shift[alive],
            self.basis[alive],
            self._refined,
            self._grid,
            self.oversampling,
            _RIDGE_REFINE,
        )
        self.components[:, self._refined[:, 0], self._refined[:, 1]] += change.T

    def _clean(self, accuracy: float) -> None:
        """Remove the stars that the model describes much worse than the others."""
        alive = np.flatnonzero(self.used)
        chi = np.sqrt(self._chi2(alive, accuracy))
        self.used[alive[chi > _upper_limit(chi)]] = False  # not of squares: rounding would remove a single star
        if not self.used.any():
            raise PsfexNoGoodStarsError("no star is left after cleaning the PSF sample", n_stars=len(self.used))

    def _chi2(self, rows: NDArray[np.intp], accuracy: float) -> NDArray[np.float64]:
        """Reduced chi^2 of each star about its best-scaled model."""
        image, weight = self.stamps.image[rows], self.stamps.weight[rows]
        model = self._models(rows)
        weighted = weight * model
        fit = np.einsum("nij,nij->n", weighted, image) / np.einsum("nij,nij->n", weighted, model)
        model *= fit[:, None, None].astype(np.float32)
        size = image.shape[1]
        r = np.arange(size) - size // 2
        dx, dy = self.stamps.shift[rows].T
        distance2 = ((r - dx[:, None]) ** 2)[:, None, :] + ((r - dy[:, None]) ** 2)[:, :, None]
        counted = (weight > 0) & (distance2 < (0.5 * size) ** 2)
        # w / (1 + w v) is 1 / (1/w + v) without a division by zero in masked pixels
        terms = weight / (1.0 + weight * (np.float32(accuracy) * model) ** 2)
        terms *= (image - model) ** 2
        n = np.count_nonzero(counted, axis=(1, 2))
        total = np.sum(terms, axis=(1, 2), where=counted, dtype=np.float64)
        return np.asarray(total / np.maximum(n - 1, 1))

    def _models(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Model of unit flux at the stars' positions, resampled to their stamps."""
        size = self.stamps.image.shape[1]
        flat = self.components.reshape(len(self.components), -1).astype(np.float32)
        if not np.isfinite(flat).all():
            raise NonfinitePsfShapeError("the PSF model is not finite", psf_size=np.nan, n_stars=len(self.used))
        basis = self.basis.astype(np.float32)
        result = np.empty((len(rows), size, size), np.float32)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            grids = (basis[part] @ flat).reshape(-1, self._grid, self._grid)
            along_y, along_x = (matrices[part] for matrices in self._to_stamp)
            np.matmul(along_y @ grids, along_x.transpose(0, 2, 1), out=result[start : start + _CHUNK])
        return result

    def _resampled_profiles(self) -> NDArray[np.float32]:
        """Stamps over flux on the grid, shape (n, grid^2)."""
        size, step = self.stamps.image.shape[1], 1.0 / self.oversampling
        dx, dy = self.stamps.shift.T
        result = np.empty((len(dx), self._grid, self._grid), np.float32)
        for start in range(0, len(dx), _CHUNK):
            part = slice(start, start + _CHUNK)
            along_y = lanczos_matrices(dy[part], size, self._grid, step)
            along_x = lanczos_matrices(dx[part], size, self._grid, step)
            np.matmul(along_y @ self.stamps.image[part], along_x.transpose(0, 2, 1), out=result[part])
        result /= self.stamps.flux[:, None, None].astype(np.float32)
        return result.reshape(len(dx), -1)

    def _known_pixels(self) -> NDArray[np.bool_]:
        """Grid pixels at least one stamp pixel away from every masked one, shape (n, grid^2)."""
        size = self.stamps.image.shape[1]
        masked = np.pad(self.stamps.weight == 0, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(masked, (3, 3), axis=(1, 2))
        near: NDArray[np.bool_] = np.logical_or.reduce(windows, axis=(3, 4))
        offsets = (np.arange(self._grid) - self._grid // 2) / self.oversampling + size // 2
        columns, rows = (
            np.clip(np.rint(offsets + self.stamps.shift[:, axis, None]), 0, size - 1).astype(np.intp) for axis in (0, 1)
        )
        stars = np.arange(len(near))[:, None, None]
        known: NDArray[np.bool_] = ~near[stars, rows[:, :, None], columns[:, None, :]].reshape(len(near), -1)
        return known

    def _core_pixels(self) -> NDArray[np.int64]:
        """Grid pixels (y, x) that the refinement may change."""
        strength = np.abs(self.components[0])
        rank = min(_REFINED_PIXELS, strength.size)
        limit = np.partition(strength.ravel(), strength.size - rank)[strength.size - rank]
        r = np.arange(self._grid) - self._grid // 2
        inside = (np.abs(r)[:, None] <= _REFINED_REACH) & (np.abs(r) <= _REFINED_REACH)
        inside &= r[:, None] ** 2 + r**2 < (0.5 * self._grid) ** 2
        return np.argwhere(inside & (strength >= limit))

    def _apodise(self) -> None:
        """Let the model fall to zero at the rim of the grid."""
        radius = 0.5 * self._grid
        width = self.fwhm * self.oversampling
        inner = 0.5 * radius if width >= radius else radius - max(1.0, width)
        r = np.arange(self._grid) - self._grid // 2
        factor = (radius**2 - (r[:, None] ** 2 + r**2)) / (radius**2 - inner**2)
        self.components *= np.clip(factor, 0.0, 1.0)


def _upper_limit(chi: NDArray[np.float64]) -> float:
    """Median plus three standard deviations of the chi of the stars, clipped at the same until it settles."""
    low, high, previous = -np.inf, np.inf, 1.0
    survivors = chi
    limit = np.inf
    for _ in range(100):
        if not survivors.size:
            break
        median = float(np.median(survivors))
        survivors = survivors[(survivors > low) & (survivors < high)]
        sd = float(survivors.std(ddof=1)) if survivors.size > 1 else 0.0
        low, high = median - _CLIP * sd, median + _CLIP * sd
        limit = high
        if sd < 0.1 or abs(sd / previous - 1.0) <= 1e-4:
            break
        previous = sd
    return limit
