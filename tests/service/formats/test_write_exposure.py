"""Our exposure files: read back without loss, and by others."""

from __future__ import annotations

import dataclasses
import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from service import formats
from service.exposure.psf import PiffPsf, PsfexPsf
from service.formats.compressed import write_compressed
from service.formats.fits_stream import Cell, FitsStream
from service.formats.sections import ImageFile
from service.storage.blobs import FileReader

if TYPE_CHECKING:
    from service.exposure.background import BackgroundList
    from service.exposure.exposure import Exposure
    from service.exposure.masked_image import MaskedImage
    from service.exposure.summary import ExposureSummaryStats


def same(one: object, other: object) -> bool:
    """Equality in which NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (np.isnan(one) and np.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_an_exposure_survives_the_round_trip(
    exposure: Exposure, backgrounds: BackgroundList, summary: ExposureSummaryStats, tmp_path: Path
) -> None:
    path = tmp_path / "x.fits"
    formats.write_exposure(path, exposure, backgrounds=backgrounds, summary=summary, metadata={"JOB": "job_1"})
    result = formats.read_exposure(path)
    again = result.exposure
    assert result.format == "visitcal"
    for plane in ("image", "mask", "variance"):
        one, other = getattr(exposure.masked_image, plane), getattr(again.masked_image, plane)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    assert again.masked_image.planes == exposure.masked_image.planes
    assert again.bbox == exposure.bbox
    assert again.wcs is not None
    assert exposure.wcs is not None
    x, y = np.random.default_rng(0).uniform(-200, 500, (2, 50))
    np.testing.assert_array_equal(again.wcs.pixel_to_sky(x, y), exposure.wcs.pixel_to_sky(x, y))
    for name in ("photo_calib", "filter", "detector", "exposure_id", "unit"):
        assert getattr(again, name) == getattr(exposure, name), name
    for field in dataclasses.fields(exposure.visit_info):
        assert same(getattr(again.visit_info, field.name), getattr(exposure.visit_info, field.name)), field.name
    assert list(again.metadata) == list(exposure.metadata)
    assert all(same(again.metadata[key], exposure.metadata[key]) for key in exposure.metadata)
    assert again.psf is not None
    assert exposure.psf is not None
    np.testing.assert_array_equal(again.psf.kernel_images(3.0, 4.0), exposure.psf.kernel_images(3.0, 4.0))
    assert again.ap_corr_map is not None
    assert exposure.ap_corr_map is not None
    assert list(again.ap_corr_map) == list(exposure.ap_corr_map)
    for name in exposure.ap_corr_map:
        expected = exposure.ap_corr_map[name]
        assert again.ap_corr_map[name].bbox == expected.bbox
        np.testing.assert_array_equal(again.ap_corr_map[name].coefficients, expected.coefficients)
    assert result.backgrounds is not None
    np.testing.assert_array_equal(result.backgrounds.image(), backgrounds.image())
    assert [model.mask.tolist() for model in result.backgrounds] == [model.mask.tolist() for model in backgrounds]
    assert result.summary is not None
    for field in dataclasses.fields(summary):
        assert same(getattr(result.summary, field.name), getattr(summary, field.name)), field.name


def test_a_psfex_model_survives(exposure: Exposure, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    exposure.psf = PsfexPsf(
        rng.uniform(size=(6, 23, 23)).astype(np.float32),
        context_offset=(60.0, 290.0),
        context_scale=(65.0, 45.0),
        average_position=(10.5, 270.0),
    )
    formats.write_exposure(tmp_path / "x.fits", exposure)
    again = formats.read_exposure(tmp_path / "x.fits").exposure.psf
    assert isinstance(again, PsfexPsf)
    assert again.average_position == exposure.psf.average_position
    x, y = rng.uniform(0, 100, (2, 6))
    np.testing.assert_array_equal(again.images(x, y)[0], exposure.psf.images(x, y)[0])


def test_a_piff_model_survives(exposure: Exposure, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    components = rng.uniform(size=(3, 15, 15)).astype(np.float32)
    exposure.psf = PiffPsf(components, (60.0, 290.0), (65.0, 45.0), (10.5, 270.0), size=21, sampling=0.8, order=7)
    formats.write_exposure(tmp_path / "x.fits", exposure)
    again = formats.read_exposure(tmp_path / "x.fits").exposure.psf
    assert isinstance(again, PiffPsf)
    x, y = rng.uniform(0, 100, (2, 6))
    np.testing.assert_array_equal(again.images(x, y)[0], exposure.psf.images(x, y)[0])


def test_a_bare_exposure_has_nothing_invented(masked_image: MaskedImage, tmp_path: Path) -> None:
    from service.exposure.exposure import Exposure

    formats.write_exposure(tmp_path / "x.fits", Exposure(masked_image))
    result = formats.read_exposure(tmp_path / "x.fits")
    again = result.exposure
    assert again.wcs is again.psf is again.photo_calib is again.ap_corr_map is again.detector is None
    assert result.backgrounds is result.summary is None
    assert again.metadata == {}
    with fits.open(tmp_path / "x.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "VISITCAL"]
        assert "CTYPE1" not in hdus["IMAGE"].header


def test_others_read_planes_names_and_wcs(exposure: Exposure, tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    formats.write_exposure(path, exposure)
    assert path.stat().st_size % 2880 == 0
    with fits.open(path) as hdus:
        hdus.verify("exception")
        primary, image, mask, variance = (hdus[i] for i in range(4))
        assert primary.data is None
        assert primary.header["BORE-RA"] == 359.5
        assert primary.header["DATE-AVG"].startswith("2026-11-22T02:57:46.6")
        assert primary.header["LSST CALIB ILLUMCORR APPLIED"] is False
        assert "BAD" not in primary.header
        np.testing.assert_array_equal(image.data, exposure.masked_image.image)
        np.testing.assert_array_equal(mask.data, exposure.masked_image.mask)
        np.testing.assert_array_equal(variance.data, exposure.masked_image.variance)
        assert (image.header["BUNIT"], variance.header["BUNIT"]) == ("electron", "electron**2")
        assert [hdu.header["EXTTYPE"] for hdu in (image, mask, variance)] == ["IMAGE", "MASK", "VARIANCE"]
        for name, bit in exposure.masked_image.planes.items():
            assert mask.header[f"MP_{name}"] == bit
        numbered = {mask.header[f"MSKN{i:04d}"]: mask.header[f"MSKM{i:04d}"] for i in range(12)}
        assert numbered == {name: 1 << bit for name, bit in exposure.masked_image.planes.items()}
        assert (image.header["LTV1"], image.header["LTV2"]) == (7, -250)
        assert exposure.wcs is not None
        x, y = np.meshgrid(np.arange(0, 260, 10.0), np.arange(0, 220, 10.0))
        ra, dec = WCS(image.header).all_pix2world(x, y, 0)
        true_ra, true_dec = exposure.wcs.pixel_to_sky(x - 7, y + 250)
        east = (np.mod(ra - true_ra + 180, 360) - 180) * np.cos(np.radians(dec))
        assert np.hypot(east, dec - true_dec).max() * 3.6e6 < 0.01  # mas
        origin = WCS(image.header, key="A").wcs_pix2world([[0, 0]], 0)[0]
        assert origin.tolist() == [-7.0, 250.0]


@pytest.mark.parametrize("compression", [None, "rice", "gzip2"])
def test_a_packed_file_is_what_it_was(exposure: Exposure, tmp_path: Path, compression: str | None) -> None:
    plain, packed = tmp_path / "x.fits", tmp_path / "y.fits"
    formats.write_exposure(plain, exposure)
    if compression is not None:
        with plain.open("rb") as file:
            reader = FileReader(file)
            write_compressed(packed, reader, ImageFile(reader), compression)
    content = (packed if compression else plain).read_bytes()
    packed.with_suffix(".gz").write_bytes(gzip.compress(content))
    wanted, found = (formats.read_exposure(path).exposure for path in (plain, packed.with_suffix(".gz")))
    for name in ("image", "mask", "variance"):
        one, other = (getattr(given.masked_image, name) for given in (wanted, found))
        assert one.tobytes() == other.tobytes()
    assert same(list(dataclasses.astuple(wanted.visit_info)), list(dataclasses.astuple(found.visit_info)))


def test_writing_is_deterministic(exposure: Exposure, tmp_path: Path) -> None:
    formats.write_exposure(tmp_path / "a.fits", exposure)
    formats.write_exposure(tmp_path / "b.fits", exposure)
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def test_a_table_of_one_row_is_what_astropy_writes() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    columns = [
        fits.Column("STAMPS", "24E", dim="(4,3,2)", array=values[None]),
        fits.Column("SIGMA", "1D", unit="pix", array=[0.25]),
        fits.Column("NAME", "5A", array=["hello"]),
        fits.Column("N", "K", array=[7]),
    ]
    cards = {"PSFTYPE": "psfex", "PSFW": 41, "MEAN": 1 / 3}
    wanted, found = io.BytesIO(), io.BytesIO()
    table = fits.BinTableHDU.from_columns(columns, fits.Header(cards), name="PSF")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(wanted)
    cells = [
        Cell("STAMPS", "24E", values.astype(">f4").tobytes(), dimensions="(4,3,2)"),
        Cell("SIGMA", "1D", np.array(0.25, ">f8").tobytes(), unit="pix"),
        Cell("NAME", "5A", b"hello"),
        Cell("N", "K", np.array(7, ">i8").tobytes()),
    ]
    FitsStream(found).row("PSF", cells, {**cards, "NAXIS": 9, "TFIELDS": 3})
    assert found.getvalue() == wanted.getvalue()[2880:]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i2", "u1", "i8"])
@pytest.mark.parametrize("shape", [(3, 5), (700, 300), (1, 200_000), (5,), (2, 3, 4)])
def test_pixels_of_any_type_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    stream = io.BytesIO()
    FitsStream(stream).image("", values, as_primary=True)
    wanted = io.BytesIO()
    fits.PrimaryHDU(values).writeto(wanted)
    size = -(-values.nbytes // 2880) * 2880
    assert stream.getvalue()[-size:] == wanted.getvalue()[-size:]
    stream.seek(0)
    with fits.open(stream) as hdus:
        np.testing.assert_array_equal(hdus[0].data, values)


def test_overrides_change_what_a_file_of_ours_says(exposure: Exposure, tmp_path: Path) -> None:
    formats.write_exposure(tmp_path / "x.fits", exposure)
    result = formats.read_exposure(tmp_path / "x.fits", metadata={"band": "i", "gain": 3.0, "saturation": 105.0})
    assert result.exposure.filter.band == "i"
    assert result.exposure.detector is not None
    assert result.exposure.detector.gain == 3.0
    assert result.origins["gain"] == "job parameter"
    image = result.exposure.masked_image
    assert np.all(image.is_set(["SAT"])[exposure.masked_image.image >= 105.0])


@pytest.mark.parametrize("damage", ["PSF", "VISITCAL", "AP_CORR_MAP"])
def test_damaged_components_are_refused(exposure: Exposure, tmp_path: Path, damage: str) -> None:
    formats.write_exposure(tmp_path / "x.fits", exposure)
    with fits.open(tmp_path / "x.fits") as hdus:
        if damage == "VISITCAL":
            hdus["VISITCAL"].data["JSON"][0] = '{"wcs": 3}'
        else:
            column = fits.Column(name="nonsense", format="1D", array=[1.0])
            hdus[damage] = fits.BinTableHDU.from_columns([column], name=damage)
        hdus.writeto(tmp_path / "y.fits")
    with pytest.raises(formats.FormatError) as error:
        formats.read_exposure(tmp_path / "y.fits")
    assert error.value.code == "format.corrupt"


def test_mask_and_image_files(masked_image: MaskedImage, exposure: Exposure, tmp_path: Path) -> None:
    formats.write_mask(tmp_path / "mask.fits", masked_image, exposure.wcs)
    with fits.open(tmp_path / "mask.fits") as hdus:
        np.testing.assert_array_equal(hdus["MASK"].data, masked_image.mask)
        assert hdus["MASK"].header["MP_CROSSTALK_LONG_NAME"] == masked_image.planes["CROSSTALK_LONG_NAME"]
    formats.write_image(tmp_path / "i.fits", masked_image.image, wcs=exposure.wcs, unit="nJy", x0=-7, y0=250)
    with fits.open(tmp_path / "i.fits") as hdus:
        np.testing.assert_array_equal(hdus["IMAGE"].data, masked_image.image)
        assert hdus["IMAGE"].header["BUNIT"] == "nJy"
        assert hdus["IMAGE"].header["LTV1"] == 7


def test_background_file_has_upstreams_layout(backgrounds: BackgroundList, tmp_path: Path) -> None:
    path = tmp_path / "b.fits"
    formats.write_background(path, backgrounds)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert len(hdus) == 3 * len(backgrounds)
        assert all(hdu.data is not None and "EXTNAME" not in hdu.header for hdu in hdus)
        for number, model in enumerate(backgrounds):
            np.testing.assert_array_equal(hdus[3 * number].data, model.value)
            np.testing.assert_array_equal(hdus[3 * number + 2].data, model.stderr)
            for hdu in hdus[3 * number : 3 * number + 3]:
                assert hdu.header["BKGD_WIDTH"] == model.bbox.width
                assert hdu.header["APPROXORDERX"] == max(model.approx_order, 0)
    again = formats.read_background(path)
    np.testing.assert_array_equal(again.image(), backgrounds.image())
    assert [m.interp_style for m in again] == [m.interp_style for m in backgrounds]


def test_photo_calib_file(exposure: Exposure, tmp_path: Path) -> None:
    assert exposure.photo_calib is not None
    formats.write_photo_calib(tmp_path / "p.json", exposure.photo_calib)
    assert formats.read_photo_calib(tmp_path / "p.json") == exposure.photo_calib
    (tmp_path / "q.json").write_text("{}")
    with pytest.raises(formats.FormatError):
        formats.read_photo_calib(tmp_path / "q.json")


@pytest.mark.parametrize(("scale", "kept"), [("UTC", False), (None, False), ("TAI", True)])
def test_dates_of_the_input_are_not_relabelled(
    exposure: Exposure, tmp_path: Path, scale: str | None, kept: bool
) -> None:
    exposure.metadata |= {"DATE-OBS": "2026-11-20T01:02:03", "MJD-OBS": 61364.04, "OBJECT": "field 7"}
    exposure.metadata |= {"TIMESYS": scale} if scale else {}
    path = tmp_path / "a.fits"
    formats.write_exposure(path, exposure)
    header = fits.getheader(path)
    assert (header["TIMESYS"], header["OBJECT"]) == ("TAI", "field 7")
    assert ("DATE-OBS" in header, "MJD-OBS" in header) == (kept, kept)
    assert formats.read_exposure(path).exposure.metadata["DATE-OBS"] == "2026-11-20T01:02:03"
