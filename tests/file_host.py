"""A host of files that misbehaves as its addresses say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class FileHost(ThreadingHTTPServer):
    """``/good``, ``/chunked``, ``/short`` ...: paths misbehave as they say; ``/held`` ends once it is let go."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.failures = 0  # so many requests are answered with 503 first
        self.let_go = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FileHost
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.close_connection = True
        path, content = urlsplit(self.path), self.server.content
        if self.server.failures > 0:
            self.server.failures -= 1
            self._head(503, 0)
        elif path.path == "/to":
            self._head(302, 0, Location=parse_qs(path.query)["url"][0])
        elif path.path.startswith("/status/"):
            self._head(int(path.path.rpartition("/")[2]), 0)
        elif path.path == "/short":
            self._head(200, len(content) + 1)
            self.wfile.write(content)
        elif path.path == "/announced":
            self._head(200, int(path.query))
        elif path.path in ("/chunked", "/held"):
            self._head(200, None, **{"Transfer-Encoding": "chunked"})
            for start in range(0, len(content), 1000):
                piece = content[start : start + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if path.path == "/held":
                self.server.let_go.wait(20)
            self.wfile.write(b"0\r\n\r\n")
        elif path.path == "/endless":
            self._head(200, None)
            self.wfile.write(content)
            while not self.server.let_go.is_set():
                self.wfile.write(bytes(65536))
        elif path.path in ("/drip", "/silent"):
            self._head(200, len(content))
            self.wfile.write(content[:3000])
            while path.path == "/drip" and not self.server.let_go.wait(0.05):
                self.wfile.write(b"x")
            self.server.let_go.wait(20)
        elif path.path == "/words":
            self.wfile.write(b"220 this is not HTTP\r\n")
        elif path.path == "/slow":
            time.sleep(0.3)
            self._head(200, len(content))
            self.wfile.write(content)
        else:
            self._head(200, len(content), **{"Content-Type": "text/html", "Content-Encoding": "x-odd"})
            self.wfile.write(content)

    def _head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def file_host(content: bytes) -> Iterator[FileHost]:
    server = FileHost(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()
