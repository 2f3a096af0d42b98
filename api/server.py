"""The HTTP server around the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket

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
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.shutdown_grace),
        )
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, once asked to."""
        services: Services = self._app.state.services
        services.watcher.release()
        await super().shutdown(sockets)
