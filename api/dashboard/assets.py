"""Scripts, styles and icons of the page, under an address that changes with their contents."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp

__all__ = ["STATIC", "static_application", "static_root"]

STATIC = Path(__file__).parent / "static"
_FOREVER = "public, max-age=31536000, immutable"


@cache
def static_root(directory: Path = STATIC) -> str:
    """Path under which the files are: it names their digest, so that a browser may keep them for ever."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(directory).as_posix().encode())
            digest.update(path.read_bytes())
    return f"/static/{digest.hexdigest()[:16]}"


class _Forever(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = _FOREVER
        return response


def static_application() -> ASGIApp:
    """What answers for the files; public, as they are the same for everybody."""
    return GZipMiddleware(_Forever(directory=STATIC), minimum_size=1024)
