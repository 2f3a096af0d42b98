"""Texts that no row of PostgreSQL can have: they are a slip of who asks, not of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.conftest import open_house
from tests.service.postgresql import postgres_server, service_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.api.conftest import House

__all__ = ["postgres_server", "service_database"]


@pytest.fixture
def house(tmp_path: Path, service_database: str) -> Iterator[House]:
    with open_house(tmp_path, database_url=service_database) as house:
        yield house


@pytest.mark.parametrize(
    "address",
    ["/v1/jobs/%00", "/v1/jobs?run_id=a%00", "/v1/exposures/%00", "/v1/batches/%00", "/jobs/%00", "/compare?a=%00"],
)
def test_an_address_with_nul_finds_nothing(house: House, address: str) -> None:
    assert house.client.get(address).status_code in (404, 422)


def test_a_body_with_nul_names_nothing(house: House) -> None:
    references = {"astrometry": "\x00", "photometry": "none"}
    answer = house.client.post("/v1/jobs", json={"exposures": [house.upload()], "references": references})
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
