"""Refusals of input files."""

from __future__ import annotations

__all__ = ["FormatError"]


class FormatError(ValueError):
    """A file cannot be read as an exposure.

    Parameters
    ----------
    code : str
        Stable machine code, ``format.<what>``.
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
