"""The grammar as a whole: every command has --json, an example that is one, and its place in help and reference."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import pytest

from visitcal import cli
from visitcal.commands.reference import with_reference
from visitcal.grammar import leaves, parser
from visitcal.grammar.options import column_mapping, positive

LEAVES = {leaf.prog: leaf for leaf in leaves(parser())}


def examples(leaf: argparse.ArgumentParser) -> list[list[str]]:
    """What the help of a command shows to type, up to where the shell takes over."""
    found = []
    for line in str(leaf.epilog).splitlines()[1:]:
        words = shlex.split(line.split("<(")[-1], comments=True)
        words = words[: next((n for n, word in enumerate(words) if word[0] in ">|"), len(words))]
        found.append([word.rstrip(")") for word in words])
    return found


def test_there_are_commands() -> None:
    assert {"visitcal submit", "visitcal watch", "visitcal token create", "visitcal completion"} <= LEAVES.keys()


@pytest.mark.parametrize("prog", LEAVES)
def test_every_command_has_json_and_examples_that_parse(prog: str) -> None:
    leaf = LEAVES[prog]
    assert any("--json" in action.option_strings for action in leaf._actions)
    shown = examples(leaf)
    assert shown
    for words in shown:
        assert words[0] == "visitcal"
        options = parser().parse_args(words[1:])
        assert " ".join(words).startswith(prog)
        assert options.module


def test_help_has_every_command_in_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for prog in LEAVES:
        name = prog.split()[1]
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1, name
    assert max(map(len, lines)) <= 90
    assert len(lines) < 45


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("visitcal 0.")


def test_wrong_usage_as_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["submit", "--json"])
    said = capsys.readouterr()
    problem = json.loads(said.err)
    assert (caught.value.code, problem["code"], problem["exit_code"]) == (2, "cli.usage", 2)
    assert "FILE" in problem["detail"]
    assert said.out == ""


def test_reference_is_of_today() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert with_reference(page) == page, "run python -m visitcal.commands.reference docs/cli.md"
    assert all(f"### {prog}\n" in page for prog in LEAVES)
    with pytest.raises(ValueError, match="no marks"):
        with_reference("# Command line")


def test_values_of_options() -> None:
    assert column_mapping("ra=RAJ2000, dec = DE") == {"ra": "RAJ2000", "dec": "DE"}
    assert positive(10)("2.5") == 2.5
    for bad in ("0", "-1", "11", "nan", "x"):
        with pytest.raises(argparse.ArgumentTypeError):
            positive(10)(bad)
