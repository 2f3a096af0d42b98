"""What can be wrong with a reference catalogue; "no stars there" is not an error."""

from __future__ import annotations

__all__ = ["RefcatError", "RefcatNotFoundError", "RefcatUnavailableError"]


class RefcatError(ValueError):
    """A reference catalogue, or a file meant to become one, cannot be used.

    Parameters
    ----------
    code : str
        Stable machine code, ``refcat.<what>``.
    message : str
        A sentence for a person.
    **numbers : object
        What decided it.
    """

    def __init__(self, code: str, message: str, **numbers: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.numbers = numbers


class RefcatNotFoundError(RefcatError):
    """There is no catalogue of that name."""

    def __init__(self, name: str) -> None:
        super().__init__("refcat.not_found", f"there is no reference catalogue named '{name}'", name=name)


class RefcatUnavailableError(RefcatError):
    """The catalogue exists, but its data cannot be read at the moment."""

    def __init__(self, message: str, **numbers: object) -> None:
        super().__init__("refcat.unavailable", message, **numbers)
