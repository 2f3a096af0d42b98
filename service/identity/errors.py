"""Why somebody is not let in."""

from __future__ import annotations

__all__ = ["AuthenticationError", "EndedTokenError", "IdentityError", "IssuerUnavailableError", "TooManyFailuresError"]


class IdentityError(Exception):
    """Base of all refusals here."""


class AuthenticationError(IdentityError):
    """What was shown opens nothing; the message says no more than the shown text itself tells."""


class EndedTokenError(AuthenticationError):
    """A token that was good once has expired or was revoked: who shows it does not guess."""


class IssuerUnavailableError(IdentityError):
    """The issuer's keys cannot be had now, so nobody can say whether the bearer is good.

    Parameters
    ----------
    message : str
        What failed, for the log.
    retry_after : float
        Time after which another try makes sense [s].
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyFailuresError(IdentityError):
    """So many refused tokens came from an address that no more are looked at for a while.

    Parameters
    ----------
    retry_after : float
        Time after which they are again [s].
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many refused tokens from this address")
        self.retry_after = retry_after
