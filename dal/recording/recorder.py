"""What a run leaves for people to see: log, metrics, queries, curve, TensorBoard, status."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dal.data.source import Source, is_known
from dal.journals import METRICS, row_lines
from dal.metrics import aubc
from dal.pool import Pool, is_rejected
from dal.recording.by_label import by_label, keep_by_label, known_counts
from dal.recording.figures import learning_curve, save
from dal.recording.people import keep_people
from dal.recording.rounds_in_plane import RoundsInPlane, in_the_plane
from dal.recording.run_directory import START, RunDirectory
from dal.recording.samples import keep_samples
from dal.recording.stream_curves import draw_over_seen, seen_so_far, standing, tags_over_seen
from dal.recording.tensorboard import (
    AUDIT,
    COOPERATIVE,
    CURVE,
    MAX_IMAGES,
    QUERY,
    STOPPING,
    STREAM,
    TEST,
    TIME,
    VALIDATION,
    Pick,
    TensorBoard,
)
from dal.recording.throttle import Throttle
from dal.recording.words import LABELED, POOL, audit_words, guess_words
from dal.utils.journal import Journal
from dal.utils.numerics import environment
from dal.utils.safe_files import csv_text

if TYPE_CHECKING:
    from dal.state import State

log = logging.getLogger(__name__)

COLUMNS = ("round", "index", "score", "label", "sample")
"""Of ``queries.csv``; behind them ``content`` where the data say what a sample is in words."""


class Recorder:
    """Writes everything but checkpoints into the run directory.

    ``metrics.jsonl`` and ``queries.csv`` are written from the state at the start, and appended to
    after every commit, so they never say more than the checkpoint holds.

    Args:
        directory: The run directory, or None to write nothing.
        source: The data, for class names and pictures.
        config: The settings that led here, for the record.
        count: How many runs share the process; figures cost each run the same part of its time.
        figures: Whether to draw ``curve.png`` and the figures of TensorBoard.
    """

    def __init__(
        self,
        directory: RunDirectory | None,
        source: Source,
        config: Mapping[str, Any] | None,
        count: int = 1,
        figures: bool = True,
    ) -> None:
        self.directory, self.source = directory, source
        self.config = dict(config or {})
        self._metric, self._metric_name = source.task.headline, source.task.headline_name
        self._columns = [*COLUMNS, *(["content"] if source.contents is not None else [])]
        self._board: TensorBoard | None = None
        folder = Path() if directory is None else directory.path
        self._rows = Journal(folder / METRICS)
        self._queries = Journal(folder / "queries.csv", csv_text([self._columns]))
        self._drawn, self._figures = figures, Throttle(30 * count)
        self.plane: RoundsInPlane | None = None
        self._plane_shown = Throttle(30 * count)
        self._plane_shown.ready()
        self._figures.ready()  # the first ones after 30 s, unless the run ends before

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.close()

    def start(
        self,
        state: State,
        pool: Pool,
        numerics: Mapping[str, Any],
        device: torch.device,
        resumed: bool,
        start: Mapping[str, str],
    ) -> None:
        """Open TensorBoard where the state stands, and write what leads to the run.

        Args:
            state: Where the run stands.
            pool: Who is labeled.
            numerics: What decides the bits of its results.
            device: Where it works.
            resumed: Whether it was begun before.
            start: Digests of what runs compared at one seed must share, by name; those of the
                first beginning are kept.
        """
        if self.directory is None:
            return
        keep_samples(self.directory.path, self.source)
        if not (self.directory.path / START).is_file():
            self.directory.write(START, json.dumps(dict(start), indent=2) + "\n")
        env = {**environment(device), "numerics": dict(numerics)}
        self.directory.write("env.json", json.dumps(env, indent=2) + "\n")
        text = _yaml(self.config)
        self.directory.write("config.yaml", text)
        begun = (state.fit or {}).get("steps", 0)
        # A correction adds labels to the pool after the row of the round in progress was counted.
        labels = state.row.get("labels", pool.labels)
        place = {"labels": labels, "step": state.steps + begun + 1, "seen": seen_so_far(state)}
        self._board = TensorBoard(
            self.directory.path / "tb",
            class_names=self.source.class_names,
            metric=self._metric,
            monitored=_monitored(self.config),
            **(place if resumed else {}),
        )
        self._board.config(text, _choices(self.config))
        if self._drawn and in_the_plane(self.source):
            begun = state.round + (state.next == "answers") if resumed else 0
            self.plane = RoundsInPlane(self.directory.path / "plane", self.source, begun)
        self._known = known_counts(self.source)

    def rewrite(self, state: State, pool: Pool) -> None:
        """Write metrics, queries and status anew: the data have all samples of the state now."""
        if self.directory is None:
            return
        self._rows.take(row_lines(state.rows))
        self._queries.take(self._query_lines(pool, 0))
        self.write(state, pool)

    def epoch(
        self,
        round_number: int,
        epoch: int,
        step: int,
        values: Mapping[str, float],
        labeled: int,
        unlabeled: int,
    ) -> None:
        """Training and validation metrics of one epoch, and the sizes of the sets.

        Args:
            round_number: The round that is being fitted.
            epoch: Its number within the fit, from 0.
            step: Optimizer steps of the run by its end.
            values: Its metrics by name.
            labeled: How many samples are trained on.
            unlabeled: How many have no label yet.
        """
        sizes = f"{labeled} labeled, {unlabeled} in the pool"
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.debug("round %d, epoch %d, %s: %s", round_number, epoch, sizes, listed)
        if self._board is not None:
            sets = {LABELED: labeled, POOL: unlabeled}
            self._board.epoch(round_number, step, {**values, **sets})

    def flush(self) -> None:
        """Bring what was recorded to the disk."""
        if self._board is not None:
            self._board.flush()

    def fitted(self, state: State, pool: Pool) -> None:
        """One line a round."""
        row = state.row
        epochs, value = row["fit/epochs"], row.get(self.source.headline)
        shown = f"{self.source.measured} {self._metric_name}"
        log.info(
            "round %3d | %5d labels | %strain accuracy %.4f | %s | %s | %s",
            row["round"],
            row["labels"],
            f"{words} | " if (words := guess_words(row)) else "",
            row["train/accuracy"],
            (audit_words(row) or "not tested") if value is None else f"{shown} {value:.4f}",
            f"fit {epochs} epoch{'s' * (epochs != 1)}, {row['fit_s']:.1f} s",
            standing(row, pool.num_unlabeled),
        )

    def round(self, state: State, pool: Pool, picked: Tensor | None = None) -> None:
        """The results of a round; with what it picked, unless it was the last.

        Args:
            state: Its row is that of the round, ``pending`` its query.
            pool: Who is labeled.
            picked: int64, (b,), queried samples, or None.
        """
        if self.directory is not None and picked is None:
            keep_people(self.directory, pool, self.source, self.config)
        if self._board is None or not state.fitted:  # it waits for its first labels
            return
        labels = state.row["labels"]
        self._board.round(labels, _tags(state.row, self._metric))
        if over_seen := tags_over_seen(state.row, self._metric):
            self._board.round(seen_so_far(state), over_seen)
        if picked is not None and state.pending is not None:
            shown, seen = picked[:MAX_IMAGES], map(self.source.image, picked[:MAX_IMAGES].tolist())
            images = [image for image in seen if image is not None]
            self._board.query(
                labels,
                self._picks(state, pool, shown),
                pool_scores=state.pending["pool_scores"],
                images=torch.stack(images) if images else None,
            )
        found = by_label(state, pool, self.source, self._known)
        self._board.by_label(labels, found)
        if self._figures.ready(force=picked is None):
            if self.directory is not None and found:
                keep_by_label(self.directory, found, state.row)
            if self._drawn:
                self._draw(state, pool)
        self._board.flush()

    def show_plane(self, state: State, last: bool) -> None:
        """Draw the plane in TensorBoard from time to time, and at the end into the run directory.

        Args:
            state: Where the run stands.
            last: Whether nothing more is asked.
        """
        if self.plane is None or self.directory is None or self._board is None:
            return
        if self._plane_shown.ready(force=last):
            drawn = self.plane.write(self.directory.path) if last else self.plane.draw()
            if drawn is not None:
                self._board.plane(state.row["labels"], drawn)

    def write(self, state: State, pool: Pool) -> None:
        """Bring ``metrics.jsonl``, ``queries.csv`` and ``status.json`` up to the state."""
        if self.directory is None:
            return
        # The round in progress may still change.
        last = row_lines(state.all_rows[len(state.rows) :])
        self._rows.extend(lambda first: row_lines(state.rows[first:]), "".join(last))
        self._queries.extend(lambda first: self._query_lines(pool, first))
        shown = state.all_rows[-1] if state.all_rows else {}
        self.directory.update(
            round=state.round,
            labels=pool.labels,
            queried=pool.num_queried,
            metric=self._metric,
            **{name: shown.get(f"test/{name}") for name in {"accuracy": 0, self._metric: 0}},
            **({"audit": words} if (words := audit_words(shown)) else {}),
        )

    def finish(self, status: str, reason: str) -> None:
        """Note how the run ended."""
        log.info("%s: %s", status, reason)
        if self.directory is not None:
            self.directory.update(status=status, reason=reason)

    def _query_lines(self, pool: Pool, first: int) -> list[str]:
        """Answers of the oracle as lines of ``queries.csv``."""
        queries, source = pool.queries(first), self.source
        samples = source.train.original(torch.tensor([q[1] for q in queries]).long())
        told = source.contents is not None
        return [
            csv_text(
                [
                    (number, index, score, source.target_name(target), sample)
                    + ((source.content(index),) if told else ())
                ]
            )
            for (number, index, score, target), sample in zip(queries, samples, strict=True)
        ]

    def _picks(self, state: State, pool: Pool, picked: Tensor) -> list[Pick]:
        """Some samples of the last query in words."""
        pending = state.pending
        assert pending is not None
        events = {event["index"]: event for event in pool.events(pending["since"])}
        score_of = dict(zip(pending["indices"], pending["scores"], strict=True))
        name, guesses = self.source.target_name, pending.get("guesses") or []
        guess_of = {
            index: f"{name(target)}, {probability:.2f}"
            for index, (target, probability) in zip(pending["indices"], guesses, strict=False)
        }
        rows = self.source.train.original(picked)
        return [
            Pick(
                row,
                score_of[index],
                name(events[index]["target"]),
                guess_of.get(index, ""),
                self.source.content(index),
            )
            for index, row in zip(picked.tolist(), rows, strict=True)
        ]

    def _draw(self, state: State, pool: Pool) -> None:
        """The figures, which cost a tenth of a second each: not for every round."""
        if self.directory is None or self._board is None or not state.all_rows:
            return
        paid, (labels, values) = state.all_rows[-1]["labels"], state.curve(self.source.headline)
        if labels:
            curve = learning_curve(
                labels,
                values,
                title=self.directory.path.name,
                metric=self._metric_name,
                part={"test": "Test", "val": "Validation"}[self.source.measured],
                aubc=aubc(labels, values),
                path=self.directory.path / "curve.png",
            )
            self._board.curve(paid, curve)
            draw_over_seen(self.directory.path, state, self._metric_name, self.source.headline)
        self._board.fits(paid)
        name = self.directory.path.name
        if (drawn := self._board.saw_tooth(paid, name)) is not None:
            save(drawn, self.directory.path / "saw_tooth.png")
        if state.confusion is not None:
            self._board.confusion(paid, state.confusion)
        latest = {index: target for _, index, _, target in pool.queries()}
        answers = torch.tensor(list(latest.values()), dtype=torch.int64)
        answers = answers.view(-1, *self.source.train.targets.shape[1:])
        answers = answers[is_known(answers) & ~is_rejected(answers)]
        counts = self.source.task.class_counts(answers)
        self._board.class_histogram(paid, counts, len(answers))


def _tags(row: Mapping[str, Any], headline: str) -> dict[str, float]:
    """A round's numbers by TensorBoard's names; what a card shows better elsewhere is left out."""
    scalars = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return {tag: value for name, value in scalars.items() if (tag := _tag(name, headline))}


def _tag(name: str, headline: str) -> str:
    """TensorBoard's name of a metric; empty for one that is not shown.

    Metrics on the labels themselves soon stand at 1, counts of labels say what the x-axis says,
    and the rest of a fit stands in the curves over steps.
    """
    if name.endswith("_s"):
        return f"{TIME}/{name}"
    if name == f"test/{headline}":
        return f"{CURVE}/{headline}"
    group, _, rest = name.partition("/")
    known = {"test": TEST, "val": VALIDATION, "query": QUERY, "stop": STOPPING, "audit": AUDIT}
    known |= {"cooperative": COOPERATIVE, "stream": STREAM}
    return f"{known[group]}/{rest}" if group in known else ""


def _monitored(config: Mapping[str, Any]) -> str:
    """The metric that stops the fits, but for the loss, which is shown in any case; or empty."""
    rule = (config.get("trainer") or {}).get("early_stopping") or {}
    metric = str(rule.get("monitor", "")).partition("/")[2]
    return "" if metric == "loss" else metric


def _choices(config: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Settings for TensorBoard's comparison of runs: those chosen, where that is known."""
    chosen = config.get("choices")
    if chosen is None:
        return _flat(config)
    return _flat({**chosen["options"], **chosen["values"], "seed": config["seed"]})


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested settings as one level of dotted names, for TensorBoard's comparison of runs."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float | bool):
            flat[prefix + key] = value
        else:
            flat[prefix + key] = json.dumps(value)
    return flat


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(dict(config), sort_keys=False))
