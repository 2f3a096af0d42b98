"""The service describing itself, its reference catalogues, and statistics across jobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from api.problem_types import PROBLEM_TYPES
from api.schemas.jobs import JobParameters
from service.calibration.config import CalibrateImageConfig
from service.calibration.errors import algorithm_errors
from service.jobs import errors as job_errors
from service.jobs.errors import JOB_FAILURES

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from tests.api.conftest import House


def test_summaries_across_jobs(house: House) -> None:
    ids = [house.completed() for _ in range(3)]
    seen, url = [], "/v1/summaries?band=r&fields=psfSigma,zeroPoint&limit=2"
    while url:
        answer = house.client.get(url)
        seen += answer.json()["items"]
        link = answer.headers.get("Link")
        url = link[1:].split(">")[0] if link else ""
    assert [item["job_id"] for item in seen] == ids[::-1]
    assert seen[0]["psfSigma"] == pytest.approx(1.9)
    assert seen[0]["zeroPoint"] is None
    assert (seen[0]["instrument"], seen[0]["visit"], seen[0]["detector"]) == ("Sim", 42, 3)
    assert "nPsfStar" not in seen[0]
    assert house.client.get("/v1/summaries?band=g").json() == {"items": [], "next": None}
    assert house.client.get("/v1/summaries?since=2999-01-01T00:00:00Z").json()["items"] == []
    assert house.client.get("/v1/summaries?fields=nope").status_code == 422
    for since in ("yesterday", "0001-01-01T00:00:00%2B14:00"):
        assert house.client.get(f"/v1/summaries?since={since}").status_code == 422


def reference_file(path: Path, n: int = 50) -> bytes:
    rng = np.random.default_rng(3)
    table = {"RAJ2000": 150 + rng.uniform(0, 0.1, n), "DE": 2 + rng.uniform(0, 0.1, n), "r_mag": rng.uniform(15, 20, n)}
    pq.write_table(pa.table(table), path)
    return path.read_bytes()


def test_reference_catalogue_comes_and_goes(house: House, tmp_path: Path) -> None:
    content = reference_file(tmp_path / "ref.parquet")
    url = "/v1/refcats/gaia"
    put = house.client.put(f"{url}?columns=ra=RAJ2000,dec=DE&epoch=2016", content=content)
    assert put.status_code == 201, put.text
    document = put.json()
    assert (document["name"], document["rows"], document["bands"]) == ("gaia", 50, ["r"])
    assert house.client.put(f"{url}?columns=ra=RAJ2000,dec=DE&epoch=2016", content=content).status_code == 200
    assert house.client.get(url).json() == document
    assert house.client.get("/v1/refcats").json()["items"] == [document]
    other = house.client.put(f"{url}?columns=ra=RAJ2000,dec=DE", content=reference_file(tmp_path / "b.parquet", 20))
    assert (other.status_code, other.json()["code"]) == (409, "refcat.exists")
    job = house.submit(references={"astrometry": "gaia", "photometry": "none"})
    assert job["references"] == {"astrometry": "gaia", "photometry": "none"}
    used = house.client.delete(url)
    assert (used.status_code, used.json()["code"]) == (409, "refcat.in_use")
    house.client.post(f"/v1/jobs/{job['id']}/abort")
    assert house.client.delete(url).status_code == 204
    gone = house.client.get(url)
    assert (gone.status_code, gone.json()["code"]) == (404, "refcat.not_found")
    assert house.client.put(f"{url}?columns=ra=RAJ2000,dec=DE&epoch=2016", content=content).status_code == 201


@pytest.mark.parametrize(
    ("name", "query", "content", "status", "code"),
    [
        ("gaia", "", b"", 400, "upload.empty"),
        ("gaia", "", b"\x00\x01 rubbish", 422, "refcat.invalid"),
        ("gaia", "format=csv", b"a,b\n1,2\n", 422, "refcat.invalid"),
        ("gaia", "columns=ra", b"ra,dec", 422, "request.invalid"),
        ("gaia", "epoch=3", b"ra,dec", 422, "request.invalid"),
        ("gaia", "format=xls", b"ra,dec", 422, "request.invalid"),
        ("none", "", b"ra,dec", 422, "refcat.invalid"),
        ("..%2f..%2fetc", "", b"ra,dec", 404, "route.not_found"),
        (".hidden", "", b"ra,dec", 422, "request.invalid"),
        ("a" * 300, "", b"ra,dec", 422, "request.invalid"),
    ],
)
def test_bad_reference_catalogues(house: House, name: str, query: str, content: bytes, status: int, code: str) -> None:
    answer = house.client.put(f"/v1/refcats/{name}?{query}", content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert house.client.get("/v1/refcats").json()["items"] == []
    assert [path for path in house.settings.blob_dir.rglob("*") if path.is_file()] == []


def test_digest_of_a_reference_catalogue_is_checked(house: House, tmp_path: Path) -> None:
    content = reference_file(tmp_path / "ref.parquet")
    header = {"Content-Digest": "sha-256=:" + "A" * 43 + "=:"}
    answer = house.client.put("/v1/refcats/gaia?columns=ra=RAJ2000,dec=DE", content=content, headers=header)
    assert (answer.status_code, answer.json()["code"]) == (400, "upload.digest_mismatch")


def fields(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All properties of a JSON Schema and of what it defines."""
    models = [schema, *schema.get("$defs", {}).values()]
    return [
        (f"{model['title']}.{name}", field) for model in models for name, field in model.get("properties", {}).items()
    ]


def test_configuration_schema_documents_each_field(client: TestClient) -> None:
    schema = client.get("/v1/config/schema").json()
    assert schema == CalibrateImageConfig.model_json_schema()
    undocumented = [name for name, field in fields(schema) if not field.get("description")]
    assert undocumented == []
    assert schema["additionalProperties"] is False


def test_presets_can_be_submitted(house: House) -> None:
    presets = house.client.get("/v1/presets").json()["items"]
    assert {"generic", "parity"} <= {preset["name"] for preset in presets}
    for preset in presets:
        assert preset["description"]
        assert house.submit(preset=preset["name"])["preset"] == preset["name"]


def test_columns_know_their_slots(client: TestClient) -> None:
    columns = {item["name"]: item for item in client.get("/v1/schema/catalogs/psf_stars").json()["items"]}
    assert len(columns) == 99
    assert "slot_PsfFlux_instFlux" in columns["base_PsfFlux_instFlux"]["aliases"]
    assert columns["base_SdssCentroid_x"]["unit"] == "pix"
    assert all(column["description"] for column in columns.values())
    assert client.get("/v1/schema/catalogs/mask").json()["code"] == "product.unknown"


def test_every_error_is_listed(client: TestClient) -> None:
    listed = client.get("/v1/schema/errors").json()
    assert [item["code"] for item in listed["problems"]] == list(PROBLEM_TYPES)
    algorithms = [error.code for error in algorithm_errors()]
    assert [item["code"] for item in listed["job_errors"]] == algorithms + list(JOB_FAILURES)
    sources = "".join(
        path.read_text() for path in Path(job_errors.__file__).parent.glob("*.py") if path.name != "errors.py"
    )
    assert set(re.findall(r'"((?:job|input|service)\.[a-z_]+)"', sources)) == set(JOB_FAILURES)
    assert all(item["title"] for item in listed["problems"] + listed["job_errors"])


def test_unknown_addresses_and_methods_are_problems(client: TestClient) -> None:
    for answer, status, code in (
        (client.get("/v1/nothing"), 404, "route.not_found"),
        (client.patch("/v1/jobs"), 405, "route.method_not_allowed"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == f"/v1/schema/errors#{code}"


def test_mistake_of_the_service_tells_nothing_but_where_to_look(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret path /etc/passwd")

    monkeypatch.setattr(house.services.storage.refcats, "list", fail)
    answer = house.client.get("/v1/refcats", headers={"X-Request-Id": "r-1"})
    assert (answer.status_code, answer.json()["code"]) == (500, "service.error")
    assert "passwd" not in answer.text
    assert answer.json()["request_id"] == "r-1"


def test_health_and_readiness(house: House) -> None:
    assert house.client.get("/healthz").json()["status"] == "ok"
    ready = house.client.get("/readyz")
    assert ready.status_code == 200
    assert {check["status"] for check in ready.json()["checks"].values()} == {"ok"}


# -- OpenAPI


def references_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*(references_in(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(references_in(item) for item in value))
    return set()


def test_openapi_is_whole(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references_in(document)} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        for status, answer in operation["responses"].items():
            if status.startswith(("4", "5")) and status != "503":
                assert list(answer["content"]) == ["application/problem+json"], operation["operationId"]
    submit = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(submit) == {"application/json", "multipart/form-data"}
    example = submit["application/json"]["example"]
    assert TypeAdapter(JobParameters).validate_python(example).reference_names["photometry"] == "ps1"


def test_docs_are_served(client: TestClient) -> None:
    page = client.get("/docs")
    addresses = re.findall(r'(?:src|href|data-url)="([^"]+)"', page.text)
    assert len(addresses) >= 5
    for address in addresses:  # of this host: what runs here acts with the session of whoever looks
        assert address.startswith("/")
        assert client.get(address).status_code == 200
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert client.get("/redoc").status_code == 404
