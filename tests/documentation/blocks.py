"""Blocks of code of the documentation, and how each kind of them is run.

A block is run in its page's order, unless the comment above it says why not: ``<!-- not run: REASON -->``. The comment
may also say how: ``<!-- run: ends with 3 -->``, ``<!-- run: in the background -->``, or ``<!-- run: parsed -->``, where
each line has to be a command of ours with options that there are.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from markdown_it import MarkdownIt

from service.settings import Settings
from visitcal import Client
from visitcal.grammar import parser
from visitcal.server_process import READY_LINE

__all__ = ["ADDRESS", "REPO", "Block", "World", "blocks_of", "pages"]

REPO = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8470"
_MARK = re.compile(r"<!-- (?P<how>run|not run): (?P<what>[^>]+?) -->\s*")
_EXIT = re.compile(r"ends with (\d+)")


@dataclass(frozen=True)
class Block:
    """A fenced block: ``how`` and ``what`` are those of the comment above it, empty without one."""

    page: str
    line: int
    language: str
    text: str
    how: str = ""
    what: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page that people read."""
    found = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
    return [str(path.relative_to(REPO)) for path in found if "_build" not in path.parts]


def blocks_of(page: str) -> list[Block]:
    """Blocks of a page in order; Sphinx' own directives are none."""
    found = []
    mark = None
    for token in MarkdownIt().parse((REPO / page).read_text()):
        if token.type == "fence" and not token.info.startswith("{"):
            assert token.map is not None
            how, what = (mark["how"], mark["what"]) if mark else ("", "")
            found.append(Block(page, token.map[0] + 1, token.info.strip(), token.content, how, what))
        mark = _MARK.fullmatch(token.content) if token.type == "html_block" else None
    return found


@dataclass
class World:
    """Where the blocks of a page are run: a directory, an environment, a namespace, and what was left running.

    Parameters
    ----------
    directory : Path
        The working directory.
    environment : mapping of str to str
        Variables besides those of this process; ``VISITCAL_URL`` is put in the place of the documented address.
    names : dict
        What Python blocks find, and what they leave.
    """

    directory: Path
    environment: Mapping[str, str]
    names: dict[str, Any] = field(default_factory=dict)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        commands = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        self.environment = {**os.environ, **commands, **self.environment}

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for value in self.names.values():
            if isinstance(value, Client):
                value.close()
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.communicate(timeout=60)

    def run_page(self, page: str) -> int:
        """Run the blocks of a page; returns how many were."""
        runnable = [block for block in blocks_of(page) if block.how != "not run"]
        for block in runnable:
            self.run(block)
        return len(runnable)

    def run(self, block: Block) -> None:
        """Run a block, or read what is data."""
        text = block.text.replace(ADDRESS, self.environment.get("VISITCAL_URL", ADDRESS))
        match block.language:
            case "python":
                exec(compile("\n" * block.line + text, block.page, "exec"), self.names)
            case "sh" if block.what == "in the background":
                self._start(block)
            case "sh" if block.what == "parsed":
                for line in text.splitlines():
                    _parse(line)
            case "sh":
                self._shell(block, text)
            case "toml":
                Settings(**tomllib.loads(text))
            case "yaml":
                yaml.safe_load(text)
            case "json":
                json.loads(text)
            case "ini":
                ConfigParser().read_string(text)
            case "text":
                pass  # nobody types that
            case _:
                raise AssertionError(f"{block}: say in a comment above why a block of '{block.language}' is not run")

    def _shell(self, block: Block, text: str) -> None:
        expected = _EXIT.fullmatch(block.what)
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == (int(expected[1]) if expected else 0), f"{block}\n{ended.stdout}\n{ended.stderr}"

    def _start(self, block: Block) -> None:
        """A service that goes on while the next blocks are run; they find it where it listens."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {block.text}"],
            cwd=self.directory,
            env={**self.environment, "VISITCAL_PORT": "0"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if match := READY_LINE.match(line):
                self.environment = {**self.environment, "VISITCAL_URL": match[1]}
                return
        raise AssertionError(f"{block} ended")


def _parse(line: str) -> None:
    """A command line, without what a shell does with it, as the command itself understands it."""
    inner = re.search(r"<\((.+?)\)", line)
    words = shlex.split(inner[1] if inner else re.split(r"[|>]", line)[0], comments=True)
    while words and "=" in words[0]:
        del words[0]  # a variable
    if words:
        assert words[0] == "visitcal", line
        try:
            parser().parse_args(words[1:])
        except SystemExit as error:
            raise AssertionError(line) from error
