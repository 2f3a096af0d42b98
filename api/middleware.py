"""What every request passes before its handler: an id, the guard of a local service, HEAD for every GET."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from api.problems import Problem, problem_response
from service.network import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HeadAsGet", "HostGuard", "NoSniff", "RequestId", "asks_head_only", "host_name"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEAD_ONLY = "visitcal.head_only"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def host_name(host: str) -> str:
    """Host without port and brackets, in lower case: ``[::1]:8623`` gives ``::1``."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class HostGuard:
    """Refuse requests that a web page of somebody else made in a user's browser.

    A service on loopback has no token, so the browser itself is the hole: a name that an attacker points to 127.0.0.1
    (DNS rebinding) shows in the Host header, a form on another site in Origin or Sec-Fetch-Site.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    allowed_hosts : iterable of str
        Names under which the service answers besides loopback; ``*`` for any (with tokens only).
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._allowed = {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._refusal(Headers(scope=scope), scope["method"])
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(problem, scope["path"])(scope, receive, send)

    def _refusal(self, headers: Headers, method: str) -> Problem | None:
        host = host_name(headers.get("host", ""))
        if not self._answers_for(host):
            return Problem("request.host_refused", f"The Host header names {host!r}.")
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") == "cross-site" or (origin is not None and not self._is_own(origin, headers)):
            return Problem("request.cross_site", f"The request comes from {origin or 'another site'}.")
        return None

    def _answers_for(self, host: str) -> bool:
        return "*" in self._allowed or host in self._allowed or is_loopback(host)

    @staticmethod
    def _is_own(origin: str, headers: Headers) -> bool:
        try:
            return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        except ValueError:
            return False


def asks_head_only(request: Request) -> bool:
    """Whether the body of the answer will be thrown away."""
    return bool(request.scope.get(_HEAD_ONLY))


class HeadAsGet:
    """Answer HEAD wherever GET is answered, without the body (RFC 9110): routes know only the methods they name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on as GET, and keep the body back."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b""})

        # A copy: the server looks at its own scope to know that no body is due.
        as_get = {**scope, "method": "GET", _HEAD_ONLY: True}
        try:
            await self._app(as_get, receive, send_head)
        finally:
            scope.update({name: as_get[name] for name in ("route",) if name in as_get})


class NoSniff:
    """Let no browser take an answer for something else than it says: a line of a log is no script of our pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and say so in the answer."""

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_with_header)


class RequestId:
    """Give each request an id, the client's own if it sent a sane one, and return it in ``X-Request-Id``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the id in the request's state."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
