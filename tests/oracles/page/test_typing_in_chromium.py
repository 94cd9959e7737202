"""Where there are more classes than keys, they are found by typing, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Asking, chromium, enter, press


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def test_more_classes_than_keys_are_found_by_typing(browser: Any, tmp_path: Path) -> None:
    names = ("cat", "cattle", "streetcar", "Café", *(f"other {letter}" for letter in "abcdef"))
    names = (*names, *(f"thing {a}{b}" for a in "abcdefg" for b in "abcd"))
    with Asking(tmp_path, class_names=names, size=6) as asking:
        page = enter(browser, asking)
        page.keyboard.type("cat")
        shown = page.locator("#classes button .name").all_inner_texts()
        assert shown == ["cat", "cattle"]
        press(page, "Enter")
        page.keyboard.type("cat")
        press(page, "2")  # the second that is shown
        page.keyboard.type("cafe")
        page.keyboard.press("Backspace")  # takes a letter, not an answer
        assert page.input_value("#filter") == "caf"
        press(page, "Enter", " ", "0")
        assert asking.said == [
            {"labels": ["cat"]}, {"labels": ["cattle"]}, {"labels": ["Café"]},
            {"unsure": True}, {"none": True},
        ]  # fmt: skip
        page.keyboard.press("Backspace")  # nothing is typed: undo
        page.wait_for_selector("#stage[aria-label='Item 5 of 6']")


def test_emptying_the_filter_takes_back_no_answer(browser: Any, tmp_path: Path) -> None:
    names = tuple(f"{a}{b}" for a in "abcdefg" for b in "abcdef")
    with Asking(tmp_path, class_names=names) as asking:
        page = enter(browser, asking)
        page.keyboard.type("ba")
        press(page, "Enter")
        page.keyboard.type("ab")
        for _ in range(4):
            page.keyboard.press("Backspace")
        assert page.input_value("#filter") == ""
        assert "The filter is empty" in page.inner_text("#note")
        page.wait_for_timeout(150)
        assert asking.said == [{"labels": ["ba"]}]
        page.keyboard.press("Escape")
        page.keyboard.press("Backspace")
        page.wait_for_selector("#stage[aria-label='Item 1 of 5']")
        assert asking.said == [{"labels": ["ba"]}, None]


@pytest.mark.parametrize("numbered", [False, True])
def test_the_dialog_says_what_keys_do_where_classes_are_typed(
    browser: Any, tmp_path: Path, numbered: bool
) -> None:
    names = tuple(f"{a}{b}" for a in "abcdefg" for b in ("123456" if numbered else "abcdef"))
    with Asking(tmp_path, class_names=names) as asking:
        page = enter(browser, asking)
        page.click("#help")
        said = page.inner_text("#keys")
        assert ("1 to 9" not in said) == numbered
        assert ("letters, digits" in said) == numbered
        assert "cannot tell, while nothing is typed" in said
