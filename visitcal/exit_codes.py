"""What a command tells the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EXIT_FAILED", "EXIT_INTERRUPTED", "EXIT_OK", "EXIT_REFUSED", "EXIT_UNREACHABLE", "worst"]

EXIT_OK = 0
EXIT_UNREACHABLE = 1
EXIT_REFUSED = 2  # also argparse's own
EXIT_FAILED = 3
EXIT_INTERRUPTED = 130

_BY_WEIGHT = (EXIT_OK, EXIT_FAILED, EXIT_REFUSED, EXIT_UNREACHABLE)


def worst(codes: Iterable[int]) -> int:
    """One code for several files: the service's failure outweighs a refused file, that a job that did not complete."""
    return max(codes, key=_BY_WEIGHT.index, default=EXIT_OK)
