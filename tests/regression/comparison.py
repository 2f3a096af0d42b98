"""What counts as the same result on another processor, after another compiler or with sums in another order.

Discrete decisions (flags, counts, bits, which rows there are and what is NaN) must be equal. A number may differ by
1e-4 of its scale, which is its own size or, where it happens to be near zero, what its noise is made of: the error of
a flux, the scatter around a median, a pixel for positions and moments. A flux of 0.01 sigma is the difference of sums
that are thousands of times as large, so that its last digits are those of float32; 1e-4 of its *error* is far more
than that and far less than anybody can see in it. With kernels, numpy and BLAS held to SSE2 instead of AVX-512 the
largest difference was an eighth of this.

Whether adaptive moments converge on empty sky hangs on the last bit of the first guess: there, and only there, nothing
that comes of them is compared.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

Values = dict[str, np.ndarray]

TOLERANCE = 1e-4

#: What has no size of its own: a position, a magnitude.
_PLACES = (
    (re.compile(r"(Centroid|SourceMoments|Shapelets)_[xy]$"), 1.0),  # a pixel
    (re.compile(r"coord_(ra|dec)$"), 1e-6),  # a pixel [rad]
    (re.compile(r"\.(ra|dec|raCorners|decCorners)$"), 6e-5),  # a pixel [deg]
    (re.compile(r"mag$|zeroPoint$|zero_point$|magLim$"), 1.0),
)
#: What may happen to be near zero and has no error either.
_FLOORS = (
    (re.compile(r"PsfMoments_[xy]$|_(xx|yy|xy)$|psf(Ixx|Iyy|Ixy)$"), 1.0),  # a pixel, a square pixel
    (re.compile(r"distance$"), 1e-6),  # a pixel [rad]
    (re.compile(r"SizeExtendedness_value$"), 0.01),  # a likelihood from 0 to 1
)
#: Names of the scatter around a number, by the end of its name.
_SCATTER = (("", "Err"), ("Median", "Scatter"), ("Mean", "Std"), ("_mean", "_std"), ("_median", "_stdev"))
_ITERATED = re.compile(r"^stars\.(ext_shapeHSM_HsmSourceMoments|base_GaussianFlux|base_Classification)")


def scale(name: str, values: Values) -> NDArray[np.float64]:
    """Size that a difference of a number is judged by."""
    number = np.abs(values[name].astype(np.float64))
    places = [np.full(number.shape, size) for pattern, size in _PLACES if pattern.search(name)]
    sizes = places or [number]
    for end, other in _SCATTER:
        scatter = values.get(name.removesuffix(end) + other)
        if name.endswith(end) and scatter is not None and scatter.shape == number.shape:
            sizes.append(scatter.astype(np.float64))
    if name.endswith("_ra_dec_Cov"):
        axes = (values[name.replace("ra_dec_Cov", axis)] for axis in ("raErr", "decErr"))
        sizes.append(np.prod([axis.astype(np.float64) for axis in axes], axis=0))
    if name.endswith("magErr"):
        sizes.append(number**2)  # it is the error over the flux, and the flux is uncertain by so many times itself
    if name.startswith("pixels.") or name.endswith("Coeffs"):
        sizes.append(np.full(number.shape, np.median(number)))
    sizes += [np.full(number.shape, size) for pattern, size in _FLOORS if pattern.search(name)]
    return np.fmax.reduce(sizes)


def deviation(name: str, recorded: Values, found: np.ndarray) -> NDArray[np.float64]:
    """Differences of finite numbers in units of their scale."""
    finite = np.isfinite(recorded[name])
    change = np.abs(found.astype(np.float64) - recorded[name])[finite]
    return np.divide(change, scale(name, recorded)[finite], out=np.zeros_like(change), where=change > 0)


def differences(recorded: Values, found: Values) -> list[str]:
    """What differs, a line each; none if the results are the same."""
    lines = [f"{name}: not in both" for name in sorted(recorded.keys() ^ found.keys())]
    said = {name: _difference(name, recorded, found[name]) for name in sorted(recorded.keys() & found.keys())}
    return lines + [f"{name}: {what}" for name, what in said.items() if what]


def _difference(name: str, recorded: Values, found: np.ndarray) -> str:
    before = recorded[name]
    if before.shape != found.shape:
        return f"shape {before.shape} became {found.shape}"
    if _ITERATED.match(name):
        real = ~recorded["stars.sky_source"]
        recorded = {other: v[real] if v.shape == real.shape else v for other, v in recorded.items()}
        before, found = recorded[name], found[real]
    if before.dtype.kind != "f":
        return f"{np.count_nonzero(before != found)} of {before.size} differ" if np.any(before != found) else ""
    odd = ~np.isfinite(before)
    if not np.array_equal(before[odd], found[odd], equal_nan=True) or not np.all(np.isfinite(found[~odd])):
        return "what is NaN or infinite differs"
    change = deviation(name, recorded, found)
    beyond = np.count_nonzero(change > TOLERANCE)
    return f"{beyond} of {before.size} beyond {TOLERANCE:.0e}, up to {change.max():.1e}" if beyond else ""
