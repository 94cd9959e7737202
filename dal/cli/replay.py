"""Replay a run that was made with keep_models=true: ``dal replay saved/RUN``.

Scores every round again in float64 with the models of the run, confirms its picks, counts how many
of them other strategies would have picked, and draws why the samples of a round were picked.
"""

import argparse
import sys
from pathlib import Path

from dal.cli.config import strategy_settings
from dal.cli.folders import config_dir, with_own


def main() -> None:
    """Replay, compare, draw.

    Raises:
        SystemExit: With code 1 after an error.
    """
    given = _parser().parse_args()
    try:
        sys.stdout.write(f"{_replay(given)}\n")
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument(
        "--against", nargs="*", default=["random", "margin", "entropy"], help="other strategies"
    )
    parser.add_argument("--round", type=int, help="round of the cards; default: the last query")
    parser.add_argument("--cards", type=int, default=6, help="how many picks of it are drawn")
    parser.add_argument("--out", type=Path, help="folder to write to; default: RUN/replay")
    parser.add_argument(
        "--plugins",
        nargs="*",
        default=[],
        help="packages besides dal that the run and the strategies may name",
    )
    parser.add_argument("--config-dir", help="folder of options of your own, as of dal train")
    return parser


def _replay(given: argparse.Namespace) -> Path:
    """Replay, and write what comes of it; gives the file to read first."""
    if given.cards < 0:
        raise ValueError(f"--cards={given.cards}; give 0 or more")
    own = ["--config-dir", given.config_dir] if given.config_dir else []
    folders = with_own(config_dir(), own)
    settings = {name: strategy_settings(folders, name) for name in given.against}
    from dal.runs.cards import draw_cards, write_table  # the first import of torch
    from dal.runs.replay import Replay
    from dal.utils.build import build
    from dal.utils.safe_files import make_folder

    others = {n: build(s, "strategy", allow=given.plugins) for n, s in settings.items()}
    replay = Replay(given.run, others, given.plugins)
    for name, reason in replay.skipped.items():
        sys.stderr.write(f"{name} is left out: {reason}\n")
    if not replay.numbers:
        raise ValueError(f"{given.run} has no query yet; let its command go on")
    first, last = replay.numbers[0], replay.numbers[-1]
    if given.round not in (None, *replay.numbers):
        raise ValueError(f"the run has no query in round {given.round}; give {first} to {last}")
    out: Path = given.out or given.run / "replay"
    make_folder(out)
    rounds = []
    for replayed in replay.rounds():
        rounds.append(replayed)
        confirmed = f"{replayed.confirmed} of {replayed.size} confirmed"
        sys.stdout.write(f"round {replayed.number}: {confirmed}\n")
        if replayed.number == given.round:
            break
    cards = draw_cards(replay, rounds[-1], out / "cards", given.cards)
    table = write_table(rounds, out)
    lines = [f"# Replay of {given.run.name}", "In float64. Columns of strategies: how many of"]
    lines[1] += " the picks they would have picked at this point of the run."
    lines += [table, *(f"![{path.stem}](cards/{path.name})" for path in cards)]
    (out / "replay.md").write_text("\n\n".join(lines) + "\n")
    return out / "replay.md"
