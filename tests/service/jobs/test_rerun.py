"""Trees of values over one another."""

from __future__ import annotations

from typing import Any

import pytest

from service.jobs.rerun import merged, news

BASE = {"a": {"b": 1, "c": [1, 2]}, "d": 3}


@pytest.mark.parametrize(
    ("over", "new"),
    [
        ({}, {}),
        ({"a": {"b": 1}}, {}),
        ({"a": {"b": 1, "c": [2]}, "d": 3}, {"a": {"c": [2]}}),
        ({"d": 4, "e": {"f": None}}, {"d": 4, "e": {"f": None}}),
        ({"d": {"g": 1}}, {"d": {"g": 1}}),
    ],
)
def test_news_are_what_changes_something(over: dict[str, Any], new: dict[str, Any]) -> None:
    assert news(over, BASE) == new
    assert merged(BASE, news(over, BASE)) == merged(BASE, over)
    assert news(over, merged(BASE, over)) == {}
