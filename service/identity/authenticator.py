"""Who stands behind a request: by its bearer, or by being on this machine."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from service.identity.errors import AuthenticationError, EndedTokenError, TooManyFailuresError
from service.identity.failures import FailureLimiter
from service.identity.oidc import OidcBearers
from service.identity.principal import Principal, everything_allowed
from service.identity.tokens import TYPO, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.settings import Settings
    from service.storage import Storage

__all__ = ["Authenticator"]

_PREFIX = "vc_"
_MAX_LENGTH = 8192
_DOTS_OF_A_JWT = 2
_WINDOW_S = 60.0
_MAX_GOOD = 10_000


class Authenticator:
    """Looks at bearers.

    Parameters
    ----------
    storage : Storage
        Has the tokens.
    settings : Settings
        Whether one is needed, how many failures an address may have, and the OIDC issuer.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, storage: Storage, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.tokens = Tokens(storage, settings)
        self.is_required = settings.require_tokens
        self._oidc = None if settings.oidc_issuer is None else OidcBearers(settings)
        self._failures = FailureLimiter(settings.max_auth_failures, clock)
        self._good = _RecentlyGood(clock)
        self._local = Principal(settings.local_owner, everything_allowed, "local")

    @property
    def nobody(self) -> Principal:
        """Who asks for what is shown to anybody."""
        return Principal("", frozenset(), "local")

    @property
    def local(self) -> Principal:
        """Who asks without a bearer where none is needed: on loopback, the owner of the service."""
        return self._local

    def authenticate(self, bearer: str, address: str) -> Principal:
        """Who shows a bearer.

        Parameters
        ----------
        bearer : str
            Token of the service, or of the issuer.
        address : str
            Where it comes from; too many failures of one address make it wait, except with what was good just before.

        Raises
        ------
        AuthenticationError
            It opens nothing.
        TooManyFailuresError
            Nobody looks at it now.
        IssuerUnavailableError
            Nobody can say now.
        """
        mark = hashlib.sha256(bearer.encode("utf-8", "surrogateescape")).digest()
        wait = self._failures.wait(address)
        if wait > 0 and mark not in self._good:
            raise TooManyFailuresError(wait)
        try:
            principal = self._look(bearer)
        except EndedTokenError:
            raise  # a page that is left open goes on asking after its session
        except AuthenticationError:
            self._failures.note(address)
            raise
        self._good.add(mark)
        return principal

    def _look(self, bearer: str) -> Principal:
        if len(bearer) > _MAX_LENGTH:
            raise AuthenticationError(TYPO)
        if self._oidc is not None and not bearer.startswith(_PREFIX) and bearer.count(".") == _DOTS_OF_A_JWT:
            return self._oidc.authenticate(bearer)
        return self.tokens.authenticate(bearer)


class _RecentlyGood:
    """Bearers that were good within the last minute: they are looked at again even where their address must wait.

    Who shares an address with somebody who guesses is not shut out; who guesses learns nothing, as a guess is not here.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, mark: bytes) -> bool:
        with self._lock:
            seen = self._seen.get(mark)
        return seen is not None and self._clock() - seen < _WINDOW_S

    def add(self, mark: bytes) -> None:
        with self._lock:
            self._seen[mark] = self._clock()
            self._seen.move_to_end(mark)
            if len(self._seen) > _MAX_GOOD:
                self._seen.popitem(last=False)
