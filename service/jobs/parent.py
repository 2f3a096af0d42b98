"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["die_with_parent"]

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Get a signal when the parent dies; end at once if it is dead already.

    The kernel follows the *thread* that started this process: it must live as long as the parent is meant to.
    Linux alone has this; elsewhere nothing happens.

    Parameters
    ----------
    parent : int
        Process id of the parent, as it said itself.
    number : signal.Signals
        What to get.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
