"""IVOA VOSI: whether the service can work, and what it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from pydantic import AnyUrl
from vo_models.voresource.models import AccessURL, Capability, Interface
from vo_models.vosi.availability.models import Availability
from vo_models.vosi.capabilities.models import VOSICapabilities

from api.facades.dali import base_url, xml_text
from api.facades.uws.documents import JOBS, XML, xml_answer
from api.responses import problems

if TYPE_CHECKING:
    from api.dependencies import Services
    from service.operations.checks import Readiness

__all__ = ["router"]

router = APIRouter(prefix="/uws", tags=["uws"])

#: Address by standard; one that ends so that parameters can be appended is a base.
_CAPABILITIES = {
    "ivo://ivoa.net/std/UWS#rest-1.1": JOBS,
    "ivo://ivoa.net/std/ConeSearch": "/scs?",
    "ivo://ivoa.net/std/VOSI#availability": "/uws/availability",
    "ivo://ivoa.net/std/VOSI#capabilities": "/uws/capabilities",
}


@router.get("/availability", response_class=Response, responses={200: {"content": {XML: {}}}})
def get_availability(request: Request) -> Response:
    """What `/readyz` says, as VOSI has it."""
    readiness: Readiness = request.app.state.readiness
    failed = [check for check in readiness.look() if not check.ok]
    notes = [xml_text(f"{check.name}: {check.detail}") for check in failed]
    return xml_answer(Availability(available=not failed, note=notes))


@router.get("/capabilities", response_class=Response, responses={200: {"content": {XML: {}}}, **problems(421)})
def get_capabilities(request: Request) -> Response:
    """What the service can do, and where."""
    services: Services = request.app.state.services
    base = base_url(request, services.settings)
    return xml_answer(
        VOSICapabilities(
            capability=[
                Capability(standard_id=AnyUrl(standard), interface=[_interface(base + path)])
                for standard, path in _CAPABILITIES.items()
            ]
        )
    )


def _interface(url: str) -> Interface:
    address = AccessURL(value=AnyUrl(url), use="base" if url.endswith("?") else "full")
    return Interface(type="vs:ParamHTTP", role="std", access_url=[address])
