"""People answer on the labeling page: what keys, buttons and fingers do, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Asking, chromium, enter, press, text_source, wait_for_item
from waiting import Limit


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def _note(page: Any) -> str:
    return str(page.inner_text("#note"))


def test_keys_answer_and_advance_and_the_run_gets_the_answers(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path, rounds=2) as asking:
        page = enter(browser, asking)
        keys = [str(digit) for digit in asking.targets[:3]]
        press(page, *keys, "n", " ")
        assert page.inner_text("#between h2") == "All 5 items of yours are answered"
        assert [entry.get("labels", entry) for entry in asking.said] == [
            *([key] for key in keys), {"none": True}, {"unsure": True},
        ]  # fmt: skip
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-mode=train]")
        page.wait_for_selector("#epoch")
        assert page.inner_text("#epoch") == "epoch 3 · train loss 0.25"
        asking.train.set()
        wait_for_item(page)
        page.wait_for_function(
            "() => document.querySelector('#note').textContent.includes('round 1')"
        )
        assert page.inner_text("#count") == "0 of 5"
        assert "test accuracy 0.500 at 10, 0.750 at 15 labels" in page.inner_text("#curve")
        press(page, "1", "2", "3", "4", "5")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-mode=done]")
        assert "the budget is spent" in page.inner_text("#between")
    first = asking.answers[0]
    assert first.targets.tolist() == [*asking.targets[:3], -2, first.targets[4].item()]
    assert first.abstained is not None
    assert first.abstained.tolist() == [False] * 4 + [True]
    assert first.annotators == ["Ada"] * 5
    assert first.seconds is not None
    assert bool(torch.all(first.seconds > 0))
    assert len(asking.answers) == 2


def test_the_next_item_comes_after_the_server_has_the_answer(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        held: list[Any] = []
        page.route("**/api/answer", lambda route: held.append(route))
        page.keyboard.press("7")
        page.wait_for_selector("#classes button[aria-pressed=true]")
        assert _note(page) == "Saving: 7 …"
        page.keyboard.press("3")  # the next one is not seen yet: it cannot be meant
        page.wait_for_timeout(300)
        assert len(held) == 1
        assert page.get_attribute("#stage", "aria-label") == "Item 1 of 5"
        held[0].continue_()
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        assert _note(page) == "Saved: 7."
        assert asking.said == [{"labels": ["7"]}]


def test_what_comes_next_is_fetched_before_it_is_needed(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        wait = "() => performance.getEntriesByType('resource').filter(isPicture).length >= 5"
        picture = "(entry) => entry.name.includes('/api/image/')"
        page.wait_for_function(wait.replace("isPicture", picture))
        page.route("**/api/{sample,image}/**", lambda route: route.abort())
        press(page, "1", "2")  # what is here already needs no server
        assert page.locator("#stage img").count() == 1


def test_undo_goes_back_without_limit_and_restores_what_was_changed(
    browser: Any, tmp_path: Path
) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        press(page, "1", "2", "3")
        page.click("#strip li:nth-child(2) button")  # the second answer
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        assert page.inner_text("#classes button[aria-pressed=true] .name") == "2"
        press(page, "9")
        assert page.get_attribute("#stage", "aria-label") == "Item 4 of 5"
        page.keyboard.press("Backspace")
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        assert page.inner_text("#classes button[aria-pressed=true] .name") == "2"
        for place in (3, 2, 1):
            page.keyboard.press("Backspace")
            page.wait_for_selector(f"#stage[aria-label='Item {place} of 5']")
        page.wait_for_function("() => document.querySelector('#count').textContent === '0 of 5'")
        page.keyboard.press("Backspace")
        page.wait_for_function(
            "() => document.querySelector('#note').textContent.includes('nothing')"
        )
        said = [entry and entry["labels"][0] for entry in asking.said]
        assert said == ["1", "2", "3", "9", "2", None, None, None]


def test_undo_works_after_the_page_was_loaded_anew(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        press(page, "1", "2")
        page.reload()
        wait_for_item(page)
        assert page.get_attribute("#stage", "aria-label") == "Item 3 of 5"
        page.keyboard.press("Backspace")
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        assert asking.said[-1] is None


def test_held_keys_and_keys_for_others_answer_nothing(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        for event in (
            {"key": "1", "ctrlKey": True},
            {"key": "1", "altKey": True},
            {"key": "1", "metaKey": True},
            {"key": "1", "isComposing": True},
            {"key": "Process", "keyCode": 229},
            {"key": "1", "repeat": True},
        ):
            page.evaluate(
                """event => document.querySelector('#stage').dispatchEvent(
                    new KeyboardEvent('keydown', {bubbles: true, cancelable: true, ...event}))""",
                event,
            )
        page.wait_for_timeout(150)
        assert asking.said == []
        page.keyboard.down("4")  # a held key: down again and again, with repeat
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        for _ in range(3):
            page.keyboard.down("4")
        page.wait_for_timeout(150)
        page.keyboard.up("4")
        assert asking.said == [{"labels": ["4"]}]


def test_keys_of_other_keyboards(browser: Any, tmp_path: Path) -> None:
    names = tuple("abcdefghij")
    with Asking(tmp_path, class_names=names) as asking:
        page = enter(browser, asking)
        meaning = """([event, digits]) => import('/static/keys.js').then(({meaning}) => {
            const names = digits ? '0123456789' : 'abcdefghij';
            const classes = [...names].map((name) => ({name, key: name}));
            const keys = {none: ['n', '-'], unsure: [' '], undo: ['Backspace'], next: ['Enter']};
            return meaning(event, {classes, keys}, '');
        })"""

        def means(digits: bool, **event: Any) -> Any:
            return page.evaluate(meaning, [event, digits])

        assert means(False, key="C", code="KeyC") == {"do": "class", "label": 2}  # caps lock
        assert means(False, key="с", code="KeyC") == {"do": "class", "label": 2}  # Cyrillic
        assert means(True, key="à", code="Digit0") == {"do": "class", "label": 0}  # French
        assert means(True, key="-", code="Minus") == {"do": "zoom", "factor": 0.8}
        assert means(True, key="N", code="KeyN") == {"do": "none"}
        assert means(True, key="F5", code="F5") is None


def test_several_labels_toggle_and_enter_goes_on(browser: Any, tmp_path: Path) -> None:
    names = ("sky", "water", "road", *"abcdefg")
    with Asking(tmp_path, class_names=names, multilabel=True) as asking:
        page = enter(browser, asking)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('#note').textContent.startsWith('Nothing')"
        )
        for key in "1233":
            page.keyboard.press(key)
        assert page.locator("#classes button[aria-pressed=true]").count() == 2
        press(page, "Enter", "n", " ")
        assert asking.said == [{"labels": ["sky", "water"]}, {"none": True}, {"unsure": True}]


@pytest.mark.parametrize("last", ["neg", "automobile"])
def test_a_guess_leaves_the_name_of_its_class_whole(
    browser: Any, tmp_path: Path, last: str
) -> None:
    names = *(f"po{letter}" for letter in "abcdefghi"), last
    with Asking(tmp_path, class_names=names, guess=True) as asking:
        page = enter(browser, asking, viewport={"width": 1280, "height": 800})
        assert page.locator(".guess:visible").count() == 1
        height = "() => document.querySelector('#classes button:last-child .name').offsetHeight"
        assert page.evaluate(height) < 30  # one line


def test_thanks_are_for_those_who_answered_and_the_end_is_no_alarm(
    browser: Any, tmp_path: Path
) -> None:
    with Asking(tmp_path, rounds=1, reason="budget") as asking:
        page = enter(browser, asking)
        press(page, *"12345")
        head = page.locator(".tally thead th").all_inner_texts()
        assert head == ["Your answer", "Items"]
        page.keyboard.press("Enter")
        page.wait_for_selector("#between h2:has-text('Thank you. The model is training')")
        page.reload()
        page.wait_for_selector("#between h2:has-text('The model is training')")
        assert "Thank you" not in page.inner_text("#between")
        asking.train.set()
        page.wait_for_selector("body[data-mode=done]")
    assert "The budget is spent." in page.inner_text("#between")
    page.wait_for_timeout(2500)  # the server is gone: two questions for news fail
    assert page.is_hidden("#banner")


def test_last_answers_are_pictures_after_a_reload_too(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        press(page, "1", "2")
        page.reload()
        wait_for_item(page)
        page.wait_for_function("() => document.querySelectorAll('#strip .thumb img').length === 2")


def test_pace_and_time_left_belong_together(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path, size=8) as asking:
        asking.train.set()
        page = enter(browser, asking)
        pace = "() => document.querySelector('#pace').textContent"
        press(page, "1")
        page.wait_for_timeout(3000)
        press(page, "2")
        page.wait_for_function(f"{pace}.includes('left')")
        said = re.fullmatch(r"(\d+) a minute · about (\d+) s left", page.evaluate(pace))
        assert said is not None
        assert int(said[2]) == pytest.approx(60 * 6 / int(said[1]), abs=7)
        press(page, *"345678")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#count').textContent === '0 of 8'")
        assert page.evaluate(pace) == ""  # nothing is known of this question yet


def test_names_and_texts_of_others_are_shown_as_text(browser: Any, tmp_path: Path) -> None:
    evil = "<script>window.hurt = 1</script>", "<img src=x onerror=window.hurt=1>"
    source = text_source("<b onmouseover=window.hurt=1>bold</b>")
    with Asking(tmp_path, source, class_names=evil) as asking:
        page = enter(browser, asking, name="<i>Eve</i>")
        assert page.locator("#classes .name").all_inner_texts() == list(evil)
        assert "<b onmouseover=window.hurt=1>bold</b>" in page.inner_text("#stage p.text")
        press(page, "1", "2")
        assert page.inner_text("#note") == f"Saved: {evil[1]}."
        assert page.locator("#strip li .name").all_inner_texts() == list(reversed(evil))
        assert page.evaluate("window.hurt") is None
        assert page.locator("main b, main i, main script").count() == 0


def test_two_people_share_and_see_where_they_disagree(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path, size=2, annotators_per_sample=2) as asking:
        ada, bea = enter(browser, asking, "Ada"), enter(browser, asking, "Bea")
        press(ada, "1", "2")
        ada.wait_for_selector("#between:has-text('2 items of the question wait for more answers')")
        press(bea, "1", "3")
        bea.wait_for_selector("#differ:not([hidden])")
        ada.wait_for_selector("#differ:not([hidden])")
        assert ada.locator("#differences li").all_inner_texts() == ["Ada: 2 · Bea: 3"]
        assert bea.locator("#persons li").count() == 2
        bea.click("#differences button")
        bea.wait_for_selector("#stage[aria-label='Item 2 of 2']")
        press(bea, "2")
        ada.wait_for_selector("#differ", state="hidden")
        ada.wait_for_selector("#give")
        ada.keyboard.press("Enter")
        ada.wait_for_selector("body[data-mode=train]")
        bea.wait_for_selector("body[data-mode=train]")
    assert sorted(asking.answers[0].annotators or []) == ["Ada", "Ada", "Bea", "Bea"]


def test_one_question_is_divided_among_people(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path, size=6) as asking:
        ada, bea = enter(browser, asking, "Ada"), enter(browser, asking, "Bea")
        bea.wait_for_selector("#people:not([hidden])")
        limit = Limit(60, lambda: asking.log)
        while ada.get_attribute("body", "data-mode") == "ask":
            limit.check()
            press(ada, "1")
            if bea.get_attribute("body", "data-mode") == "ask":
                press(bea, "2")
            ada.wait_for_timeout(400)  # the news of who has what
        assert {entry["name"] for entry in asking.log} == {"Ada", "Bea"}
        assert len(asking.said) == 6


def test_handing_in_early_says_what_is_missing(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path, size=10, enough=0.8) as asking:
        page = enter(browser, asking)
        press(page, "1", "2")
        page.click("#end")
        assert page.inner_text("#between h2") == "8 items of yours have no answer yet"
        assert page.locator("#anyway").count() == 0  # two may stay open, not eight
        page.keyboard.press("Enter")  # goes on, and does not hand in
        wait_for_item(page)
        press(page, *"345678")
        page.click("#end")
        page.click("#anyway")
        page.wait_for_selector("body[data-mode=train]")
    assert len(asking.answers[0].indices) == 8


def test_a_page_left_open_moves_to_the_new_question(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        asking.train.set()
        old, new = enter(browser, asking), enter(browser, asking)
        press(new, *"12345")
        new.keyboard.press("Enter")
        old.wait_for_function("() => document.querySelector('#count').textContent === '0 of 5'")
        wait_for_item(old)
        old.wait_for_function(
            "() => document.querySelector('#note').textContent.includes('round 1')"
        )
        press(old, "6")
        assert asking.log[-1]["question"] == "round_0001"


def test_an_item_answered_in_another_window_is_not_asked_again(
    browser: Any, tmp_path: Path
) -> None:
    with Asking(tmp_path) as asking:
        one, two = enter(browser, asking), enter(browser, asking)
        press(one, "1")
        two.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        assert "another window" in _note(two)


def test_guesses_are_off_unless_the_run_was_started_with_them(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        assert page.locator(".guess:visible").count() == 0
        page.click("#options")
        assert "anchors people" in page.inner_text("#options-dialog")
        assert page.is_disabled("#show-guess")
        assert page.is_disabled("#sort-guess")


def test_guesses_can_be_switched_off_and_keys_stay_with_their_classes(
    browser: Any, tmp_path: Path
) -> None:
    with Asking(tmp_path, guess=True, sort_labels=True) as asking:
        page = enter(browser, asking)
        assert "anchors people" in _note(page)
        assert page.locator(".guess:visible").all_inner_texts() == ["guess 90 %"]
        first = page.locator("#classes .name").first
        assert first.inner_text() == "9"  # the likeliest
        press(page, "0")
        page.click("#options")
        page.uncheck("#show-guess")
        page.uncheck("#sort-guess")
        page.keyboard.press("Escape")
        page.reload()
        wait_for_item(page)
        assert page.locator(".guess:visible").count() == 0
        assert first.inner_text() == "0"
        press(page, "1")
        assert asking.said == [{"labels": ["0"]}, {"labels": ["1"]}]


def test_ten_thousand_items_do_not_slow_the_keys(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        took = page.evaluate("""async () => {
            const model = await import('/static/model.js');
            const items = Array.from({length: 10000}, (_, at) => ({id: `q-${at}`, mine: null}));
            model.update({...model.page.state, question: 'q', items});
            const took = [];
            for (let n = 0; n < 5; n++) {
                const start = performance.now();
                model.open();
                model.nextOpen();
                took.push(performance.now() - start);
            }
            return Math.min(...took);
        }""")
        assert took < 50  # comparing each with all takes some 500
