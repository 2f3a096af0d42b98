"""The HTTP server around the application."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from fastapi import FastAPI

    from api.dependencies import Services
    from service.settings import Settings

__all__ = ["Server"]


class Server(uvicorn.Server):
    """Ends without waiting for long polls: they are answered with what is known.

    Parameters
    ----------
    app : FastAPI
        The application.
    settings : Settings
        Time that other requests get to end.
    on_shutdown : callable, optional
        What else begins to end then.
    is_stopped : callable, optional
        Whether it was told to end before it could hear that itself.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        on_shutdown: Callable[[], None] | None = None,
        is_stopped: Callable[[], bool] | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # api.observation writes it
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_grace),
        )
        super().__init__(config)
        self._app = app
        self._on_shutdown = on_shutdown
        self._is_stopped = is_stopped

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin."""
        await super().startup(sockets)
        gc.freeze()  # what is there by now stays: looking all of it through holds every request up for 0.1 s
        if self._is_stopped is not None and self._is_stopped():
            asyncio.get_running_loop().call_soon(self.handle_exit, signal.SIGTERM, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, once asked to."""
        if self._on_shutdown is not None:
            self._on_shutdown()
        services: Services = self._app.state.services
        services.watcher.release()
        await super().shutdown(sockets)
