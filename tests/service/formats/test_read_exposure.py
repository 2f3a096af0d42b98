"""Reading exposures of others: layouts as their software writes them, and refusals."""

from __future__ import annotations

import bz2
import gzip
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from service import formats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.exposure.exposure import Exposure

SHAPE = (150, 200)


@pytest.fixture
def counts() -> np.ndarray[Any, Any]:
    """A sky of 400 counts with a gain of 2."""
    return np.random.default_rng(1).normal(400, 15, SHAPE).astype(np.float32)


def tan_cards() -> fits.Header:
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.0, "CRPIX2": 70.0, "CRVAL1": 10.0, "CRVAL2": 20.0}
    cards |= {"CD1_1": -1e-4, "CD1_2": 2e-5, "CD2_1": 2e-5, "CD2_2": 1e-4}
    return fits.Header(cards)


def plain(path: Path, image: Any, **cards: Any) -> Path:
    header = tan_cards()
    for key, value in cards.items():
        header[key.replace("_", "-")] = value
    fits.PrimaryHDU(image, header).writeto(path)
    return path


def lsst(
    path: Path,
    image: Any,
    *,
    planes: dict[str, int] | None = None,
    named: bool = True,
    mask_type: str = "i4",
    compressed: bool = False,
    edit: Callable[[fits.HDUList], None] | None = None,
) -> Path:
    """A file as afw writes it."""
    planes = planes or {"BAD": 0, "SAT": 1, "A_LONG_PLANE_NAME": 9}
    mask = np.zeros(image.shape, mask_type)
    mask[2, 3], mask[4, 5] = 1 << planes["SAT"], 1 << planes["A_LONG_PLANE_NAME"]
    variance = (image / 2 + 4).astype("f4")
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    options = {"compression_type": "GZIP_2", "quantize_level": 0} if compressed else {}
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for name, plane in (("IMAGE", image), ("MASK", mask), ("VARIANCE", variance)):
        hdu = kind(plane, header=tan_cards(), **options)
        hdu.header["EXTTYPE"] = name
        if named:
            hdu.header["EXTNAME"] = name
        hdu.header["LTV1"], hdu.header["LTV2"] = -720, -460
        hdus.append(hdu)
    for name, bit in planes.items():
        key = f"MP_{name}"
        hdus[2].header[key if len(key) <= 8 else f"HIERARCH {key}"] = bit
    hdus[0].header["EXPTIME"] = "30.0"
    hdus[0].header["DATE-AVG"], hdus[0].header["TIMESYS"] = "2026-01-02T03:04:05.5", "TAI"
    hdus[0].header["HIERARCH LSST ISR GAIN C00"] = 1.5
    hdus[0].header["HIERARCH LSST ISR GAIN C01"] = 1.7
    hdus[0].header["FILTER"] = "HSC-R2"
    hdus[0].header["DARKTIME"], hdus[0].header["BORE-ALT"] = 31.0, 55.5
    hdus[0].header["HIERARCH BORE-ROTANG"] = -12.5
    if edit is not None:
        edit(hdus)
    hdus.writeto(path)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("mask_type", ["i4", "u2"])
def test_masked_image_by_name(tmp_path: Path, counts: Any, compressed: bool, mask_type: str) -> None:
    path = lsst(tmp_path / "x.fits", counts, compressed=compressed, mask_type=mask_type)
    result = formats.read_exposure(path)
    image = result.exposure.masked_image
    assert result.format == "lsst_masked_image"
    assert (image.x0, image.y0) == (720, 460)
    np.testing.assert_array_equal(image.image, counts)
    np.testing.assert_array_equal(image.variance, (counts / 2 + 4).astype("f4"))
    assert np.argwhere(image.is_set(["SAT"])).tolist() == [[2, 3]]
    assert np.argwhere(image.is_set(["A_LONG_PLANE_NAME"])).tolist() == [[4, 5]]
    assert image.planes["A_LONG_PLANE_NAME"] == 9
    assert result.exposure.wcs is not None
    expected = WCS(tan_cards()).all_pix2world(10, 20, 0)
    np.testing.assert_allclose(result.exposure.wcs.pixel_to_sky(730.0, 480.0), expected, atol=1e-11)
    assert result.values["gain"] == pytest.approx(1.6)
    assert result.origins["gain"] == "header LSST ISR GAIN mean"
    assert result.exposure.filter.band == "r"
    info = result.exposure.visit_info
    assert (info.exposure_time, info.dark_time, info.altitude, info.boresight_rotation) == (30.0, 31.0, 55.5, -12.5)
    assert result.exposure.visit_info.mjd_mid_tai == pytest.approx(Time("2026-01-02T03:04:05.5", scale="tai").mjd)


def test_masked_image_of_old_files_by_order(tmp_path: Path, counts: Any) -> None:
    def strip(hdus: fits.HDUList) -> None:
        for hdu in hdus[1:]:
            del hdu.header["EXTTYPE"]
            del hdu.header["LTV1"], hdu.header["LTV2"]
            hdu.header["CRVAL1A"], hdu.header["CRVAL2A"] = 12, -5

    result = formats.read_exposure(lsst(tmp_path / "x.fits", counts, named=False, edit=strip))
    assert result.format == "lsst_masked_image"
    assert (result.exposure.masked_image.x0, result.exposure.masked_image.y0) == (12, -5)
    assert result.exposure.masked_image.count("SAT") == 1


def test_mask_bits_follow_names_not_numbers(tmp_path: Path, counts: Any) -> None:
    planes = {"SAT": 7, "BAD": 12, "A_LONG_PLANE_NAME": 0}
    image = formats.read_exposure(lsst(tmp_path / "x.fits", counts, planes=planes)).exposure.masked_image
    assert np.argwhere(image.is_set(["SAT"])).tolist() == [[2, 3]]
    assert image.count("BAD") == 0
    assert "NO_DATA" in image.planes


def test_bits_without_a_name_are_cleared_and_said(tmp_path: Path, counts: Any) -> None:
    def stray(hdus: fits.HDUList) -> None:
        hdus[2].data[9, 9] |= 1 << 20

    result = formats.read_exposure(lsst(tmp_path / "x.fits", counts, edit=stray))
    assert result.exposure.masked_image.mask[9, 9] == 0
    assert any("without a name" in warning and "20" in warning for warning in result.warnings)


@pytest.mark.parametrize("card", [("MP_CR", 1), ("MP_CR", 40), ("MP_CR", "x")])
def test_contradictory_planes_are_refused(tmp_path: Path, counts: Any, card: tuple[str, Any]) -> None:
    path = lsst(tmp_path / "x.fits", counts, edit=lambda hdus: hdus[2].header.append(card))
    with pytest.raises(formats.FormatError) as error:
        formats.read_exposure(path)
    assert error.value.code == "format.bad_mask_planes"


def test_gain_from_the_slope_of_the_variance(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    image = (rng.exponential(3000, SHAPE) + 100).astype("f4")  # variance is image / 2 + 4

    def no_gain(hdus: fits.HDUList) -> None:
        for key in ("LSST ISR GAIN C00", "LSST ISR GAIN C01"):
            del hdus[0].header[key]

    result = formats.read_exposure(lsst(tmp_path / "x.fits", image, edit=no_gain))
    assert result.values["gain"] == pytest.approx(2.0, rel=1e-3)
    assert result.origins["gain"].startswith("estimated")


def test_variance_from_gain_and_read_noise(tmp_path: Path, counts: Any) -> None:
    counts[0, 0] = -50
    path = plain(tmp_path / "x.fits", counts, GAIN=2.0, RDNOISE=6.0, SATURATE=440.0, EXPTIME=60)
    result = formats.read_exposure(path)
    image = result.exposure.masked_image
    np.testing.assert_allclose(image.variance, np.maximum(counts, 0) / 2 + 9, rtol=1e-6)
    assert result.origins["variance"] == "built from gain and read noise"
    np.testing.assert_array_equal(image.is_set(["SAT"]), counts >= 440)
    assert result.exposure.detector is not None
    assert (result.exposure.detector.gain, result.exposure.detector.read_noise) == (2.0, 6.0)


def test_job_values_win_and_say_so(tmp_path: Path, counts: Any) -> None:
    path = plain(tmp_path / "x.fits", counts, GAIN=2.0, RDNOISE=6.0, FILTER="V")
    result = formats.read_exposure(
        path, metadata={"gain": 2.5, "band": "g", "visit": 42, "detector": 3, "pedestal": 100.0, "exposure_time": None}
    )
    np.testing.assert_allclose(result.exposure.masked_image.image, counts - 100, rtol=1e-6)
    np.testing.assert_allclose(result.exposure.masked_image.variance, (counts - 100) / 2.5 + 5.76, rtol=1e-5)
    assert result.origins["gain"] == result.origins["visit"] == "job parameter"
    assert result.exposure.filter.band == "g"
    assert result.exposure.filter.physical == "V"
    assert result.exposure.visit_info.visit == 42
    assert result.exposure.detector is not None
    assert result.exposure.detector.id == 3


def test_unknown_noise_is_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    image = (rng.normal(0, 0.027, (700, 700)) + np.linspace(0, 0.3, 700)).astype("f4")
    image[::50, ::50] += 100
    result = formats.read_exposure(plain(tmp_path / "x.fits", image))
    assert np.unique(result.exposure.masked_image.variance).size == 1
    assert np.sqrt(result.exposure.masked_image.variance[0, 0]) == pytest.approx(0.027, rel=0.06)
    assert result.origins["variance"] == "estimated from the image"
    assert result.warnings


def test_whole_counts_do_not_bias_the_measured_noise(tmp_path: Path) -> None:
    image = np.round(np.random.default_rng(6).normal(1000, 2.2, (700, 700))).astype("i4")
    result = formats.read_exposure(plain(tmp_path / "x.fits", image))
    assert np.sqrt(result.exposure.masked_image.variance[0, 0]) == pytest.approx(2.2, rel=0.03)


def test_subtracted_sky_keeps_its_noise(tmp_path: Path) -> None:
    image = np.random.default_rng(6).normal(0, 20, (300, 300)).astype("f4")
    result = formats.read_exposure(plain(tmp_path / "x.fits", image, GAIN=1.0, RDNOISE=5.0))
    assert np.median(result.exposure.masked_image.variance) == pytest.approx(400, rel=0.05)
    assert any("sky is noisier" in warning for warning in result.warnings)


def test_electrons_have_gain_one(tmp_path: Path, counts: Any) -> None:
    result = formats.read_exposure(plain(tmp_path / "x.fits", counts, GAIN=3.5, RDNOISE=0.0, BUNIT="electrons"))
    np.testing.assert_allclose(result.exposure.masked_image.variance, counts, rtol=1e-6)
    assert "3.5" in result.origins["gain"]


def test_camera_setting_is_no_gain(tmp_path: Path, counts: Any) -> None:
    result = formats.read_exposure(plain(tmp_path / "x.fits", counts, GAIN=100, EGAIN=0.0))
    assert "gain" not in result.values
    assert any("camera setting" in warning for warning in result.warnings)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("packing", ["plain", "gz", "bz2", "tiles"])
def test_pixel_types_and_packings(tmp_path: Path, dtype: str, packing: str) -> None:
    image = np.random.default_rng(1).integers(10, 200, SHAPE).astype(dtype)
    header = tan_cards()
    header["SATURATE"], header["GAIN"] = 1e6, 1.0
    path = tmp_path / "x.fits"
    if packing == "tiles":
        if dtype == "i8":
            pytest.skip("tile compression has no 64-bit integers")
        kind = "GZIP_1" if dtype in ("f4", "f8") else "RICE_1"
        options = {"quantize_level": 0} if dtype in ("f4", "f8") else {}
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, header, compression_type=kind, **options)]).writeto(
            path
        )
    else:
        fits.PrimaryHDU(image, header).writeto(path)
        squeeze = {"gz": gzip.compress, "bz2": bz2.compress}.get(packing)
        if squeeze is not None:
            path.write_bytes(squeeze(path.read_bytes()))
    assert formats.sniff_is_fits(path.read_bytes()[:200])
    result = formats.read_exposure(path)
    np.testing.assert_array_equal(result.exposure.masked_image.image, image.astype("f4"))
    assert result.exposure.masked_image.image.dtype == np.float32
    assert formats.inspect(path).shape == SHAPE


def test_scaled_integers_with_blanks(tmp_path: Path) -> None:
    raw = np.arange(SHAPE[0] * SHAPE[1], dtype="i2").reshape(SHAPE) % 1000
    raw[7, 8] = -99
    hdu = fits.PrimaryHDU(raw, tan_cards())
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 10.0, -99
    hdu.header["GAIN"] = 1.0
    # written by hand: astropy would rescale
    data = raw.astype(">i2").tobytes()
    (tmp_path / "x.fits").write_bytes(hdu.header.tostring().encode() + data + bytes(-len(data) % 2880))
    result = formats.read_exposure(tmp_path / "x.fits")
    image = result.exposure.masked_image
    good = raw != -99
    np.testing.assert_allclose(image.image[good], raw[good] * 0.5 + 10, rtol=1e-6)
    assert np.argwhere(image.is_set(["NO_DATA"])).tolist() == [[7, 8]]
    assert np.isfinite(image.image[7, 8])


def test_undefined_pixels_are_no_data_and_harmless(tmp_path: Path, counts: Any) -> None:
    counts[20:40, 30:60] = np.nan
    counts[100, 100] = np.inf
    counts += np.linspace(0, 5000, SHAPE[1], dtype="f4")
    result = formats.read_exposure(plain(tmp_path / "x.fits", counts, GAIN=2.0, RDNOISE=3.0))
    image = result.exposure.masked_image
    np.testing.assert_array_equal(image.is_set(["NO_DATA"]), ~np.isfinite(counts))
    assert np.isfinite(image.image).all()
    assert np.isfinite(image.variance).all()
    filled = image.image[20:40, 30:60]
    assert abs(np.median(filled) - np.nanmedian(counts[:, 30:60])) < 1000  # of a gradient of 5000
    assert any("NO_DATA" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("name", "kind", "utype"),
    [
        ("VARIANCE", "variance", ""),
        ("ERR", "sigma", ""),
        ("IVAR", "ivar", ""),
        ("WEIGHT", "weight", ""),
        ("UNCERT", "sigma", "StdDevUncertainty"),
        ("UNCERT", "variance", "VarianceUncertainty"),
        ("UNCERT", "ivar", "InverseVariance"),
    ],
)
@pytest.mark.parametrize("companion", [False, True])
def test_noise_planes(tmp_path: Path, counts: Any, name: str, kind: str, utype: str, companion: bool) -> None:
    variance = np.random.default_rng(3).uniform(180, 250, SHAPE).astype("f4")
    plane = {"variance": variance, "sigma": np.sqrt(variance)}.get(kind, 1 / variance).astype("f4")
    plane[5, 6] = 0
    mask = np.zeros(SHAPE, "u1")
    mask[8, 9] = 4
    noise = fits.ImageHDU(plane, name=name)
    if utype:
        noise.header["UTYPE"] = utype
    path = tmp_path / "x.fits"
    companions = {}
    if companion:
        plain(path, counts)
        companions = {kind: tmp_path / "noise.fits", "mask": tmp_path / "mask.fits.gz"}
        fits.HDUList([fits.PrimaryHDU(), noise]).writeto(companions[kind])
        fits.PrimaryHDU(mask).writeto(companions["mask"])
    else:
        hdus = [
            fits.PrimaryHDU(),
            noise,
            fits.ImageHDU(counts, tan_cards(), name="SCI"),
            fits.ImageHDU(mask, name="DQ"),
        ]
        fits.HDUList(hdus).writeto(path)
    image = formats.read_exposure(path, companions=companions).exposure.masked_image
    good = np.ones(SHAPE, bool)
    good[5, 6] = False
    np.testing.assert_allclose(image.variance[good], variance[good], rtol=1e-5)
    assert np.argwhere(image.is_set(["NO_DATA"])).tolist() == [[5, 6]]
    assert np.argwhere(image.is_set(["BAD"])).tolist() == [[8, 9]]
    np.testing.assert_array_equal(image.image, counts)


def test_relative_weights_are_scaled_to_the_noise(tmp_path: Path, counts: Any) -> None:
    path = plain(tmp_path / "x.fits", counts)
    fits.PrimaryHDU(np.where(np.arange(200) < 100, 1.0, 0.5) * np.ones(SHAPE)).writeto(tmp_path / "w.fits")
    result = formats.read_exposure(path, companions={"weight": tmp_path / "w.fits"})
    variance = result.exposure.masked_image.variance
    np.testing.assert_allclose(variance[:, 100:], 2 * variance[:, :100], rtol=1e-6)
    assert 150 < np.median(variance) < 300
    assert any("relative" in warning for warning in result.warnings)


def test_companions_must_fit(tmp_path: Path, counts: Any) -> None:
    path = plain(tmp_path / "x.fits", counts)
    fits.PrimaryHDU(np.zeros((3, 3), "i4")).writeto(tmp_path / "m.fits")
    for companions, code in [
        ({"mask": tmp_path / "m.fits"}, "format.shape_mismatch"),
        ({"flat": path}, "format.unknown_companion"),
        ({"sigma": path, "ivar": path}, "format.unknown_companion"),
    ]:
        with pytest.raises(formats.FormatError) as error:
            formats.read_exposure(path, companions=companions)
        assert error.value.code == code


def test_the_job_chooses_among_several_images(tmp_path: Path, counts: Any) -> None:
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(counts, name="N4"), fits.ImageHDU(counts * 2, tan_cards(), name="S29")]
    fits.HDUList(hdus).writeto(tmp_path / "x.fits")
    assert any("2 images" in warning for warning in formats.read_exposure(tmp_path / "x.fits").warnings)
    for choice in ("s29", "2", 2):
        image = formats.read_exposure(tmp_path / "x.fits", metadata={"hdu": choice}).exposure.masked_image.image
        np.testing.assert_array_equal(image, counts * 2)
    with pytest.raises(formats.FormatError, match="N4, S29"):
        formats.read_exposure(tmp_path / "x.fits", metadata={"hdu": "N7"})


@pytest.mark.parametrize("parity", ["normal", "flipped"])
def test_wcs_from_a_pointing(tmp_path: Path, counts: Any, parity: str) -> None:
    fits.PrimaryHDU(counts, fits.Header({"GAIN": 2.0})).writeto(tmp_path / "x.fits")
    assert formats.read_exposure(tmp_path / "x.fits").exposure.wcs is None
    assert "wcs" in formats.inspect(tmp_path / "x.fits").missing
    given = {"ra": 359.99, "dec": 45.0, "pixel_scale": 0.5, "rotation": 30.0, "parity": parity}
    wcs = formats.read_exposure(tmp_path / "x.fits", metadata=given).exposure.wcs
    assert wcs is not None
    cx, cy = (SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2
    centre, up, right = (
        SkyCoord(*wcs.pixel_to_sky(cx + dx, cy + dy), unit="deg") for dx, dy in ((0, 0), (0, 9), (9, 0))
    )
    assert centre.separation(SkyCoord(359.99, 45, unit="deg")).arcsec < 1e-6
    assert centre.separation(up).arcsec == pytest.approx(4.5, rel=1e-5)
    assert centre.position_angle(up).deg == pytest.approx(30.0, abs=0.01)
    assert centre.position_angle(right).deg == pytest.approx(300.0 if parity == "normal" else 120.0, abs=0.01)


def test_a_pointing_moves_the_wcs_of_the_header(tmp_path: Path, counts: Any) -> None:
    path = plain(tmp_path / "x.fits", counts, GAIN=2.0)
    before = formats.read_exposure(path).exposure.wcs
    after = formats.read_exposure(path, metadata={"ra": 10.1, "dec": 20.2}).exposure.wcs
    assert before is not None
    assert after is not None
    cx, cy = (SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2
    np.testing.assert_allclose(after.pixel_to_sky(cx, cy), (10.1, 20.2))
    np.testing.assert_allclose(after.jacobian(cx, cy), before.jacobian(cx, cy), rtol=1e-4, atol=1e-10)


def test_swapped_axes(tmp_path: Path, counts: Any) -> None:
    header = tan_cards()
    header["CTYPE1"], header["CTYPE2"] = "DEC--TAN", "RA---TAN"
    header["CRVAL1"], header["CRVAL2"] = 20.0, 10.0
    fits.PrimaryHDU(counts, header).writeto(tmp_path / "x.fits")
    wcs = formats.read_exposure(tmp_path / "x.fits").exposure.wcs
    assert wcs is not None
    dec, ra = WCS(header).all_pix2world([3.0, 150.0], [4.0, 20.0], 0)
    np.testing.assert_allclose(wcs.pixel_to_sky([3.0, 150.0], [4.0, 20.0]), (ra, dec), atol=1e-10)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"DATE-OBS": "2020-01-01T00:00:00", "EXPTIME": 60.0}, Time("2020-01-01T00:00:30", scale="utc").tai.mjd),
        ({"DATE-OBS": "2020-01-01", "UT": "12:00:00", "EXPTIME": 0.0}, Time("2020-01-01T12:00:00").tai.mjd),
        ({"MJD-OBS": 58849.0, "TIMESYS": "TAI", "EXPTIME": "20"}, 58849.0 + 10 / 86400),
        ({"TAI": 4636589132.5, "EXPTIME": "53.907456"}, 4636589132.5 / 86400 + 26.953728 / 86400),
        ({"INSTRUME": "Hyper Suprime-Cam", "MJD-OBS": 1.0, "MJD": 58849.0}, Time(58849.0, format="mjd").tai.mjd),
        ({"DATE-OBS": "nonsense"}, None),
    ],
)
def test_mid_exposure(tmp_path: Path, counts: Any, cards: dict[str, Any], expected: float | None) -> None:
    header = tan_cards()
    header.update(cards)
    fits.PrimaryHDU(counts, header).writeto(tmp_path / "x.fits")
    mjd = formats.read_exposure(tmp_path / "x.fits").exposure.visit_info.mjd_mid_tai
    assert np.isnan(mjd) if expected is None else mjd == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("r", "r"),
        ("gp", "g"),
        ("zs", "z"),
        ("HSC-I2", "i"),
        ("r DECam SDSS c0002 6415.0", "r"),
        ("r_03", "r"),
        ("V", "V"),
    ],
)
def test_band_of_a_filter(tmp_path: Path, counts: Any, name: str, band: str) -> None:
    result = formats.read_exposure(plain(tmp_path / "x.fits", counts, FILTER=name))
    assert (result.exposure.filter.band, result.exposure.filter.physical) == (band, name)


def refused(path: Path, code: str, **options: Any) -> formats.FormatError:
    with pytest.raises(formats.FormatError) as error:
        formats.read_exposure(path, **options)
    assert error.value.code == code
    assert str(error.value)
    return error.value


def test_refusals(tmp_path: Path, counts: Any) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(b"")
    refused(path, "format.not_fits")
    path.write_bytes(b"\x89PNG" + bytes(9000))
    refused(path, "format.not_fits")
    path.write_bytes(gzip.compress(b"hello" * 1000))
    refused(path, "format.not_fits")
    path.unlink()
    fits.PrimaryHDU().writeto(path)
    refused(path, "format.no_image")
    fits.PrimaryHDU(np.zeros((3, 20, 20), "f4")).writeto(path, overwrite=True)
    refused(path, "format.wrong_dimensions")
    fits.PrimaryHDU(counts, fits.Header({"BAYERPAT": "RGGB"})).writeto(path, overwrite=True)
    assert "RGGB" in str(refused(path, "format.bayer"))
    fits.PrimaryHDU(np.full(SHAPE, np.nan, "f4")).writeto(path, overwrite=True)
    refused(path, "format.no_variance")
    fits.PrimaryHDU(np.full(SHAPE, np.nan, "f4"), fits.Header({"GAIN": 1.0})).writeto(path, overwrite=True)
    refused(path, "format.no_pixels")
    path.unlink()
    plain(path, counts)
    refused(path, "format.bad_metadata", metadata={"colour": "red"})
    refused(path, "format.bad_metadata", metadata={"gain": -1})
    refused(path, "format.bad_metadata", metadata={"visit": 1.5})
    refused(path, "format.bad_metadata", metadata={"parity": "odd"})


def test_cut_files_are_refused(tmp_path: Path, counts: Any) -> None:
    whole = plain(tmp_path / "x.fits", counts).read_bytes()
    path = tmp_path / "cut.fits"
    for length in (3000, 20_000, len(whole) - 2880):
        path.write_bytes(whole[:length])
        refused(path, "format.truncated")
    path.write_bytes(gzip.compress(whole)[:-500])
    refused(path, "format.corrupt")


def test_headers_are_not_trusted_about_sizes(tmp_path: Path) -> None:
    header = fits.PrimaryHDU(np.zeros((10, 10), "f4")).header
    header["NAXIS1"], header["NAXIS2"] = 2_000_000, 2_000_000
    path = tmp_path / "x.fits"
    path.write_bytes(header.tostring().encode() + bytes(2880))
    refused(path, "format.too_large")
    assert formats.inspect(path).problem is not None
    header["NAXIS1"], header["NAXIS2"] = 10_000, 10_000
    path.write_bytes(header.tostring().encode() + bytes(2880))
    refused(path, "format.truncated")
    header["NAXIS1"] = -5
    path.write_bytes(header.tostring().encode() + bytes(2880))
    refused(path, "format.corrupt")
    header["NAXIS1"], header["BITPIX"] = 10, 13
    path.write_bytes(header.tostring().encode() + bytes(2880))
    refused(path, "format.not_numeric")


def test_decompression_bombs_are_refused(tmp_path: Path) -> None:
    limits = formats.ReadLimits(max_bytes=1 << 20)
    path = tmp_path / "x.fits.gz"
    start = fits.PrimaryHDU(np.zeros((1000, 1000), "f4"))
    start.writeto(path)
    refused(path, "format.decompression_limit", limits=limits)
    # one tile of 100 pixels whose gzip data unpack to 20 MB
    image = fits.CompImageHDU(np.zeros((10, 10), "i4"), compression_type="GZIP_1", tile_shape=(10, 10))
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "t.fits")
    bomb = gzip.compress(bytes(20 << 20))
    with fits.open(tmp_path / "t.fits", disable_image_compression=True) as hdus:
        table = hdus[1]
        table.header["PCOUNT"] = len(bomb)
        row = np.array([len(bomb), 0], ">i4").tobytes()
        header = table.header.tostring().encode()
    body = row + bomb
    primary = fits.PrimaryHDU().header.tostring().encode()
    (tmp_path / "bomb.fits").write_bytes(primary + header + body + bytes(-len(body) % 2880))
    refused(tmp_path / "bomb.fits", "format.decompression_limit", limits=limits)


def test_inspection_of_a_beginning(tmp_path: Path, counts: Any) -> None:
    path = lsst(tmp_path / "x.fits", counts)
    whole = formats.inspect(path)
    assert whole.format == "lsst_masked_image"
    assert whole.problem is None
    assert whole.values["exposure_time"] == 30.0
    assert [hdu["name"] for hdu in whole.hdus] == ["", "IMAGE", "MASK", "VARIANCE"]
    assert formats.inspect(path.read_bytes()).to_dict() == whole.to_dict()
    first = formats.inspect(plain(tmp_path / "p.fits", counts, GAIN=2.0).read_bytes()[:6000])
    assert first.shape == SHAPE
    assert first.values["gain"] == 2.0
    assert "variance" in first.missing
    packed = gzip.compress((tmp_path / "p.fits").read_bytes())
    assert formats.inspect(packed[: len(packed) // 2]).values == first.values
    with pytest.raises(formats.FormatError, match="not a FITS file"):
        formats.inspect(b"hello")
    bayer = plain(tmp_path / "b.fits", counts, BAYERPAT="GBRG")
    problem = formats.inspect(bayer).to_dict()["problem"]
    assert problem["code"] == "format.bayer"


def test_untidy_headers_are_read(tmp_path: Path, counts: Any) -> None:
    path = plain(tmp_path / "x.fits", counts, GAIN=2.0, RDNOISE=1.0)
    data = path.read_bytes()
    data = data.replace(b"RDNOISE =                  1.0 ", b"RDNOISE = 'not a number' '' ,  ")
    data = data.replace(b"GAIN    =                  2.0 ", b"GAIN    =       2.0 / \xe9lectrons")
    assert len(data) == path.stat().st_size
    path.write_bytes(data)
    result = formats.read_exposure(path)
    assert result.values["gain"] == 2.0
    assert "read_noise" not in result.values


@pytest.mark.parametrize("kind", ["plain", "lsst", "tiles", "ours"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, counts: Any, exposure: Exposure, kind: str) -> None:
    """Any damage ends in an exposure or in a `FormatError`, never in another exception."""
    path = tmp_path / "x.fits"
    if kind == "ours":
        formats.write_exposure(path, exposure)
    elif kind == "plain":
        plain(path, counts, GAIN=2.0, EXPTIME="30", DATE_OBS="2020-01-01T00:00:00", RA="10:20:30", FILTER="r")
    else:
        lsst(path, counts, compressed=kind == "tiles")
    data = path.read_bytes()
    rng = np.random.default_rng(17)
    outcomes = set()
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            block = int(rng.choice([0, 2880, len(data) // 2880 * 1440]))
            position = (block + int(rng.integers(0, 2880))) % len(data)
            if rng.random() < 0.5:
                damaged[position] = int(rng.choice(list(b"0123456789-+.'TFE =/[(*")))
            else:  # a card over another one
                source, target = (80 * int(rng.integers(0, 36)) for _ in range(2))
                damaged[block + target : block + target + 80] = damaged[source : source + 80]
        path.write_bytes(damaged[: len(data)])
        try:
            formats.read_exposure(path)
            outcomes.add("read")
        except formats.FormatError as error:
            outcomes.add(error.code)
    assert len(outcomes) > 1


def test_parity_exposure(parity_dir: Path) -> None:
    path = parity_dir / "typical1k" / "exposure.fits"
    result = formats.read_exposure(path)
    image = result.exposure.masked_image
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(image.image, hdus["IMAGE"].data)
        np.testing.assert_array_equal(image.mask, hdus["MASK"].data)
        np.testing.assert_array_equal(image.variance, hdus["VARIANCE"].data)
        header = hdus["IMAGE"].header
    assert (result.values["gain"], result.values["read_noise"], result.exposure.unit) == (1.0, 9.0, "electron")
    assert result.warnings == []
    assert result.exposure.wcs is not None
    expected = WCS(header).all_pix2world(100, 900, 0)
    np.testing.assert_allclose(result.exposure.wcs.pixel_to_sky(100, 900), expected, atol=1e-10)


def test_sdss_frame(data_dir: Path) -> None:
    path = data_dir / "SDSS" / "fpC-005754-r3-0280.fit.gz"
    result = formats.read_exposure(path, metadata={"pedestal": 1000, "gain": 4.72, "read_noise": 4.6})
    image = result.exposure.masked_image
    assert image.shape == (1489, 2048)
    assert np.median(image.image) == pytest.approx(390.1, abs=2)
    assert np.sqrt(np.median(image.variance)) == pytest.approx(9.103, rel=0.03)  # measured sky rms
    assert result.exposure.filter.band == "r"
    assert result.exposure.wcs is not None
    assert result.exposure.wcs.pixel_scale(1000, 700) == pytest.approx(0.396, abs=2e-4)


def test_rotated_and_distorted_real_files(data_dir: Path) -> None:
    hsc = formats.read_exposure(data_dir / "SMALL_CUTOUTS" / "hsc_m31_r_301x301_maskedimage.fits.gz")
    assert (hsc.exposure.masked_image.x0, hsc.exposure.masked_image.y0) == (720, 460)
    assert hsc.exposure.masked_image.count("SAT") > 1000
    assert hsc.exposure.visit_info.mjd_mid_tai == pytest.approx(Time("2014-11-24T10:25:03.18").tai.mjd, abs=1e-7)
    folder = data_dir / "SMALL_CUTOUTS"
    name = "c4d_171113_060340_{}_r_ls9.N6.fits"
    decam = formats.read_exposure(
        folder / name.format("ooi"),
        companions={"mask": folder / name.format("ood"), "weight": folder / name.format("oow")},
    )
    with fits.open(folder / name.format("oow")) as hdus:
        weight = hdus[1].data
    good = weight > 0
    np.testing.assert_allclose(decam.exposure.masked_image.variance[good], 1 / weight[good], rtol=1e-5)
    assert np.sqrt(np.median(decam.exposure.masked_image.variance)) == pytest.approx(7.107, rel=0.05)
    assert decam.values["detector"] == 37
    mosaic = formats.read_exposure(data_dir / "SDSS_MOSAIC" / "sn2015bn_sdss_r_skyview.fits.fz")
    assert np.sqrt(mosaic.exposure.masked_image.variance[0, 0]) == pytest.approx(0.027, rel=0.05)
    with pytest.raises(formats.FormatError, match="RGGB"):
        formats.read_exposure(data_dir / "PANOPTES" / "panoptes_pan001_solved.fits.fz")
