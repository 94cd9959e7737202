"""Pages of the documents, followed to the letter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from waiting import completed

ROOT = Path(__file__).parents[2]
DRIVER = """
import glob, re, shlex, sys
from dal.cli import command
for language, code in re.findall(r"```(python|bash)\\n(.*?)```", sys.stdin.read(), re.DOTALL):
    if language == "python":
        exec(compile(code, "page", "exec"), {})
        continue
    for line in code.splitlines():
        sys.argv = [found for word in shlex.split(line) for found in glob.glob(word) or [word]]
        command.main()
"""
"""Does all blocks of the page in one process, so that torch is imported once."""


def followed(page: str, folder: Path) -> str:
    """What all commands and programs of a page say, done one after the other in a folder."""
    return said(ROOT, folder, "-c", DRIVER, given=page)


def said(root: Path, folder: Path, *line: str, given: str = "") -> str:
    """What Python says of a command in a folder, with the dal of a clone; it must end well."""
    done = completed(
        [sys.executable, *line],
        input=given,
        env=os.environ | {"PYTHONPATH": str(root), "DAL_SAVED_DIR": "saved"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
