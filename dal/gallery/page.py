"""A page of pictures: one HTML file in a folder with its pictures, without any script.

All words are escaped: names of classes, contents of samples and settings come from data.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dal.utils.safe_files import make_folder, write_atomically, write_text_atomically

INDEX = "index.html"

_STYLE = """
body { font: 17px/1.5 system-ui, sans-serif; color: #111; max-width: 1240px; margin: 2em auto;
       padding: 0 1em; }
h2 { margin-top: 2.2em; border-bottom: 2px solid #0072B2; break-after: avoid; }
figure { margin: 1.2em 0; break-inside: avoid; }
img { max-width: 100%; height: auto; border: 1px solid #ddd; }
figcaption { color: #333; }
table { border-collapse: collapse; font-size: 15px; }
td, th { border: 1px solid #bbb; padding: .25em .6em; text-align: left; vertical-align: top; }
th { background: #eee; }
code { background: #f2f2f2; padding: .1em .3em; overflow-wrap: anywhere; }
nav a { margin-right: 1em; display: inline-block; }
@media print { nav { display: none; } body { margin: 0; font-size: 10.5pt; }
               img { max-height: 21.5cm; } h2 ~ p { break-after: avoid; } }
"""


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        name: Its file name.
        content: The file.
        caption: What it shows, in a sentence or two.
        command: What makes the same, on the command line; empty for nothing.
    """

    name: str
    content: bytes
    caption: str
    command: str = ""


@dataclass(frozen=True)
class Table:
    """Words in rows.

    Attributes:
        head: Names of the columns.
        rows: Their cells.
        caption: What it shows.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        text: Paragraphs.
        parts: What is shown, in order.
    """

    title: str
    text: Sequence[str]
    parts: Sequence[Picture | Table] = field(default_factory=list)


def write_page(folder: Path, title: str, text: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write the pictures, then the page.

    Returns:
        The page's file.

    Raises:
        OSError: A file cannot be written.
    """
    make_folder(folder)
    for section in sections:
        for part in section.parts:
            if isinstance(part, Picture):
                _write(folder / part.name, part.content)
    path = folder / INDEX
    write_text_atomically(path, page(title, text, sections))
    return path


def page(title: str, text: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as HTML."""
    links = "".join(
        f'<a href="#s{number}">{html.escape(section.title)}</a>'
        for number, section in enumerate(sections, 1)
    )
    body = [f"<h1>{html.escape(title)}</h1>", *map(_paragraph, text), f"<nav>{links}</nav>"]
    for number, section in enumerate(sections, 1):
        body.append(f'<h2 id="s{number}">{html.escape(section.title)}</h2>')
        body += map(_paragraph, section.text)
        body += [_picture(p) if isinstance(p, Picture) else _table(p) for p in section.parts]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _picture(picture: Picture) -> str:
    name, caption = html.escape(picture.name), html.escape(picture.caption)
    command = f"<br><code>{html.escape(picture.command)}</code>" if picture.command else ""
    return (
        f'<figure><a href="{name}"><img src="{name}" alt="{caption}"></a>'
        f"<figcaption>{caption}{command}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    caption = f"<figcaption>{html.escape(table.caption)}</figcaption>" if table.caption else ""
    return f"<figure><table><tr>{head}</tr>\n{rows}</table>{caption}</figure>"


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content), sync=False)
