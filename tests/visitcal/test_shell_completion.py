"""Completion as shells have it: bash reads the script and is asked what it offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from visitcal import cli

ASK = """
set -u
source <(visitcal completion bash)
COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
[[ "$1" == *" " ]] && { COMP_WORDS+=(""); COMP_CWORD=$((COMP_CWORD + 1)); }
COMPREPLY=()
$(complete -p visitcal | sed 's/.*-F \\([^ ]*\\).*/\\1/') visitcal
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(line: str) -> set[str]:
    """What bash has in COMPREPLY."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "VISITCAL_URL": "http://127.0.0.1:1"}
    asked = subprocess.run(
        ["bash", "-c", ASK, "bash", line], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    assert asked.stderr == ""
    return {word.strip() for word in asked.stdout.split("\n") if word.strip()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_and_choices() -> None:
    assert offered("visitcal st") == {"status"}
    assert {"serve", "simulate", "status", "submit"} == offered("visitcal s")
    assert offered("visitcal submit --call") == {"--callback"}
    assert offered("visitcal token create --scope ") == {"read", "submit", "admin"}
    assert offered("visitcal completion f") == {"fish"}
    assert offered("visitcal submit a.fits --refcat n") == {"none"}  # the service does not answer


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "visitcal" in script
    assert {"bash": "complete ", "zsh": "compdef", "fish": "complete --command visitcal"}[shell] in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=30)
