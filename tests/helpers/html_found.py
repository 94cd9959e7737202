"""What a page of HTML has: its tags, the names of its pictures, its words."""

from __future__ import annotations

from html.parser import HTMLParser


class Found(HTMLParser):
    """Tags and pictures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.pictures, self.text = list[str](), list[str](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(str(dict(attrs)["src"]))

    def handle_data(self, data: str) -> None:
        self.text += data
