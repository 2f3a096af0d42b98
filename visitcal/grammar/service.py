"""Commands that run a service, and those around the command line itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from visitcal.grammar.options import add_data_dir, positive

if TYPE_CHECKING:
    from visitcal.grammar.parser import Commands

__all__ = ["add"]

LONGEST_LIFE_DAYS = 36_500


def add(commands: Commands) -> None:
    """Add them."""
    commands.group("Run a service")
    _add_processes(commands)
    _add_token(commands)
    commands.group("This command line")
    completion = commands.add(
        "completion",
        "print the script that completes commands, options, jobs and catalogues",
        module="visitcal.commands.completion",
        example="source <(visitcal completion bash)   # in ~/.bashrc; zsh: in ~/.zshrc\n"
        "visitcal completion fish > ~/.config/fish/completions/visitcal.fish",
    )
    completion.add_argument("shell", choices=["bash", "zsh", "fish"], help="which shell")


def _add_processes(commands: Commands) -> None:
    module = "visitcal.commands.serving"
    serve = commands.add(
        "serve",
        "run the HTTP API with its page, and a worker",
        module=module,
        example="visitcal serve --data-dir /srv/visitcal",
    )
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (default: 8470)")
    serve.add_argument(
        "--worker",
        action=argparse.BooleanOptionalAction,
        help="start a worker beside the API, or leave it to others (default: start one on loopback)",
    )
    worker = commands.add("worker", "run a worker", module=module, example="visitcal worker --slots 4")
    worker.add_argument("--slots", type=int, help="jobs to run at a time (default: 1)")
    migrate = commands.add(
        "migrate", "bring the databases to the present version", module=module, example="visitcal migrate"
    )
    warmup = commands.add(
        "warmup", "compile the kernels, so that the first job need not", module=module, example="visitcal warmup"
    )
    doctor = commands.add(
        "doctor",
        "look whether this installation has what it needs",
        module="visitcal.commands.doctor",
        example="visitcal doctor",
    )
    for command in (serve, worker, migrate, warmup, doctor):
        add_data_dir(command)


def _add_token(commands: Commands) -> None:
    actions = commands.add_with_actions(
        "token",
        "make, list and revoke tokens of the service, on its database",
        module="visitcal.commands.tokens",
        example="visitcal token create --scope submit --name pipeline > token\n"
        "visitcal token list --owner ada\nvisitcal token revoke TOKEN_ID",
    )
    create = actions.add("create", "make a token and show it, this once")
    create.add_argument("--name", default="made on the command line", help="label for people")
    create.add_argument("--owner", help="whose it is (default: the service's own owner)")
    create.add_argument(
        "--scope",
        action="append",
        choices=["read", "submit", "admin"],
        help="what it opens: submit lets read too, admin everything (default: read)",
    )
    life = create.add_mutually_exclusive_group()
    life.add_argument("--days", type=positive(LONGEST_LIFE_DAYS), help="its life (default: 90)")
    life.add_argument("--no-expiry", action="store_true", help="it is good until it is revoked")
    listing = actions.add("list", "show tokens, without their secrets")
    listing.add_argument("--owner", help="only theirs")
    revoke = actions.add("revoke", "end a token, and those that were made with it")
    revoke.add_argument("id", metavar="TOKEN_ID", help="tok_..., as list shows it")
    for action in (create, listing, revoke):
        add_data_dir(action)
