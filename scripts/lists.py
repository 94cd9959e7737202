"""Write the lists that follow from options and code: ``python scripts/lists.py``.

Three of them: what an option builds is exported by its package, README's table names every option,
and docs/strategies.md has a row for every strategy. A test compares them with what this writes.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dal.cli.help import listed

ROOT = Path(__file__).resolve().parent.parent
HEAD = "| group | what it is | options |\n|---|---|---|\n"
PAGES = {
    "cluster": "docs/cluster.md",
    "cooperative": "docs/cooperative.md",
    "cooperative/teacher": "docs/cooperative.md#another-teacher-labels-that-spread",
    "difficulty": "docs/hard_pools.md",
    "features": "docs/features.md",
    "initial": "docs/few_labels.md",
    "model": "docs/fine_tuning.md",
    "setting/manager": "docs/streams.md",
    "stopping": "docs/stopping.md",
    "strategy": "docs/strategies.md",
    "trainer": "docs/training.md",
}
"""Pages that say more of a group."""
OPEN = "…"
"""Stands in a new row of docs/strategies.md where somebody has to write something."""


def readme(root: Path) -> str:
    """README.md, with a row for each group of options."""
    text = (root / "README.md").read_text()
    before, head, after = text.partition(HEAD)
    if not head:
        raise SystemExit("error: README.md has lost the head of its table of options; restore it")
    order = (root / "conf" / "config.yaml").read_text()
    groups = sorted(listed([root / "conf"]), key=lambda g: order.find(f"- {g[0].split('/')[0]}:"))
    rows = [_row(*group) for group in groups]
    rest = after[after.index("\n\n") + 1 :]
    return before + head + "\n".join(rows) + "\n" + rest


def _row(group: str, names: list[str], comment: str) -> str:
    title = f"[`{group}`]({PAGES[group]})" if group in PAGES else f"`{group}`"
    return f"| {title} | {comment} | {', '.join(f'`{name}`' for name in names)} |"


def strategies(root: Path) -> str:
    """docs/strategies.md, with a row to be completed at the end of the table for each new one."""
    text = (root / "docs" / "strategies.md").read_text()
    new = [p for p in options(root, "strategy") if f"\n| `{p.stem}` |" not in text]
    for path in new:
        formula = path.read_text().partition("\n")[0].removeprefix("# ").replace("|", "&#124;")
        row = f"| `{path.stem}` | {formula} | {_needs(path)} |{f' {OPEN} |' * 4}\n"
        end = text.rindex("\n| `", 0, text.index("\n## "))  # of the last row, before other tables
        end = text.index("\n", end + 1) + 1
        text = text[:end] + row + text[end:]
    return text


def _needs(path: Path) -> str:
    """What a strategy needs, as the table says it; where it takes settings of others, open."""
    from dal.utils.build import find

    needs = getattr(find(_target(path) or ""), "needs", None)
    named = sorted(repr(need).replace("()", "") for need in needs or ())
    return ", ".join(named) or ("none" if needs == frozenset() else OPEN)


def options(root: Path, group: str = "") -> list[Path]:
    """The files of options."""
    return sorted((root / "conf" / group).rglob("*.yaml"))


def exports(root: Path) -> Iterator[tuple[Path, str, str]]:
    """What options build and packages do not export: file to write to, module, name.

    Beside a class also the function that has the name of the option, as scores have.
    """
    for path in options(root):
        package, _, name = (_target(path) or "").rpartition(".")
        folder = root / package.replace(".", "/")
        init = folder / "__init__.py"
        if not package.startswith("dal.") or not init.is_file():
            continue
        known = ast.literal_eval(
            init.read_text().partition("__all__ = ")[2].partition("]")[0] + "]"
        )
        for module in sorted(folder.glob("*.py")):
            defined = re.findall(r"^(?:class|def) (\w+)", module.read_text(), re.MULTILINE)
            for wanted in (name, path.stem) if name in defined else ():
                if wanted in defined and wanted not in known:
                    yield init, f"{package}.{module.stem}", wanted


def _target(path: Path) -> str | None:
    found = re.search(r"^_target_: (\S+)", path.read_text(), re.MULTILINE)
    return found and found[1]


def main() -> None:
    """Write all of them, and say what has changed."""
    sys.path.insert(0, str(ROOT))
    for init, module, name in dict.fromkeys(exports(ROOT)):
        text = init.read_text()
        text = text.replace("\nfrom dal.", f"\nfrom {module} import {name}\nfrom dal.", 1)
        init.write_text(text.replace("__all__ = [", f'__all__ = ["{name}", ', 1))
        sort = [sys.executable, "-m", "ruff", "--quiet"]
        subprocess.run([*sort, "check", "--select", "I,RUF022", "--fix", str(init)], check=True)
        subprocess.run([*sort, "format", str(init)], check=True)
        print(f"{init.relative_to(ROOT)}: exports {name}")
    for make, name in ((readme, "README.md"), (strategies, "docs/strategies.md")):
        text, path = make(ROOT), ROOT / name
        if text != path.read_text():
            path.write_text(text)
            print(f"{name}: written{f'; complete what says {OPEN}' if OPEN in text else ''}")


if __name__ == "__main__":
    main()
