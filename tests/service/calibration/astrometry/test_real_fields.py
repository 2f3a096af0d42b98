"""The astrometric fit on real catalogues."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from service.calibration.astrometry import astrometry
from service.calibration.astrometry.coordinates import separation
from service.calibration.astrometry.fit_affine import fit_affine_wcs
from service.calibration.config.astrometry import AstrometryConfig
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure, FilterLabel
from service.exposure.masked_image import MaskedImage
from service.exposure.star_schema import psf_star_schema
from service.exposure.wcs import Wcs

_MAS_DEG = 1 / 3.6e6


def _stars(x, y, flux, error):
    stars = SourceCatalog.allocate(psf_star_schema(), len(x))
    stars["id"] = np.arange(1, len(x) + 1)
    stars["slot_Centroid_x"], stars["slot_Centroid_y"] = x, y
    stars["slot_Centroid_xErr"] = stars["slot_Centroid_yErr"] = 0.05
    stars["slot_PsfFlux_instFlux"], stars["slot_PsfFlux_instFluxErr"] = flux, error
    return stars


def _exposure(width, height, wcs, band):
    planes = [np.zeros((height, width), dtype) for dtype in ("f4", "i4", "f4")]
    return Exposure(MaskedImage(*planes), wcs=wcs, filter=FilterLabel(band))


def _moved(wcs, offset_arcsec, rotation_deg):
    a = np.radians(rotation_deg)
    rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return wcs.with_affine(rotation @ wcs.matrix, rotation @ wcs.offset + [offset_arcsec / 3600, 0.0])


@pytest.fixture(scope="module")
def lco(data_dir, references_of):
    """2,562 stars of a 4k LCO frame, their references, and a WCS fitted directly to the identified pairs."""
    path = data_dir / "CATALOGUE_LEVEL" / "LCO" / "cpt1m012-fa06-20200113-0102-matched-cat.fits"
    if not path.exists():
        pytest.skip("no LCO catalogue")
    data = fits.getdata(path)
    data = data[(data["flag"] == 0) & (data["flux"] > 0)]
    center = float(np.median(data["ra"])), float(np.median(data["dec"]))
    identified = Wcs.tan((2048.0, 2048.0), center, 0.3895 / 3600 * np.array([[1.0, 0.0], [0.0, -1.0]]))
    identified = fit_affine_wcs(identified, data["x"], data["y"], data["ra"], data["dec"])
    references = references_of(
        np.column_stack([data["ra"], data["dec"]]), {"phot_g_mean": 10 ** (0.4 * (31.4 - data["imag"]))}
    )
    return data, identified, references


@pytest.mark.parametrize(("offset", "rotation"), [(0.0, 0.0), (60.0, 0.8), (90.0, -0.5)])
def test_lco_frame_is_identified_star_by_star(lco, offset, rotation):
    data, identified, references = lco
    stars = _stars(data["x"], data["y"], data["flux"], data["fluxerr"])
    exposure = _exposure(4096, 4096, _moved(identified, offset, rotation), "i")
    result = astrometry.solve(exposure, stars, references, AstrometryConfig())
    astrometry.check(result, AstrometryConfig())
    assert np.mean(result.matches["src_id"] == result.matches["ref_id"]) > 0.99
    assert len(result.matches) > 0.6 * len(data)  # faint pairs are farther apart than the clip allows
    assert result.offset_mean < 0.3
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(0, 4095, 5), np.linspace(0, 4095, 5)))
    ra, dec = result.wcs.pixel_to_sky(x, y)
    known_ra, known_dec = identified.pixel_to_sky(x, y)
    assert 3600 * np.hypot((ra - known_ra) * np.cos(np.radians(dec)), dec - known_dec).max() < 0.2


def _hsc_wcs(header):
    """The linear part of the raw header, whose units and distortion keywords are not standard."""
    cd = [[header["CD1_1"], header["CD1_2"]], [header["CD2_1"], header["CD2_2"]]]
    return Wcs.tan((header["CRPIX1"] - 1, header["CRPIX2"] - 1), (header["CRVAL1"], header["CRVAL2"]), cd)


def test_hsc_ccds_against_gaia(data_dir, references_of):
    """Raw-header WCS off by an arcsec and source lists without fluxes: matched, and never left worse than it was.

    A second start 30 arcsec and 0.3 deg off has to end at the same solution.
    """
    folder = data_dir / "CATALOGUE_LEVEL" / "HSC"
    files = sorted(folder.glob("*/*_sources.fits"))[::6]
    if not files:
        pytest.skip("no HSC catalogues")
    gaia = fits.getdata(folder / "refcat_hsc1180_gaia.fits")
    years = (56744.29 - gaia["epoch_mjd"]) / 365.25
    ra = gaia["ra"] + np.nan_to_num(gaia["pmra"]) * years * _MAS_DEG / np.cos(np.radians(gaia["dec"]))
    dec = gaia["dec"] + np.nan_to_num(gaia["pmdec"]) * years * _MAS_DEG
    config = AstrometryConfig.model_validate(
        {
            "do_magnitude_outlier_rejection": False,
            "matcher": {"min_frac_matched_pairs": 0.1, "min_matched_pairs": 8},
            "max_mean_distance_arcsec": 1.0,
        }
    )
    for path in files:
        data, wcs = fits.getdata(path), _hsc_wcs(fits.getheader(path))
        sharpness = 1.0 / data["xErr"].astype(float) ** 2  # brighter stars have smaller errors
        solutions = []
        for start in (wcs, _moved(wcs, 30.0, 0.3)):
            exposure = _exposure(2048, 4176, start, "z")
            x, y = wcs.sky_to_pixel(ra, dec)
            near = exposure.bbox.grown(250).contains(x, y)
            references = references_of(
                np.column_stack([ra[near], dec[near]]), {"phot_g_mean": 10 ** (0.4 * (31.4 - gaia["Gmag"][near]))}
            )
            stars = _stars(data["x"].astype(float), data["y"].astype(float), sharpness, sharpness / 100)
            result = astrometry.solve(exposure, stars, references, config)
            astrometry.check(result, config)
            assert len(result.matches) >= 10, path.name
            solutions.append(result)
        before = np.radians(wcs.pixel_to_sky(*_matched(solutions[0], "src_slot_Centroid_x", "src_slot_Centroid_y")))
        sky = _matched(solutions[0], "ref_coord_ra", "ref_coord_dec")
        header_median = np.degrees(np.median(separation(*before, *sky))) * 3600
        assert solutions[0].offset_median < header_median, path.name
        x, y = np.array([100.0, 1000.0, 1900.0]), np.array([200.0, 2000.0, 4000.0])
        first, second = (np.array(s.wcs.pixel_to_sky(x, y)) for s in solutions)
        assert 3600 * np.abs(first - second).max() < 0.5, path.name


def _matched(result, *names):
    return tuple(result.matches[name] for name in names)
