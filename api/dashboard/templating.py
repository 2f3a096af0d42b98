"""HTML from templates: one environment, and the headers that every page has."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.dashboard.assets import static_root
from api.dashboard.wording import FILTERS
from service.storage.records import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from service.identity.principal import Principal

__all__ = ["PAGE_HEADERS", "render"]

#: Scripts and styles from here only, and none in the text: what a header of a file says stays text.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_WORTH_PACKING = 4096  # bytes
_PACKING = 5
PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",  # after a logout nobody turns back the pages
    "Referrer-Policy": "same-origin",
}

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(FILTERS)
_environment.globals["static"] = static_root()


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A page, or a part of one.

    Parameters
    ----------
    request : Request
        Who asks (`request.state.principal`, set by `api.access.authorize`) and where.
    template : str
        Path under ``templates/``; parts that are fetched alone are under ``templates/parts/``.
    status : int
        HTTP status.
    **context
        What the template shows; all names that it uses must be here.
    """
    principal: Principal | None = getattr(request.state, "principal", None)
    text = _environment.get_template(template).render(
        request=request, path=request.url.path, principal=principal, now=utc_now(), **context
    )
    content, headers = text.encode(), {**PAGE_HEADERS, "Vary": "Accept-Encoding"}
    if len(content) >= _WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        # Nothing secret is on a page: who may see it is said by a cookie, and where a change comes from by Origin.
        content, headers = gzip.compress(content, _PACKING, mtime=0), {**headers, "Content-Encoding": "gzip"}
    return HTMLResponse(content, status_code=status, headers=headers)
