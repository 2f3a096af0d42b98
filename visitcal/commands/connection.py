"""The service that the options of a command name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visitcal.client import Client
from visitcal.options import token_of

if TYPE_CHECKING:
    import argparse

__all__ = ["connected"]


def connected(options: argparse.Namespace, **more: Any) -> Client:
    """A client of it, to be closed by the caller.

    Raises
    ------
    OptionError
        The file with the token cannot be used.
    """
    return Client(options.url, token=token_of(options.token_file), **more)
