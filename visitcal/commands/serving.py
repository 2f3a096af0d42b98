"""Commands that run the service: serve, worker, migrate, warmup."""

from __future__ import annotations

import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from visitcal.exit_codes import EXIT_OK
from visitcal.options import OptionError

if TYPE_CHECKING:
    import argparse

    from service.settings import Settings
    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Run one of the commands.

    Raises
    ------
    OptionError
        The settings name something that cannot be.
    """
    from service.instruments import InstrumentError
    from service.operations.logs import configure_logs
    from service.refcats import RefcatError

    settings = _settings(options)
    configure_logs(settings)
    commands = {"serve": _serve, "worker": _worker, "migrate": _migrate, "warmup": _warmup}
    try:
        return commands[options.command](settings, output)
    except (RefcatError, InstrumentError) as error:
        raise OptionError(str(error)) from error


def _settings(options: argparse.Namespace) -> Settings:
    from service.settings import Settings

    given: dict[str, Any] = {
        "data_dir": options.data_dir,
        "host": getattr(options, "host", None),
        "port": getattr(options, "port", None),
        "slots": getattr(options, "slots", None),
        "embedded_worker": getattr(options, "worker", None),
    }
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _serve(settings: Settings, output: Output) -> int:
    from api.app import UnsafeBindError, create_app
    from api.server import Server
    from service.jobs.embedded import WorkerProcess
    from service.jobs.prepare import prepare

    try:
        app = create_app(settings)
    except UnsafeBindError as error:
        raise OptionError(str(error)) from error
    try:
        listener = _listener(settings.host, settings.port)
    except OSError as error:
        raise OptionError(f"cannot listen on {settings.host} port {settings.port}: {error}") from error
    prepare(settings)
    # Until the server hears signals itself they are kept for it; those that ended it it raises once more when it is
    # done, and the worker is still to be stopped then.
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: told.append(number))
    worker = WorkerProcess(settings) if settings.starts_worker else None
    try:
        if worker is not None:
            worker.start()
        url = _url(listener.getsockname())
        if output.is_json:
            output.line({"event": "listening", "url": url})
        else:
            output.at_once(f"visitcal listens on {url}")
        end_worker = None if worker is None else worker.end
        Server(app, settings, end_worker, lambda: bool(told)).run(sockets=[listener])
    finally:
        listener.close()
        if worker is not None:
            worker.stop()
    return EXIT_OK


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Its protocol is said explicitly: asyncio turns the delay of small packets off (TCP_NODELAY) only where it is, and
    every answer would otherwise wait 40 ms for the client's acknowledgement.
    """
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # from now on requests wait until they are answered; before, they would be refused
    except OSError:
        listener.close()
        raise
    return listener


def _url(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _worker(settings: Settings, output: Output) -> int:
    from service.jobs.worker import run_worker

    if output.is_json:
        output.line({"event": "started", "slots": settings.slots})
    return run_worker(settings)


def _migrate(settings: Settings, output: Output) -> int:
    from service.jobs.prepare import prepare

    revision = prepare(settings)
    if output.is_json:
        output.document({"revision": revision})
    else:
        output.say(f"the jobs database is at revision {revision}")
    return EXIT_OK


def _warmup(settings: Settings, output: Output) -> int:
    from service.jobs.worker import warmup

    started = time.monotonic()
    with output.console.status("compiling kernels: a minute or two the first time"):
        warmup(settings)
    seconds = time.monotonic() - started
    directory = str(settings.numba_cache_dir)
    if output.is_json:
        output.document({"directory": directory, "seconds": seconds})
    else:
        output.say(f"kernels are in {directory} ({seconds:.0f} s)")
    return EXIT_OK
