"""The command line. It starts at once: whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from visitcal.exit_codes import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_UNREACHABLE
from visitcal.grammar import UsageError, parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        0 for success, 1 where the service cannot be reached or fails, 2 for refused input, 3 for a job that did not
        complete, 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    grammar = parser()
    if "_ARGCOMPLETE" in os.environ:
        from argcomplete import autocomplete

        autocomplete(grammar, always_complete_options="long")
    try:
        options = grammar.parse_args(given)
    except UsageError as error:
        _refuse(error, is_json="--json" in given)
        raise SystemExit(EXIT_REFUSED) from None
    return _run(options)


def _refuse(error: UsageError, *, is_json: bool) -> None:
    if is_json:
        from visitcal.problems import usage_problem

        sys.stderr.write(usage_problem(error).as_json())
    else:
        sys.stderr.write(f"{error.usage}{error.prog}: {error}\n`{error.prog} --help` has an example.\n")


def _run(options: argparse.Namespace) -> int:
    from visitcal.output import Output
    from visitcal.problems import problem_of

    output = Output(is_json=options.json)
    try:
        status: int = import_module(options.module).run(options, output)
    except KeyboardInterrupt as interrupt:
        output.complain(str(interrupt) or "interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; so has the place for a traceback
        return EXIT_UNREACHABLE
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        problem.tell(output)
        return problem.exit_code
    return status


if __name__ == "__main__":
    sys.exit(main())
