"""The service's own tokens: made, checked, ended."""

from __future__ import annotations

import hmac
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from service.identity.errors import AuthenticationError, EndedTokenError
from service.identity.principal import Permission, Principal, effective, in_order
from service.identity.token_text import digest, new_token, read_token
from service.storage.errors import StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.settings import Settings
    from service.storage import Storage
    from service.storage.records import Scope, TokenRecord

__all__ = ["NO_TOKEN", "TYPO", "Tokens"]

logger = logging.getLogger(__name__)

TYPO = "This is no token of this service, or a mistyped one: its checksum does not fit."
NO_TOKEN = "The token is not valid: it is unknown, or has expired, or has been revoked."  # noqa: S105 - a sentence
_TOUCH_EVERY = timedelta(minutes=1)
#: Compared with where there is no such token, so that both cases take the same way.
_NOBODY = digest("")


class Tokens:
    """Tokens of the service.

    Parameters
    ----------
    storage : Storage
        Where they are kept.
    settings : Settings
        How many an owner may have.
    """

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._repository = storage.tokens
        self._settings = settings

    def create(
        self,
        scope: Scope,
        *,
        name: str,
        permissions: Iterable[Permission],
        days: float | None,
        parent: Principal | None = None,
    ) -> tuple[TokenRecord, str]:
        """Make a token.

        Parameters
        ----------
        scope : Scope
            Whose it is.
        name : str
            Label for people.
        permissions : iterable of Permission
            What it opens.
        days : float or None
            Its life [days]; None for one without an end.
        parent : Principal, optional
            Who asked for it for themselves: it does not outlive what they showed, and is revoked with it.

        Returns
        -------
        record : TokenRecord
            What is kept.
        text : str
            The token, which nobody can show again.

        Raises
        ------
        TooManyError
            The owner has as many as one may have.
        """
        token = new_token()
        record = self._repository.add(
            scope,
            token_id=token.token_id,
            name=name,
            sha256=digest(token.text),
            scopes=in_order(permissions),
            days=days,
            not_after=None if parent is None else parent.expires_at,
            parent_id=None if parent is None else parent.token_id,
            limit=self._settings.max_tokens,
        )
        return record, token.text

    def authenticate(self, text: str) -> Principal:
        """Who shows a token.

        Raises
        ------
        AuthenticationError
            It opens nothing.
        """
        token = read_token(text)
        if token is None:
            raise AuthenticationError(TYPO)
        stored, now = self._repository.find(token.token_id)
        same = hmac.compare_digest(digest(token.text), _NOBODY if stored is None else stored.sha256)
        if stored is None or not same:
            raise AuthenticationError(NO_TOKEN)
        if not stored.record.is_valid_at(now):
            raise EndedTokenError(NO_TOKEN)
        record = stored.record
        if record.last_used_at is None or record.last_used_at <= now - _TOUCH_EVERY:
            try:
                self._repository.touch(record.id, unless_after=now - _TOUCH_EVERY)
            except StorageUnavailableError:
                logger.warning("the use of token %s was not noted", record.id)
        return Principal(record.owner, effective(record.scopes), "token", record.id, record.expires_at)
