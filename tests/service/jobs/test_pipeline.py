"""The work of a job on a small simulated exposure, without a service around it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from service.calibration.input_errors import InvalidQuantumError
from service.formats import FormatError, write_exposure
from service.jobs.errors import InvalidConfigurationError, InvalidRequestError
from service.jobs.pipeline import calibrate_files
from service.jobs.version import code_version
from service.refcats import RefcatError
from service.simulation import Simulation, SimulationConfig, simulate, write_simulation

DOCUMENTS = {"summary.json", "metadata.json", "config.json", "provenance.json", "job.json"}


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(SimulationConfig(size=700, n_stars=350, n_galaxies=20, seed=11, visit=5, detector=2))


@pytest.fixture(scope="module")
def files(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_simulation(simulation, tmp_path_factory.mktemp("simulation"))


def load(directory: Path, name: str) -> dict:
    return json.loads((directory / f"{name}.json").read_text())


def test_complete_run(files: dict[str, Path], simulation: Simulation, tmp_path: Path) -> None:
    calls: list[tuple[str, float]] = []
    outcome = calibrate_files(
        [files["exposure"]],
        references={"astrometry": files["references"], "photometry": files["references"]},
        config={"photometry": {"match_radius_arcsec": 0.7}},
        metadata={"exposure_time": 31.0},
        out_dir=tmp_path,
        on_progress=lambda stage, fraction, _numbers: calls.append((stage, fraction)),
    )
    assert (outcome.phase, outcome.error) == ("COMPLETED", None)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= DOCUMENTS
    assert names >= {
        "preliminary_visit_image.fits",
        "preliminary_visit_image.png",
        "preliminary_visit_image_background.fits",
        "preliminary_visit_mask.fits",
        "single_visit_star_unstandardized.parquet",
        "single_visit_star_footprints.parquet",
        "single_visit_psf_star.parquet",
        "single_visit_psf_star_footprints.parquet",
        "initial_astrometry_match_detector.parquet",
        "initial_photometry_match_detector.parquet",
        "initial_photoCalib_detector.json",
    }
    assert {Path(product.path).name for product in outcome.products} == names - DOCUMENTS

    summary = load(tmp_path, "summary")
    assert summary["expTime"] == pytest.approx(31.0)  # the job's own value, not the header's 30
    truth = simulation.aperture_zero_point()
    assert summary["zeroPoint"] == pytest.approx(truth, abs=0.02)
    assert load(tmp_path, "config")["photometry"]["match_radius_arcsec"] == 0.7

    fractions = [fraction for _, fraction in calls]
    assert fractions == sorted(fractions)
    assert (calls[0], calls[-1]) == (("read", 0.0), ("write", 1.0))
    assert [stage.name for stage in outcome.stages] == list(dict.fromkeys(stage for stage, _ in calls))

    stars = pq.read_table(tmp_path / "single_visit_star_unstandardized.parquet")
    for product in outcome.products:
        assert product.sha256 == hashlib.sha256(Path(product.path).read_bytes()).hexdigest()
    (row,) = [p for p in outcome.products if p.product == "single_visit_star_unstandardized"]
    assert row.rows == stars.num_rows > 50
    with fits.open(tmp_path / "preliminary_visit_image.fits") as hdus:
        assert hdus["IMAGE"].header["BUNIT"] == "nJy"
        assert hdus["IMAGE"].data.shape == (700, 700)


_APPLY_RATIO = {"do_apply_flat_background_ratio": True}
_ILLUMINATION = {
    "do_illumination_correction": True,
    "psf_subtract_background": _APPLY_RATIO,
    "psf_detection": {"background": _APPLY_RATIO},
    "star_detection": {"background": _APPLY_RATIO},
}


def test_illumination_correction_comes_in_a_file_and_goes_out_as_a_product(
    simulation: Simulation, files: dict[str, Path], tmp_path: Path
) -> None:
    given, correction = tmp_path / "flattened.fits", tmp_path / "illumination.fits"
    ratio = np.linspace(0.95, 1.05, 700 * 700, dtype=np.float32).reshape(700, 700)
    fits.writeto(correction, ratio)
    write_exposure(given, replace(simulation.exposures[0], metadata={"LSST ISR FLAT APPLIED": True}))
    none = dict.fromkeys(("astrometry", "photometry"))
    out, companions = tmp_path / "out", {"illumination": correction}
    outcome = calibrate_files([given], references=none, config=_ILLUMINATION, companions=companions, out_dir=out)
    assert outcome.error is None
    product = out / "background_to_photometric_ratio.fits"
    np.testing.assert_array_equal(fits.getdata(product, "IMAGE"), ratio)
    with fits.open(out / "preliminary_visit_image.fits") as hdus:
        assert hdus[0].header["LSST CALIB ILLUMCORR APPLIED"] is True

    outcome = calibrate_files([given], references=none, companions=companions, out_dir=tmp_path / "off")
    assert any("do_illumination_correction is off" in warning for warning in outcome.warnings)
    with pytest.raises(InvalidQuantumError, match="divided by its flat"):
        calibrate_files(
            [files["exposure"]], references=none, config=_ILLUMINATION, companions=companions, out_dir=tmp_path / "no"
        )
    with pytest.raises(InvalidQuantumError, match="no illumination correction"):
        calibrate_files([given], references=none, config=_ILLUMINATION, out_dir=tmp_path / "no")
    fits.writeto(tmp_path / "small.fits", ratio[:600])
    with pytest.raises(FormatError, match="illumination"):
        calibrate_files(
            [given],
            references=none,
            config=_ILLUMINATION,
            companions={"illumination": tmp_path / "small.fits"},
            out_dir=tmp_path / "no",
        )


def test_provenance_names_every_origin(files: dict[str, Path], tmp_path: Path) -> None:
    calibrate_files(
        [files["exposure"]],
        references={"astrometry": files["references"], "photometry": None},
        metadata={"band": "i"},
        out_dir=tmp_path,
    )
    document = load(tmp_path, "provenance")
    (given,) = document["inputs"]
    assert given["sha256"] == hashlib.sha256(files["exposure"].read_bytes()).hexdigest()
    assert given["metadata"]["band"] == {"value": "i", "origin": "job parameter"}
    assert given["metadata"]["exposure_time"]["origin"].startswith("header")
    digest = hashlib.sha256(files["references"].read_bytes()).hexdigest()
    assert document["references"] == {
        "astrometry": {"name": "references.parquet", "sha256": digest, "epoch_min": 2016.0, "epoch_max": 2016.0},
        "photometry": None,
    }
    assert document["libraries"]["numpy"] == np.__version__
    assert document["code_version"] == code_version()
    as_run = json.dumps(load(tmp_path, "config"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert document["config_sha256"] == hashlib.sha256(as_run.encode()).hexdigest()
    origins = {entry["origin"] for entry in given["metadata"].values()}
    assert all(origins), "every value says where it is from"


def test_without_references(files: dict[str, Path], tmp_path: Path) -> None:
    outcome = calibrate_files([files["exposure"]], references={}, out_dir=tmp_path)
    assert outcome.phase == "COMPLETED"
    assert any("WCS" in warning for warning in outcome.warnings)
    summary = load(tmp_path, "summary")
    assert summary["zeroPoint"] is None
    assert summary["ra"] is None
    assert summary["psfSigma"] > 1
    assert not (tmp_path / "initial_photoCalib_detector.json").exists()
    assert (tmp_path / "single_visit_star_unstandardized.parquet").exists()


def test_references_elsewhere_end_in_a_named_error_with_products(files: dict[str, Path], tmp_path: Path) -> None:
    table = pq.read_table(files["references"])
    shifted = table.set_column(table.schema.get_field_index("dec"), "dec", pa.array(np.asarray(table["dec"]) - 40.0))
    pq.write_table(shifted, tmp_path / "elsewhere.parquet")
    out = tmp_path / "out"
    elsewhere = {"astrometry": tmp_path / "elsewhere.parquet", "photometry": tmp_path / "elsewhere.parquet"}
    config = {"astrometry": {"matcher": {"max_offset_pix": 1000}}}
    outcome = calibrate_files([files["exposure"]], references=elsewhere, config=config, out_dir=out)
    assert outcome.phase == "ERROR"
    assert outcome.error is not None
    assert outcome.error.suggested_config == {}, "what it would suggest was tried"
    document = load(out, "job")
    assert document["phase"] == "ERROR"
    assert document["error"]["code"].startswith("astrometry.")
    assert document["error"]["stage"] == "astrometry"
    assert document["error"]["hint"]
    assert load(out, "summary")["psfSigma"] > 1
    assert (out / "preliminary_visit_image.fits").exists()
    assert (out / "single_visit_psf_star.parquet").exists()
    with fits.open(out / "preliminary_visit_image.fits") as hdus:
        assert hdus["IMAGE"].header.get("BUNIT") != "nJy"
    assert "failure" in load(out, "metadata")


class TestRefusals:
    """Nothing is written."""

    def refused(self, tmp_path: Path, path: Path, **options: object) -> None:
        out = tmp_path / "out"
        try:
            calibrate_files([path], references={}, out_dir=out, **options)  # type: ignore[arg-type]
        finally:
            assert not out.exists() or not list(out.iterdir())

    def test_not_fits(self, tmp_path: Path) -> None:
        path = tmp_path / "text.fits"
        path.write_text("this is not it" * 1000)
        with pytest.raises(FormatError):
            self.refused(tmp_path, path)

    def test_unknown_metadata(self, tmp_path: Path, files: dict[str, Path]) -> None:
        with pytest.raises(FormatError):
            self.refused(tmp_path, files["exposure"], metadata={"bandd": "r"})

    def test_unknown_preset(self, tmp_path: Path, files: dict[str, Path]) -> None:
        with pytest.raises(InvalidRequestError, match="generic"):
            self.refused(tmp_path, files["exposure"], preset="nonsense")

    def test_unknown_option_is_pointed_at(self, tmp_path: Path, files: dict[str, Path]) -> None:
        with pytest.raises(InvalidConfigurationError) as caught:
            self.refused(tmp_path, files["exposure"], config={"photometry": {"match_radius_arcsecs": 1.0}})
        assert caught.value.errors[0]["loc"] == "/photometry/match_radius_arcsecs"

    def test_references_without_positions(self, tmp_path: Path, files: dict[str, Path]) -> None:
        pq.write_table(pa.table({"x": [1.0]}), tmp_path / "references.parquet")
        with pytest.raises(RefcatError):
            calibrate_files(
                [files["exposure"]],
                references={"astrometry": tmp_path / "references.parquet"},
                out_dir=tmp_path / "out",
            )


def test_a_child_process_imports_no_database() -> None:
    """Nor the queue: it needs neither, and both take time and memory in every child."""
    code = "import sys, service.jobs.child, service.jobs.pipeline; print({'sqlalchemy', 'dbos'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
