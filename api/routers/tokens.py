"""Tokens: one makes, lists and revokes one's own, an administrator everybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from api.access import Asker, ListedOwner, Reach, forbidden
from api.bodies import read_json
from api.dependencies import Services, Using
from api.problems import Problem
from api.responses import problems
from api.schemas.common import Items
from api.schemas.tokens import AskerDocument, NewTokenDocument, TokenDocument, TokenParameters
from service.identity.principal import Permission, effective, in_order
from service.storage.records import Scope

if TYPE_CHECKING:
    from service.identity.principal import Principal

__all__ = ["BODIES", "TokenId", "create", "router"]

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])

TokenId = Annotated[str, Path(max_length=100, description="Token id.", examples=["tok_01m3t8k2c4w9x5y7z0a1b2c3d4"])]
#: Models of bodies that are read by hand, for the OpenAPI document.
BODIES = (TokenParameters,)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TokenParameters"}}},
    }
}


@router.post("", status_code=201, openapi_extra=_BODY, responses=problems(400, 404, 409, 413, 415, 422))
async def create_token(request: Request, response: Response, services: Using, asker: Asker) -> NewTokenDocument:
    """Make a token for oneself with no more scopes than one has, or as an administrator for anybody.

    The answer shows it once. A token that was made with another one ends with that one at the latest.
    """
    parameters = await read_json(request, TokenParameters, what="parameters")
    response.headers["Cache-Control"] = "no-store"
    return await run_in_threadpool(create, services, asker, parameters)


def create(services: Services, asker: Principal, parameters: TokenParameters) -> NewTokenDocument:
    """Make a token, as `create_token` says.

    Raises
    ------
    Problem
        ``auth.forbidden``, ``request.invalid``.
    TooManyError
        The owner has as many as one may have.
    """
    permissions = effective(parameters.scopes)
    owner = asker.owner if parameters.owner is None else parameters.owner
    if owner != asker.owner and not asker.is_admin:
        raise forbidden(Permission.ADMIN, "Tokens of other owners are for administrators.")
    if lacking := in_order(permissions - asker.permissions):
        raise forbidden(lacking[0], f"Nobody can give the scope {lacking[0]} without having it.")
    settings = services.settings
    days = parameters.expires_in_days or min(settings.token_days, settings.max_token_days)
    if days > settings.max_token_days:
        detail = f"must be at most {settings.max_token_days:g}"
        errors = [{"pointer": "/expires_in_days", "detail": detail, "code": "less_than_equal"}]
        raise Problem("request.invalid", f"expires_in_days {detail}.", errors=errors)
    record, text = services.identity.tokens.create(
        Scope(owner),
        name=parameters.name,
        permissions=permissions,
        days=days,
        parent=asker if owner == asker.owner and asker.how == "token" else None,
    )
    return NewTokenDocument(**TokenDocument.of(record).model_dump(), token=text)


@router.get("")
def list_tokens(services: Using, owner: ListedOwner) -> Items[TokenDocument]:
    """Tokens, newest first, also those that have ended; never the secrets, which are kept nowhere."""
    return Items(items=[TokenDocument.of(record) for record in services.storage.tokens.list(owner)])


@router.get("/current")
async def get_asker(asker: Asker) -> AskerDocument:
    """Who asks: owner, scopes, and until when."""
    return AskerDocument.of(asker)


@router.delete("/{token_id}", status_code=204, responses=problems(404))
def revoke_token(services: Using, asker: Asker, reach: Reach, token_id: TokenId) -> Response:
    """End a token, and those that were made with it: the one that is shown, or another with no more scopes than it."""
    record = services.storage.tokens.get(reach, token_id)
    if record is None:
        raise Problem("token.not_found", f"There is no token {token_id}.")
    if lacking := in_order(effective(record.scopes) - asker.permissions):
        raise forbidden(lacking[0], "A token with fewer scopes cannot end one with more.")
    services.storage.tokens.revoke(reach, token_id)
    return Response(status_code=204)
