"""The settings of a run, each declared once, and which of them make it another run.

Hydra's schema, the defaults of the command line and of `dal.run`, ``--help`` and the list in
docs/resume.md all come from the two classes below. Torch is not imported here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dal.utils.direction import direction

SCHEME = 1
"""Version of how runs are named; raised where equal choices shall no longer mean one run."""

MOST_THREADS = 1024  # far beyond any machine's, OpenMP crashes the process

PLACES = ("root", "cache_dir")
"""Settings of groups that say where files are."""

CONSENSUS = ("latest", "majority", "dawid_skene")
"""The rules of `dal.consensus`, which makes one label of several answers, by name."""

BUDGETS = ("labels", "cost", "minutes")
"""What a budget may count."""

AUDITS = ("random", "loss")
"""How labels to measure by are drawn; see `dal.risk`."""

THRESHOLDS = ("half", "fitted")
"""Where the thresholds of several labels come from."""

SHOWN = ("guess", "pictures", "sort_labels", "order", "host", "port", "open_browser")
"""Settings of an oracle that say what people are shown, and where."""

READING = ("lazy", "workers", "on_damage")
"""Settings of data that say how files are read, and not what is in them."""

ASKING = ("url", "token_file", "document_root", "images", "wait")
"""Settings of an oracle that say where people are asked, and whether a process waits for them."""

APART: Mapping[str, Sequence[str]] = {
    "data": (*PLACES, *READING),
    "features": PLACES,
    "difficulty": PLACES,
    "oracle": (*SHOWN, *ASKING),
    "setting": ("chunk",),
}
"""Settings of each group that make no other run, on whatever level they stand."""


def setting(default: Any, text: str, *, names: bool = False) -> Any:
    """A field of a settings class.

    Args:
        default: Its value where none is given; a list is copied.
        text: What it means, in a line of ``--help``.
        names: Whether another value makes another run, with a directory of its own.
    """
    meta = {"text": text, "names": names}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Settings:
    """How a run goes; all but seed, query_size and candidates may change as a run goes on.

    Raises:
        ValueError: A number is out of range.
    """

    seed: int = setting(
        0, "decides split, initial labels, weights, training order, ties", names=True
    )
    query_size: int = setting(10, "labels asked in a round", names=True)
    budget: int = setting(200, "labels asked in all, the initial ones not counted")
    budget_in: str = setting(
        "labels",
        "what budget counts: labels; cost, as the oracle says; minutes, that people took to answer",
    )
    max_rounds: int | None = setting(None, "at most so many queries; 0 fits once; null: no limit")
    consensus: str = setting(
        "dawid_skene",
        "the label of a sample with several answers: latest, majority, dawid_skene",
        names=True,
    )
    stopping_when: str = setting(
        "any", "the run ends when any, or all, of the criteria of stopping say so"
    )
    stop_set: int = setting(
        1000, "samples by whose predictions stopping criteria go, drawn by the seed; 0 for none"
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1")
    threads: int | None = setting(
        None, "CPU threads; null for what the run used before, or torch's default"
    )
    batch_size: int | None = setting(
        None, "samples at once in the pool pass; null for what the run used before, or automatic"
    )
    keep_history: bool = setting(False, "keep the predictions of all rounds")
    save_every: int | None = setting(
        None, "save inside a fit as well, every so many epochs; null for never"
    )
    candidates: int | None = setting(
        None,
        "choose among so many samples only, drawn by the seed; null for the whole pool",
        names=True,
    )
    audit: float = setting(
        0.0, "share of each query that is asked about to measure by, not to learn from", names=True
    )
    audit_by: str = setting(
        "random", "how these are drawn: random; loss, where the model doubts", names=True
    )
    audit_reserve: float | None = setting(
        None,
        "share of the candidates kept for audits, out of the strategy's reach; null: by audit",
        names=True,
    )
    keep_models: bool = setting(False, "keep the model of every round, for dal replay")
    record_epochs: bool = setting(
        True,
        "metrics of every epoch in TensorBoard and train.log; costs time where epochs are short",
    )
    thresholds: str = setting(
        "half",
        "probability above which a label is predicted, of several: half; fitted, each its own, for "
        "the best F1 on the validation part or on labels left out of a fit",
        names=True,
    )
    headline: str | None = setting(
        None,
        "the metric that learning curves, their areas and tables show, such as macro_f1; null for "
        "accuracy, of several labels micro_f1",
    )
    figures: bool = setting(
        True, "curve.png and the figures in TensorBoard; they cost a run about a second"
    )

    def __post_init__(self) -> None:
        for name in ("query_size", "budget", "threads", "batch_size", "save_every", "candidates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}; give at least 1")
        if self.budget_in not in BUDGETS:
            raise ValueError(f"budget_in={self.budget_in}; give one of {', '.join(BUDGETS)}")
        if self.consensus not in CONSENSUS:
            raise ValueError(f"consensus={self.consensus}; give one of {', '.join(CONSENSUS)}")
        if not 0 <= self.audit < 1:
            raise ValueError(f"audit={self.audit:g}; give a share, from 0 to below 1")
        if self.audit_by not in AUDITS:
            raise ValueError(f"audit_by={self.audit_by}; give one of {', '.join(AUDITS)}")
        if self.audit_reserve is not None and not 0 < self.audit_reserve < 1:
            raise ValueError(f"audit_reserve={self.audit_reserve:g}; give a share, between 0 and 1")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise ValueError(f"threads={self.threads}; give at most {MOST_THREADS}")
        if self.max_rounds is not None and self.max_rounds < 0:
            raise ValueError(f"max_rounds={self.max_rounds}; give 0 (fit once) or more")
        if self.stop_set < 0:
            raise ValueError(f"stop_set={self.stop_set}; give 0 (none) or more")
        if self.thresholds not in THRESHOLDS:
            raise ValueError(f"thresholds={self.thresholds}; choose {' or '.join(THRESHOLDS)}")
        if direction(self.headline) == "min":
            raise ValueError(
                f"headline={self.headline} is better the lower, and curves, their areas and "
                "reports compare by what is better the higher; choose another metric"
            )
        if self.stopping_when not in ("any", "all"):
            raise ValueError(f"stopping_when={self.stopping_when}; choose any or all")


@dataclass(frozen=True)
class CommandSettings:
    """What the command line takes besides: where files are, and how many runs one command is."""

    data_dir: str = setting(
        '${oc.env:DAL_DATA_DIR,"~/.cache/dal"}', "where data files are, or are downloaded to"
    )
    saved_dir: str = setting("${oc.env:DAL_SAVED_DIR,saved}", "where run directories go")
    profile: bool = setting(False, "profile the run into profile.txt")
    replicas: int = setting(
        1, "runs in this process, seeds seed, seed+1, ..., in lockstep; see docs/replicas.md"
    )
    replica_strategies: list[str] = setting(
        [], "strategies of these runs, each with all the seeds; [] for strategy"
    )
    lockstep: str = setting(
        "auto",
        "true: stack their networks wherever possible; false: never; auto: where it is faster",
    )
    plugins: list[str] = setting([], "packages besides dal that a _target_ may come from")


@dataclass  # OmegaConf takes a frozen one for read-only
class SplitSettings:
    """How the data are divided; see `dal.data.make_source`."""

    kind: str = setting(
        "auto",
        "official, merged (train and test together, divided by seed), none (no test part), auto: "
        "official if there is one, none where no label is known",
        names=True,
    )
    test_fraction: float = setting(
        0.3, "share of the labeled samples of merged sets, 0 to 1", names=True
    )
    stratified: bool = setting(True, "test and validation part in class proportions", names=True)
    validation: Any = setting(
        0, "a fraction or a number of the training samples; 0 for none", names=True
    )
    validation_of_labels: float = setting(
        0.0, "share of the labels that each round holds out to validate on; 0 for none", names=True
    )


DECLARED = (*fields(Settings), *fields(CommandSettings))

TEXTS = {
    **{f.name: str(f.metadata["text"]) for f in DECLARED},
    "split": "how the data are divided",
    **{f"split.{f.name}": str(f.metadata["text"]) for f in fields(SplitSettings)},
}
"""What each setting means, by its dotted name."""

UNNAMED = ("stopping", *(f.name for f in DECLARED if not f.metadata["names"]))
"""Settings that make no other run: how far it goes, where and how it is computed."""


@dataclass(frozen=True)
class Choices:
    """What the user chose: all that a run's name is made of.

    Moving a class, adding a setting or a group with a default, renaming a module: none of these
    changes what was chosen, so none renames a run.

    Attributes:
        options: The option of each group by the group's name: of ``data``, ``model`` and
            ``strategy`` always, of others where it is not the default.
        values: The settings that differ from the defaults of these options, by dotted name; those
            that make no other run, and the seed, left out.
    """

    options: Mapping[str, str | None]
    values: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """In plain containers, for ``config.yaml``."""
        return {"scheme": SCHEME, "options": dict(self.options), "values": dict(self.values)}

    def run_name(self, seed: int) -> str:
        """Name of the run directory: ``<data>-<model>-<strategy>-s<seed>-<hash8>``."""
        parts = [str(self.options[group]) for group in ("data", "model", "strategy")]
        return "-".join([*parts, f"s{seed}", digest(self.as_dict())])


@dataclass(frozen=True)
class PlannedRun:
    """One of the runs that a command means.

    Attributes:
        name: Strategy and seed, shown before its lines.
        config: Its settings, as of a run by itself.
        run_dir: Its run directory.
    """

    name: str
    config: dict[str, Any]
    run_dir: Path


def digest(settings: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of some settings."""
    text = json.dumps(_plain(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def differing(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose values differ from their defaults, by dotted name.

    Args:
        config: Settings in plain containers, interpolations not resolved: what follows from
            another setting is no choice.
        defaults: The same of the defaults.

    Returns:
        Values by dotted name, None for what the defaults alone have; without the seed and without
        what makes no other run.
    """
    ours, usual = (dict(named_leaves(settled(settings))) for settings in (config, defaults))
    gone = [key for key in usual if key not in ours and not _above(key) & ours.keys()]
    return {key: ours.get(key) for key in sorted({*ours, *gone}) if _other(ours, usual, key)}


def changed_defaults(saved: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Values that a run was begun with by default, and that are the defaults no longer.

    Args:
        saved: The settings that the run was begun with, as its ``config.yaml`` holds them.
        config: The settings of today.

    Returns:
        Values of then by dotted name. A setting that only one of them has, and the class that an
        option builds, is no change of meaning.
    """
    then, now = dict(named_leaves(saved)), dict(named_leaves(config))
    shared = [key for key in then if key in now and not key.endswith("_target_")]
    return {key: then[key] for key in shared if _other(then, now, key)}


def settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, completed by those that follow from others.

    The direction of early stopping; so a run has one name, whether it is given or not.
    """
    trainer = config.get("trainer")
    rule = trainer.get("early_stopping") if isinstance(trainer, Mapping) else None
    if not isinstance(rule, Mapping) or rule.get("mode") is not None:
        return dict(config)
    rule = {**rule, "mode": direction(rule.get("monitor"))}
    return {**config, "trainer": {**trainer, "early_stopping": rule}}  # type: ignore[dict-item]


def named_leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that may make another run, by dotted name; the seed left out."""
    for key, value in config.items():
        if key not in (*UNNAMED, "seed", "choices"):
            yield from _leaves(key, value, APART.get(key, ()))


def _leaves(key: str, value: Any, apart: Sequence[str]) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        yield key, _spelled(key, value)
        return
    for name, part in value.items():
        if name not in apart:
            yield from _leaves(f"{key}.{name}", part, apart)


def _spelled(key: str, value: Any) -> Any:
    """A path in one spelling: ``./mine.npz`` is ``mine.npz``, ``saved/run/`` is ``saved/run``."""
    path = isinstance(value, str) and value and key.endswith("path")
    return os.path.normpath(value) if path else value


def _other(one: Mapping[str, Any], two: Mapping[str, Any], key: str) -> bool:
    return (key in one) != (key in two) or _plain(one[key]) != _plain(two[key])


def _above(key: str) -> set[str]:
    """The dotted names above one: a setting that is null as a whole has nothing below it."""
    parts = key.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))}


def _plain(value: Any) -> Any:
    """A value in one form: 2.0 is 2, a tuple a list."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
