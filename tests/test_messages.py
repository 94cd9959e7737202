"""Settings and options that errors name exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dal.cli.folders import LISTED
from dal.settings import TEXTS

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
GROUPS = ("data", "model", "strategy", "trainer", "oracle", "committee", "initial", "features")
OF_CODE = {"model.eval", "features.flatten", "labels"}  # for people who write code
KEY = re.compile(rf"(?<![\w./@])((?:{'|'.join(GROUPS)}|split|pool)(?:\.[a-z_]\w*)+)")
OPTION = re.compile(rf"(?<![\w./])({'|'.join(GROUPS)}|pool|cluster|trainer/\w+)=([a-z]\w*)")
SETTING = re.compile(r"(?:set|raise|lower|choose|give|use|try) ([a-z_]+)=")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module but for docstrings; what is filled in stands as {}."""
    tree = ast.parse(path.read_text())
    parts = {
        id(part)
        for node in ast.walk(tree)
        for part in (node.values if isinstance(node, ast.JoinedStr) else ())
    }
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            values = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            yield node.lineno, "".join(str(value) for value in values)
        elif isinstance(node, ast.Constant) and id(node) not in parts | alone:
            yield node.lineno, str(node.value)


MESSAGES = [
    (f"{path.relative_to(ROOT)}:{line}", text)
    for path in sorted((ROOT / "dal").rglob("*.py"))
    for line, text in texts(path)
    if " " in text
]


def keys(settings: Any, prefix: str) -> Iterator[str]:
    """All keys of nested settings, with dots."""
    for name, value in settings.items() if isinstance(settings, dict) else ():
        yield prefix + name
        yield from keys(value, f"{prefix}{name}.")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every key that some option has, and what a group is filled with by others."""
    found = {*TEXTS, *GROUPS, *LISTED}
    for path in CONF.rglob("*.yaml"):
        group = ".".join(path.relative_to(CONF).parts[:-1])
        prefix = f"{group}.{path.stem}." if group in LISTED else f"{group}."
        settings = yaml.safe_load(path.read_text()) or {}
        found |= {prefix[:-1], *keys(settings, prefix)}
        for entry in settings.get("defaults", []):
            target = next(iter(entry)) if isinstance(entry, dict) else ""
            found.add(prefix + target.rpartition("@")[2].partition(".")[0])
    return found


def test_keys_that_messages_name_exist(known: set[str]) -> None:
    named = [(place, key) for place, text in MESSAGES for key in KEY.findall(text)]
    assert len(named) > 80
    assert [item for item in named if item[1] not in known | OF_CODE] == []


def test_options_that_messages_name_exist() -> None:
    named = [(place, *found) for place, text in MESSAGES for found in OPTION.findall(text)]
    assert len(named) > 20
    missing = [item for item in named if not (CONF / item[1] / f"{item[2]}.yaml").is_file()]
    assert missing == []


def test_plain_settings_that_remedies_name_exist(known: set[str]) -> None:
    named = [(place, key) for place, text in MESSAGES for key in SETTING.findall(text)]
    assert len(named) > 10
    assert [item for item in named if item[1] not in known | OF_CODE] == []
