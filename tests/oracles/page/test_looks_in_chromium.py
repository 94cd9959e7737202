"""How the labeling page looks and sounds: contrast, names, sizes, phones, pictures, tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Asking, chromium, enter, press, table_source, text_source, wait_for_item

from dal.data import Dataset, make_source

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LARGE_TYPE = {"viewport": {"width": 640, "height": 400}}  # 1280 x 800 at 200 %
ENOUGH = 4.5  # WCAG 2.2, 1.4.3
FINGER = 44  # px, WCAG 2.2, 2.5.5

# WCAG 2.2: relative luminance and contrast ratio, of each visible piece of text.
CONTRAST = """() => {
    const parse = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
    };
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const color = parse(getComputedStyle(node).backgroundColor);
            if (color.length < 4 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
        if (node.closest(':disabled, script, noscript, .unseen')) continue;
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
        found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim()]);
    }
    return found.sort((x, y) => x[0] - y[0]);
}"""

NAMELESS = """() => [...document.querySelectorAll('button, input, progress, [role], img, dialog')]
    .filter((node) => node.checkVisibility() && !node.closest('[aria-hidden=true]'))
    .filter((node) => !(node.ariaLabel || node.alt || node.textContent.trim()
        || node.labels?.length || node.getAttribute('aria-labelledby') || node.id === 'live'))
    .map((node) => node.outerHTML)"""

TWICE = """() => {
    const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
    return ids.filter((id, at) => ids.indexOf(id) !== at);
}"""

SMALL = """(least) => [...document.querySelectorAll('button')]
    .filter((node) => node.checkVisibility()).map((node) => [node, node.getBoundingClientRect()])
    .filter(([, box]) => box.width < least || box.height < least)
    .map(([node, box]) => `${node.id || node.textContent} ${box.width} ${box.height}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def _check(page: Any) -> None:
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 3
    assert contrasts[0][0] >= ENOUGH, contrasts[:5]
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(TWICE) == []
    wide = "() => document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(wide) <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [{}, PHONE, LARGE_TYPE], ids=["desktop", "phone", "large type"])
def test_all_that_is_written_can_be_read_and_all_buttons_have_names(
    browser: Any, tmp_path: Path, scheme: str, screen: dict[str, Any]
) -> None:
    names = ("airplane", "automobile", "a rather long name of a class, in words", *"abcdefg")
    with Asking(tmp_path, class_names=names, guess=True, sort_labels=True) as asking:
        page = enter(browser, asking, color_scheme=scheme, **screen)
        page.click("#options")
        _check(page)
        page.check("#show-guess")
        page.keyboard.press("Escape")
        press(page, "1", "2", "n")
        page.keyboard.press("Tab")
        _check(page)
        page.click("#strip button >> nth=0")  # a pressed button
        page.wait_for_selector("#none[aria-pressed=true]")
        _check(page)
        page.click("#help")
        _check(page)
        page.keyboard.press("Escape")
        page.context.set_offline(True)
        page.keyboard.press("3")
        page.wait_for_selector("#banner:not([hidden])")
        _check(page)
        page.context.set_offline(False)
        page.wait_for_selector("#banner", state="hidden")
        press(page, "4", " ")
        page.wait_for_selector("#give")
        _check(page)
        page.keyboard.press("Enter")
        page.wait_for_selector("#epoch")
        _check(page)


def test_the_page_works_by_the_tab_key_alone_and_says_what_it_does(
    browser: Any, tmp_path: Path
) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        focus = "() => [document.activeElement.id, document.activeElement.textContent]"
        live = "() => document.querySelector('#live').textContent"
        assert page.evaluate(focus)[0] == "stage"
        for _ in range(4):  # the three of the size, then the first class
            page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate(focus)[1] == "11"  # its key and its name
        style = "() => getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(style) == "solid"
        page.keyboard.press("Space")  # presses the button, and is no "cannot tell"
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        assert page.evaluate(focus)[0] == "stage"
        assert page.evaluate(live) == "Saved: 1. Item 2 of 5."
        assert page.get_attribute("#stage img", "alt") == "The picture to label"
        page.click("#unsure")  # a click leaves no focus behind that Space would press
        page.wait_for_selector("#stage[aria-label='Item 3 of 5']")
        press(page, "2")
        assert asking.said == [{"labels": ["1"]}, {"unsure": True}, {"labels": ["2"]}]


def test_texts_can_be_read_to_the_end_by_keys(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path, text_source("a long text " * 500), size=3) as asking:
        page = enter(browser, asking)
        top = "() => document.querySelector('#stage').scrollTop"
        page.keyboard.press("End")
        bottom = (
            "(({scrollTop, scrollHeight, clientHeight}) => scrollHeight - clientHeight - scrollTop)"
        )
        page.wait_for_function(f"() => {bottom}(document.querySelector('#stage')) < 2")
        press(page, "a")
        assert page.evaluate(top) == 0  # the next one is read from its beginning
        live = page.evaluate("() => document.querySelector('#live').textContent")
        assert "a long text" in live
        assert len(live) < 500


ODD = ["<img src=x onerror=\"document.title='run'\"> &amp;", "good\n\nשלום, עולם", "", "w" * 10**6]


def test_odd_texts_are_shown_as_texts(browser: Any, tmp_path: Path) -> None:
    texts: list[str] = [*ODD, "good", "bad"]
    data = Dataset("texts", texts, ["a", "b", "a", "b", "a", "b"])  # type: ignore[arg-type]
    with Asking(tmp_path, make_source(data, seed=0, kind="none"), size=4) as asking:
        page = enter(browser, asking)
        for text in ODD:
            shown = page.locator("#stage p").text_content()
            assert shown == (text or "(an empty text)")
            assert page.locator("#stage img").count() == 0
            press(page, "a")
        assert page.title() != "run"
        assert "(an empty text)" in page.locator("#strip .thumb").all_text_contents()


def test_rows_are_tables_of_two_columns(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path, table_source(), size=3) as asking:
        page = enter(browser, asking)
        assert page.locator("#stage th[scope=row]").count() == 4
        assert page.locator("#stage tr td").count() == 4


def test_pictures_are_made_larger_by_wheel_keys_and_buttons(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking)
        width = "() => document.querySelector('#stage img').getBoundingClientRect().width"
        start = page.evaluate(width)
        page.keyboard.press("+")
        assert page.evaluate(width) == pytest.approx(1.25 * start)
        page.keyboard.press("-")
        page.hover("#stage")
        page.mouse.wheel(0, -200)
        page.wait_for_function("() => document.querySelector('#stage.zoomed')")
        page.click("#fit")
        assert page.evaluate(width) == pytest.approx(start)
        page.click("#larger")
        assert page.evaluate(width) == pytest.approx(1.5 * start)
        press(page, "1")  # the next picture starts as large as it fits
        assert page.evaluate(width) == pytest.approx(start)


def _touch(page: Any, *steps: list[tuple[float, float]]) -> None:
    """Fingers on the screen: where they are, step by step, then lifted."""
    session = page.context.new_cdp_session(page)
    kinds = ["touchStart", *["touchMove"] * (len(steps) - 1), "touchEnd"]
    for kind, points in zip(kinds, [*steps, []], strict=True):
        touches = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    session.detach()


def test_a_phone_taps_swipes_and_pinches(browser: Any, tmp_path: Path) -> None:
    with Asking(tmp_path) as asking:
        page = enter(browser, asking, **PHONE)
        assert page.evaluate(SMALL, FINGER) == []
        page.tap("#classes button:has-text('7')")
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        wait_for_item(page)
        box = page.locator("#stage").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        _touch(page, [(x - 60, y)], [(x, y + 3)], [(x + 60, y + 5)])  # to the right: back
        page.wait_for_selector("#stage[aria-label='Item 1 of 5']")
        wait_for_item(page)
        assert page.inner_text("#classes button[aria-pressed=true] .name") == "7"
        _touch(page, [(x + 60, y)], [(x, y)], [(x - 60, y)])
        page.wait_for_selector("#stage[aria-label='Item 2 of 5']")
        wait_for_item(page)
        pinch = [[(x - d, y), (x + d, y)] for d in (20, 40, 80)]
        _touch(page, *pinch)
        page.wait_for_selector("#stage.zoomed")
        assert page.evaluate("() => visualViewport.scale") == 1
        _touch(page, [(x + 60, y)], [(x, y)], [(x - 60, y)])  # moves the picture now
        assert page.get_attribute("#stage", "aria-label") == "Item 2 of 5"
        assert asking.said == [{"labels": ["7"]}]
