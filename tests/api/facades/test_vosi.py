"""VOSI: availability is that of /readyz, capabilities are addresses that answer."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING
from unittest import mock

from lxml import etree
from pyvo.io.vosi import parse_availability, parse_capabilities

from service.operations.checks import Check
from tests.api.conftest import open_house

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import House


def test_available_is_ready(house: House) -> None:
    answer = house.client.get("/uws/availability")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml")
    availability = parse_availability(BytesIO(answer.content).read)
    assert (availability.available, list(availability.notes)) == (True, [])
    full = Check("disk", ok=False, value=3.0, unit="bytes", detail="3 bytes\x00 left", seconds=0.0)
    fine = Check("database", ok=True, value=1.0, unit="s", detail="fine", seconds=0.0)
    readiness = house.client.app.state.readiness  # type: ignore[attr-defined]
    with mock.patch.object(readiness, "look", return_value=[fine, full]):
        ready, answer = house.client.get("/readyz"), house.client.get("/uws/availability")
    assert (ready.status_code, answer.status_code) == (503, 200)
    availability = parse_availability(BytesIO(answer.content).read)
    assert availability.available is False
    assert [str(note) for note in availability.notes] == ["disk: 3 bytes\ufffd left"]


def test_anybody_may_ask(tmp_path: Path) -> None:
    with open_house(tmp_path, require_tokens=True) as house:
        for path, status in (("/uws/availability", 200), ("/uws/capabilities", 200), ("/uws/calibrate", 401)):
            assert house.client.get(path).status_code == status


def test_capabilities_are_addresses_that_answer(house: House) -> None:
    answer = house.client.get("/uws/capabilities")
    assert etree.fromstring(answer.content).tag == "{http://www.ivoa.net/xml/VOSICapabilities/v1.0}capabilities"
    capabilities = parse_capabilities(BytesIO(answer.content).read)
    found = {str(each.standardid): each.interfaces[0].accessurls[0].content for each in capabilities}
    assert set(found) == {
        "ivo://ivoa.net/std/UWS#rest-1.1",
        "ivo://ivoa.net/std/ConeSearch",
        "ivo://ivoa.net/std/VOSI#availability",
        "ivo://ivoa.net/std/VOSI#capabilities",
    }
    for url in found.values():
        assert house.client.get(url).status_code == 200
