"""Routes of the page: what the API says as a problem document, they say as a page."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import Request

from api.dashboard.templating import render
from api.problems import Problem, problem_of, things

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["PageRoute", "instead_of_not_found", "page_router"]


class PageRoute(APIRoute):
    """A route whose problems are pages, and which leads who has shown no token to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the framework, within the care for its errors."""
        handler = super().get_route_handler()

        async def with_problems(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                # pydantic's words are for those who write requests; a person followed a link
                return _problem_page(request, Problem("request.invalid", things(len(error.errors()), "address")))
            except Exception as error:
                problem = error if isinstance(error, Problem) else problem_of(error)
                if problem is None:
                    raise
                return _problem_page(request, problem)

        return with_problems


def _problem_page(request: Request, problem: Problem) -> Response:
    is_part = request.headers.get("hx-request") == "true"
    if problem.kind.status == HTTPStatus.UNAUTHORIZED:
        return _to_login(request, is_part=is_part)
    template = "parts/problem.html" if is_part else "problem.html"
    response = render(request, template, status=problem.kind.status, problem=problem.document())
    response.headers.update({name: value for name, value in problem.headers.items() if name == "Retry-After"})
    return response


def _to_login(request: Request, *, is_part: bool) -> Response:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if is_part:  # of a page whose session has ended: the page as a whole must go
        response = render(request, "parts/problem.html", status=HTTPStatus.UNAUTHORIZED, problem={})
        response.headers["HX-Redirect"] = "/login"
        return response
    target = f"/login?{urlencode({'next': wanted})}" if request.method == "GET" and wanted != "/" else "/login"
    return RedirectResponse(target, status_code=HTTPStatus.SEE_OTHER)


def instead_of_not_found(otherwise: ASGIApp) -> ASGIApp:
    """What answers an address that nothing has: a page to a browser that goes there, and to all else the API's way."""

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            await otherwise(scope, receive, send)
            return
        request = Request(scope, receive)
        page = _problem_page(request, Problem("route.not_found", f"There is no page {request.url.path}."))
        await page(scope, receive, send)

    return not_found


def page_router() -> APIRouter:
    """A router of pages; they are not in the OpenAPI document, which is for programs."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)
