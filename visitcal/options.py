"""Values of command-line options that several commands take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

__all__ = [
    "COMPANION_ROLES",
    "OptionError",
    "companion_files",
    "held_references",
    "json_object",
    "key_values",
    "reference_names",
    "token_of",
]


COMPANION_ROLES = ("mask", "variance", "weight", "ivar", "sigma", "field", "illumination")


class OptionError(ValueError):
    """An option has a value that cannot be used."""


def json_object(text: str | None) -> dict[str, Any]:
    """A JSON object given as text or as the name of a file that holds it.

    Raises
    ------
    OptionError
        Neither.
    """
    if text is None:
        return {}
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except OSError as error:
            raise OptionError(f"--config is neither a JSON object nor a readable file: {error}") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise OptionError(f"--config is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise OptionError("--config is not a JSON object")
    return value


def key_values(pairs: Iterable[str]) -> dict[str, Any]:
    """``key=value`` pairs; a value that is JSON counts as such, anything else as text.

    Raises
    ------
    OptionError
        No ``=`` in a pair.
    """
    values = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not (separator and key):
            raise OptionError(f"{pair!r} is not KEY=VALUE")
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = text
    return values


def companion_files(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Role and file of each ``--companion ROLE=FILE``.

    Raises
    ------
    OptionError
        No such role, or no file.
    """
    pairs = []
    for text in options.companion:
        role, separator, name = text.partition("=")
        if role not in COMPANION_ROLES or not (separator and name):
            raise OptionError(f"{text!r} is not ROLE=FILE with one of the roles {', '.join(COMPANION_ROLES)}")
        pairs.append((role, name))
    return pairs


def reference_names(both: str | None, astrometry: str | None, photometry: str | None) -> dict[str, str]:
    """What serves as reference for astrometry and for photometry; ``none`` where nothing was given."""
    default = both if both is not None else "none"
    return {"astrometry": astrometry or default, "photometry": photometry or default}


def held_references(both: str | None, astrometry: str | None, photometry: str | None) -> dict[str, str]:
    """`reference_names` of a service, which opens no files of ours.

    Raises
    ------
    OptionError
        One is a path.
    """
    names = reference_names(both, astrometry, photometry)
    for name in names.values():
        if "/" in name:
            raise OptionError(
                f"{name} is a file: give it to the service by `visitcal refcat put NAME {name}`, and name it"
            )
    return names


def token_of(path: Path | None) -> str | None:
    """The token in a file; None where no file is named, which leaves it to ``$VISITCAL_TOKEN``.

    Raises
    ------
    OptionError
        The file cannot be read, or holds something else than one word.
    """
    if path is None:
        return None
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--token-file cannot be read: {error}") from error
    if len(words) != 1:
        raise OptionError(f"--token-file: {path} must hold one token and nothing else")
    return words[0]
