"""Tenants cannot meet: every operation of the OpenAPI document, with somebody else's ids, and with every scope.

The operations come from the document, so a new endpoint is judged by being there; one whose parameter or body is not
known here fails until somebody says what of the other owner's is to be put into it.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from astropy.io.votable import parse_single_table
from fastapi.routing import APIRoute
from sqlalchemy import event

from api.dashboard.install import PAGES
from tests.api.conftest import open_house
from tests.api.tenants import Operation, bearer, files_of, operations, rows_of
from tests.api.test_description import reference_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.api.conftest import House

ADA, BOB = "ada-lovelace", "bob"
RUN, LABEL, KEY, REFCAT = "run-of-ada", "exposure-of-ada.fits", "key-of-ada", "refcat-of-ada"
HOOK = "https://127.0.0.1/hook-of-ada"
#: Answered to anybody, token or not.
PUBLIC = {"/healthz", "/readyz", "/uws/availability", "/uws/capabilities"}
#: For administrators alone.
ADMIN = {"/metrics"}
#: Where the stars of ada are.
SKY = {
    "/v1/stars": {"ra": "8.6", "dec": "1.1", "radius": "9"},
    "/v1/lightcurves": {"ra": "8.6", "dec": "1.146", "radius": "0.1"},
    "/scs": {"RA": "8.6", "DEC": "1.1", "SR": "9"},
}
#: Names of queries of pages that take the id of a job.
JOBS_IN_QUERIES = {"job", "job_id", "a", "b", "left", "right", "with", "other", "rerun_of", "of"}
#: Parts that her completed job has not.
OF_A_FAILED_JOB = {"/parts/jobs/{job_id}/failure"}
#: Where a change needs no more than the scope `read`.
OF_ONESELF = {"/v1/tokens", "/v1/tokens/{token_id}"}


class Town:
    """A service with two owners; one of them has something of everything."""

    def __init__(self, house: House, directory: Path) -> None:
        self.house = house
        self.ada, self.bob = bearer(house, ADA), bearer(house, BOB)
        self.operations = list(operations(house.client.get("/openapi.json").json()))
        self.ids = self._things(reference_file(directory / "references.parquet"))
        self.ids |= {"diagnostic": "background", "product": "stars", "z": "0", "x": "0", "y": "0"}
        self.ids |= {"plane": "BAD", "night": "latest"}

    def _things(self, references: bytes) -> dict[str, str]:
        ask = self.ask
        content = self.house.fits_bytes(3.0)
        exposure = ask(self.ada, "PUT", f"/v1/exposures?filename={LABEL}", content=content)["id"]
        ask(self.ada, "PUT", f"/v1/refcats/{REFCAT}?columns=ra=RAJ2000,dec=DE", content=references)
        ask(self.ada, "POST", "/v1/webhooks/secret")
        body = {"exposures": [exposure], "run_id": RUN}
        done = ask(self.ada, "POST", "/v1/jobs", json={**body, "callback": HOOK})["id"]
        self.house.finish(self.house.claim(done))
        ask(self.ada, "POST", "/v1/jobs", json={**body, "references": REFCAT}, headers={"Idempotency-Key": KEY})
        batch = ask(self.ada, "POST", "/v1/batches", json={"jobs": [{**body, "preset": "parity"}]})
        token = ask(self.ada, "GET", "/v1/tokens/current")["token_id"]
        messages = ask(self.ada, "GET", "/v1/webhooks/messages")["items"]
        upload = ask(self.ada, "POST", f"/v1/uploads?filename={LABEL}", headers={"Upload-Complete": "?0"})
        return {
            "exposure_id": exposure,
            "job_id": done,
            "batch_id": batch["id"],
            "token_id": token,
            "message_id": messages[0]["id"],
            "upload_id": upload["id"],
            "name": REFCAT,
            "instrument": "generic",
            "visit": "42",
        }

    def ask(self, who: dict[str, str], method: str, path: str, **request: Any) -> Any:
        headers = {**who, **request.pop("headers", {})}
        answer = self.house.client.request(method, path, headers=headers, **request)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def send(self, operation: Operation, who: dict[str, str], *, queries: bool = False) -> Any:
        """A request with the ids of ada wherever there is a place for one."""
        values = {name: self.ids[name] for name in operation.parameters("path")}
        if operation.path.startswith("/v1/jobs/{job_id}/images"):
            values["product"] = "image"
        path = operation.path.format(**values)
        known = {"run_id": RUN, "job_id": self.ids["job_id"], "batch": self.ids["batch_id"], "owner": ADA}
        known |= {"rerun_of": self.ids["job_id"], "instrument": "Sim", "band": "r", "after": "0"}
        params = {name: known[name] for name in operation.parameters("query") if queries and name in known}
        if operation.path.endswith("/cutout"):
            params |= {"x": "10", "y": "10", "size": "5"}
        params |= SKY.get(operation.path, {})
        return self.house.client.request(
            operation.method,
            path,
            params=params,
            headers={**who, **self.headers(operation)},
            follow_redirects=False,  # the answer of this operation is judged, not that of another one
            **self.body(operation),
        )

    def headers(self, operation: Operation) -> dict[str, str]:
        known = {"idempotency-key": KEY, "upload-complete": "?0", "upload-offset": "0"}
        headers = {name: known[name] for name in operation.parameters("header") if name in known}
        if "application/partial-upload" in operation.body_types:
            headers["content-type"] = "application/partial-upload"
        return headers

    def body(self, operation: Operation) -> dict[str, Any]:
        job = {"exposures": [self.ids["exposure_id"]], "references": REFCAT}
        bodies: dict[str, Any] = {
            "POST /v1/jobs": job,
            "POST /v1/exposures": {"url": "https://archive.example/x.fits"},
            "POST /v1/batches": {"jobs": [job]},
            "POST /v1/jobs/{job_id}/rerun": {"config": {}},
            "POST /v1/jobs/{job_id}/photometry": {"positions": [{"x": 10, "y": 10}]},
            "PATCH /v1/jobs/{job_id}": {"destruction": "P1D"},
            "POST /v1/tokens": {"name": "n", "scopes": ["read"], "owner": ADA},
        }
        if "application/json" in operation.body_types:
            return {"json": bodies[operation.name]}
        if operation.path == "/uws/calibrate":
            return {"data": {"EXPOSURE": self.ids["exposure_id"], "REFERENCES": REFCAT}}
        if "multipart/form-data" in operation.body_types:
            return {"files": {"file": ("x.fits", self.house.fits_bytes(7.0))}}
        if operation.path.startswith("/v1/refcats"):
            return {"content": b""}  # nothing may be under this name afterwards
        return {"content": self.house.fits_bytes(5.0)} if operation.body_types else {}

    def traces(self) -> set[str]:
        """What nobody but ada can know: her names and ids."""
        rows = rows_of(self.house, ADA)
        ids = {str(row[1]) for row in rows["jobs"]} | {str(row[0]) for row in rows["exposures"]}
        return {
            ADA,
            RUN,
            LABEL,
            REFCAT,
            "hook-of-ada",
            *ids,
            *(self.ids[n] for n in self.ids if n.endswith("_id")),
        }


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    directory = tmp_path_factory.mktemp("town")
    options = {
        "event_stream_time": 0.2,
        "event_heartbeat": 0.1,
        "max_auth_failures": 10_000,
        "webhook_allow_private": True,
    }
    with open_house(directory, require_tokens=True, **options) as house:
        yield Town(house, directory)


def test_the_owner_sees_what_the_stranger_is_tried_with(town: Town) -> None:
    """Without this the next tests could pass because nothing is there at all."""
    for operation in town.operations:
        if operation.method == "GET" and operation.path not in ADMIN | PUBLIC:
            answer = town.send(operation, town.ada)
            assert answer.status_code in (200, 204), (operation.name, answer.text)
    listed = {op.path for op in town.operations if op.method == "GET" and not op.parameters("path")}
    for path in listed & {"/v1/jobs", "/v1/summaries", "/v1/refcats", "/v1/batches", "/v1/webhooks/messages"}:
        assert town.house.client.get(path, headers=town.ada).json()["items"], path
    for path in ("/v1/stars", "/v1/lightcurves"):
        answer = town.house.client.get(path, params=SKY[path], headers=town.ada)
        assert town.ids["job_id"] in answer.text, path
    cone = parse_single_table(BytesIO(town.house.client.get("/scs", params=SKY["/scs"], headers=town.ada).content))
    assert set(cone.array["job_id"]) == {town.ids["job_id"]}


def test_a_stranger_sees_nothing_and_changes_nothing(town: Town) -> None:
    rows, traces = rows_of(town.house, ADA), town.traces()
    files = files_of(town.house)
    assert all(rows[table] for table in ("exposures", "refcats", "jobs", "tokens", "summaries", "webhook_messages"))
    tried = 0
    for operation in town.operations:
        for queries in (False, True):
            answer = town.send(operation, town.bob, queries=queries)
            sent = {town.ids[name] for name in operation.parameters("path")}
            sent |= {str(value) for value in answer.request.url.params.values()}
            given = town.body(operation)
            body = json.dumps([given.get("json"), given.get("data")])
            told = answer.text + json.dumps(dict(answer.headers))
            seen = {trace for trace in traces if trace in told and trace not in body and trace not in sent}
            assert seen == set(), (operation.name, seen)
            named = set(operation.parameters("path")) - {"product", "instrument"}  # the same for everybody
            if named and operation.name != "PUT /v1/refcats/{name}":  # who puts makes one of their own
                assert answer.status_code == 404, (operation.name, answer.status_code, answer.text)
            assert answer.status_code < 500, operation.name
            tried += 1
    assert rows_of(town.house, ADA) == rows
    assert files <= files_of(town.house)
    assert tried == 2 * len(town.operations)


def test_the_same_bytes_names_and_keys_are_another_owners_own(town: Town) -> None:
    """Content addressing, names and idempotency keys tell nobody that somebody else has used them."""
    client, eve = town.house.client, bearer(town.house, "eve")
    put = client.put("/v1/exposures", content=town.house.fits_bytes(3.0), headers=eve)
    assert (put.status_code, put.json()["id"] != town.ids["exposure_id"]) == (201, True)
    # Another file under the name of ada's catalogue.
    catalog = b"ra,dec,r_mag\n1.0,2.0,15.0\n1.1,2.1,16.0\n"
    stored = client.put(f"/v1/refcats/{REFCAT}?format=csv", content=catalog, headers=eve)
    assert (stored.status_code, stored.json().get("rows")) == (201, 2), stored.text
    assert client.get(f"/v1/refcats/{REFCAT}", headers=town.ada).json()["rows"] == 50
    body = {"exposures": [put.json()["id"]], "references": REFCAT}
    job = client.post("/v1/jobs", json=body, headers=eve | {"Idempotency-Key": KEY})
    assert (job.status_code, job.json()["owner"]) == (202, "eve")
    assert client.delete(f"/v1/jobs/{job.json()['id']}", headers=eve).status_code == 202
    assert client.delete(f"/v1/refcats/{REFCAT}", headers=eve).status_code == 204
    assert client.get(f"/v1/refcats/{REFCAT}", headers=town.ada).json()["rows"] == 50


def test_catalogues_of_the_services_own_owner_are_for_all(town: Town, tmp_path: Path) -> None:
    client, service = town.house.client, bearer(town.house, "local")
    content = reference_file(tmp_path / "shared.parquet", 20)
    assert (
        client.put("/v1/refcats/shared?columns=ra=RAJ2000,dec=DE", content=content, headers=service).status_code == 201
    )
    document = client.get("/v1/refcats/shared", headers=town.bob).json()
    assert (document["rows"], document["shared"]) == (20, True)
    assert "shared" in {item["name"] for item in client.get("/v1/refcats", headers=town.bob).json()["items"]}
    taken = client.put("/v1/refcats/shared", content=b"ra,dec,r_mag\n1,2,3\n", headers=town.bob)
    assert (taken.status_code, taken.json()["code"]) == (409, "refcat.exists")
    refused = client.delete("/v1/refcats/shared", headers=town.bob)
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.forbidden")
    exposure = client.put("/v1/exposures", content=town.house.fits_bytes(8.0), headers=town.bob).json()["id"]
    body = {"exposures": [exposure], "references": "shared"}
    job = client.post("/v1/jobs", json=body, headers=town.bob).json()
    used = client.delete("/v1/refcats/shared", headers=service)
    assert (used.status_code, used.json()["job_ids"]) == (409, [])
    assert job["id"] not in used.text
    client.post(f"/v1/jobs/{job['id']}/abort", headers=town.bob)
    assert client.delete("/v1/refcats/shared", headers=service).status_code == 204


# -- scopes


def expected(operation: Operation) -> str | None:
    """The scope that the specification asks for."""
    if operation.path in PUBLIC:
        return None
    if operation.path in ADMIN:
        return "admin"
    return "read" if operation.method == "GET" or operation.path in OF_ONESELF else "submit"


def test_every_operation_asks_for_its_scope(town: Town) -> None:
    order = ["read", "submit", "admin"]
    carol = {scope: bearer(town.house, "carol", scope) for scope in order}
    before = rows_of(town.house, "carol")
    for operation in town.operations:
        need = expected(operation)
        assert operation.declared.get("x-scope") == need, operation.name
        nobody = town.send(operation, {})
        if need is None:
            assert nobody.status_code == 200, operation.name
            assert "security" not in operation.declared
            continue
        assert (nobody.status_code, nobody.json()["code"]) == (401, "auth.required"), operation.name
        assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="visitcal"'
        assert operation.declared["security"] == [{"bearer": []}]
        for scope in order[: order.index(need)]:
            answer = town.send(operation, carol[scope])
            assert (answer.status_code, answer.json()["code"]) == (403, "auth.forbidden"), (operation.name, scope)
            assert f'scope="{need}"' in answer.headers["WWW-Authenticate"]
    assert rows_of(town.house, "carol") == before  # nothing was done with too small a scope
    for operation in town.operations:
        if (need := expected(operation)) is not None and operation.path not in OF_ONESELF:
            answer = town.send(operation, carol[need])
            assert answer.status_code not in (401, 403), operation.name


# -- pages: walked by their routes, as the document is for programs


def query_names(dependant: Any) -> list[str]:
    inner = [name for other in dependant.dependencies for name in query_names(other)]
    return [field.alias for field in dependant.query_params] + inner


def page_routes() -> list[tuple[str, str, list[str], list[str]]]:
    """Method, path, names in it, and names of queries."""
    found = []
    for module in PAGES:
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            names = re.findall(r"{(\w+)}", route.path)
            queries = query_names(route.dependant)
            found += [(method, route.path, names, queries) for method in sorted(route.methods)]
    assert len(found) > 5
    return found


def test_the_pages_of_a_stranger_show_nothing_and_change_nothing(town: Town) -> None:
    rows, traces, client = rows_of(town.house, ADA), town.traces(), town.house.client
    of_ada = {**town.ids, "layer": "stars"}
    for method, path, names, queries in page_routes():
        if path in ("/login", "/logout"):
            continue
        assert set(names) <= set(of_ada), f"{path}: say here which of ada's things to put into it"
        address = path.format(**of_ada)
        jobs = {name: town.ids["job_id"] for name in queries if name in JOBS_IN_QUERIES}
        answer = client.request(method, address, params=jobs, headers=town.bob, follow_redirects=False)
        sent = {of_ada[name] for name in names} | set(jobs.values())
        told = answer.text + json.dumps(dict(answer.headers))
        assert {trace for trace in traces - sent if trace in told} == set(), (method, path)
        if sent:
            assert answer.status_code == 404, (method, path, answer.text)
            if method == "GET" and path not in OF_A_FAILED_JOB:
                of_herself = client.get(address, params=jobs, headers=town.ada, follow_redirects=False)
                assert of_herself.status_code != 404, (path, of_herself.text)
        assert answer.status_code < 500, (method, path)
    assert rows_of(town.house, ADA) == rows


def test_pages_lead_who_has_no_token_to_the_login(town: Town) -> None:
    for method, path, names, _queries in page_routes():
        if path in ("/login", "/docs"):
            continue
        address = path.format(**dict.fromkeys(names, "x"))
        answer = town.house.client.request(method, address, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), (method, path)
        part = town.house.client.request(method, address, headers={"HX-Request": "true"}, follow_redirects=False)
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login"), (method, path)


# -- time tells nothing


def test_somebody_elses_job_takes_the_same_questions_as_none(town: Town) -> None:
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    engine = town.house.services.storage.database.engine
    absent = "job_" + "0" * 26
    stories = []
    event.listen(engine, "before_cursor_execute", note)
    try:
        for path in ("/v1/jobs/{}", "/v1/jobs/{}/summary", "/v1/jobs/{}/catalogs/stars", "/v1/jobs/{}/events"):
            for job in (town.ids["job_id"], absent):
                town.house.client.get("/v1/tokens/current", headers=town.bob)  # the use is noted by now
                asked.clear()
                answer = town.house.client.get(path.format(job), headers=town.bob)
                assert answer.status_code == 404
                stories.append((path, [text for text in asked if "jobs" in text or "tokens" in text], answer))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    for (path, strangers, first), (_, nobodys, second) in zip(stories[::2], stories[1::2], strict=True):
        assert strangers, path
        assert set(strangers) == set(nobodys), path
        assert first.text.replace(town.ids["job_id"], absent) == second.text


@pytest.mark.long
def test_somebody_elses_job_takes_as_long_as_none(town: Town) -> None:
    paths = [f"/v1/jobs/{job}" for job in (town.ids["job_id"], "job_" + "0" * 26)]
    times: list[list[float]] = [[], []]
    for _ in range(600):
        for path, spent in zip(paths, times, strict=True):
            start = time.perf_counter()
            assert town.house.client.get(path, headers=town.bob).status_code == 404
            spent.append(time.perf_counter() - start)
    strangers, nobodys = (statistics.median(spent) for spent in times)
    print(f"a stranger's job {1e3 * strangers:.3f} ms, no job {1e3 * nobodys:.3f} ms")
    assert abs(strangers / nobodys - 1) < 0.1
