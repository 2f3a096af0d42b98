"""Login: the cookie, what it opens, how it ends, and what others cannot do with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import pytest
from bs4 import BeautifulSoup

from service.storage.records import Scope
from tests.api.conftest import open_house
from tests.api.dashboard.conftest import ORIGIN, log_in, token_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import House

COOKIE = "visitcal_session"


def morsel(answer: Any, name: str = COOKIE) -> Any:
    return SimpleCookie(answer.headers["set-cookie"])[name]


def test_whoever_has_shown_nothing_is_led_to_the_login_and_back(guarded: House) -> None:
    answer = guarded.client.get("/queue", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fqueue")
    form = BeautifulSoup(guarded.client.get(answer.headers["location"]).text, "html.parser").form
    assert form is not None
    fields = {field["name"]: field.get("value") for field in form.find_all("input")}
    assert fields == {"token": None, "next": "/queue"}
    landed = log_in(guarded, token_of(guarded, "ada"), fields["next"])
    assert (landed.status_code, landed.headers["location"]) == (303, "/queue")
    page = guarded.client.get("/queue", follow_redirects=False)
    assert page.status_code == 200
    leave = BeautifulSoup(page.text, "html.parser").select_one("form[action='/logout'] button")
    assert leave is not None
    assert leave.text == "Log out ada"


@pytest.mark.parametrize(
    "evil",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "evil.example",
        "/\tevil.example",
        "/\n/evil.example",
        "/\r\nSet-Cookie: a=b",
        " //evil.example",
        "\x00//evil.example",
        "",
    ],
)
def test_the_login_leads_to_no_other_site(guarded: House, evil: str) -> None:
    answer = log_in(guarded, token_of(guarded, "ada"), evil)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    shown = BeautifulSoup(guarded.client.get("/login", params={"next": evil}).text, "html.parser")
    assert shown.select_one("input[name=next]")["value"] == "/"  # type: ignore[index]


def test_without_tokens_the_login_leads_on_at_once(open_to_all: House) -> None:
    answer = open_to_all.client.get("/login?next=/queue", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    assert "Log out" not in open_to_all.client.get("/queue").text


def test_no_script_reads_the_cookie_and_it_ends_in_half_a_day(guarded: House) -> None:
    answer = log_in(guarded, token_of(guarded, "ada"))
    cookie = morsel(answer)
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/")
    assert (cookie["max-age"], cookie["domain"], cookie["secure"]) == ("43200", "", "")
    assert answer.headers["cache-control"] == "no-store"


def test_with_tls_no_neighbour_can_plant_a_cookie(tmp_path: Path) -> None:
    with open_house(tmp_path, require_tokens=True, root_url="https://visitcal.example.org") as house:
        origin = {"Origin": "https://visitcal.example.org", "Host": "visitcal.example.org"}
        answer = log_in(house, token_of(house, "ada"), **origin)
        cookie = morsel(answer, f"__Host-{COOKIE}")
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        house.client.cookies.clear()
        planted = {"Cookie": f"{COOKIE}={cookie.value}"}
        assert house.client.get("/queue", headers=planted, follow_redirects=False).status_code == 303
        ours = {"Cookie": f"__Host-{COOKIE}={cookie.value}"}
        assert house.client.get("/queue", headers=ours, follow_redirects=False).status_code == 200
        gone = morsel(house.client.post("/logout", headers={**origin, **ours}, follow_redirects=False), cookie.key)
        assert (gone["max-age"], gone["secure"]) == ("0", True)  # browsers refuse to drop such a cookie otherwise


def test_the_cookie_holds_a_token_of_its_own_with_no_more_than_the_shown_one(guarded: House) -> None:
    shown = token_of(guarded, "ada", "read", days=0.1)
    cookie = morsel(log_in(guarded, shown)).value
    assert cookie != shown
    tokens = guarded.services.storage.tokens.list(Scope("ada"))
    session, parent, *_ = tokens
    assert (session.parent_id, session.scopes, session.name) == (parent.id, ("read",), "browser")
    assert session.expires_at == parent.expires_at
    longer = log_in(guarded, token_of(guarded, "bob", "admin", days=30))
    assert longer.status_code == 303
    session = guarded.services.storage.tokens.list(Scope("bob"))[0]
    assert session.expires_at is not None
    assert (session.expires_at - session.created_at).total_seconds() == 43200.0


def test_the_session_ends_with_the_token_that_began_it(guarded: House) -> None:
    log_in(guarded, token_of(guarded, "ada"))
    storage = guarded.services.storage
    parent = storage.tokens.list(Scope("ada"))[1]
    assert guarded.client.get("/v1/jobs").status_code == 200
    storage.tokens.revoke(Scope("ada"), parent.id)
    assert guarded.client.get("/v1/jobs").status_code == 401
    assert guarded.client.get("/queue", follow_redirects=False).headers["location"] == "/login?next=%2Fqueue"


def test_the_session_ends_at_logout_and_the_token_does_not(guarded: House) -> None:
    token = token_of(guarded, "ada")
    cookie = morsel(log_in(guarded, token)).value
    answer = guarded.client.post("/logout", headers=ORIGIN, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert morsel(answer)["max-age"] == "0"
    assert COOKIE not in guarded.client.cookies
    again = guarded.client.get("/v1/jobs", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert again.status_code == 401
    assert guarded.client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_program_that_logs_out_keeps_its_token(guarded: House) -> None:
    header = {"Authorization": f"Bearer {token_of(guarded, 'ada')}"}
    assert guarded.client.post("/logout", headers=header, follow_redirects=False).status_code == 303
    assert guarded.client.get("/v1/jobs", headers=header).status_code == 200


def test_the_session_ends_after_its_time(guarded: House) -> None:
    log_in(guarded, token_of(guarded, "ada", days=None))
    assert guarded.client.get("/queue", follow_redirects=False).status_code == 200
    with closing(sqlite3.connect(guarded.settings.data_dir / "visitcal.sqlite")) as connection:
        connection.execute("UPDATE tokens SET expires_at = '2020-01-01 00:00:00' WHERE name = 'browser'")
        connection.commit()
    assert guarded.client.get("/queue", follow_redirects=False).status_code == 303


def test_a_page_left_open_after_its_session_keeps_nobody_out_and_who_guesses_has_to_wait(tmp_path: Path) -> None:
    with open_house(tmp_path, require_tokens=True, max_auth_failures=3) as house:
        cookie = morsel(log_in(house, token_of(house, "ada"))).value
        house.client.post("/logout", headers=ORIGIN, follow_redirects=False)
        for _ in range(5):  # it goes on asking with what was good once
            assert house.client.get("/v1/jobs", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 401
        for _ in range(3):
            answer = log_in(house, "vc_wrong")
            assert answer.status_code == 401
            assert BeautifulSoup(answer.text, "html.parser").select_one("form [role=alert]") is not None
            assert "set-cookie" not in answer.headers
        answer = log_in(house, token_of(house, "ada"))
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"].startswith("text/html")


def test_a_wrong_token_is_not_written_into_the_page(guarded: House) -> None:
    answer = log_in(guarded, '"><script>alert(1)</script>', '/"><script>alert(2)</script>')
    assert answer.status_code == 401
    page = BeautifulSoup(answer.text, "html.parser")
    assert [script for script in page.find_all("script") if not script.get("src")] == []
    assert "alert(1)" not in answer.text


def test_the_form_may_be_only_so_long(guarded: House) -> None:
    assert log_in(guarded, "x" * 16_400).status_code == 413
    body = b"token=" + b"x" * 16_384
    assert guarded.client.post("/login", content=body, headers=ORIGIN, follow_redirects=False).status_code == 413
    assert guarded.client.post("/login", content=b"\xff\xfe=%ff", headers=ORIGIN).status_code == 401


# -- what other pages in the same browser can do


def test_a_change_by_cookie_must_name_its_origin(guarded: House) -> None:
    log_in(guarded, token_of(guarded, "ada"))
    secret = {"name": "n", "scopes": ["read"]}
    assert guarded.client.post("/v1/tokens", json=secret).status_code == 401
    assert guarded.client.post("/v1/tokens", json=secret, headers=ORIGIN).status_code == 201
    assert guarded.client.post("/logout", follow_redirects=False).headers["location"] == "/login"
    assert guarded.client.get("/queue", follow_redirects=False).status_code == 200  # it did not


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:8888", "http://sub.127.0.0.1:8470", "null", "http://[", ""]
)
def test_another_origin_changes_nothing(guarded: House, origin: str) -> None:
    """Another port of this host is the same site to a browser, which sends the cookie there and from there."""
    log_in(guarded, token_of(guarded, "ada"))
    for path in ("/logout", "/login", "/v1/tokens"):
        answer = guarded.client.post(path, headers={"Origin": origin}, follow_redirects=False)
        assert (answer.status_code, answer.json()["code"]) == (403, "request.cross_site"), path
    assert guarded.client.get("/queue", follow_redirects=False).status_code == 200


@pytest.mark.parametrize(
    ("site", "mode", "target", "status"),
    [
        ("same-origin", "cors", "empty", 200),
        ("same-origin", "no-cors", "image", 200),
        ("none", "navigate", "document", 200),
        ("cross-site", "navigate", "document", 200),  # a link in a mail
        ("same-site", "navigate", "document", 200),
        ("same-site", "no-cors", "script", 401),
        ("same-site", "no-cors", "image", 401),
        ("same-site", "cors", "empty", 401),
        ("same-site", "navigate", "iframe", 401),
        ("cross-site", "no-cors", "image", 401),
    ],
)
def test_pages_of_others_read_nothing(guarded: House, site: str, mode: str, target: str, status: int) -> None:
    log_in(guarded, token_of(guarded, "ada"))
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": target}
    assert guarded.client.get("/v1/jobs", headers=headers).status_code == status


def test_pictures_and_streams_of_events_come_by_cookie(guarded: House) -> None:
    token = token_of(guarded, "ada")
    header = {"Authorization": f"Bearer {token}"}
    exposure = guarded.client.put("/v1/exposures", content=guarded.fits_bytes(), headers=header).json()["id"]
    job = guarded.client.post("/v1/jobs", json={"exposures": [exposure]}, headers=header).json()["id"]
    guarded.finish(guarded.claim(job))
    picture = f"/v1/jobs/{job}/images/image.png"
    assert guarded.client.get(picture).status_code == 401
    assert guarded.client.get("/v1/events").status_code == 401
    log_in(guarded, token)
    answer = guarded.client.get(picture)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    stream = guarded.client.get("/v1/events", headers={"Accept": "text/event-stream"})
    assert stream.headers["content-type"].startswith("text/event-stream")


def test_a_token_in_the_header_goes_before_the_cookie(guarded: House) -> None:
    log_in(guarded, token_of(guarded, "ada"))
    header = {"Authorization": f"Bearer {token_of(guarded, 'bob')}"}
    assert guarded.client.get("/v1/tokens/current", headers=header).json()["owner"] == "bob"
    assert guarded.client.get("/v1/tokens/current").json()["owner"] == "ada"
    wrong = {"Authorization": "Bearer vc_wrong"}
    assert guarded.client.get("/v1/tokens/current", headers=wrong).status_code == 401


def test_a_part_of_a_page_whose_session_has_ended_takes_the_page_to_the_login(guarded: House) -> None:
    answer = guarded.client.get("/queue", headers={"HX-Request": "true"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")
    assert "<html" not in answer.text
