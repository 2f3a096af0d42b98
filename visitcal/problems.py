"""What went wrong, in a sentence for people or as a problem document (RFC 9457), and the exit code that tells it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visitcal.exit_codes import EXIT_REFUSED, EXIT_UNREACHABLE
from visitcal.options import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visitcal.errors import ApiError
    from visitcal.grammar import UsageError
    from visitcal.output import Output

__all__ = ["Problem", "problem_of", "usage_problem"]


@dataclass(frozen=True)
class Problem:
    """Why a command ended, or a file was not taken.

    Parameters
    ----------
    code : str
        For programs: that of the service, or one of the command line's own.
    detail : str
        Sentence for a person.
    exit_code : int
        What the shell is told.
    hint : str, optional
        What could be tried.
    places : list of str
        What was wrong where.
    document : mapping
        As the service sent it, where it did.
    """

    code: str
    detail: str
    exit_code: int
    hint: str | None = None
    places: list[str] = field(default_factory=list)
    document: Mapping[str, Any] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        """Problem document."""
        own = {"type": "about:blank", "title": self.code, "detail": self.detail, "code": self.code}
        hint = {} if self.hint is None else {"hint": self.hint}
        return {**own, **hint, **self.document, "exit_code": self.exit_code}

    def as_json(self) -> str:
        """Problem document as text."""
        return json.dumps(self.as_document(), indent=2, default=str) + "\n"

    def as_line(self) -> str:
        """Code and sentence."""
        return f"{self.code}: {self.detail}"

    def tell(self, output: Output) -> None:
        """Write it to standard error."""
        if output.is_json:
            output.errors.file.write(self.as_json())
            return
        output.complain(f"{self.detail} ({self.code})", "red")
        for place in self.places:
            output.complain(f"  {place}")
        if self.hint:
            output.complain(f"  {self.hint}", "yellow")


def usage_problem(error: UsageError) -> Problem:
    """Arguments that are not a command."""
    return Problem("cli.usage", str(error), EXIT_REFUSED, hint=error.usage.strip())


def problem_of(error: Exception) -> Problem | None:
    """The problem that an exception stands for; None where it is a mistake in this program."""
    from visitcal import errors

    match error:
        case errors.ApiError():
            return _answered(error)
        case errors.ServiceUnreachableError():
            hint = "Is the address right (--url, $VISITCAL_URL), and does `visitcal serve` run there?"
            return Problem("service.unreachable", f"The service does not answer: {error}", EXIT_UNREACHABLE, hint)
        case errors.FetchFailedError():
            return Problem(error.code, str(error.document["error"]["message"]), EXIT_REFUSED)
        case errors.VisitcalError():
            return Problem("client.failed", str(error), EXIT_UNREACHABLE)
        case OptionError():
            return Problem("cli.refused", str(error), EXIT_REFUSED)
        case OSError():
            return Problem("file.unusable", _of_file(error), EXIT_REFUSED)
        case _:
            return None


def _answered(error: ApiError) -> Problem:
    from visitcal.errors import ServerError

    exit_code = EXIT_UNREACHABLE if isinstance(error, ServerError) else EXIT_REFUSED
    places = [
        f"{place.get('pointer') or place.get('parameter') or ''}: {place.get('detail', '')}" for place in error.errors
    ]
    hint = error.hint
    if error.status == 401:
        hint = hint or "Give a token: $VISITCAL_TOKEN or --token-file."
    return Problem(error.code, error.detail, exit_code, hint, places, {"status": error.status, **error.problem})


def _of_file(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"
