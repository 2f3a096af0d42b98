"""What every request leaves behind: a line in the log, and its time among the metrics."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from service.operations.logs import working_on

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.operations.metrics import HttpMetrics

__all__ = ["Observation"]

logger = logging.getLogger("api.access")

#: Asked every few seconds by machines; their lines would hide the others.
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
STATIC = "/static/"  # of a page come a dozen
UNKNOWN_ROUTE = "unknown"
CLIENT_GONE = 499


class Observation:
    """Time each request, and write the access log; the query is left out of it, it may hold what is private.

    Parameters
    ----------
    app : ASGI application
        What answers.
    metrics : HttpMetrics
        Where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at what comes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watched = _Request(receive, send)
        with working_on(request_id=scope.get("state", {}).get("request_id")):
            try:
                await self._app(scope, watched.receive, watched.send)
            except Exception:
                watched.failed()
                raise
            finally:
                self._note(scope, watched)

    def _note(self, scope: Scope, watched: _Request) -> None:
        seconds = time.perf_counter() - watched.started
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        held = b"wait=" in scope.get("query_string", b"")
        if not watched.is_stream and not held:
            self._metrics.add(scope["method"], route, watched.status, seconds)
        self._metrics.add_bytes(route, watched.received)
        path = quote(scope["path"], safe="/:@!$&'()*+,;=-._~")
        client = scope["client"][0] if scope.get("client") else "-"
        logger.log(
            logging.DEBUG if route in PROBES or scope["path"].startswith(STATIC) else logging.INFO,
            "%s %s %s %d %.3f s",
            client,
            scope["method"],
            path,
            watched.status,
            seconds,
            extra={"status": watched.status, "seconds": round(seconds, 6), "route": route},
        )


class _Request:
    """Counts what passes."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.started = time.perf_counter()
        self.status = CLIENT_GONE  # unless an answer begins
        self.received = 0
        self.is_stream = False

    def failed(self) -> None:
        """The error is answered further out."""
        if self.status == CLIENT_GONE:
            self.status = 500

    async def receive(self) -> Message:
        """What the client sends."""
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """What it gets."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = dict(message.get("headers", ()))
            self.is_stream = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        await self._send(message)
