"""Login: a token of the service opens the page for half a day, by a token of its own in a cookie."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict
from urllib.parse import parse_qs

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.access import Asker, is_secure, session_cookie
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Using
from api.uploads import read_small_body
from service.identity.errors import AuthenticationError

if TYPE_CHECKING:
    from api.dependencies import Services
    from service.identity.principal import Principal

__all__ = ["router"]

router = page_router()


class _CookieAttributes(TypedDict):
    httponly: bool
    samesite: Literal["lax"]
    secure: bool


_DAYS = 0.5
_MAX_FORM_BYTES = 16_384
NextPage = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/login")
async def show_login(request: Request, services: Using, next_page: NextPage = "/") -> Response:
    """The form that asks for a token."""
    if not services.identity.is_required:
        return _see(_local(next_page))
    return render(request, "login.html", next_page=_local(next_page), error=None)


@router.post("/login")
async def log_in(request: Request, services: Using) -> Response:
    """Look at the token, and give the browser one of its own, which ends with it and at logout."""
    form = parse_qs((await read_small_body(request, _MAX_FORM_BYTES)).decode("utf-8", "replace"))
    bearer, next_page = (form.get(name, [""])[0].strip() for name in ("token", "next"))
    address = "" if request.client is None else request.client.host
    try:
        principal = await run_in_threadpool(services.identity.authenticate, bearer, address)
    except AuthenticationError as error:
        return render(
            request, "login.html", status=HTTPStatus.UNAUTHORIZED, next_page=_local(next_page), error=str(error)
        )
    response = _see(_local(next_page))
    text = await run_in_threadpool(_session_token, services, principal)
    response.set_cookie(session_cookie(request), text, max_age=int(86400 * _DAYS), **_attributes(request))
    return response


@router.post("/logout")
async def log_out(request: Request, services: Using, asker: Asker) -> Response:
    """End the browser's token; one that a program shows in a header stays."""
    if asker.token_id is not None and "authorization" not in request.headers:
        await run_in_threadpool(services.storage.tokens.revoke, asker.scope, asker.token_id)
    response = _see("/login")
    response.delete_cookie(session_cookie(request), **_attributes(request))
    return response


def _see(address: str) -> Response:
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, headers={"Cache-Control": "no-store"})


def _attributes(request: Request) -> _CookieAttributes:
    """No script reads it; links from other sites (an alarm by mail) keep the session, forms and pictures do not."""
    return {"httponly": True, "samesite": "lax", "secure": is_secure(request)}


def _session_token(services: Services, principal: Principal) -> str:
    _record, text = services.identity.tokens.create(
        principal.scope, name="browser", permissions=principal.permissions, days=_DAYS, parent=principal
    )
    return text


def _local(address: str) -> str:
    """The address if it is one of ours: a link must not lead from our login to another site."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours else "/"
