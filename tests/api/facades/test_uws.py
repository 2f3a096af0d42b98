"""The UWS dialect request by request: documents against the schema, and what each address does."""

from __future__ import annotations

import re
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from astropy.io.votable import parse as parse_votable
from lxml import etree

from api.facades.uws.documents import CalibrateParameters
from api.schemas.jobs import Companions
from service.jobs import states
from service.jobs.outcome import JobError
from service.jobs.retention import Sweeper
from service.jobs.source_fetcher import SourceFetcher
from service.storage.records import Scope
from tests.api.conftest import fits_bytes, open_house
from tests.api.tenants import bearer
from tests.file_host import file_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.conftest import House

JOBS = "/uws/calibrate"
UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"
HREF = "{http://www.w3.org/1999/xlink}href"
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
SCHEMA = etree.XMLSchema(file=str(Path(__file__).with_name("uws.xsd")))
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Form:
    """A client that sends forms and does not follow redirects."""

    def __init__(self, house: House, headers: dict[str, str] | None = None) -> None:
        self.house, self.client, self.headers = house, house.client, headers or {}

    def get(self, path: str) -> Any:
        return self.client.get(path, headers=self.headers)

    def send(self, path: str, method: str = "POST", files: Any = None, **fields: Any) -> Any:
        return self.client.request(method, path, data=fields, files=files, headers=self.headers, follow_redirects=False)

    def make(self, **fields: Any) -> str:
        """Path of a new job."""
        answer = self.send(JOBS, **{"EXPOSURE": self.house.upload(), **fields})
        assert answer.status_code == 303, answer.text
        base, path = answer.headers["Location"].split(JOBS)
        assert base == "http://127.0.0.1:8470"
        return JOBS + path

    def xml(self, path: str) -> etree._Element:
        """A document, which must be as the schema has it."""
        answer = self.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml"), answer.text
        document = etree.fromstring(answer.content)
        SCHEMA.assertValid(document)
        return document

    def listed(self, query: str = "") -> list[str]:
        return [reference.get("id") for reference in self.xml(JOBS + query)]


@pytest.fixture
def form(house: House) -> Form:
    return Form(house)


def job_id(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def values(document: etree._Element) -> dict[str, str | None]:
    """Text of each child; None where it is nil."""
    return {child.tag.removeprefix(UWS): None if child.get(NIL) == "true" else child.text for child in document}


def parameters(document: etree._Element) -> list[tuple[str, str]]:
    return [(child.get("id"), child.text) for child in document.iter(UWS + "parameter")]


def failed(house: House, path: str, code: str = "psf.no_stars") -> None:
    house.finish(house.claim(job_id(path)), JobError(code, "NoStars", "2 of 3 \x07 & <few>", "psf", hint="Look."))


# -- a job from its making to its end


def test_a_job_is_made_and_waits_to_be_started(form: Form) -> None:
    exposure = form.house.upload()
    path = form.make(EXPOSURE=exposure, CONFIG='{"photometry": {"match_radius_arcsec": 0.5}}', RUNID="n & 1")
    document = form.xml(path)
    found = values(document)
    assert (found["jobId"], found["phase"], found["ownerId"], found["runId"]) == (
        job_id(path),
        "PENDING",
        "local",
        "n & 1",
    )
    assert (found["quote"], found["startTime"], found["endTime"]) == (None, None, None)
    assert (found["executionDuration"], len(document.find(UWS + "results"))) == ("900", 0)
    assert "errorSummary" not in found
    created, destroyed = found["creationTime"], found["destruction"]
    assert created is not None
    assert destroyed is not None
    assert UTC_TIME.fullmatch(created)
    life = datetime.fromisoformat(destroyed) - datetime.fromisoformat(created)
    assert life == timedelta(days=form.house.settings.destruction_days)
    expected = [
        ("exposure", exposure),
        ("astrometry", "none"),
        ("photometry", "none"),
        ("preset", "generic"),
        ("config", '{"photometry": {"match_radius_arcsec": 0.5}}'),
    ]
    assert parameters(document) == expected
    assert parameters(form.xml(path + "/parameters")) == expected
    job = form.client.get(f"/v1/jobs/{job_id(path)}").json()  # the same job, to those who speak JSON
    assert (job["phase"], job["queue"]["position"]) == ("PENDING", None)


def test_started_it_runs_to_its_results(form: Form) -> None:
    path = form.make()
    started = form.send(path + "/phase", PHASE="RUN")
    assert (started.status_code, started.headers["Location"].endswith(path)) == (303, True)
    assert form.get(path + "/phase").text == "QUEUED"
    assert form.send(path + "/phase", PHASE="RUN").status_code == 303  # once more is no harm
    form.house.finish(form.house.claim(job_id(path)))
    found = values(form.xml(path))
    assert found["phase"] == "COMPLETED"
    assert None not in (found["startTime"], found["endTime"])
    assert form.send(path + "/phase", PHASE="RUN").json()["code"] == "job.not_active"
    results = {result.get("id"): result for result in form.xml(path + "/results")}
    assert {"links", "summary", "log", "preliminary_visit_image", "single_visit_star_unstandardized"} == set(results)
    for result in results.values():
        fetched = form.get(result.get(HREF))
        assert fetched.status_code == 200
        wanted = result.get("mime-type")
        assert fetched.headers["content-type"].split("; charset")[0] == wanted
        if result.get("size") is not None:
            assert len(fetched.content) == int(result.get("size"))
    same = form.xml(path).find(UWS + "results")
    assert [child.attrib for child in same] == [child.attrib for child in form.xml(path + "/results")]


def test_made_and_started_at_once(form: Form) -> None:
    path = form.make(PHASE="RUN")
    assert form.get(path + "/phase").text == "QUEUED"


def test_the_error_is_told_in_error_alone(form: Form) -> None:
    path = form.make(PHASE="RUN")
    assert form.get(path + "/error").status_code == 204
    failed(form.house, path)
    summary = form.xml(path).find(UWS + "errorSummary")
    assert (summary.get("type"), summary.get("hasDetail")) == ("fatal", "true")
    assert summary[0].text == "psf.no_stars: 2 of 3 \ufffd & <few>"
    answer = form.get(path + "/error")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-votable+xml")
    [resource] = parse_votable(BytesIO(answer.content)).resources
    infos = {info.name: (info.value, info.content) for info in resource.infos}
    assert infos["QUERY_STATUS"] == ("ERROR", "2 of 3 \ufffd & <few>")
    assert (infos["code"][0], infos["stage"][0], infos["hint"][0]) == ("psf.no_stars", "psf", "Look.")
    assert len(form.xml(path + "/results")) > 0  # what was made before is kept
    form.send(path, "DELETE")
    archived = form.xml(path)
    assert (values(archived)["phase"], archived.find(UWS + "errorSummary")) == ("ARCHIVED", None)


def test_what_befell_the_service_may_be_over(form: Form) -> None:
    path = form.make(PHASE="RUN")
    failed(form.house, path, "job.disk_full")
    assert form.xml(path).find(UWS + "errorSummary").get("type") == "transient"


def test_the_schema_knows_a_wrong_document(form: Form) -> None:
    document = form.xml(form.make())
    document.remove(document.find(UWS + "startTime"))
    assert not SCHEMA.validate(document)


def test_parameters_can_be_changed_until_it_is_started(form: Form) -> None:
    path = form.make(ASTROMETRY="none", CONFIG='{"photometry": {"match_radius_arcsec": 0.5}}', PRIORITY="7")
    before = dict(parameters(form.xml(path)))
    changed = form.send(path + "/parameters", preset="parity", files={"UPLOAD": ("b.fits", fits_bytes(21.0))})
    assert (changed.status_code, changed.headers["Location"].endswith(path)) == (303, True)
    assert form.send(path + "/parameters", METADATA='{"band": "r"}').status_code == 303
    after = dict(parameters(form.xml(path)))
    assert after == {**before, "exposure": after["exposure"], "preset": "parity", "metadata": '{"band": "r"}'}
    assert after["exposure"] != before["exposure"]
    for field, value, code in (
        ("PRESET", "nonsense", "request.invalid"),
        ("EXPOSURE", "exp_none", "job.exposure_not_found"),
        ("CONFIG", '{"nonsense": 1}', "job.config_invalid"),
        ("PHASE", "RUN", "request.invalid"),
        ("METADATA", '{"gain": "much"}', "request.invalid"),
    ):
        refused = form.send(path + "/parameters", **{field: value})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    form.send(path + "/phase", PHASE="RUN")
    late = form.send(path + "/parameters", PRESET="generic")
    assert (late.status_code, late.json()["code"]) == (409, "job.already_started")
    assert dict(parameters(form.xml(path))) == after
    assert form.client.get(f"/v1/jobs/{job_id(path)}").json()["priority"] == 7


# -- abort and deletion


@pytest.mark.parametrize("start", [False, True])
def test_abort_before_it_is_begun(form: Form, start: bool) -> None:
    path = form.make(**({"PHASE": "RUN"} if start else {}))
    assert form.send(path + "/phase", PHASE="ABORT").status_code == 303
    found = values(form.xml(path))
    assert (found["phase"], found["startTime"], found["endTime"] is None) == ("ABORTED", None, False)
    again = form.send(path + "/phase", PHASE="ABORT")
    assert (again.status_code, again.json()["code"]) == (409, "job.not_active")


@pytest.mark.parametrize("way", ["DELETE", "ACTION"])
def test_a_deleted_job_leaves_a_tombstone(form: Form, way: str) -> None:
    path, other = form.make(PHASE="RUN"), form.make()
    form.house.finish(form.house.claim(job_id(path)))

    def delete() -> None:
        answer = form.send(path, "DELETE") if way == "DELETE" else form.send(path, action="DELETE")
        assert (answer.status_code, answer.headers["Location"].endswith(f"{JOBS}?LAST=100")) == (303, True)
        assert form.listed() == [job_id(other)]

    delete()
    document = form.xml(path)
    assert (values(document)["phase"], len(document.find(UWS + "results"))) == ("ARCHIVED", 0)
    assert form.listed("?PHASE=ARCHIVED") == [job_id(path)]
    assert form.send(path + "/phase", PHASE="RUN").status_code == 409
    late = form.send(path + "/destruction", DESTRUCTION="2030-01-01T00:00:00Z")
    assert (late.status_code, late.json()["code"]) == (410, "job.gone")
    delete()
    assert form.get(path).status_code == 404


def test_a_running_job_is_stopped_and_archived_when_it_has_ended(form: Form) -> None:
    path = form.make(PHASE="RUN")
    fence = form.house.claim(job_id(path))
    assert form.send(path, "DELETE").status_code == 303
    assert form.get(path + "/phase").text == "EXECUTING"
    storage = form.house.services.storage
    assert states.abort_running(storage, fence, states.Report()) is not None
    Sweeper(storage, form.house.settings, threading.Event()).sweep()
    assert values(form.xml(path))["phase"] == "ARCHIVED"


# -- the parts that can be changed


def test_time_limit_and_destruction(form: Form) -> None:
    path = form.make()
    limit = int(form.house.settings.max_time_limit)
    for sent, kept in (("120", "120"), ("0", str(limit)), ("999999", str(limit)), ("61", "61")):
        assert form.send(path + "/executionduration", EXECUTIONDURATION=sent).status_code == 303
        assert form.get(path + "/executionduration").text == kept
    assert values(form.xml(path))["executionDuration"] == "61"
    for sent in ("-1", "1.5", "an hour", "\u0663"):
        assert form.send(path + "/executionduration", EXECUTIONDURATION=sent).status_code == 422
    for sent in ("2031-02-03T04:05:06Z", "2031-02-03T04:05:06", "2031-02-03T06:05:06+02:00"):
        assert form.send(path + "/destruction", destruction=sent).status_code == 303
        assert form.get(path + "/destruction").text == "2031-02-03T04:05:06.000Z"
    assert form.send(path + "/destruction", DESTRUCTION="soon").json()["errors"][0]["parameter"] == "DESTRUCTION"
    form.send(path + "/phase", PHASE="RUN")
    form.house.claim(job_id(path))
    late = form.send(path + "/executionduration", EXECUTIONDURATION="5")
    assert (late.status_code, late.json()["code"]) == (409, "job.already_started")
    assert form.get(path + "/executionduration").text == "61"


def test_the_operators_limit_of_life_holds(tmp_path: Path) -> None:
    with open_house(tmp_path, max_destruction_days=2.0, destruction_days=1.0) as house:
        form = Form(house)
        path = form.make()
        assert form.send(path + "/destruction", DESTRUCTION="2099-01-01T00:00:00Z").status_code == 303
        end = datetime.fromisoformat(form.get(path + "/destruction").text)
        assert timedelta(0) <= datetime.now(UTC) + timedelta(days=2) - end < timedelta(minutes=1)


def test_quote_and_owner(form: Form) -> None:
    path = form.make()
    assert (form.get(path + "/quote").text, form.get(path + "/owner").text) == ("", "local")


# -- the list


def test_the_list(form: Form) -> None:
    first, second = form.make(RUNID="a"), form.make(PHASE="RUN")
    references = list(form.xml(JOBS))
    assert [reference.get("id") for reference in references] == [job_id(second), job_id(first)]  # newest first
    assert references[1].get(HREF) == f"http://127.0.0.1:8470{first}"
    assert values(references[1]) | {"creationTime": ""} == {
        "phase": "PENDING",
        "runId": "a",
        "ownerId": "local",
        "creationTime": "",
    }
    assert form.listed("?phase=PENDING") == [job_id(first)]
    assert form.listed("?Phase=PENDING&PHASE=QUEUED") == [job_id(second), job_id(first)]
    assert form.listed("?LAST=1") == [job_id(second)]
    assert form.listed("?LAST=1&PHASE=PENDING") == [job_id(first)]
    made = values(references[0])["creationTime"]
    later = datetime.fromisoformat(made or "") + timedelta(seconds=1)
    assert form.listed(f"?AFTER={later:%Y-%m-%dT%H:%M:%S}") == []
    assert len(form.listed(f"?AFTER={later - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}")) == 2


def test_a_list_that_cannot_be(form: Form) -> None:
    for query in ("?LAST=0", "?AFTER=yesterday", "?PHASE=DONE", "?COLOUR=red"):
        answer = form.get(JOBS + query)
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid"), query


# -- forms


def test_every_companion_has_a_place_in_the_document() -> None:
    assert set(Companions.model_fields) <= set(CalibrateParameters.model_fields)


def test_names_have_no_case_and_files_come_along(form: Form) -> None:
    answer = form.send(
        JOBS,
        files={"Upload": ("a.fits", fits_bytes(11.0)), "mask": ("m.fits", fits_bytes(0.0))},
        preset="parity",
        Metadata='{"band": "r"}',
        instrument="seestar",
        priority="7",
    )
    assert answer.status_code == 303, answer.text
    found = dict(parameters(form.xml(answer.headers["Location"])))
    assert (found["preset"], found["metadata"], found["instrument"]) == ("parity", '{"band": "r"}', "seestar")
    for name in ("exposure", "mask"):
        assert form.get(f"/v1/exposures/{found[name]}").status_code == 200


def test_an_exposure_is_fetched_from_its_address(tmp_path: Path) -> None:
    options = {"source_allow_http": True, "source_allow_private": True, "source_ports": (), "source_attempts": 1}
    with file_host(fits_bytes(31.0)) as host, open_house(tmp_path, **options, max_wait=3.0) as house:
        form, ended = Form(house), threading.Event()
        fetcher = SourceFetcher(house.services.storage, house.settings)

        def fetch() -> None:
            while not ended.wait(0.02):
                fetcher.step()

        worker = threading.Thread(target=fetch)
        worker.start()
        try:
            path = form.make(EXPOSURE=host.url("/one.fits"))
            found = dict(parameters(form.xml(path)))["exposure"]
            assert found == house.upload(fits_bytes(31.0))  # the same bytes, the same exposure
            for url, code in (
                (host.url("/status/404"), "source.failed"),
                ("ftp://example.org/a.fits", "source.refused"),
                ("s3://nobody/a.fits", "source.refused"),
                ("https://example.org/" + "a" * 2000, "request.invalid"),
            ):
                refused = form.send(JOBS, EXPOSURE=url)
                assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
            asked = len(host.asked)
            assert form.send(JOBS, EXPOSURE=host.url("/two.fits"), PRIORITY="high").status_code == 422
            assert len(host.asked) == asked  # what cannot be is not fetched for
        finally:
            ended.set()
            worker.join()
        late = form.send(JOBS, EXPOSURE=host.url("/two.fits"))  # nobody fetches now
        assert (late.status_code, late.json()["code"], late.headers["retry-after"]) == (503, "source.pending", "10")
        upload = house.client.get("/v1/uploads").json()["items"][0]["id"]
        assert upload in late.json()["hint"]
        again = form.send(JOBS, EXPOSURE=host.url("/two.fits"))  # as Retry-After tells the client to
        assert (again.status_code, again.json()["hint"]) == (503, late.json()["hint"])
        [waiting] = [one for one in house.client.get("/v1/uploads").json()["items"] if one["phase"] == "QUEUED"]
        assert waiting["id"] == upload
        assert len(form.listed()) == 1


def test_two_snaps(form: Form) -> None:
    ids = [form.house.upload(fits_bytes(value)) for value in (1.0, 2.0)]
    path = form.make(EXPOSURE=ids)
    assert [value for name, value in parameters(form.xml(path)) if name == "exposure"] == ids


def test_a_form_that_cannot_be(form: Form) -> None:
    exposure = form.house.upload()
    for parameter, value in (
        ("EXPOSURE", ""),
        ("EXPOSURE", ["a", "b", "c"]),
        ("COLOUR", "red"),
        ("PHASE", "ABORT"),
        ("PRESET", ["generic", "parity"]),
        ("PRIORITY", "high"),
        ("RUNID", "x" * 300),
        ("MASK", "x" * 101),
    ):
        answer = form.send(JOBS, **{"EXPOSURE": exposure, parameter: value})
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid"), parameter
        assert answer.json()["errors"][0]["parameter"] == parameter
    assert form.listed() == []


def test_what_a_job_is_refused_for(form: Form) -> None:
    exposure = form.house.upload()
    for parameter, value, code in (
        ("EXPOSURE", "exp_none", "job.exposure_not_found"),
        ("REFERENCES", "nobody", "job.refcat_not_found"),
        ("PHOTOMETRY", "nobody", "job.refcat_not_found"),
        ("CONFIG", "{", "request.malformed"),
        ("CONFIG", "[1]", "request.invalid"),
        ("CONFIG", '{"nonsense": 1}', "job.config_invalid"),
        ("METADATA", '{"gain": "much"}', "request.invalid"),
    ):
        answer = form.send(JOBS, **{"EXPOSURE": exposure, parameter: value})
        assert (answer.status_code // 100, answer.json()["code"]) == (4, code), parameter
    assert form.listed() == []


def test_bodies_of_another_kind(form: Form) -> None:
    path = form.make()
    for where, body, kind, code in (
        (JOBS, b"<job/>", "application/xml", "request.unsupported_media_type"),
        (path + "/phase", b'{"PHASE": "RUN"}', "application/json", "request.unsupported_media_type"),
        (path + "/phase", b"PHASE=%ff", "application/x-www-form-urlencoded", "request.malformed"),
        (path + "/phase", b"A=1&" * 200, "application/x-www-form-urlencoded", "request.malformed"),
        (path + "/phase", b"PHASE=" + b"R" * (1 << 20), "application/x-www-form-urlencoded", "request.too_large"),
        (path + "/phase", b"PHASE=RUN&PHASE=ABORT", "application/x-www-form-urlencoded", "request.invalid"),
        (path + "/phase", b"FAZE=RUN", "application/x-www-form-urlencoded", "request.invalid"),
        (path, b"ACTION=RUN", "application/x-www-form-urlencoded", "request.invalid"),
    ):
        answer = form.client.post(where, content=body, headers={"Content-Type": kind})
        assert answer.json()["code"] == code, (where, body[:20])
    assert form.get(path + "/phase").text == "PENDING"


# -- waiting


class Waiting:
    """A request that waits, in a thread."""

    def __init__(self, form: Form, path: str) -> None:
        self._form, self._path = form, path
        self._thread = threading.Thread(target=self._run)
        self.phase, self.seconds = "", 0.0
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        self.phase = values(self._form.xml(self._path))["phase"] or ""
        self.seconds = time.monotonic() - began

    def end(self) -> Waiting:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self


def test_waiting_ends_with_the_phase_and_not_before(form: Form) -> None:
    path = form.make(PHASE="RUN")
    fence = form.house.claim(job_id(path))
    waiting = Waiting(form, path + "?WAIT=-1")
    for progress in (0.2, 0.4, 0.6):  # news, but no other phase
        time.sleep(0.2)
        form.house.report(fence, "psf.measure", progress)
    assert waiting.seconds == 0.0
    form.house.finish(fence)
    assert (waiting.end().phase, 0.6 < waiting.seconds < 5.0) == ("COMPLETED", True)


def test_waiting_for_a_start(form: Form) -> None:
    path = form.make()
    waiting = Waiting(form, path + "?wait=10&phase=PENDING")
    time.sleep(0.3)
    assert waiting.seconds == 0.0
    form.send(path + "/phase", PHASE="RUN")
    assert (waiting.end().phase, 0.3 <= waiting.seconds < 5.0) == ("QUEUED", True)


def test_waiting_has_an_end(form: Form) -> None:
    path = form.make()
    waiting = Waiting(form, path + "?WAIT=1").end()
    assert (waiting.phase, 1.0 <= waiting.seconds < 3.0) == ("PENDING", True)
    for query in ("?WAIT=20&PHASE=EXECUTING", "?WAIT=0", "?PHASE=PENDING"):  # it is in another phase; no wait
        assert Waiting(form, path + query).end().seconds < 1.0
    form.send(path + "/phase", PHASE="ABORT")
    assert Waiting(form, path + "?WAIT=-1").end().seconds < 1.0
    assert form.get(path + "?WAIT=-2").status_code == 422


def test_waiting_is_never_longer_than_clients_are_patient(tmp_path: Path) -> None:
    with open_house(tmp_path, max_wait=0.5) as house:
        form = Form(house)
        waiting = Waiting(form, form.make() + "?WAIT=-1").end()
        assert 0.5 <= waiting.seconds < 3.0


# -- who may, and from where


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path, require_tokens=True) as house:
        yield house


def test_tokens_and_owners(guarded: House) -> None:
    ada, bob = Form(guarded, bearer(guarded, "ada")), Form(guarded, bearer(guarded, "bob"))
    reader, nobody = Form(guarded, bearer(guarded, "ada", "read")), Form(guarded)
    exposure = ada.client.put("/v1/exposures", content=fits_bytes(), headers=ada.headers).json()["id"]
    made = ada.send(JOBS, EXPOSURE=exposure)
    path = made.headers["Location"].removeprefix("http://127.0.0.1:8470")
    assert (ada.listed(), bob.listed(), reader.listed()) == ([job_id(path)], [], [job_id(path)])
    parts = (
        "",
        "/phase",
        "/parameters",
        "/results",
        "/error",
        "/owner",
        "/quote",
        "/destruction",
        "/executionduration",
    )
    for part in parts:
        assert (bob.get(path + part).status_code, nobody.get(path + part).status_code) == (404, 401)
    for form, status in ((bob, 404), (nobody, 401), (reader, 403)):
        assert form.send(path + "/phase", PHASE="RUN").status_code == status
        assert form.send(path + "/destruction", DESTRUCTION="2020-01-01T00:00:00Z").status_code == status
        assert form.send(path + "/executionduration", EXECUTIONDURATION="1").status_code == status
        assert form.send(path + "/parameters", PRESET="parity").status_code == status
        assert form.send(path, ACTION="DELETE").status_code == status
        assert form.send(path, "DELETE").status_code == status
    assert bob.send(JOBS, EXPOSURE=exposure).json()["code"] == "job.exposure_not_found"
    assert values(ada.xml(path))["phase"] == "PENDING"
    assert values(ada.xml(path))["ownerId"] == "ada"
    job = guarded.services.storage.jobs.get(Scope("ada"), job_id(path))
    assert job is not None
    assert job.version == 1


def test_a_form_on_another_site_changes_nothing(form: Form) -> None:
    path, exposure = form.make(), form.house.upload()
    origins = ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"})
    requests = (
        (JOBS, {"EXPOSURE": exposure}),
        (path, {"ACTION": "DELETE"}),
        (path + "/phase", {"PHASE": "RUN"}),
        (path + "/destruction", {"DESTRUCTION": "2020-01-01T00:00:00Z"}),
        (path + "/executionduration", {"EXECUTIONDURATION": "1"}),
        (path + "/parameters", {"PRESET": "parity"}),
    )
    for headers, (where, fields) in product(origins, requests):
        answer = Form(form.house, headers).send(where, **fields)
        assert (answer.status_code, answer.json()["code"]) == (403, "request.cross_site")
    assert (form.get(path + "/phase").text, form.listed()) == ("PENDING", [job_id(path)])


def test_addresses_are_those_of_the_proxy(tmp_path: Path) -> None:
    with open_house(tmp_path, root_url="https://sky.example.org/visitcal/") as house:
        answer = Form(house).send(JOBS, EXPOSURE=house.upload())
        assert answer.headers["Location"].startswith("https://sky.example.org/visitcal/uws/calibrate/job_")


def test_a_host_that_is_none_gets_no_addresses(guarded: House) -> None:
    headers = {**bearer(guarded, "ada"), "Host": 'a"b'}
    answer = guarded.client.get("/uws/capabilities", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (421, "request.host_refused")


# -- without the extra


def test_the_service_works_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.facades.find_spec", lambda name: None)
    for name in [
        name for name in sys.modules if name.startswith(("vo_models", "pydantic_xml", "lxml", "api.facades."))
    ]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("vo_models", "pydantic_xml", "lxml"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    with open_house(tmp_path) as house:
        assert house.client.get("/readyz").status_code == 200
        answer = house.client.get(JOBS)
        assert (answer.status_code, answer.json()["code"]) == (404, "route.not_found")
        assert house.client.get(f"/v1/jobs/{house.completed()}/links").status_code == 200
        assert not [path for path in house.client.get("/openapi.json").json()["paths"] if path.startswith("/uws")]
