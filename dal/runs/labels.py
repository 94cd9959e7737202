"""The labels that a run knows, as a table that other runs and other tools can take."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dal.consensus import CONSENSUS
from dal.data.class_names import target_name
from dal.data.source import Source, Split
from dal.journals import LEDGER, Journals
from dal.pool import Pool
from dal.recording.samples import Known
from dal.runs.made_files import MADE
from dal.runs.replay import config_of, data_of
from dal.runs.spool import ARRIVED
from dal.settings import Settings

log = logging.getLogger(__name__)

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
        name, and `HEADER`; of a sample with several answers what the run's ``consensus`` makes of
        them, with round and annotator of the last. Answers without a label (``?``, and ``-`` for
        none of the classes) and guesses of models are left out.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The run is damaged, of another version, or its data have changed.
    """
    config = config_of(run_dir)
    settings, source = data_of(config, plugins, Known.read(run_dir).listing)
    events = Journals(run_dir, source.fingerprint()).all_events()
    if events is None:
        raise ValueError(f"there is no {LEDGER} in {run_dir}; restore it")
    answered = _answered(source, settings, events)
    made = len(answered)
    answered = [event for event in answered if event["index"] < len(source.train)]
    if made := made - len(answered):
        folder = run_dir / (ARRIVED if (run_dir / ARRIVED).is_dir() else MADE)
        log.warning(
            "%d labels of samples are left out which the data do not have: %s holds the samples, "
            "and %s their labels",
            *(made, folder, LEDGER),
        )
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


def _answered(
    source: Source, settings: Settings, events: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The last answer about each sample that has a label, with that label, in their order."""
    targets = source.train.targets
    num_labels = targets.shape[1] if targets.ndim == 2 else None
    pool = Pool(len(targets), num_labels, CONSENSUS[settings.consensus], arriving=True)
    pool.extend(events)
    standing = sorted(pool.latest_answers().values())
    last = {events[n]["index"]: events[n] for n in standing if not events[n]["abstained"]}
    train_set, none = pool.train_set().answers(), set(pool.rejected_idx.tolist())
    agreed = dict(zip(train_set.indices.tolist(), train_set.targets.tolist(), strict=True))
    return [
        {**event, "target": agreed.get(index, event["target"])}
        for index, event in sorted(last.items())
        if index not in none
    ]


def _names(source: Source, part: Split, indices: list[int]) -> list[Any]:
    """What people know some samples of a part by."""
    positions = part.original(torch.tensor(indices, dtype=torch.int64))
    return positions if source.contents is None else [source.contents[n] for n in positions]


def _title(source: Source) -> str:
    if source.contents is None:
        return "index"
    return "content" if source.listing is None else "file_name"
