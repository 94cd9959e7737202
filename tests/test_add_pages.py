"""The pages that show how to add something to dal, followed to the letter in a copy of it."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from pages import said

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("add_a*.md"))
COPIED = ("dal", "conf", "docs", "scripts", "tests", "README.md", "pyproject.toml")
FILE = re.compile(r"\*\*`([^`]+)`\*\*(, at its end:)?\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)
DRIVER = """
import runpy, shlex, sys
for line in sys.stdin.read().splitlines():
    program, *arguments = shlex.split(line)
    print(f"{line}:", flush=True)
    if program == "pytest":
        import pytest
        ended = pytest.main([*arguments, "-p", "no:cacheprovider"])
    else:
        from dal.cli import command
        sys.argv = [program, *arguments]
        ended = command.main()
    if ended:
        sys.exit(f"{line}: {ended}")
"""
"""Does the commands of all pages in one process, so that torch is imported once."""


def lists() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lists", ROOT / "scripts" / "lists.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lists_are_what_follows_from_options_and_code() -> None:
    script, remedy = lists(), "give the command: python scripts/lists.py"
    assert list(script.exports(ROOT)) == [], remedy
    assert script.readme(ROOT) == (ROOT / "README.md").read_text(), remedy
    table = (ROOT / "docs" / "strategies.md").read_text()
    assert script.strategies(ROOT) == table, remedy
    assert f"| {script.OPEN} |" not in table, (
        "docs/strategies.md: write what a strategy is good for"
    )


def commands(page: Path) -> list[str]:
    (block,) = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    return str(block).splitlines()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of dal with what the pages add, of which only the last commands are left to do."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__", "local", "example_package")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    for page in PAGES:
        for name, at_end, content in FILE.findall(page.read_text()):
            path = folder / name
            assert path.exists() == bool(at_end), name
            path.write_text(f"{path.read_text()}\n\n{content}" if at_end else content)
    return folder


def ended(copy: Path, *line: str, given: str = "") -> str:
    """What a command says in the copy."""
    return said(copy, copy, *line, given=given)


def test_pages_work_to_the_letter(copy: Path) -> None:
    assert len(PAGES) == 5
    listed, *left = zip(*map(commands, PAGES), strict=True)
    assert set(listed) == {"python scripts/lists.py"}
    said = ended(copy, "scripts/lists.py")
    for package, name in (
        ("query", "Surprise"),
        ("query", "surprise"),
        ("models", "Tiny"),
        ("data", "circles"),
        ("oracles", "Careless"),
        ("stopping", "Settled"),
    ):
        assert f"dal/{package}/__init__.py: exports {name}\n" in said
        assert re.search(rf'"{name}"', (copy / "dal" / package / "__init__.py").read_text())
    assert "README.md: written\n" in said
    readme = (copy / "README.md").read_text()
    assert all(
        f"`{name}`" in readme for name in ("surprise", "tiny", "circles", "careless", "settled")
    )
    row = r"\n\| `surprise` \| -log max p \| Probs \| … \| … \| … \| … \|\n"
    assert re.search(row, (copy / "docs" / "strategies.md").read_text())
    assert ended(copy, "scripts/lists.py").count("\n") <= 1  # nothing is left but the open row
    lines = [line for row in left for line in row]
    ended(copy, "-c", DRIVER, given="\n".join(lines))
    runs = {"-".join(path.name.split("-")[:3]) for path in (copy / "saved").iterdir()}
    assert runs == {
        "iris-mlp-surprise",
        "digits-tiny-margin",
        "circles-mlp-margin",
        "iris-mlp-margin",
        "iris-mlp-entropy",
    }
    ended(copy, "-m", "ruff", "check", "--quiet", "dal")
    ended(copy, "-m", "ruff", "format", "--quiet", "--check", "dal")
