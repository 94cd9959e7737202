"""The page: all its pictures are there, and nothing of the data is taken for HTML."""

from __future__ import annotations

from pathlib import Path

from browser import chromium
from html_found import Found

from dal.gallery.page import Picture, Section, Table, page, write_page

EVIL = '<script>alert("x")</script> & "quoted" \'single\''


def test_words_from_data_are_escaped_everywhere() -> None:
    parts = [Picture("a.png", b"", EVIL, EVIL), Table((EVIL,), [(EVIL,)], EVIL)]
    found = Found(page(EVIL, (EVIL,), [Section(EVIL, (EVIL,), parts)]))
    assert "script" not in found.tags
    assert found.text.count(EVIL) == 11


def test_page_has_its_pictures(tmp_path: Path) -> None:
    section = Section("one", ("text",), [Picture("a.png", b"abc", "caption")])
    path = write_page(tmp_path / "new" / "folder", "title", (), [section])
    (name,) = Found(path.read_text()).pictures
    assert (path.parent / name).read_bytes() == b"abc"


def test_page_is_as_wide_as_its_window(tmp_path: Path) -> None:
    sections = [Section(f"{n}: a title of many words, as for a lecture", ()) for n in range(9)]
    path = write_page(tmp_path, "title", (), sections)
    with chromium() as browser:
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
