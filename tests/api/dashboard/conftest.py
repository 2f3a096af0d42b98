from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import House, open_house
from tests.api.tenants import bearer

ORIGIN = {"Origin": "http://127.0.0.1:8470"}


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service on loopback that asks for nothing, for tests that only read."""
    with open_house(tmp_path_factory.mktemp("open")) as house:
        yield house


@pytest.fixture(scope="module")
def _asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    options = {"max_auth_failures": 1000, "event_stream_time": 0.3, "event_heartbeat": 0.1}
    with open_house(tmp_path_factory.mktemp("guarded"), require_tokens=True, **options) as house:
        yield house


@pytest.fixture
def guarded(_asking: House) -> House:
    """A service that asks for tokens; nobody is logged in."""
    _asking.client.cookies.clear()
    return _asking


def token_of(house: House, owner: str, *scopes: str, days: float | None = 1.0) -> str:
    """The text of a fresh token."""
    return bearer(house, owner, *scopes, days=days)["Authorization"].removeprefix("Bearer ")


def log_in(house: House, token: str, next_page: str = "/", **headers: str) -> Any:
    """The answer to the form of the login; the client keeps the cookie."""
    return house.client.post(
        "/login", data={"token": token, "next": next_page}, headers={**ORIGIN, **headers}, follow_redirects=False
    )
