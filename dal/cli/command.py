"""The command ``dal``: finds out which of its parts is meant, and imports that part only."""

from __future__ import annotations

import difflib
import importlib
import os
import sys

import dal

COMMANDS = {
    "train": ("config", "run active learning; given again, a command goes on where it stopped"),
    "label": ("label", "label what a run waits for on a page in the browser; it goes on meanwhile"),
    "predict": ("predict", "predict files by the model of a run, into a table"),
    "labels": ("labels", "write the labels that a run knows as a table, for other runs and tools"),
    "status": ("status", "list runs with their state and, if they failed, the reason"),
    "report": ("report", "compare the strategies of many runs: tables, figures, tests over seeds"),
    "audit": ("audit", "how good a run's models are by its audit, and whether random was better"),
    "replay": ("replay", "score the rounds of a run again, and draw why samples were picked"),
    "gallery": ("gallery", "pictures that explain: of every strategy, or of a run of your own"),
}
"""Each part's module in `dal.cli`, whose ``main`` is called, and what it does."""

COMPLETION = ("-sc", "--shell-completion")
"""Hydra's flags for completion on TAB."""


def main() -> None:
    """Do what the command line asks for.

    Raises:
        SystemExit: With code 1 after an error.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        sys.stdout.write(overview())
    elif name == "--version":
        sys.stdout.write(f"dal {dal.__version__}\n")
    elif name in COMPLETION or (name == "train" and rest[:1] and rest[0] in COMPLETION):
        complete([word for word in (name, *rest) if word != "train"])
    elif name in COMMANDS:
        sys.argv = [f"dal {name}", *rest]
        importlib.import_module(f"dal.cli.{COMMANDS[name][0]}").main()
    else:
        raise SystemExit(f"error: there is no command {name}; {_remedy(name)}")


def overview() -> str:
    """What the command can do, in words."""
    listed = "".join(f"  {name:<8} {does}\n" for name, (_, does) in COMMANDS.items())
    return (
        "dal: deep active learning in PyTorch.\n\n"
        f"usage: dal COMMAND ...\n\n{listed}\n"
        "examples:\n"
        "  dal train strategy=instability\n"
        "  dal train --help                   every group, option and setting\n"
        "  dal report saved --out report\n"
        "  dal predict saved/RUN photos --out predictions.csv\n\n"
        "dal COMMAND --help says more of each, dal --version which version this is.\n"
        "Run directories go to saved/ in the current folder, or to $DAL_SAVED_DIR;\n"
        "data to ~/.cache/dal, or to $DAL_DATA_DIR.\n"
    )


def complete(arguments: list[str]) -> None:
    """Answer a shell that completes a command line, whose words stand in ``COMP_LINE``.

    Hydra completes the settings of ``dal train``; it knows nothing of a word between the command
    and its settings, so that word is taken out.
    """
    if any(word.startswith("query=") for word in arguments):
        command, _, rest = os.environ.get("COMP_LINE", "").lstrip().partition(" ")
        name, ended, settings = rest.lstrip().partition(" ")
        if not ended:
            matching = [known for known in COMMANDS if known.startswith(name)]
            sys.stdout.write(" ".join(matching) + "\n")
            return
        if name != "train" or settings.rpartition(" ")[2].startswith("-"):
            return  # the shell completes names of files itself
        os.environ["COMP_LINE"] = f"{command} {settings}"
    sys.argv = ["dal", *arguments]
    importlib.import_module("dal.cli.config").main()


def _remedy(name: str) -> str:
    if "=" in name or name in ("-m", "--multirun"):
        return f"dal train {name} ... runs active learning"
    close = difflib.get_close_matches(name, COMMANDS, 1)
    return f"did you mean {close[0]}?" if close else f"choose from {', '.join(COMMANDS)}"
