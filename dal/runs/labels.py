"""The labels that a run knows, as a table that other runs and other tools can take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dal.data.class_names import target_name
from dal.data.source import Source, Split
from dal.events import GUESSES
from dal.journals import LEDGER, Journals
from dal.recording.samples import Known
from dal.runs.replay import data_of, read_config

HEADER = ("label", "split", "round", "annotator")
"""Columns behind the one that names samples."""


def known_labels(run_dir: Path, plugins: tuple[str, ...] = ()) -> tuple[str, list[list[Any]]]:
    """Every label that a run has: given at the start, answered since, and of its other parts.

    Args:
        run_dir: The run directory.
        plugins: Packages besides ``dal`` that the data may come from.

    Returns:
        What names the samples: ``file_name`` of picture files, ``content`` where the data say what
        each sample is, else ``index``, its row in the data's own arrays. And a row a label: that
        name, and `HEADER`; the last answer of a sample that has several. Answers without a label
        (``?``) and guesses of models are left out.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The run is damaged, of another version, or its data have changed.
    """
    if not (run_dir / "status.json").exists():
        raise FileNotFoundError(f"{run_dir} holds no run; give the directory of one")
    config = read_config(run_dir / "config.yaml")
    _, source = data_of(config, plugins, Known.read(run_dir).listing)
    events = Journals(run_dir, source.fingerprint()).all_events()
    if events is None:
        raise ValueError(f"there is no {LEDGER} in {run_dir}; restore it")
    last = {event["index"]: event for event in events if event["origin"] not in GUESSES}
    answered = [event for _, event in sorted(last.items()) if not event["abstained"]]
    names = _names(source, source.train, [event["index"] for event in answered])
    told = [[event["target"], "train", event["round"], event["annotator"]] for event in answered]
    for split, part in (("validation", source.validation), ("test", source.test)):
        if part is not None:
            names += _names(source, part, list(range(len(part))))
            told += [[target, split, "", ""] for target in part.targets.tolist()]
    rows = [
        [name, target_name(target, source.class_names), *rest]
        for name, (target, *rest) in zip(names, told, strict=True)
    ]
    return _title(source), rows


def _names(source: Source, part: Split, indices: list[int]) -> list[Any]:
    """What people know some samples of a part by."""
    positions = part.original(torch.tensor(indices, dtype=torch.int64))
    return positions if source.contents is None else [source.contents[n] for n in positions]


def _title(source: Source) -> str:
    if source.contents is None:
        return "index"
    return "file_name" if (source.recipe or {}).get("kind") == "images" else "content"
