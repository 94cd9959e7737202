"""What the labeling page does when something is in the way: no answer is lost, none is doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Asking, chromium, enter, press, wait_for_item

ANSWER = "**/api/answer"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def _banner(page: Any) -> str:
    page.wait_for_selector("#banner:not([hidden])")
    return str(page.inner_text("#trouble"))


def _goes_on(page: Any, item: str = "Item 2 of 5") -> None:
    page.wait_for_selector(f"#stage[aria-label='{item}']")
    page.wait_for_selector("#banner", state="hidden")


def test_a_server_that_is_gone_is_told_and_the_answer_kept(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        page.context.set_offline(True)
        page.keyboard.press("7")
        said = _banner(page)
        assert "does not answer" in said
        assert "Not saved yet: “7”" in said
        page.context.set_offline(False)
        _goes_on(page)
        assert asking.said == [{"labels": ["7"]}]


def test_an_answer_whose_receipt_was_lost_is_written_once(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        lost: list[int] = []

        def lose(route: Any) -> None:
            lost.append(route.fetch().status)
            route.abort() if len(lost) < 3 else route.continue_()

        page.route(ANSWER, lose)
        page.keyboard.press("7")
        _goes_on(page)
        assert lost == [200, 200, 200]
        assert asking.said == [{"labels": ["7"]}]


def test_an_unsent_answer_outlives_the_page(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        page.route(ANSWER, lambda route: route.abort())
        page.keyboard.press("7")
        _banner(page)
        assert asking.said == []
        page.unroute(ANSWER)
        page.route(ANSWER, lambda route: route.continue_())
        page.reload()
        wait_for_item(page)
        assert page.get_attribute("#stage", "aria-label") == "Item 2 of 5"
        assert asking.said == [{"labels": ["7"]}]
        assert page.evaluate("Object.keys(localStorage).filter(k => k.includes('unsent'))") == []


def test_a_full_disk_is_told_in_the_words_of_the_server(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        full = {"error": "the disk is full; the answer is not saved yet"}
        page.route(ANSWER, lambda route: route.fulfill(status=507, json=full))
        page.keyboard.press("7")
        assert "the disk is full" in _banner(page)
        page.unroute(ANSWER)
        page.evaluate("document.querySelector('#again').click()")  # hidden if it was faster
        _goes_on(page)
        assert asking.said == [{"labels": ["7"]}]


def test_an_answer_to_a_closed_question_is_not_taken_and_told(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        late, other = enter(browser, asking), enter(browser, asking)
        late.route("**/api/state*", lambda route: route.abort())  # it hears no news
        late.wait_for_timeout(100)
        press(other, *"12345")
        other.keyboard.press("Enter")
        other.wait_for_selector("body[data-mode=train]")
        late.keyboard.press("7")
        late.wait_for_selector("#note.bad")
        assert late.inner_text("#note") == "Not taken: 7. The question was closed before."
        late.unroute("**/api/state*")
        late.wait_for_selector("body[data-mode=train]")
        assert len(asking.said) == 5


def test_a_lost_cookie_is_told_and_the_address_lets_in_again(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        page.context.clear_cookies()
        page.keyboard.press("7")
        assert "Open the address" in _banner(page)
        page.context.new_page().goto(asking.address)  # in another tab
        _goes_on(page)
        assert asking.said == [{"labels": ["7"]}]


def test_a_name_that_the_server_cannot_use_is_asked_for_again(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = browser.new_context().new_page()
        page.goto(asking.address)
        page.fill("#name", "Ada;Bea")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#name-reason').textContent !== ''")
        page.fill("#name", "Ada")
        page.keyboard.press("Enter")
        wait_for_item(page)


def test_a_killed_server_started_anew_goes_on_with_the_page_left_open(
    browser: Any, tmp_path: Path
) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        press(page, "1", "2")
        page.route("**/api/**", lambda route: route.abort())  # no word of its end comes through
        page.wait_for_timeout(100)
    page.keyboard.press("3")
    assert "does not answer" in _banner(page)
    with Asking(tmp_path) as asking:
        page.unroute("**/api/**")
        _goes_on(page, "Item 4 of 5")
        press(page, "4")
        page.keyboard.press("Backspace")
        page.wait_for_selector("#stage[aria-label='Item 4 of 5']")
        said = [entry and entry["labels"][0] for entry in asking.said]
        assert said == ["1", "2", "3", "4", None]


def test_a_run_that_was_ended_and_started_anew_goes_on(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        press(page, "1")
    page.wait_for_selector("body[data-mode=failed]")
    page.keyboard.press("2")  # nothing is asked: it answers nothing
    with Asking(tmp_path) as asking:
        _goes_on(page)
        wait_for_item(page)
        press(page, "3")
        assert [entry["labels"][0] for entry in asking.said] == ["1", "3"]


def test_seconds_are_those_that_the_person_looked(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = browser.new_context().new_page()
        page.clock.install()
        page.goto(asking.address)
        page.fill("#name", "Ada")
        page.keyboard.press("Enter")
        wait_for_item(page)
        page.clock.run_for(3_000)
        page.mouse.move(50, 50)
        page.clock.run_for(1_000_000)  # away from the desk: two minutes count
        page.keyboard.press("1")
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        page.clock.run_for(5_000)
        page.keyboard.press("2")
        page.wait_for_selector("#stage[aria-label='Item 3 of 5']")
        first, second = (entry["seconds"] for entry in asking.log)
        assert first == pytest.approx(123, abs=5)
        assert second == pytest.approx(5, abs=3)
