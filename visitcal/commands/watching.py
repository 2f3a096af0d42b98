"""`visitcal watch`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from visitcal.commands.connection import connected
from visitcal.commands.following import follow_hint
from visitcal.commands.job_parameters import parameters_of, warn_of_no_references
from visitcal.exit_codes import EXIT_OK
from visitcal.options import OptionError
from visitcal.watch.folder import PATTERNS, Folder
from visitcal.watch.memory import Memory, default_path
from visitcal.watch.watcher import Watcher

if TYPE_CHECKING:
    import argparse
    from types import FrameType

    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Submit what lands until SIGTERM or Ctrl-C, which is how it ends well.

    Raises
    ------
    OptionError
        There is no such folder, or somebody else watches it.
    """
    if not options.folder.is_dir():
        raise OptionError(f"{options.folder} is no folder")
    folder = Folder(options.folder, options.pattern or PATTERNS, is_recursive=options.recursive, settle=options.settle)
    state = options.state or default_path(options.folder)
    parameters = {**parameters_of(options), "force": options.force}
    warn_of_no_references(options, output)
    with Memory(state) as memory, connected(options, retries=0) as client:
        watcher = Watcher(client, options.folder, folder, memory, parameters, output, uploads=options.uploads)
        if memory.is_new and not options.all and (count := watcher.leave_alone_what_is_there()):
            output.say(f"left alone, because already there: {count}; --all sends them, too", "dim")
        _stop_on_signals(watcher)
        output.say(f"watching {options.folder} until Ctrl-C", "dim")
        left = watcher.run(options.every)
    if left:
        output.say(f"{follow_hint(left, options.run_id)}; or watch again", "dim")
    if output.is_json:
        output.line({"event": "stopped", "at_work": left})
    return EXIT_OK


def _stop_on_signals(watcher: Watcher) -> None:
    def handle(number: int, _frame: FrameType | None) -> None:
        watcher.stop.set()
        signal.signal(number, signal.SIG_DFL)  # whoever asks twice means it

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
