"""One run from resolved settings to the table at its end: what the command line does."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data import Dataset, Source, initial_labels, make_source
from dal.data.hard_pools import harden
from dal.data.initial import check_amounts
from dal.data.splits import check_split
from dal.features import Embedding
from dal.learners import Committee
from dal.models.base import MakeModel
from dal.oracles import Oracle
from dal.query import Strategy
from dal.recording.run_directory import RunDirectory
from dal.runs.host import current_host
from dal.runs.loop import Result, run
from dal.settings import Settings
from dal.training.trainer import Trainer
from dal.utils.build import TARGET, build, factory
from dal.utils.logs import OUTCOME, REPLICA
from dal.utils.numerics import pick_device
from dal.utils.ranks import current
from dal.utils.signals import Interrupts, PreemptedError

log = logging.getLogger(__name__)

REPORT = "report.txt"
"""Holds the report of classes where it is too long to be printed."""
MOST_CLASSES = 40
"""Of more classes than this the report at the end of a run shows the worst only."""
_WORST = 10


@dataclass(frozen=True)
class Parts:
    """What the settings of a run make without its data.

    They are made before the run directory is: a setting that is refused leaves nothing behind.
    """

    settings: Settings
    strategy: Strategy
    trainer: Trainer
    model: MakeModel
    committee: Committee
    oracle: Callable[..., Oracle]
    initial: Callable[..., Tensor]

    @classmethod
    def of(cls, config: Mapping[str, Any], allow: tuple[str, ...]) -> Parts:
        """Make them, and check what is made together with the data.

        Raises:
            ValueError: A setting is out of range.
            TypeError: A setting has the wrong type.
            FileNotFoundError: A file that settings name is missing.
        """
        shared = current_host().shared
        settings = Settings(**{f.name: config[f.name] for f in fields(Settings)})
        pick_device(settings.device)
        check_split(**config["split"])
        factory(config["data"], "data", allow=allow)
        build(config["features"], "features", allow=allow)
        for options in config["difficulty"].values():
            if not any(isinstance(part, Mapping) and TARGET in part for part in options.values()):
                build(
                    options, "difficulty", allow=allow
                )  # others hold data, and are made with them
        initial = factory(config["initial"], "initial", allow=allow)
        if initial.func is initial_labels:
            check_amounts(**initial.keywords)
        return cls(
            settings,
            strategy=build(config["strategy"], "strategy", allow=allow),
            trainer=shared(
                config["trainer"], lambda: build(config["trainer"], "trainer", allow=allow)
            ),
            model=shared(config["model"], lambda: factory(config["model"], "model", allow=allow)),
            committee=build(config["committee"], "committee", allow=allow),
            oracle=factory(config["oracle"], "oracle", allow=allow),
            initial=initial,
        )


def execute(config: Mapping[str, Any], run_dir: Path) -> Result:
    """Build everything from plain settings, run, and show the results.

    Args:
        config: Resolved settings, as ``conf/config.yaml`` composes them, in plain containers.
        run_dir: The run directory; a run that is in it goes on.

    Returns:
        The result.

    Raises:
        ValueError: A setting is out of range, or a data file is damaged.
        TypeError: A setting has the wrong type, or strategy and model do not go together.
        OSError: A file is missing or cannot be written.
    """
    allow, began = tuple(config["plugins"]), time.monotonic()
    ranks = current()
    parts = Parts.of(config, allow)  # refused settings leave nothing behind
    settings = parts.settings
    with (
        RunDirectory(run_dir) if ranks.is_main else nullcontext() as directory,
        profiled(run_dir, config["profile"] and ranks.is_main),
    ):
        log.info("run directory: %s", run_dir)
        of_data = [config[name] for name in ("data", "features", "difficulty", "split", "seed")]
        make = partial(source_of, config, settings, directory, allow)
        source = current_host().shared(of_data, lambda: ranks.main_first(make))
        log.info(
            "%s: %s", source.name, ", ".join(f"{n} {part}" for part, n in source.sizes.items())
        )
        result = run(
            source,
            parts.model,
            parts.strategy,
            initial=parts.initial(targets=source.train.targets, seed=settings.seed),
            trainer=parts.trainer,
            oracle=_oracle(parts.oracle, run_dir, source),
            committee=parts.committee,
            settings=settings,
            run_dir=directory,
            config=config,
        )
        # Of several runs the tables go to their logs only.
        level = logging.DEBUG if REPLICA.get() else logging.INFO
        log.log(level, "%s", summary(result, run_dir))
    if REPLICA.get():  # the log, which says the same at length, is closed
        seconds = time.monotonic() - began
        OUTCOME.info("%s, %.1f s%s", headline(result), seconds, todo(result, run_dir))
    return result


def summary(result: Result, run_dir: Path) -> str:
    """The table of rounds, the area under the curve, the classification report, and what next."""
    task = result.job.task
    name = task.headline_name
    lines = ["", f"{'round':>5}  {'labels':>7}  {f'test {name}':>13}  {'seconds':>8}"]
    for row in result.rows:
        seconds = sum(value for name, value in row.items() if name.endswith("_s"))
        value = row[f"test/{task.headline}"]
        lines.append(f"{row['round']:>5}  {row['labels']:>7}  {value:>13.4f}  {seconds:>8.1f}")
    last = result.rows[-1]
    if last["trained_on"] != last["labels"]:
        lines.append(f"labels are those paid for; the last model learned from {last['trained_on']}")
    if last["validation_labels"]:
        lines.append(f"labels without the {last['validation_labels']} of the validation split")
    lines += ["", f"area under the learning curve ({name} over labels): {result.aubc:.4f}", ""]
    assert result.job.state.confusion is not None
    report = multilabel_report if task.kind == "multilabel" else classification_report
    names = result.job.source.class_names
    text = report(result.job.state.confusion, names)
    if len(names) > MOST_CLASSES:
        if (directory := result.job.recorder.directory) is not None:
            directory.write(REPORT, text)
        text = shortened(text, len(names), run_dir / REPORT)
    lines.append(text)
    if task.kind == "multilabel":
        lines += [
            f"all labels of a sample right (subset accuracy): {last['test/accuracy']:.4f}",
            f"F1 of a sample's labels, mean (sample F1):      {last['test/sample_f1']:.4f}",
            f"single decisions wrong (Hamming loss):          {last['test/hamming_loss']:.4f}",
            "",
        ]
    lines += [f"run directory: {run_dir}", f"look at it:    tensorboard --logdir {run_dir.parent}"]
    if todo(result, run_dir):
        lines.append(f"waiting for labels{todo(result, run_dir)}")
    return "\n".join(lines)


def headline(result: Result) -> str:
    """How a run ended and what its last model is worth, in one line."""
    task, last = result.job.task, result.rows[-1]
    value = last[f"test/{task.headline}"]
    ended = f"{result.status}: {result.reason}"
    return f"{ended}, {last['labels']} labels, test {task.headline_name} {value:.4f}"


def todo(result: Result, run_dir: Path) -> str:
    """What a run that waits for labels needs; empty for one that does not."""
    if result.status != "waiting":
        return ""
    ticket = (result.job.state.pending or {}).get("ticket", {})
    file = run_dir / "queries" / str(ticket.get("file", ""))
    return f": fill in {file} and run the same command again"


def classification_report(confusion: Tensor, class_names: tuple[str, ...]) -> str:
    """scikit-learn's report of precision, recall, F1 and support by class.

    Args:
        confusion: int64, (C, C), rows true, columns predicted.
        class_names: The C class names.
    """
    from sklearn.metrics import classification_report as report

    classes = torch.arange(len(class_names))
    rows, columns = confusion.nonzero().unbind(1)
    counts = confusion[rows, columns]
    text: str = report(
        rows.repeat_interleave(counts).numpy(),
        columns.repeat_interleave(counts).numpy(),
        labels=classes.numpy(),
        target_names=class_names,
        digits=4,
        zero_division=0.0,
    )
    return text


def multilabel_report(outcomes: Tensor, class_names: tuple[str, ...]) -> str:
    """scikit-learn's report of precision, recall, F1 and support by label.

    Without its line of averages over samples: counts by label do not tell them.

    Args:
        outcomes: int64, (C, 2, 2), ``[[TN, FP], [FN, TP]]`` of each label.
        class_names: The C names of the labels.
    """
    from sklearn.metrics import classification_report as report

    # What counts is how often each pair occurs within a column, so every column is made by itself.
    pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    columns = [pairs.repeat_interleave(counts.flatten(), dim=0) for counts in outcomes]
    true, predicted = torch.stack(columns, dim=1).unbind(2)
    text: str = report(
        true.numpy(), predicted.numpy(), target_names=class_names, digits=4, zero_division=0.0
    )
    return "".join(line for line in text.splitlines(True) if "samples avg" not in line)


def shortened(report: str, classes: int, path: Path) -> str:
    """A report with the classes of the lowest F1 only, and where all of them stand.

    Args:
        report: As scikit-learn writes it: two lines of head, one line a class, averages.
        classes: How many classes there are.
        path: The file that holds it as a whole.
    """
    lines = report.splitlines()
    head, body, averages = lines[:2], lines[2 : 2 + classes], lines[2 + classes :]
    f1 = [float(line.split()[-2]) for line in body]
    worst = sorted(range(classes), key=f1.__getitem__)[:_WORST]
    note = f"the {_WORST} of {classes} classes with the lowest F1; all of them: {path}"
    return "\n".join([*head, *(body[c] for c in worst), *averages, "", note, ""])


@contextmanager
def profiled(run_dir: Path, wanted: bool) -> Iterator[None]:
    """Profile a block with torch's profiler and write the table of operators to ``profile.txt``."""
    if not wanted:
        yield
        return
    from torch.profiler import profile

    with profile() as profiler:
        yield
    key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=key, row_limit=40)
    (run_dir / "profile.txt").write_text(table)
    log.info("profile: %s", run_dir / "profile.txt")


def source_of(
    config: Mapping[str, Any],
    settings: Settings,
    directory: RunDirectory | None,
    allow: tuple[str, ...],
) -> Source:
    """The data: embedded where features are asked for, divided, and with a harder pool."""
    embedding: Embedding = build(config["features"], "features", allow=allow)
    embedding.plugins = allow
    pools = [build(options, "difficulty", allow=allow) for options in config["difficulty"].values()]
    dataset: Dataset = build(config["data"], "data", allow=allow)
    device = current().local_device(pick_device(settings.device))
    with interruptible(directory) as check:
        dataset = embedding(dataset, device, check)
        source = make_source(dataset, seed=settings.seed, **config["split"])
        return harden(
            source,
            pools,
            seed=settings.seed,
            embed=lambda other: embedding.foreign(other, device, check),
        )


@contextmanager
def interruptible(directory: RunDirectory | None) -> Iterator[Callable[[], None]]:
    """Gives a check to be called at safe points, which ends the process after a signal."""
    with Interrupts() as interrupts:
        try:
            yield interrupts.check
        except PreemptedError as error:
            if directory is not None:
                directory.update(status="preempted", reason=str(error))
            raise


def _oracle(make: Callable[..., Oracle], run_dir: Path, source: Source) -> Oracle:
    """An oracle takes what it asks for by name."""
    at_hand = {
        "targets": source.train.targets,
        "foreign": source.foreign,
        "folder": run_dir / "queries",
        "class_names": source.class_names,
        "positions": source.train.positions,
        "multilabel": source.task.kind == "multilabel",
    }
    wanted = inspect.signature(make).parameters
    return make(**{name: value for name, value in at_hand.items() if name in wanted})
