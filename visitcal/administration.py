"""Tokens and webhooks of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from visitcal.operations import Awaiting, Blocking, Connected, listing, operation
from visitcal.pages import pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from visitcal.steps import Flow, Listing

__all__ = ["AsyncTokens", "AsyncWebhooks", "Tokens", "Webhooks"]


class TokenOperations(Connected):
    """Tokens of the asker; an administrator's also of others."""

    @operation
    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires_in_days: float | None = None,
        owner: str | None = None,
    ) -> Flow[dict[str, Any]]:
        """Make a token.

        Parameters
        ----------
        name : str
            What it is for.
        scopes : sequence of str
            ``read``, ``submit``, ``admin``; no more than those of the token that asks.
        expires_in_days : float, optional
            It ends with the token that asks at the latest.
        owner : str, optional
            For whom: for administrators.

        Returns
        -------
        dict
            ``token``, which is shown this once, and what `list` has of it.
        """
        given = {"name": name, "scopes": list(scopes), "expires_in_days": expires_in_days, "owner": owner}
        body = {name: value for name, value in given.items() if value is not None}
        return cast("dict[str, Any]", (yield from self._transport.request("POST", "/v1/tokens", json=body)).json())

    @operation
    def list(self, *, owner: str | None = None) -> Flow[list[dict[str, Any]]]:
        """Tokens without their secrets; `owner` (``*`` for all) is for administrators."""
        page = yield from self._transport.get("/v1/tokens", owner=owner)
        return cast("list[dict[str, Any]]", page["items"])

    @operation
    def current(self) -> Flow[dict[str, Any]]:
        """Who asks, and what the token allows."""
        return self._transport.get("/v1/tokens/current")

    @operation
    def revoke(self, token_id: str) -> Flow[None]:
        """End a token, and all that were made with it."""
        yield from self._transport.request("DELETE", f"/v1/tokens/{quote(token_id, safe='')}")


class WebhookOperations(Connected):
    """Messages about the end of jobs."""

    @operation
    def secret(self) -> Flow[dict[str, Any]]:
        """When the secret was made, without the secret."""
        return self._transport.get("/v1/webhooks/secret")

    @operation
    def make_secret(self) -> Flow[dict[str, Any]]:
        """Make the secret that messages are signed with, or replace it.

        Returns
        -------
        dict
            ``secret``, which is shown this once, ``created_at``, and ``previous_until``: until then the one before
            signs too.
        """
        return cast("dict[str, Any]", (yield from self._transport.request("POST", "/v1/webhooks/secret")).json())

    @listing
    def messages(
        self,
        *,
        state: str | Sequence[str] | None = None,
        job_id: str | None = None,
        owner: str | None = None,
        limit: int | None = None,
    ) -> Listing[dict[str, Any]]:
        """Messages and what has become of them, newest first, page by page.

        Parameters
        ----------
        state : str or sequence of str, optional
            Only ``waiting``, ``delivered`` or ``given_up`` ones.
        job_id : str, optional
            Only about this job.
        owner : str, optional
            Whose, ``*`` for everybody's: for administrators.
        limit : int, optional
            So many at most.
        """
        chosen = {"state": state, "job_id": job_id, "owner": owner}
        return pages(self._transport, "/v1/webhooks/messages", chosen, limit=limit, size=100)

    @operation
    def message(self, message_id: str) -> Flow[dict[str, Any]]:
        """One message with all attempts to deliver it."""
        return self._transport.get(f"/v1/webhooks/messages/{quote(message_id, safe='')}")

    @operation
    def replay(self, message_id: str) -> Flow[dict[str, Any]]:
        """Send a message once more, under its old id.

        Raises
        ------
        NotFoundError
            There is none.
        """
        path = f"/v1/webhooks/messages/{quote(message_id, safe='')}/replay"
        return cast("dict[str, Any]", (yield from self._transport.request("POST", path)).json())


class Tokens(TokenOperations, Blocking):
    """``visitcal.Client.tokens``."""


class AsyncTokens(TokenOperations, Awaiting):
    """``visitcal.AsyncClient.tokens``."""


class Webhooks(WebhookOperations, Blocking):
    """``visitcal.Client.webhooks``."""


class AsyncWebhooks(WebhookOperations, Awaiting):
    """``visitcal.AsyncClient.webhooks``."""
