"""Who may do what: the one table of it, and the dependency that keeps it for every route."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from api.middleware import SAFE_METHODS
from api.problems import Problem
from api.responses import problems
from service.identity.errors import AuthenticationError
from service.identity.principal import Permission, Principal
from service.storage.records import Scope

if TYPE_CHECKING:
    from service.identity.authenticator import Authenticator

__all__ = [
    "Asker",
    "ListedOwner",
    "Owner",
    "Reach",
    "authorize",
    "document_access",
    "forbidden",
    "is_secure",
    "needed",
    "session_cookie",
]

#: Answered to anybody: they tell whether the service works, and what it can be asked, and nothing else.
PUBLIC = frozenset({"/healthz", "/readyz", "/uws/availability", "/uws/capabilities", "/login", "/docs"})
#: What is not of one owner.
ADMIN = frozenset({"/metrics"})
#: Where a change needs no more than a valid token: the handler compares the scopes themselves.
OWN_TOKENS = frozenset({"/v1/tokens", "/v1/tokens/{token_id}", "/tokens", "/tokens/{token_id}/revoke", "/logout"})
_SESSION = "visitcal_session"

_HOW_TO = "Send `Authorization: Bearer TOKEN`; the operator makes tokens with `visitcal token create`."


def needed(path: str, method: str) -> Permission | None:
    """What a request needs: reading is `read`, everything else `submit`, unless the tables above say otherwise.

    Parameters
    ----------
    path : str
        As the route declares it, ``/v1/jobs/{job_id}``.
    method : str
        In capitals.

    Returns
    -------
    Permission or None
        None where nobody is asked who they are.
    """
    if path in PUBLIC:
        return None
    if path in ADMIN:
        return Permission.ADMIN
    return Permission.READ if method in ("GET", "HEAD") or path in OWN_TOKENS else Permission.SUBMIT


async def authorize(request: Request) -> Principal:
    """Who asks; every route passes here before anything of the request is read.

    Raises
    ------
    Problem
        ``auth.required``, ``auth.forbidden``.
    service.identity.errors.IdentityError
        The bearer is not good, or not looked at now.
    """
    authenticator: Authenticator = request.app.state.services.identity
    permission = needed(request.scope["route"].path, request.method)
    if permission is None or _is_scraper(request):
        return authenticator.nobody
    principal = await _principal(request, authenticator)
    request.state.principal = principal
    if permission not in principal.permissions:
        raise forbidden(permission, f"This needs the scope `{permission}`, which the token does not have.")
    return principal


def _is_scraper(request: Request) -> bool:
    """Whether the operator's own token for the metrics opens them; it opens nothing else."""
    token = request.app.state.services.settings.metrics_token
    if token is None or request.scope["route"].path != "/metrics":
        return False
    given = request.headers.getlist("authorization")
    wanted = f"Bearer {token.get_secret_value()}"
    return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "surrogateescape"), wanted.encode())


async def _principal(request: Request, authenticator: Authenticator) -> Principal:
    given = request.headers.getlist("authorization")
    if not given:
        if not authenticator.is_required:
            return authenticator.local
        if session := _session(request):
            return await run_in_threadpool(authenticator.authenticate, session, _address(request))
        raise Problem(
            "auth.required",
            "The request has no token.",
            headers={"WWW-Authenticate": 'Bearer realm="visitcal"'},
            hint=_HOW_TO,
        )
    kind, _, bearer = given[0].partition(" ")
    if len(given) > 1 or kind.lower() != "bearer" or not bearer.strip():
        raise AuthenticationError("The Authorization header is not `Bearer TOKEN`.")
    return await run_in_threadpool(authenticator.authenticate, bearer.strip(), _address(request))


def session_cookie(request: Request) -> str:
    """Name of the cookie with a browser's token: a browser cannot put one into the header of a picture or a stream.

    With TLS the name makes browsers refuse it from anybody but this very host (``__Host-``): a neighbour in the domain
    could otherwise log somebody in as themselves.
    """
    return f"__Host-{_SESSION}" if is_secure(request) else _SESSION


def is_secure(request: Request) -> bool:
    """Whether browsers reach the service by TLS, here or at the proxy in front."""
    root_url = request.app.state.services.settings.root_url or ""
    return request.url.scheme == "https" or root_url.startswith("https:")


def _session(request: Request) -> str | None:
    """A browser's token, from its cookie, where one of our pages asks, or the person by an address or a link.

    A cookie goes along wherever a page of the same site asks, and another port of this host is the same site: so a
    change must name its origin, as browsers do (`HostGuard` lets our own pass alone), and what another page embeds or
    fetches is asked by nobody.
    """
    headers = request.headers
    if request.method not in SAFE_METHODS and "origin" not in headers:
        return None
    is_ours = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    if not is_ours and (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) != ("navigate", "document"):
        return None
    return request.cookies.get(session_cookie(request))


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host


def forbidden(permission: Permission, detail: str) -> Problem:
    """The answer to somebody who may not do this.

    Parameters
    ----------
    permission : Permission
        What it takes.
    detail : str
        Why, for a person.
    """
    challenge = f'Bearer realm="visitcal", error="insufficient_scope", scope="{permission}"'
    return Problem(
        "auth.forbidden",
        detail,
        headers={"WWW-Authenticate": challenge},
        hint=f"Ask the operator for a token with the scope {permission}: visitcal token create --scope {permission}",
    )


Asker = Annotated[Principal, Depends(authorize)]


async def _owner(asker: Asker) -> Scope:
    return asker.scope


async def _reach(asker: Asker) -> Scope:
    return asker.reach


async def _listed_owner(
    asker: Asker,
    owner: Annotated[
        str | None, Query(max_length=255, description="Whose: of another owner, or of all (`*`), for administrators.")
    ] = None,
) -> Scope:
    if owner is None or owner == asker.owner:
        return asker.scope
    if not asker.is_admin:
        raise forbidden(Permission.ADMIN, "Things of other owners are for administrators.")
    return Scope.everything() if owner == "*" else Scope(owner)


Owner = Annotated[Scope, Depends(_owner)]
"""What the asker owns, and makes."""
Reach = Annotated[Scope, Depends(_reach)]
"""What the asker can look up by its id: their own things, an administrator everybody's."""
ListedOwner = Annotated[Scope, Depends(_listed_owner)]
"""Whose things a list shows."""


def document_access(document: dict[str, Any]) -> None:
    """Write into an OpenAPI document what each operation needs, and the refusals that any may meet."""
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of the service (`vc_...`), or one of its OpenID Connect issuer. Not needed by a "
            "service that listens on loopback only.",
        }
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            permission = needed(path, method.upper())
            refusals = problems(HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
            if permission is not None:
                refusals |= problems(
                    HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE
                )
                operation["security"] = [{"bearer": []}]
                operation["x-scope"] = permission.value
            answers = operation["responses"]
            for status, answer in refusals.items():
                answers.setdefault(str(int(status)), answer)
