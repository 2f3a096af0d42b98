"""Tokens: what opens the service to programs, made and ended by the person whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.access import Asker
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Reach, Using
from api.problems import Problem, problem_of
from api.routers.tokens import TokenId, create, revoke_token
from api.schemas.tokens import TokenParameters
from api.uploads import read_small_body
from service.identity.principal import in_order
from service.storage.records import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.dependencies import Services
    from service.identity.principal import Principal
    from service.storage.records import TokenRecord

__all__ = ["TokenRow", "router", "token_rows"]

router = page_router()

_MAX_FORM_BYTES = 16_384
_SESSION_NAME = "browser"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token in the list.

    Parameters
    ----------
    id, name, created_at, expires_at, last_used_at
        As in its document.
    scope : str
        The widest of its scopes, which has the others in it.
    state : {"valid", "revoked", "expired"}
        What has become of it.
    is_session : bool
        Whether a login made it.
    is_this : bool
        Whether it is the one that this browser shows.
    """

    id: str
    name: str
    scope: str
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    is_session: bool
    is_this: bool


def token_rows(records: Sequence[TokenRecord], now: datetime, shown: str | None) -> list[TokenRow]:
    """Rows of the table of tokens: the valid ones first, newest first.

    Parameters
    ----------
    records : sequence of TokenRecord
        Newest first.
    now : datetime
        The present.
    shown : str or None
        Id of the one that was shown for this request.
    """
    rows = [
        TokenRow(
            record.id,
            record.name,
            record.scopes[-1] if record.scopes else "nothing",
            "valid" if record.is_valid_at(now) else "revoked" if record.revoked_at else "expired",
            record.created_at,
            record.expires_at,
            record.last_used_at,
            record.name == _SESSION_NAME and record.parent_id is not None,
            record.id == shown,
        )
        for record in records
    ]
    return sorted(rows, key=lambda row: row.state != "valid")


@router.get("/tokens")
def show_tokens(request: Request, services: Using, asker: Asker) -> Response:
    """One's own tokens, and a form for a new one."""
    return _page(request, services, asker)


@router.post("/tokens")
async def make_token(request: Request, services: Using, asker: Asker) -> Response:
    """Make a token and show it, this once."""
    form = parse_qs((await read_small_body(request, _MAX_FORM_BYTES)).decode("utf-8", "replace"))
    given = {name: values[0].strip() for name, values in form.items()}
    return await run_in_threadpool(_make, request, services, asker, given)


@router.post("/tokens/{token_id}/revoke")
def end_token(services: Using, asker: Asker, reach: Reach, token_id: TokenId) -> Response:
    """End a token; ending the browser's own leads to the login."""
    revoke_token(services, asker, reach, token_id)
    return RedirectResponse("/tokens", HTTPStatus.SEE_OTHER)


def _make(request: Request, services: Services, asker: Principal, given: dict[str, str]) -> Response:
    try:
        parameters = TokenParameters(
            name=given.get("name", ""),
            scopes=[given.get("scope", "")],
            expires_in_days=given.get("days") or None,
        )
        made = create(services, _maker(request, services, asker, given.get("with", "")), parameters)
    except ValidationError as error:
        wrong = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        return _page(request, services, asker, given=given, error=wrong, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    except Exception as error:
        problem = error if isinstance(error, Problem) else problem_of(error)
        if problem is None:
            raise
        return _page(request, services, asker, given=given, error=problem.detail, status=problem.kind.status)
    return _page(request, services, asker, made=made, status=HTTPStatus.CREATED)


def _maker(request: Request, services: Services, asker: Principal, bearer: str) -> Principal:
    """Who makes the token: with the cookie alone it ends with the login, so a stolen cookie is good for half a day."""
    if not bearer:
        return asker
    maker = services.identity.authenticate(bearer, "" if request.client is None else request.client.host)
    if maker.owner != asker.owner:
        raise Problem("auth.forbidden", f"That token is of {maker.owner}, and here is {asker.owner}.")
    return maker


def _page(
    request: Request, services: Services, asker: Principal, *, status: int = HTTPStatus.OK, **shown: Any
) -> Response:
    settings = services.settings
    context: dict[str, Any] = {
        "rows": token_rows(services.storage.tokens.list(asker.scope), utc_now(), asker.token_id),
        "scopes": [permission.value for permission in in_order(asker.permissions)],
        "days": min(settings.token_days, settings.max_token_days),
        "max_days": settings.max_token_days,
        "is_required": services.identity.is_required,
        "issuer": settings.oidc_issuer,
        "asker": asker,
        "made": None,
        "error": None,
        "given": {},
    }
    return render(request, "tokens.html", status=status, **{**context, **shown})
