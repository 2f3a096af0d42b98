"""Login: a token of the service opens the page for half a day, by a token of its own in a cookie."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.access import SESSION_COOKIE, Asker
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

_DAYS = 0.5
_MAX_FORM_BYTES = 16_384
NextPage = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/login")
async def show_login(request: Request, services: Using, next_page: NextPage = "/") -> Response:
    """The form that asks for a token."""
    if not services.identity.is_required:
        return RedirectResponse(_local(next_page), HTTPStatus.SEE_OTHER)
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
    response = RedirectResponse(_local(next_page), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        SESSION_COOKIE,
        await run_in_threadpool(_session_token, services, principal),
        max_age=int(86400 * _DAYS),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https" or (services.settings.root_url or "").startswith("https:"),
    )
    return response


@router.post("/logout")
async def log_out(services: Using, asker: Asker) -> Response:
    """End the browser's token."""
    if asker.token_id is not None:
        await run_in_threadpool(services.storage.tokens.revoke, asker.scope, asker.token_id)
    response = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return response


def _session_token(services: Services, principal: Principal) -> str:
    _record, text = services.identity.tokens.create(
        principal.scope, name="browser", permissions=principal.permissions, days=_DAYS, parent=principal
    )
    return text


def _local(address: str) -> str:
    """The address if it is one of ours: a link must not lead from our login to another site."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours else "/"
