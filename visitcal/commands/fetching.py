"""`visitcal fetch`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from visitcal.commands.connection import connected
from visitcal.display import file_size
from visitcal.exit_codes import EXIT_OK

if TYPE_CHECKING:
    import argparse

    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Fetch products, one after another; a line for each file."""
    fetched = []
    with connected(options) as client:
        result = client.job(options.job).result
        wanted = options.products or [product["id"] for product in result.products()]
        options.out.mkdir(parents=True, exist_ok=True)
        for count, name in enumerate(wanted, 1):
            console = output.console
            with console.status(f"{name} ({count} of {len(wanted)})") if console.is_terminal else nullcontext():
                path = result.download(name, options.out, file_format=options.format)
            size = path.stat().st_size
            fetched.append({"product": name, "path": str(path), "size": size})
            output.say(f"{path}  {file_size(size)}")
    if output.is_json:
        output.document(fetched)
    return EXIT_OK
