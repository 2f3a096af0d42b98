"""The frame around every page: navigation, colours, keyboard, narrow screens, problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.conftest import is_narrow

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import Faults


def test_an_address_without_a_page_is_a_problem_page(
    page: Page, faults: Faults, look: Callable[[Page, str], None], axe: Callable[[Page], None]
) -> None:
    faults.allow(r"status of 422")
    answer = page.goto("/queue?no=1")
    assert answer is not None
    page.goto("/")
    look(page, "tonight-first")
    assert is_narrow(page)
    axe(page)
