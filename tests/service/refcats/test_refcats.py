"""The reference store: ingest from every format, region queries, epochs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time

from service import refcats
from service.exposure.geometry import Box
from service.exposure.wcs import Wcs
from service.refcats.epoch import move_along
from service.refcats.store import Partition, partition_path

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SCALE = 0.2 / 3600


@pytest.fixture(scope="module")
def stars() -> Table:
    """Stars around RA 0, so that regions cross the meridian, with Gaia-like columns."""
    rng = np.random.default_rng(5)
    n = 6000
    table = Table()
    table["id"] = rng.permutation(n).astype(np.int64) + 10_000_000_000
    table["ra"] = np.mod(rng.uniform(-1.5, 1.5, n), 360.0) * u.deg
    table["dec"] = rng.uniform(-31, -28, n) * u.deg
    table["ra_err"] = rng.uniform(1, 30, n)
    table["dec_err"] = rng.uniform(1, 30, n)
    table["pmra"] = rng.normal(0, 30, n)
    table["pmdec"] = rng.normal(0, 30, n)
    table["pmra_err"] = np.full(n, 2.0)
    table["pmdec_err"] = np.full(n, 3.0)
    table["r_mag"] = rng.uniform(14, 22, n)
    table["r_magerr"] = np.full(n, 0.02)
    table["i_mag"] = table["r_mag"] - 0.3
    table["epoch"] = np.full(n, 2016.0)
    table["pmra"][:100] = np.nan
    return table


def write(table: Table, path: Path, file_format: str) -> Path:
    plain = Table({name: np.asarray(table[name]) for name in table.colnames})
    if file_format == "parquet":
        pq.write_table(pa.table({name: np.asarray(table[name]) for name in table.colnames}), path)
    elif file_format == "csv":
        plain.write(path, format="ascii.csv")
    elif file_format == "votable":
        table.write(path, format="votable")
    elif file_format == "ecsv":
        table.write(path, format="ascii.ecsv")
    else:
        table.write(path, format="fits")
    return path


@pytest.mark.parametrize("file_format", refcats.FILE_FORMATS)
def test_every_format_gives_the_same_catalog(stars: Table, tmp_path: Path, file_format: str) -> None:
    source = write(stars, tmp_path / "source", file_format)
    loader = refcats.load_table(source)
    info = refcats.ingest(source, name="gaia", store_dir=tmp_path / "store")
    assert info.n_rows == len(stars)
    assert info.bands == loader.bands == ("r", "i")
    stored = refcats.open_catalog(tmp_path / "store", "gaia")
    for one in (loader, stored):
        found = one.load_circle(0.1, -29.5, 0.4, epoch=np.nan)
        expected = SkyCoord(stars["ra"], stars["dec"]).separation(SkyCoord(0.1 * u.deg, -29.5 * u.deg)) < 0.4 * u.deg
        assert set(found.table["id"]) == set(stars["id"][expected])
        assert expected.sum() > 100
        row = np.flatnonzero(stars["id"] == found.table["id"][0])[0]
        assert np.degrees(found.table["coord_ra"][0]) == pytest.approx(stars["ra"][row])
        assert found.table["coord_raErr"][0] == pytest.approx((stars["ra_err"][row] * u.mas).to_value(u.rad))
        flux = (stars["r_mag"][row] * u.ABmag).to_value(u.nJy)
        assert found.table["r_flux"][0] == pytest.approx(flux, rel=1e-4)  # 31.4 is rounded from 31.4000
        assert found.table["r_fluxErr"][0] / found.table["r_flux"][0] == pytest.approx(0.02 * 0.4 * np.log(10))
        assert np.all(np.isnan(found.table["i_fluxErr"]))
        assert found.table["epoch"][0] == pytest.approx(Time(2016.0, format="jyear", scale="tt").tai.mjd, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_region_queries_do_not_depend_on_the_partitions(
    stars: Table, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    source = write(stars, tmp_path / "stars.parquet", "parquet")
    monkeypatch.setattr("service.refcats.build.ROWS_PER_GROUP", 64)
    infos = [refcats.ingest(source, name=f"o{order}", store_dir=tmp_path, order=order) for order in (0, 3, 5, 7)]
    monkeypatch.setattr("service.refcats.build.ROWS_PER_PARTITION", 500)
    infos.append(refcats.ingest(source, name="adaptive", store_dir=tmp_path))
    assert len({info.sha256 for info in infos}) == 1
    assert max(partition.n_rows for partition in infos[-1].partitions) <= 500
    loaders = [refcats.open_catalog(tmp_path, info.name) for info in infos] + [refcats.load_table(source)]
    for _ in range(4):
        ra, dec, radius = rng.uniform(-1.2, 1.2), rng.uniform(-31, -28), rng.uniform(0.01, 0.6)
        angle = rng.uniform(0, 2 * np.pi)
        cd = SCALE * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        wcs = Wcs.tan((500.0, 700.0), (ra % 360, dec), cd)
        box = Box(-20, 30, 1000, 1400)
        circles = [loader.load_circle(ra, dec, radius, epoch=60000.0) for loader in loaders]
        boxes = [loader.load_pixel_box(box, wcs, margin=250, epoch=60000.0) for loader in loaders]
        for results in (circles, boxes):
            for result in results[1:]:
                for name, values in results[0].table.columns.items():
                    np.testing.assert_array_equal(result.table.columns[name], values, err_msg=name)
        x, y = wcs.sky_to_pixel(stars["ra"], stars["dec"])
        inside = (np.abs(x - 479.5) <= 750) & (np.abs(y - 729.5) <= 950)
        assert set(boxes[0].table["id"]) == set(stars["id"][inside])


def test_the_pole_is_a_place_like_any_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 3000
    table = Table({"ra": rng.uniform(0, 360, n), "dec": 90 - rng.uniform(0, 2, n), "g_mag": np.full(n, 18.0)})
    refcats.ingest(write(table, tmp_path / "t.parquet", "parquet"), name="pole", store_dir=tmp_path, order=6)
    wcs = Wcs.tan((500.0, 500.0), (12.0, 89.9), SCALE * np.array([[-5.0, 0], [0, 5.0]]))
    found = refcats.open_catalog(tmp_path, "pole").load_pixel_box(Box(0, 0, 1000, 1000), wcs, margin=0, epoch=np.nan)
    x, y = wcs.sky_to_pixel(table["ra"], table["dec"])
    inside = (np.abs(x - 499.5) <= 500) & (np.abs(y - 499.5) <= 500)
    assert len(found) == inside.sum() > 20
    np.testing.assert_allclose(np.sort(found.table["centroid_x"]), np.sort(x[inside]), atol=1e-6)


def test_proper_motion_agrees_with_astropy(stars: Table, tmp_path: Path) -> None:
    loader = refcats.load_table(write(stars, tmp_path / "s.parquet", "parquet"))
    epoch = Time(2001.5, format="jyear", scale="tai")
    found = loader.load_circle(0.0, -29.5, 0.7, epoch=epoch.mjd).table
    rows = {int(identifier): row for row, identifier in enumerate(stars["id"])}
    rows = np.array([rows[int(identifier)] for identifier in found["id"]])
    has_motion = np.isfinite(stars["pmra"][rows])
    start = SkyCoord(
        stars["ra"][rows],
        stars["dec"][rows],
        pm_ra_cosdec=np.nan_to_num(stars["pmra"][rows]) * u.mas / u.yr,
        pm_dec=np.where(has_motion, stars["pmdec"][rows], 0) * u.mas / u.yr,
        distance=1 * u.kpc,
        radial_velocity=0 * u.km / u.s,
        obstime=Time(2016.0, format="jyear", scale="tai"),
    )
    moved = start.apply_space_motion(new_obstime=epoch)
    here = SkyCoord(found["coord_ra"] * u.rad, found["coord_dec"] * u.rad)
    assert moved.separation(here).max() < 5 * u.uas
    assert here.separation(SkyCoord(stars["ra"][rows], stars["dec"][rows])).max() > 500 * u.mas
    years = 14.5
    expected = np.where(
        has_motion, np.hypot(stars["ra_err"][rows], 2.0 * years), np.hypot(stars["ra_err"][rows], 145.0)
    )
    np.testing.assert_allclose((found["coord_raErr"] * u.rad).to_value(u.mas), expected, rtol=1e-4)
    assert np.array_equal(found["pm_flag"], ~has_motion)
    assert found["pm_flag"].any()


def test_proper_motion_is_an_arc_of_that_length() -> None:
    """Length and bearing at the start to 1e-10, by vectors; arcs of some arc seconds to degrees, anywhere."""
    rng = np.random.default_rng(3)
    n = 500
    ra, dec = rng.uniform(0, 2 * np.pi, n), np.arcsin(rng.uniform(-0.999, 0.999, n))
    length, bearing = 10 ** rng.uniform(-4, -1, n), rng.uniform(-np.pi, np.pi, n)
    end_ra, end_dec = move_along(ra, dec, length * np.cos(bearing), length * np.sin(bearing))

    def vectors(a: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)

    start, end = vectors(ra, dec), vectors(end_ra, end_dec)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros(n)], axis=1)
    north = np.cross(start, east)
    chord = np.linalg.norm(end - start, axis=1)
    np.testing.assert_allclose(2 * np.arcsin(chord / 2), length, rtol=2e-11)
    found = np.arctan2((end * north).sum(axis=1), (end * east).sum(axis=1))
    assert np.abs(np.angle(np.exp(1j * (found - bearing)))).max() < 1e-10


def test_errors_of_the_epoch_are_added_in_squares(stars: Table, tmp_path: Path) -> None:
    """Position and proper motion over the years, as stored."""
    loader = refcats.load_table(write(stars, tmp_path / "s.parquet", "parquet"))
    at_catalog, later = (
        loader.load_circle(0.0, -29.5, 0.7, epoch=Time(year, format="jyear", scale="tai").mjd).table
        for year in (2016.0, 2026.0)
    )
    _, first, second = np.intersect1d(at_catalog["id"], later["id"], return_indices=True)
    moving = ~at_catalog["pm_flag"][first]
    assert moving.sum() > 20
    for axis in ("ra", "dec"):
        before = at_catalog[f"coord_{axis}Err"][first][moving].astype(np.float64)
        motion = at_catalog[f"pm_{axis}Err"][first][moving].astype(np.float64)
        np.testing.assert_allclose(
            later[f"coord_{axis}Err"][second][moving], np.hypot(before, 10.0 * motion), rtol=3e-6
        )


def test_catalogs_are_immutable_and_ingest_is_repeatable(stars: Table, tmp_path: Path) -> None:
    source = write(stars, tmp_path / "a.parquet", "parquet")
    first = refcats.ingest(source, name="ps1", store_dir=tmp_path / "store")
    assert refcats.ingest(source, name="ps1", store_dir=tmp_path / "store") == first
    other = write(stars[:50], tmp_path / "b.parquet", "parquet")
    with pytest.raises(refcats.RefcatError, match="exists with other content") as error:
        refcats.ingest(other, name="ps1", store_dir=tmp_path / "store")
    assert error.value.code == "refcat.exists"
    assert refcats.list_catalogs(tmp_path / "store") == [first]
    refcats.remove(tmp_path / "store", "ps1")
    assert refcats.list_catalogs(tmp_path / "store") == []
    assert list((tmp_path / "store").iterdir()) == []


def test_many_small_chunks_give_the_same_content(stars: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(stars, tmp_path / "a.fits", "fits")
    whole = refcats.ingest(source, name="whole", store_dir=tmp_path)
    monkeypatch.setattr("service.refcats.sources.CHUNK_ROWS", 777)
    phrases: list[tuple[float, str]] = []
    pieces = refcats.ingest(source, name="pieces", store_dir=tmp_path, progress=lambda f, p: phrases.append((f, p)))
    assert pieces.sha256 == whole.sha256
    assert len(phrases) > 5
    assert phrases[-1][0] == 1.0
    assert all(a[0] <= b[0] for a, b in pairwise(phrases))


def test_layout_is_hats(stars: Table, tmp_path: Path) -> None:
    import hpgeom

    source = write(stars, tmp_path / "a.parquet", "parquet")
    info = refcats.ingest(source, name="gaia", store_dir=tmp_path, order=5)
    listed = Table.read(tmp_path / "gaia" / "partition_info.csv", format="ascii.csv")
    assert len(listed) == len(info.partitions) > 3
    for order, pixel in zip(listed["Norder"], listed["Npix"], strict=True):
        path = (
            tmp_path
            / "gaia"
            / "dataset"
            / f"Norder={order}"
            / f"Dir={pixel // 10000 * 10000}"
            / f"Npix={pixel}.parquet"
        )
        rows = pq.ParquetFile(path).read()
        inside = hpgeom.angle_to_pixel(2**order, rows["ra"].to_numpy(), rows["dec"].to_numpy())
        assert np.all(inside == pixel)
        index = rows["_healpix_29"].to_numpy()
        assert np.all(np.diff(index) >= 0)
    text = (tmp_path / "gaia" / "properties").read_text()
    assert "hats_col_ra=ra" in text
    assert f"hats_nrows={len(stars)}" in text


def test_nothing_there_is_an_answer_and_missing_files_are_an_error(stars: Table, tmp_path: Path) -> None:
    source = write(stars, tmp_path / "a.parquet", "parquet")
    info = refcats.ingest(source, name="gaia", store_dir=tmp_path)
    loader = refcats.open_catalog(tmp_path, "gaia")
    assert len(loader.load_circle(180.0, 30.0, 0.5, epoch=60000.0)) == 0
    wcs = Wcs.tan((0.0, 0.0), (180.0, 30.0), SCALE * np.eye(2))
    assert len(loader.load_pixel_box(Box(0, 0, 100, 100), wcs, margin=10, epoch=60000.0)) == 0
    with pytest.raises(refcats.RefcatNotFoundError):
        refcats.open_catalog(tmp_path, "ps1")
    for partition in info.partitions:
        partition_path(tmp_path / "gaia", partition).write_bytes(b"PAR1 rubbish PAR1")
    with pytest.raises(refcats.RefcatUnavailableError):
        loader.load_circle(0.0, -29.5, 0.5, epoch=60000.0)


@pytest.mark.parametrize(
    ("columns", "options", "code"),
    [
        ({"ra": [1.0], "r_mag": [20.0]}, {}, "refcat.missing_column"),
        ({"ra": [1.0], "dec": [2.0]}, {}, "refcat.missing_column"),
        ({"ra": [1.0], "dec": [99.0], "r_mag": [20.0]}, {}, "refcat.bad_values"),
        ({"ra": ["x"], "dec": [9.0], "r_mag": [20.0]}, {}, "refcat.bad_values"),
        ({"id": [1.5], "ra": [1.0], "dec": [9.0], "r_mag": [20.0]}, {}, "refcat.bad_values"),
        ({"ra": [np.nan], "dec": [9.0], "r_mag": [20.0]}, {}, "refcat.empty"),
        ({"ra": [1.0], "dec": [9.0], "r_mag": [20.0]}, {"columns": {"g_mag": "nope"}}, "refcat.missing_column"),
        ({"ra": [1.0], "dec": [9.0], "r_mag": [20.0]}, {"columns": {"colour": "ra"}}, "refcat.bad_mapping"),
        ({"ra": [1.0], "dec": [9.0], "r_mag": [20.0]}, {"magnitude_offsets": {"z": 1.0}}, "refcat.bad_mapping"),
        ({"ra": [1.0], "dec": [9.0], "r_mag": [20.0]}, {"name": "../evil"}, "refcat.bad_name"),
        ({"ra": [1.0], "dec": [9.0], "r_mag": [20.0]}, {"file_format": "fits"}, "refcat.bad_file"),
    ],
)
def test_unusable_tables_are_refused(
    tmp_path: Path, columns: dict[str, list[object]], options: dict[str, object], code: str
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(refcats.RefcatError) as error:
        refcats.ingest(path, **({"name": "t", "store_dir": tmp_path / "store"} | options))  # type: ignore[arg-type]
    assert error.value.code == code
    assert refcats.list_catalogs(tmp_path / "store") == []


def test_a_refusal_names_the_columns_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({name: [1.0] for name in ("ra", "dec", *(f"c{n}" for n in range(19)))}), path)
    with pytest.raises(refcats.RefcatError, match=r"no magnitude or flux.*; there are ra, dec, c0, .*, c17, \.\.\.$"):
        refcats.ingest(path, name="t", store_dir=tmp_path / "store")


def test_units_and_offsets_are_applied(tmp_path: Path) -> None:
    table = Table({"RAJ2000": [10.0, 11.0] * u.hourangle, "DEJ2000": [-600.0, 60.0] * u.arcmin})
    table["Vmag"] = np.array([15.0, 99.0])
    table["k_flux"] = [1.0, 2.0] * u.mJy
    path = tmp_path / "t.ecsv"
    table.write(path, format="ascii.ecsv")
    loader = refcats.load_table(path, columns={"V_mag": "Vmag"}, magnitude_offsets={"V": 0.02}, epoch=2000.0)
    found = loader.load_circle(150.0, -10.0, 0.001, epoch=np.nan).table
    assert len(found) == 1
    assert found["k_flux"][0] == pytest.approx(1e6)
    assert found["V_flux"][0] == pytest.approx(10 ** ((31.4 - 15.02) / 2.5))
    assert np.isnan(loader.load_circle(165.0, 1.0, 0.1, epoch=np.nan).table["V_flux"][0])


def test_rubin_reference_names_are_radians(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = {"coord_ra": [1.0], "coord_dec": [0.5], "coord_raErr": [1e-8], "pm_ra": [1e-7], "g_flux": [100.0]}
    pq.write_table(pa.table(rows), path)
    found = refcats.load_table(path, epoch=2016.0).load_circle(np.degrees(1), np.degrees(0.5), 0.01, epoch=np.nan).table
    assert found["coord_ra"][0] == pytest.approx(1.0)
    assert found["coord_raErr"][0] == pytest.approx(1e-8)
    assert found["pm_ra"][0] == pytest.approx(1e-7)


def test_gaia_rates_become_ab_fluxes(tmp_path: Path) -> None:
    table = Table({"source_id": [5, 6], "ra": [1.0, 1.0], "dec": [2.0, 2.0], "ref_epoch": [2016.0, 2016.0]})
    table["phot_g_mean_flux"] = [1000.0, 0.0] * u.electron / u.s
    table["phot_g_mean_flux_error"] = [2.0, 1.0] * u.electron / u.s
    table["phot_g_mean_mag"] = [18.187, np.nan]
    table["phot_bp_mean_flux"] = [400.0, 300.0]
    table.write(tmp_path / "gaia.ecsv", format="ascii.ecsv")
    loader = refcats.load_table(tmp_path / "gaia.ecsv")
    assert loader.bands == ("phot_g_mean", "phot_bp_mean")
    found = loader.load_circle(1.0, 2.0, 0.1, epoch=np.nan).table
    assert found["id"].tolist() == [5, 6]
    magnitude = (found["phot_g_mean_flux"][0] * u.nJy).to_value(u.ABmag)
    assert magnitude == pytest.approx(25.7934 - 7.5, abs=1e-4)
    assert found["phot_g_mean_flux"][1] == 0
    assert found["phot_g_mean_fluxErr"][0] / found["phot_g_mean_flux"][0] == pytest.approx(0.002)


def test_parity_and_real_catalogs(parity_dir: Path, data_dir: Path) -> None:
    loader = refcats.load_table(parity_dir / "typical1k" / "refcat.fits")
    assert loader.bands == ("g", "r", "i")
    found = loader.load_circle(150.0, 2.2, 1.0, epoch=60967.95).table
    assert len(found) == 123
    assert np.all(np.isfinite(found["coord_ra"]))
    assert np.unique(found["epoch"]) == pytest.approx(51544.5 + 25.8 * 365.25)
    loader = refcats.load_table(
        data_dir / "SDSS_MOSAIC" / "refcat_sn2015bn_sdss_r.fits", columns={"r_mag": "rmag", "r_magerr": "rmag_err"}
    )
    found = loader.load_circle(173.42, 0.726, 1.0, epoch=np.nan).table
    assert len(found) == 548
    assert 14 < np.nanmedian(31.4 - 2.5 * np.log10(found["r_flux"])) < 22


@pytest.mark.parametrize(
    ("band", "options", "expected"),
    [
        ("r", {}, "r_flux"),
        ("r", {"filter_map": {"r": "g"}}, "g_flux"),
        ("r", {"any_filter_maps_to_this": "g"}, "g_flux"),
        (None, {"any_filter_maps_to_this": "g"}, "g_flux"),
    ],
)
def test_flux_column(band: str | None, options: dict[str, object], expected: str) -> None:
    assert refcats.flux_column(["id", "g_flux", "r_flux"], band, **options) == expected  # type: ignore[arg-type]


def test_flux_column_refuses() -> None:
    with pytest.raises(refcats.RefcatError, match="no passband 'z'"):
        refcats.flux_column(["g_flux"], "z")
    with pytest.raises(refcats.RefcatError, match="exclude each other"):
        refcats.flux_column(["g_flux"], "g", any_filter_maps_to_this="g", filter_map={"g": "g"})


def test_partition_ranges_tile_the_sphere() -> None:
    assert Partition(0, 11, 1).index_range[1] == 12 * 4**29
    assert Partition(3, 7, 1).index_range == (7 * 4**26, 8 * 4**26)


def test_a_table_without_rows_is_a_catalogue_without_stars(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"ra": np.zeros(0), "dec": np.zeros(0), "r_mag": np.zeros(0)}), path)
    info = refcats.ingest(path, name="empty", store_dir=tmp_path / "store")
    assert (info.n_rows, info.bands) == (0, ("r",))
    assert refcats.ingest(path, name="empty", store_dir=tmp_path / "store") == info
    found = refcats.open_catalog(tmp_path / "store", "empty").load_circle(10.0, 5.0, 1.0, epoch=np.nan)
    assert len(found.table) == 0
    assert "r_flux" in found.table
