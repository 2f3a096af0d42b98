"""`visitcal completion`: the script that a shell reads once, and that asks this program at each press of the key.

Made by argcomplete, which is kept, reads the parser as it is, serves bash, zsh and fish alike, and can offer what only
the service knows; shtab's scripts are static and leave fish out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from argcomplete.shell_integration import shellcode

from visitcal.exit_codes import EXIT_OK

if TYPE_CHECKING:
    import argparse

    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Print it."""
    script = shellcode(["visitcal"], shell=options.shell)
    if output.is_json:
        output.document({"shell": options.shell, "script": script})
    else:
        output.at_once(script)
    return EXIT_OK
