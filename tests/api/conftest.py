from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from starlette.exceptions import StarletteDeprecationWarning

from api.app import create_app
from api.dependencies import Services
from service import formats
from service.exposure.catalog import SourceCatalog
from service.exposure.psf import GaussianPsf
from service.exposure.star_schema import star_schema
from service.formats.components import write_state
from service.formats.fits_stream import FitsStream
from service.jobs import states
from service.jobs.outcome import JobError, JobOutcome, ProductFile
from service.jobs.pipeline import run_job
from service.jobs.prepare import prepare
from service.jobs.publish import publish, store_files
from service.jobs.spec import child_spec
from service.jobs.task import Task
from service.settings import Settings
from service.storage.records import Fence, LogLine, Scope, StageRecord, utc_now

with warnings.catch_warnings():
    # Starlette's test client would rather have a successor of httpx; ours is the library that users have.
    warnings.simplefilter("ignore", StarletteDeprecationWarning)
    from starlette.testclient import TestClient

OWNER = Scope("local")
WORKER = "worker-of-the-test"
N_STARS = 25


def fits_bytes(value: float = 100.0, **cards: Any) -> bytes:
    """A small plain exposure."""
    hdu = fits.PrimaryHDU(np.full((40, 50), value, np.float32))
    hdu.header["EXPTIME"] = 30.0
    hdu.header["FILTER"] = "r"
    hdu.header.update(cards)
    stream = BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()


def stars() -> SourceCatalog:
    """A star catalogue with known values, a NaN and both flags."""
    catalog = SourceCatalog.allocate(star_schema(), N_STARS)
    catalog["id"] = 1000 + np.arange(N_STARS)
    catalog["coord_ra"] = np.linspace(0.1, 0.2, N_STARS)
    catalog["coord_dec"] = np.linspace(0.03, 0.01, N_STARS)
    catalog["detect_isPrimary"] = True
    catalog["base_PsfFlux_instFlux"] = np.where(np.arange(N_STARS) == 7, np.nan, 10.0 * np.arange(N_STARS))
    catalog["base_PsfFlux_flag"] = np.arange(N_STARS) % 2 == 1
    return catalog


class House:
    """The API on a fresh database, and a worker that a test steps through a job by hand."""

    def __init__(self, client: TestClient, settings: Settings, directory: Path) -> None:
        self.client = client
        self.settings = settings
        self.directory = directory
        self.services: Services = client.app.state.services  # type: ignore[attr-defined]

    fits_bytes = staticmethod(fits_bytes)
    stars = staticmethod(stars)

    def upload(self, content: bytes | None = None) -> str:
        answer = self.client.put("/v1/exposures", content=content if content is not None else fits_bytes())
        assert answer.status_code in (200, 201), answer.text
        exposure_id: str = answer.json()["id"]
        return exposure_id

    def submit(self, **parameters: Any) -> dict[str, Any]:
        body = {"exposures": [self.upload()], "force": True, **parameters}
        answer = self.client.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def claim(self, job_id: str) -> Fence:
        assert states.claim(self.services.storage, job_id, 1, WORKER, 60.0) is not None
        return Fence(job_id, 1, WORKER)

    def report(self, fence: Fence, stage: str, progress: float) -> None:
        finished = (StageRecord("snap_combine", 0.25, {"n_snaps": 1, "level": float("nan")}),)
        log = (LogLine(utc_now(), "INFO", "service.jobs", f"begin {stage}"),)
        report = states.Report(stage, progress, finished, 1, log, changed=True)
        assert states.beat(self.services.storage, fence, 60.0, report) is not None

    def finish(self, fence: Fence, error: JobError | None = None, *, products: bool = True) -> None:
        outcome = JobOutcome(
            error=error,
            warnings=("no catalogue for photometry",),
            stages=(StageRecord("snap_combine", 0.25, {}), StageRecord("psf.measure", 1.5, {"n": 3})),
            summary={
                "psfSigma": 1.9,
                "zeroPoint": float("nan"),
                "nPsfStar": 41,
                "raCorners": [1.0, 2.0, 3.0, float("nan")],
            },
            identity={"instrument": "Sim", "band": "r", "visit": 42, "detector": 3},
            metadata={"cosmic_ray_count": 12},
            provenance={"code": "0.1.0"},
        )
        if products:
            outcome = replace(outcome, products=self.product_files())
        report = states.Report(None, 1.0, outcome.stages, 2)
        storage = self.services.storage
        assert publish(storage, fence, outcome, store_files(storage, outcome), report) is not None

    def product_files(self) -> tuple[ProductFile, ...]:
        table = self.directory / "single_visit_star_unstandardized.parquet"
        formats.write_catalog(stars(), table, "parquet")
        image = self.directory / "preliminary_visit_image.fits"
        ramp = np.arange(2000, dtype=np.float32).reshape(40, 50)
        mask = fits.ImageHDU(np.zeros((40, 50), np.int32), fits.Header({"MP_BAD": 0}), name="MASK")
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(ramp, name="IMAGE"), mask]).writeto(image, overwrite=True)
        with image.open("ab") as stream:
            write_state(FitsStream(stream), "PSF", *GaussianPsf(1.9, 21, 21, (25.0, 20.0)).state())
        return (
            ProductFile(
                "single_visit_star_unstandardized", "parquet", "application/vnd.apache.parquet", str(table), N_STARS
            ),
            ProductFile("preliminary_visit_image", "fits", "application/fits", str(image)),
        )

    def calibrate(self, content: bytes, **parameters: Any) -> dict[str, Any]:
        """The document of a job whose work has been done, here instead of in a child."""
        answer = self.client.post("/v1/jobs", json={"exposures": [self.upload(content)], "force": True, **parameters})
        assert answer.status_code == 202, answer.text
        storage, job_id = self.services.storage, answer.json()["id"]
        fence = self.claim(job_id)
        job = storage.jobs.get(OWNER, job_id)
        assert job is not None
        directory = self.directory / job_id
        directory.mkdir()
        outcome = run_job(Task(child_spec(storage, self.settings, job, directory), directory))
        outcome = JobOutcome.from_json(json.loads(json.dumps(outcome.to_json())))  # as it comes from the child
        report = states.Report(None, 1.0, outcome.stages, 2)
        assert publish(storage, fence, outcome, store_files(storage, outcome), report) is not None
        document: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}").json()
        return document

    def completed(self, **parameters: Any) -> str:
        job_id: str = self.submit(**parameters)["id"]
        self.finish(self.claim(job_id))
        return job_id


@contextmanager
def open_house(directory: Path, **values: Any) -> Iterator[House]:
    settings = Settings(
        **{"data_dir": directory / "data", "watch_interval": 0.02, "max_upload_bytes": 1 << 20, **values}
    )
    prepare(settings)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8470", raise_server_exceptions=False) as client:
        yield House(client, settings, directory)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as house:
        yield house


@pytest.fixture
def client(house: House) -> TestClient:
    return house.client
