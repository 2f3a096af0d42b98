"""Tokens as a person sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bs4 import BeautifulSoup

from service.storage.records import Scope
from tests.api.dashboard.conftest import ORIGIN, log_in, token_of

if TYPE_CHECKING:
    from tests.api.conftest import House


def page_of(answer: Any) -> BeautifulSoup:
    return BeautifulSoup(answer.text, "html.parser")


def make(house: House, **form: str) -> Any:
    given = {"name": "night pipeline", "scope": "submit", "days": "30", **form}
    return house.client.post("/tokens", data=given, headers=ORIGIN)


def test_on_loopback_it_says_why_none_is_needed(open_to_all: House) -> None:
    page = page_of(open_to_all.client.get("/tokens"))
    assert "No token is needed here" in page.text
    assert "There is none yet" in page.text
    assert page.select_one("input[name=with]") is None


def test_a_token_is_shown_once_and_opens_what_was_chosen(guarded: House) -> None:
    own = token_of(guarded, "ada", days=60.0)
    log_in(guarded, own)
    answer = make(guarded, scope="read", **{"with": own})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    secret = str(page_of(answer).select_one("#secret")["value"])  # type: ignore[index]
    header = {"Authorization": f"Bearer {secret}"}
    guarded.client.cookies.clear()
    assert guarded.client.get("/v1/tokens/current", headers=header).json()["scopes"] == ["read"]
    log_in(guarded, own)
    page = guarded.client.get("/tokens").text
    assert secret not in page
    assert "night pipeline" in page


def test_what_the_cookie_alone_makes_ends_with_the_login(guarded: House) -> None:
    """Else a cookie that was stolen in a minute would be good for a year."""
    log_in(guarded, token_of(guarded, "bea", days=60.0))
    make(guarded)
    made, session, _own = guarded.services.storage.tokens.list(Scope("bea"))
    assert (made.name, made.parent_id, made.expires_at) == ("night pipeline", session.id, session.expires_at)
    guarded.client.post("/logout", headers=ORIGIN)
    assert guarded.services.storage.tokens.list(Scope("bea"))[0].revoked_at is not None


def test_with_ones_own_token_it_lives_on_until_that_ends(guarded: House) -> None:
    own = token_of(guarded, "cy", days=60.0)
    log_in(guarded, own)
    assert make(guarded, **{"with": own}).status_code == 201
    made, _session, first = guarded.services.storage.tokens.list(Scope("cy"))
    assert made.parent_id == first.id
    assert made.expires_at is not None
    assert (made.expires_at - made.created_at).total_seconds() == 30 * 86_400.0
    guarded.client.post("/logout", headers=ORIGIN)
    assert guarded.services.storage.tokens.list(Scope("cy"))[0].revoked_at is None


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"name": ""}, 422, "name"),
        ({"name": " \n"}, 422, "name"),
        ({"scope": "everything"}, 422, "scopes"),
        ({"days": "soon"}, 422, "expires_in_days"),
        ({"days": "-1"}, 422, "expires_in_days"),
        ({"days": "9999"}, 422, "at most 365"),
        ({"scope": "admin"}, 403, "without having it"),
        ({"with": "vc_wrong"}, 401, "no token of this service"),
    ],
)
def test_a_refused_form_says_why_and_keeps_what_was_written(
    guarded: House, form: dict[str, str], status: int, said: str
) -> None:
    log_in(guarded, token_of(guarded, "dan"))
    before = len(guarded.services.storage.tokens.list(Scope("dan")))
    answer = make(guarded, **form)
    assert answer.status_code == status
    page = page_of(answer)
    alert = page.select_one(".new [role=alert]")
    assert alert is not None
    assert said in alert.text
    assert page.select_one("#name")["value"] == form.get("name", "night pipeline").strip()  # type: ignore[index]
    assert page.select_one("#secret") is None
    assert len(guarded.services.storage.tokens.list(Scope("dan"))) == before


def test_the_token_of_somebody_else_makes_none(guarded: House) -> None:
    log_in(guarded, token_of(guarded, "ed"))
    assert make(guarded, **{"with": token_of(guarded, "fay", days=60.0)}).status_code == 403
    assert {record.name for record in guarded.services.storage.tokens.list(Scope("fay"))} == {"test"}


def test_a_token_is_ended_and_the_browsers_own_leads_to_the_login(guarded: House) -> None:
    own = token_of(guarded, "gil")
    log_in(guarded, own)
    make(guarded, **{"with": own})
    made, session, _own = guarded.services.storage.tokens.list(Scope("gil"))
    page = page_of(guarded.client.get("/tokens"))
    assert [row.select_one(".badge.run") is not None for row in page.select("#tokens tbody tr")] == [False, True, False]
    answer = guarded.client.post(f"/tokens/{made.id}/revoke", headers=ORIGIN, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/tokens")
    page = page_of(guarded.client.get("/tokens"))
    assert [" ".join(cell.text.split()) for cell in page.select("#tokens [data-label=State]")] == [
        "● valid",
        "● valid",
        "✕ revoked",
    ]
    assert page.select_one(f"form[action='/tokens/{made.id}/revoke']") is None
    answer = guarded.client.post(f"/tokens/{session.id}/revoke", headers=ORIGIN)
    assert answer.url.path == "/login"


def test_one_who_may_only_read_can_give_no_more(guarded: House) -> None:
    log_in(guarded, token_of(guarded, "hal", "read"))
    page = page_of(guarded.client.get("/tokens"))
    assert [option["value"] for option in page.select("#scope option")] == ["read"]
