"""The PSFEx fit: make the grid, refine it, clean the sample, four times with rising accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.calibration.errors import NonfinitePsfShapeError, PsfexNoGoodStarsError
from service.calibration.kernels.lanczos import fill_matrices
from service.calibration.kernels.psfex import fit_grid_pixels, fit_refinement
from service.calibration.kernels.star_stamps import far_from_masked, reduced_chi2
from service.calibration.psf.joint_refinement import JointRefinement
from service.calibration.psf.star_stamps import model_fluxes, noise_weight, without_neighbors, without_pedestal
from service.exposure.psf.lanczos import check_shifts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.calibration.config.psf import PsfexDeterminerConfig
    from service.calibration.psf.star_stamps import StarStamps

__all__ = ["PsfexFit"]

_ACCURACIES = (0.2, 0.1, 0.05, 0.01)
_RIDGE_MAKE = 1e3
_RIDGE_REFINE = 1e4
_REFINED_PIXELS = 400
_REFINED_REACH = 40  # grid pixels
_CLIP = 3.0
_WHOLE = slice(None)
_CHUNK = 32  # grids drawn together: 1 MB


@dataclass(slots=True)
class PsfexFit:
    """Components of a pixel-basis PSF and the stars that made them.

    Method: PSFEx as Rubin's meas_extensions_psfex runs it. Where options say so, better than that: stars are
    normalised by the flux of the model, neighbours that the model uncovers are masked, masked pixels have no weight,
    and the refinement is one system of all pixels.

    Parameters
    ----------
    stamps : StarStamps
        The sample.
    basis : ndarray of float64, shape (n, terms)
        Spatial polynomial at each star.
    fwhm : float
        Typical full width at half maximum in px.
    config : PsfexDeterminerConfig
        Sampling and options of the fit.

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
    config: PsfexDeterminerConfig
    components: NDArray[np.float64] = field(init=False)
    used: NDArray[np.bool_] = field(init=False)
    _grid: int = field(init=False)
    _to_stamp: tuple[NDArray[np.float32], NDArray[np.float32]] = field(init=False)
    _profiles: NDArray[np.float32] = field(init=False)
    _known: NDArray[np.bool_] = field(init=False)
    _refined: NDArray[np.int64] | None = field(init=False, default=None)
    _joint: JointRefinement | None = field(init=False, default=None)
    _searched: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        size, step = self.stamps.image.shape[1], self._oversampling
        self._grid = 2 * (step * size // 2) + 1
        dx, dy = self.stamps.shift.T
        self._to_stamp = (
            _resampling(-step * dy, self._grid, size, step, 1),
            _resampling(-step * dx, self._grid, size, step, 1),
        )
        self._profiles = self._resampled_profiles(self.stamps)
        every_pixel = self.config.masked_pixels == "zero_full_weight"
        self._known = np.zeros((0, 0), np.bool_) if every_pixel else self._known_pixels(self.stamps)
        self.components = np.zeros((self.basis.shape[1], self._grid, self._grid))
        self.used = np.ones(len(self.basis), np.bool_)

    @property
    def _oversampling(self) -> int:
        return round(1.0 / self.config.sampling_size)

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
                models = self._clean(accuracy)
                self._improve_sample(models)
        self._apodise()
        self._clean(_ACCURACIES[-1])
        if self.config.refinement == "blocks":
            self._refine()

    def _make(self, accuracy: float) -> None:
        """Fit every grid pixel to the resampled stars."""
        alive = np.flatnonzero(self.used)

        def fit(pixels: slice) -> NDArray[np.float64]:
            coefficients: NDArray[np.float64] = fit_grid_pixels(
                self._profiles,
                self._known,
                (pixels.start, pixels.stop),
                alive,
                self.stamps.flux,
                self.basis,
                self.stamps.sky_variance,
                self.stamps.gain,
                accuracy,
                _RIDGE_MAKE,
            )
            return coefficients

        flat = np.concatenate(threads.each(fit, threads.bands(self._profiles.shape[1])), axis=1)
        self.components = flat.reshape(-1, self._grid, self._grid)

    def _refine(self) -> None:
        """Correct the pixels that carry the core from the residuals of the stamps, where the PSF is undersampled."""
        if self.config.psfex_basis == "PIXEL_AUTO" and self.fwhm >= 3.0:
            return
        if self._refined is None:
            self._refined = self._core_pixels()
        alive = np.flatnonzero(self.used)
        if self.config.refinement == "joint":
            self._refine_together(alive, self._refined)
        else:
            self._refine_singly(alive, self._refined)

    def _refine_singly(self, alive: NDArray[np.intp], pixels: NDArray[np.int64]) -> None:
        """Each grid pixel by itself, by triangles."""
        flux = self.stamps.flux[alive]
        residual = self.stamps.image[alive] - flux[:, None, None].astype(np.float32) * self._models(alive)
        change = fit_refinement(
            residual,
            self.stamps.weight[alive],
            flux,
            self.stamps.shift[alive],
            self.basis[alive],
            pixels,
            self._grid,
            self._oversampling,
            _RIDGE_REFINE,
        )
        self.components[:, pixels[:, 0], pixels[:, 1]] += change.T

    def _refine_together(self, alive: NDArray[np.intp], pixels: NDArray[np.int64]) -> None:
        """All grid pixels in one system."""
        if self._joint is None:
            size = self.stamps.image.shape[1]
            self._joint = JointRefinement(pixels, self._grid, size, self._oversampling, _RIDGE_REFINE)
        window, core = self._joint.window, self._joint.core
        stamps = self.stamps.select(alive, window)
        expected = stamps.flux[:, None, None].astype(np.float32) * self._models(alive, window)
        weight = noise_weight(stamps, expected, _ACCURACIES[-1])
        self.components[:, core, core] += self._joint.correction(
            stamps.image - expected,
            weight,
            stamps.flux,
            (self._to_stamp[0][alive], self._to_stamp[1][alive]),
            self.basis[alive],
            self.components[0],
        )

    def _improve_sample(self, models: NDArray[np.float32]) -> None:
        """Let the models of the stars left correct fluxes, and once the pixels too, before the grid is made anew."""
        alive = np.flatnonzero(self.used)
        if self.config.normalization == "model":
            self._renormalise(alive, models)
        if not self._searched and self.config.masked_pixels == "zero_weight":
            self._searched = True
            self._correct_pixels(alive, models)

    def _renormalise(self, alive: NDArray[np.intp], models: NDArray[np.float32]) -> None:
        """Replace aperture fluxes, which have the light of neighbours in them."""
        fitted = model_fluxes(self.stamps.select(alive), models, self.fwhm)
        flux = self.stamps.flux.copy()
        flux[alive] = fitted
        self._profiles *= (self.stamps.flux / flux)[:, None].astype(np.float32)
        self.stamps = replace(self.stamps, flux=flux)

    def _correct_pixels(self, alive: NDArray[np.intp], models: NDArray[np.float32]) -> None:
        """Mask neighbours, level the sky, and fill masked pixels so that they do not ring when resampled."""
        stamps = self.stamps.select(alive)
        if self.config.neighbor_threshold is not None:
            stamps = without_neighbors(stamps, models, self.fwhm, self.config.neighbor_threshold)
        if self.config.fit_pedestal:
            stamps, _ = without_pedestal(stamps, models)
        image, weight = self.stamps.image.copy(), self.stamps.weight.copy()
        expected = stamps.flux[:, None, None].astype(np.float32) * models
        image[alive] = np.where(stamps.weight > 0, stamps.image, expected)
        weight[alive] = stamps.weight
        self.stamps = replace(self.stamps, image=image, weight=weight)
        corrected = self.stamps.select(alive)
        self._profiles[alive] = self._resampled_profiles(corrected)
        self._known[alive] = self._known_pixels(corrected)

    def _clean(self, accuracy: float) -> NDArray[np.float32]:
        """Remove the stars that the model describes much worse than the others; the models of those left."""
        alive = np.flatnonzero(self.used)
        models = self._models(alive)
        stamps = self.stamps
        chi = np.sqrt(reduced_chi2(stamps.image, stamps.weight, stamps.shift, alive, models, accuracy))
        good = ~(chi > _upper_limit(chi))  # not of squares: rounding would remove a single star
        self.used[alive] = good
        if not good.any():
            raise PsfexNoGoodStarsError("no star is left after cleaning the PSF sample", n_stars=len(self.used))
        return models if good.all() else models[good]

    def _models(self, rows: NDArray[np.intp], part: slice = _WHOLE) -> NDArray[np.float32]:
        """Model of unit flux at the stars' positions, resampled to a part of the rows and columns of their stamps."""
        flat = self.components.reshape(len(self.components), -1).astype(np.float32)
        if not np.isfinite(flat).all():
            raise NonfinitePsfShapeError("the PSF model is not finite", psf_size=np.nan, n_stars=len(self.used))
        basis = self.basis.astype(np.float32)
        along_y, along_x = (matrices[:, part] for matrices in self._to_stamp)
        result = np.empty((len(rows), along_y.shape[1], along_x.shape[1]), np.float32)

        def draw(part: slice) -> None:
            some = part if len(rows) == len(basis) else rows[part]  # of all, nothing is to be copied
            grids = (basis[some] @ flat).reshape(-1, self._grid, self._grid)
            columns = along_x[some].transpose(0, 2, 1)
            np.matmul(along_y[some] @ grids, columns, out=result[part])

        _each_chunk(draw, len(rows))
        return result

    def _resampled_profiles(self, stamps: StarStamps) -> NDArray[np.float32]:
        """Stamps over flux on the grid, shape (n, grid^2)."""
        size = stamps.image.shape[1]
        dx, dy = stamps.shift.T
        result = np.empty((len(dx), self._grid, self._grid), np.float32)

        def draw(part: slice) -> None:
            along_y, along_x = (_resampling(d[part], size, self._grid, 1, self._oversampling) for d in (dy, dx))
            np.matmul(along_y @ stamps.image[part], along_x.transpose(0, 2, 1), out=result[part])

        _each_chunk(draw, len(dx))
        result /= stamps.flux[:, None, None].astype(np.float32)
        return result.reshape(len(dx), -1)

    def _known_pixels(self, stamps: StarStamps) -> NDArray[np.bool_]:
        """Grid pixels at least one stamp pixel away from every masked one, shape (n, grid^2)."""
        size = stamps.image.shape[1]
        offsets = (np.arange(self._grid) - self._grid // 2) / self._oversampling + size // 2
        columns, rows = (
            np.clip(np.rint(offsets + stamps.shift[:, axis, None]), 0, size - 1).astype(np.int64) for axis in (0, 1)
        )
        known = np.empty((len(rows), self._grid, self._grid), np.bool_)
        far_from_masked(stamps.weight, rows, columns, known)
        return known.reshape(len(rows), -1)

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
        width = self.fwhm * self._oversampling
        inner = 0.5 * radius if width >= radius else radius - max(1.0, width)
        r = np.arange(self._grid) - self._grid // 2
        factor = (radius**2 - (r[:, None] ** 2 + r**2)) / (radius**2 - inner**2)
        self.components *= np.clip(factor, 0.0, 1.0)


def _each_chunk(draw: Callable[[slice], None], n: int) -> None:
    """Draw stars chunk by chunk; the chunks are always the same, as sums of products may depend on their size."""
    chunks = threads.bands(n, _CHUNK)

    def draw_some(band: slice) -> None:
        for chunk in chunks[band]:
            draw(chunk)

    threads.each(draw_some, threads.bands(len(chunks)))


def _resampling(shift: NDArray[np.float64], n_in: int, n_out: int, step: int, phases: int) -> NDArray[np.float32]:
    """Matrices (n, n_out, n_in) that resample with ``step / phases`` input pixels an output pixel."""
    check_shifts(shift)
    matrices = np.empty((len(shift), n_out, n_in), np.float32)
    fill_matrices(shift, step, phases, matrices)
    return matrices


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
