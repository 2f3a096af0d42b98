"""What a shell offers for the names of things on a service; nothing, rather than a wait or an error."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from visitcal.client import Client

__all__ = ["complete_jobs", "complete_refcats"]

#: A key was pressed: whoever pressed it waits.
PATIENCE_S = 1.0
SHOWN_JOBS = 30


def complete_jobs(parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
    """The newest jobs, each with its phase and the time of its submission."""
    return _asked(
        parsed_args,
        lambda client: {
            job.id: f"{job.phase} {job.document['created_at'][:16]} {job.document['run_id'] or ''}".strip()
            for job in client.jobs(limit=SHOWN_JOBS)
        },
    )


def complete_refcats(parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
    """Names of the reference catalogues, and the word for doing without."""
    names = _asked(parsed_args, lambda client: {item["name"]: " ".join(item["bands"]) for item in client.refcats()})
    return {**names, "none": "without references"}


def _asked(options: argparse.Namespace, question: Callable[[Client], dict[str, str]]) -> dict[str, str]:
    from visitcal.client import Client
    from visitcal.errors import VisitcalError
    from visitcal.options import OptionError, token_of

    with suppress(VisitcalError, OptionError, OSError):
        token = token_of(getattr(options, "token_file", None))
        with Client(getattr(options, "url", None), token=token, timeout=PATIENCE_S, retries=0) as client:
            return question(client)
    return {}
