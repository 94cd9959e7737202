"""What a replay shows: a table of its rounds, and cards of its first picks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dal.recording.figures import prediction_history, save
from dal.recording.pictures import end_of
from dal.recording.words import in_short
from dal.runs.replay import Replay, ReplayedRound
from dal.utils.safe_files import csv_text, write_text_atomically


def draw_cards(replay: Replay, replayed: ReplayedRound, folder: Path, count: int) -> list[Path]:
    """Draw why the first picks of a round were picked: image, predictions so far, score, rank.

    Args:
        replay: The run, replayed up to this round.
        replayed: The round.
        folder: Where to; created if missing.
        count: How many picks, best first.

    Returns:
        The files.

    Raises:
        OSError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    query, source = replayed.query, replay.source
    names = dict(zip(replayed.picked, replayed.labels, strict=True))
    paths = []
    for place in range(min(count, len(query.indices))):
        index, score = int(query.indices[place]), float(query.scores[place])
        (sample,) = source.train.original(torch.tensor([index]))
        content = source.content(index)
        if isinstance(source.show(index), str):
            content = in_short(content, 40)
        named = end_of(content, 40) if content else f"sample {sample}"
        title = f"round {replayed.number}, pick {place + 1}: {named}"
        title += f", label {names[index]}" if index in names else ""
        title += f"\nscore {score:.4g}"
        if query.pool_scores is not None:
            rank = 1 + int((query.pool_scores > score).sum())
            title += f", rank {rank} of {len(query.pool_scores)}"
        figure = prediction_history(
            replay.history.of_sample(index),
            source.class_names,
            rounds=replay.history.rounds,
            image=source.image(index),
            title=title,
        )
        paths.append(folder / f"round_{replayed.number:03d}_pick_{place + 1:02d}.png")
        save(figure, paths[-1])
    return paths


def write_table(rounds: Sequence[ReplayedRound], folder: Path) -> str:
    """Write ``replay.csv``; gives the same as a Markdown table.

    Raises:
        OSError: The file cannot be written.
    """
    names = list(rounds[0].overlap) if rounds else []
    header = ["round", "picked", "confirmed", "largest difference", "shortfall", *names]
    rows = [
        [
            str(r.number),
            str(r.size),
            str(r.confirmed),
            _text(r.difference),
            _text(r.shortfall),
            *(str(r.overlap[name]) for name in names),
        ]
        for r in rounds
    ]
    write_text_atomically(folder / "replay.csv", csv_text([header, *rows]))
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
