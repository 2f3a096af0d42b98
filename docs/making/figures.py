"""Draw the pictures of docs/pipeline.md from one simulated exposure, calibrated as any other: ``make figures``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from making.plots import BLUE, GREEN, GREY, ORANGE, figure, limits, picture, save
from making.run import Run, calibrated
from service.exposure.background import BackgroundList

__all__ = ["FIGURES", "TARGET"]

TARGET = Path(__file__).parents[1] / "images" / "pipeline"
_RADIUS_TO_FWHM = 2.3548
_MAS = 3.6e6


def background(run: Run) -> Figure:
    """The input, everything that was subtracted, and what of it is not sky."""
    made, axes = figure(3, height=2.9)
    raw = run.pixels["raw"].image
    model = run.result.background.image()
    binned = raw.reshape(raw.shape[0] // 4, 4, -1, 4).mean(axis=(1, 3))
    picture(axes[0], binned, "input", span=limits(binned, 1, 97), unit="counts")
    picture(axes[1], model, "background model", span=limits(model, 0, 100), unit="counts", cmap="viridis")
    error = model - run.simulation.sky
    reach = limits(np.abs(error))[1]
    picture(axes[2], error, "model less true sky", span=(-reach, reach), unit="counts", cmap="RdBu_r")
    return made


def cosmic_rays(run: Run) -> Figure:
    """A corner with tracks: before the repair, the pixels that were found, after it."""
    made, axes = figure(3, height=3.2)
    found = run.plane("psf.measure", ["CR"])
    box = _busiest(found, 110)
    sky = BackgroundList(list(run.result.background)[:1]).image()
    before, after = run.pixels["raw"].image - sky, run.pixels["psf.measure"].image
    span = limits(after[box], 1, 97.5)
    picture(axes[0], before[box], "before", span=span)
    picture(axes[1], before[box], "found (CR)", span=span)
    tint = np.zeros((*found[box].shape, 4))
    tint[found[box]] = (0.85, 0.4, 0.12, 0.9)
    axes[1].imshow(tint)
    picture(axes[2], after[box], "after: predicted from the neighbours", span=span)
    return made


def _busiest(plane: NDArray[np.bool_], size: int) -> tuple[slice, slice]:
    """The square with most pixels set, away from the border."""
    height, width = plane.shape
    corners = [(y, x) for y in range(0, height - size, 10) for x in range(0, width - size, 10)]
    rim = size // 8
    y, x = max(corners, key=lambda c: plane[c[0] + rim : c[0] + size - rim, c[1] + rim : c[1] + size - rim].sum())
    return slice(y, y + size), slice(x, x + size)


def psf_stars(run: Run) -> Figure:
    """Size against magnitude of what the PSF stage measured."""
    made, (axes,) = figure(1, height=3.4)
    catalog = run.psf_stars
    flux = catalog["base_CircularApertureFlux_12_0_instFlux"]
    magnitude = run.result.summary.zeroPoint - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
    xx, yy, xy = (catalog[f"slot_Shape_{axes_}"] for axes_ in ("xx", "yy", "xy"))
    size = _RADIUS_TO_FWHM * np.sqrt(np.sqrt(np.clip(xx * yy - xy**2, 0, None)))
    used, candidate = catalog["calib_psf_used"], catalog["calib_psf_candidate"]
    for which, label, color in (
        (~candidate, "not selected", GREY),
        (candidate & ~used, "selected, then rejected by the fit", ORANGE),
        (used, "used for the PSF", BLUE),
    ):
        if not which.any():
            continue
        axes.plot(magnitude[which], size[which], "o", ms=4, color=color, label=f"{label} ({which.sum()})", alpha=0.8)
    axes.set(xlabel="aperture magnitude (r = 12 px)", ylabel="size of the source, FWHM (px)", ylim=(2.5, 12))
    axes.legend(loc="upper left")
    return made


def psf_model(run: Run) -> Figure:
    """Three stars, the model at their places, and what is left in units of the noise."""
    made, axes = figure(9, height=1.45)
    exposure, catalog = run.result.exposure, run.psf_stars
    plane, psf = exposure.masked_image, exposure.psf
    assert psf is not None
    used = np.flatnonzero(catalog["calib_psf_used"])
    chosen = used[np.argsort(-catalog["slot_PsfFlux_instFlux"][used])][[3, 10, 25]]
    half = 15
    for i, row in enumerate(chosen):
        x, y = (float(catalog[f"slot_Centroid_{axis}"][row]) for axis in "xy")
        [stamp], [x0], [y0] = psf.images(np.array([x]), np.array([y]))
        cut = slice(round(y) - half, round(y) + half + 1), slice(round(x) - half, round(x) + half + 1)
        of_stamp = tuple(slice(s.start - o, s.stop - o) for s, o in zip(cut, (y0, x0), strict=True))
        star, variance = plane.image[cut], plane.variance[cut]
        model = stamp[of_stamp] * np.sum(stamp[of_stamp] * star) / np.sum(stamp[of_stamp] ** 2)
        top = float(star.max())
        triple = axes[3 * i : 3 * i + 3]
        picture(triple[0], np.arcsinh(star / top * 50), "star", span=(0, np.arcsinh(50)), cmap="viridis")
        picture(triple[1], np.arcsinh(model / top * 50), "model", span=(0, np.arcsinh(50)), cmap="viridis")
        picture(triple[2], (star - model) / np.sqrt(variance), "left, ±5 σ", span=(-5, 5), cmap="RdBu_r")
    return made


def astrometry(run: Run) -> Figure:
    """References less stars, by the header's WCS and by the fitted one."""
    made, axes = figure(2, height=4.2)
    matches, wcs = run.result.astrometry_matches, run.result.exposure.wcs
    assert matches is not None
    assert wcs is not None
    ra, dec = (np.degrees(matches[f"ref_coord_{axis}"]) for axis in ("ra", "dec"))
    x, y = matches["src_base_SdssCentroid_x"], matches["src_base_SdssCentroid_y"]
    for panel, solution, title, scale, unit in (
        (axes[0], run.first_wcs, "WCS of the header", 1.0, "arcsec"),
        (axes[1], wcs, "after the fit", 1000.0, "mas"),
    ):
        ref_x, ref_y = solution.sky_to_pixel(ra, dec)
        to_unit = solution.pixel_scale(*run.result.exposure.bbox.center) * scale
        dx, dy = (ref_x - x) * to_unit, (ref_y - y) * to_unit
        median = float(np.median(np.hypot(dx, dy)))
        bar = float(f"{2 * median:.0g}")
        arrows = panel.quiver(x, y, dx, dy, angles="xy", units="width", width=0.003, scale=14 * bar, color=BLUE)
        panel.quiverkey(arrows, 0.86, 1.03, bar, f"{bar:g} {unit}", labelpos="E", coordinates="axes")
        panel.set(title=f"{title}: median {median:.3g} {unit}", xlabel="x (px)", aspect="equal")
    axes[0].set_ylabel("y (px)")
    return made


def blend(run: Run) -> Figure:
    """A blend, and the share of each of its children."""
    stars, plane = run.stars, run.result.exposure.masked_image
    parents = np.flatnonzero(stars["deblend_nChild"] == 3)
    whole = [row for row in parents if (stars["parent"] == stars["id"][row]).sum() == 3]
    footprints = stars.footprints
    assert footprints is not None
    row = int(min(whole, key=lambda row: footprints[int(row)].area))  # the closest stars
    children = np.flatnonzero(stars["parent"] == stars["id"][row])
    box = footprints[row].bbox
    cut = plane.image[box.slices(plane.bbox)]
    made, axes = figure(5, height=2.2)
    span = limits(cut, 1, 98.5)
    picture(axes[0], cut, "blend", span=span)
    left = cut.copy()
    for i, child in enumerate(children):
        share = np.zeros(cut.shape, np.float32)
        footprint = footprints[int(child)]
        assert footprint.pixels is not None
        at = 0
        for y, x0, x1 in footprint.spans:
            n = x1 - x0 + 1
            share[y - box.y0, x0 - box.x0 : x1 - box.x0 + 1] = footprint.pixels[at : at + n]
            at += n
        left -= share
        picture(axes[1 + i], share, f"child {i + 1}", span=span)
        magnitude = stars["base_PsfFlux_mag"][child]
        axes[1 + i].set_xlabel(f"{magnitude:.2f} mag")
    picture(axes[4], left, "blend less children", span=span)
    return made


def zero_point(run: Run) -> Figure:
    """Magnitude of the references less that of the stars in counts."""
    made, (axes,) = figure(1, height=3.2)
    matches, photo_calib = run.result.photometry_matches, run.result.exposure.photo_calib
    assert matches is not None
    assert photo_calib is not None
    reference = 31.4 - 2.5 * np.log10(matches["ref_r_flux"])
    difference = reference + 2.5 * np.log10(matches["src_base_NormalizedCompensatedTophatFlux_instFlux"])
    counts = matches["src_base_NormalizedCompensatedTophatFlux_instFlux"]
    error = 2.5 / np.log(10) * matches["src_base_NormalizedCompensatedTophatFlux_instFluxErr"] / counts
    axes.errorbar(reference, difference, error, fmt="o", ms=3.5, lw=0.8, color=BLUE, label="star, 1 σ")
    axes.axhline(photo_calib.zero_point, color=ORANGE, lw=1.4, label=f"zero point {photo_calib.zero_point:.4f}")
    true = run.simulation.aperture_zero_point()
    axes.axhline(true, color=GREEN, lw=1.4, ls="--", label=f"truth {true:.4f}")
    axes.set(xlabel="magnitude of the reference", ylabel="reference less instrumental (mag)")
    axes.set_ylim(true - 0.2, true + 0.2)
    axes.legend(loc="upper left", ncols=3)
    return made


def truth(run: Run) -> Figure:
    """The star catalogue beside what was simulated."""
    made, axes = figure(2, height=3.2)
    stars, sources = run.stars, run.simulation.sources
    good = stars["detect_isPrimary"] & ~stars["base_PsfFlux_flag"] & ~stars["sky_source"]
    x, y = stars["slot_Centroid_x"][good], stars["slot_Centroid_y"][good]
    distance, nearest = cKDTree(np.stack([sources.x, sources.y], 1)).query(np.stack([x, y], 1))
    paired = (distance < 2) & sources.is_star[nearest]
    rows, nearest = np.flatnonzero(good)[paired], np.asarray(nearest)[paired]
    magnitude = sources.mags["r"][nearest]
    values: tuple[tuple[Any, Any, str, float], ...] = (
        (
            (stars["base_PsfFlux_mag"][rows] - magnitude) * 1000,
            stars["base_PsfFlux_magErr"][rows] * 1000,
            "PSF magnitude less truth (mmag)",
            200,
        ),
        (
            (np.degrees(stars["coord_dec"][rows]) - sources.dec[nearest]) * _MAS,
            np.degrees(stars["coord_decErr"][rows]) * _MAS,
            "declination less truth (mas)",
            60,
        ),
    )
    for panel, (residual, error, label, reach) in zip(axes, values, strict=True):
        panel.errorbar(magnitude, residual, error, fmt="o", ms=3, lw=0.7, color=BLUE, ecolor=GREY)
        panel.axhline(0, color=ORANGE, lw=1.2)
        panel.set(xlabel="true magnitude", ylabel=label, ylim=(-reach, reach))
        pulls = np.median(np.abs(residual / error)) / 0.6745
        panel.set_title(f"{len(rows)} stars, scatter over stated error {pulls:.2f}")
    return made


FIGURES: dict[str, Callable[[Run], Figure]] = {
    "background": background,
    "cosmic-rays": cosmic_rays,
    "psf-stars": psf_stars,
    "psf-model": psf_model,
    "astrometry": astrometry,
    "blend": blend,
    "zero-point": zero_point,
    "truth": truth,
}


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    watched = calibrated()
    for name, draw in FIGURES.items():
        save(draw(watched), TARGET / f"{name}.png")
