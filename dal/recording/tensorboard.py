"""TensorBoard files of a run, in one folder, which TensorBoard lists as one entry.

Groups of cards are shown in the order of their names, so the names begin with a number:

1_learning_curve, 2_validation, 3_time, 4_test   x = labels paid for: the results of every round
4_test_by_label   x = labels paid for: F1 of each label, and a table, the worst labels first
5_fit_over_steps   x = optimizer step through all rounds: the saw-tooth when labels are added;
                   ``round`` among them tells where rounds begin
6_stream_over_seen   x = samples that have arrived in a stream: what its models are worth
6_query, 6_stream, 7_figures   x = labels paid for: what was picked; confusion, fits of some rounds
8_stopping   x = labels paid for: what stopping criteria look at
9_audit   x = labels paid for: what labels to measure by say of every round's model
9_cooperative   x = labels paid for: guesses that were learned from, and the share that is wrong
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dal.recording.by_label import Labels, label_table
from dal.recording.event_file import EventFile
from dal.recording.events import rewind
from dal.recording.figures import class_histogram, confusion_matrix, label_outcomes, to_pixels
from dal.recording.fits import FitCurves
from dal.recording.pictures import captioned, end_of
from dal.recording.saw_tooth import SawTooth
from dal.recording.stream_curves import OVER_SEEN
from dal.recording.words import cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tensorboard.compat.proto.summary_pb2 import Summary

CURVE, VALIDATION, TIME, TEST = "1_learning_curve", "2_validation", "3_time", "4_test"
FIT, QUERY, STREAM, FIGURES = "5_fit_over_steps", "6_query", "6_stream", "7_figures"
BY_LABEL = "4_test_by_label"
STOPPING, AUDIT, COOPERATIVE = "8_stopping", "9_audit", "9_cooperative"

MAX_IMAGES = 32
"""How many of the picked samples are shown per query."""
MOST_LABELS, MOST_CURVES = 40, 100
"""So many labels are in a table at most; of more than so many, none has a curve of its own."""
_BINS = 64


class Pick(NamedTuple):
    """A picked sample in words.

    Attributes:
        row: Where it stands in the data set's own arrays.
        score: Its score.
        label: What it was labeled.
        guess: What the model took it for; empty where that is not at hand.
        content: Its file name or its text; empty where nothing tells.
    """

    row: int
    score: float
    label: str
    guess: str = ""
    content: str = ""

    @property
    def lines(self) -> list[str]:
        """What stands below its picture."""
        guess = [f"guess {self.guess}"] if self.guess else []
        name = end_of(self.content) if self.content else f"row {self.row}"
        return [name, f"label {self.label}", *guess, f"score {self.score:.4g}"]


class TensorBoard:
    """Records a run for TensorBoard; a resumed run continues without points shown twice.

    Epochs and rounds cost about 0.05 ms a call, a histogram of 60 000 scores 10 ms, pictures and
    figures 0.1 to 0.3 s. Records reach the disk within a second while others follow, and at the
    latest with `flush`; call it once a round.

    Example:
        >>> with TensorBoard(run / "tb", class_names=("cat", "dog")) as board:  # doctest: +SKIP
        ...     board.config(yaml_text, {"seed": 0, "strategy": "entropy"})
        ...     board.epoch(0, 0, 12, {"train/loss": 0.9})
        ...     board.round(20, {"test/accuracy": 0.61})
    """

    def __init__(
        self,
        folder: Path,
        *,
        class_names: tuple[str, ...],
        metric: str = "accuracy",
        monitored: str = "",
        labels: int = 0,
        step: int = 0,
        seen: int = 0,
    ) -> None:
        """Open the folder and remove every point that the run is going to write again.

        The three numbers are the first x of each kind that will be written from now on; points at
        or beyond them come from a process that was killed after its last commit. A fresh run
        leaves them out: whatever the folder holds is removed.

        Args:
            folder: ``<run>/tb``; created if need be.
            class_names: The C class names.
            metric: Which one the learning curve shows.
            monitored: Which one the saw-tooth shows, such as that which stops the fits; empty for
                the same.
            labels: Labels paid for.
            step: Optimizer step through all rounds.
            seen: Samples that have arrived in a stream.

        Raises:
            OSError: The folder cannot be read or written.
        """
        self._class_names, self._metric = class_names, metric
        ends = {FIT: step, OVER_SEEN: seen}
        kept = rewind(folder, lambda tag, x: x < ends.get(tag.partition("/")[0], labels))
        self._configured = bool(kept)
        self._fits, self._saw_tooth = FitCurves(), SawTooth(monitored or metric)
        for event in kept:
            values = {v.tag: v.simple_value for v in event.summary.value}
            if (number := values.pop(f"{FIT}/round", None)) is not None:
                own = {k.removeprefix(f"{FIT}/"): v for k, v in values.items()}
                self._add_epoch(int(number), event.step, own)
        self._file = EventFile(folder)

    def config(self, text: str, hparams: Mapping[str, str | int | float | bool]) -> None:
        """Record the settings of the run; does nothing where they are recorded already.

        Args:
            text: The resolved configuration as YAML.
            hparams: Plain settings worth comparing across runs; they stand in the same event file
                as the points, so that no second run shows up in TensorBoard.

        Raises:
            OSError: An earlier record could not be written.
        """
        from torch.utils.tensorboard import summary

        if self._configured:
            return
        self._configured = True
        self._file.add(summary.text("config", f"```yaml\n{text}\n```"), 0)
        # The hyper-parameter view has no form for a bool of its own.
        plain = {k: str(v).lower() if isinstance(v, bool) else v for k, v in hparams.items()}
        for part in summary.hparams(plain, {f"{CURVE}/{self._metric}": 0.0}):
            self._file.add(part, 0)

    def epoch(self, round_number: int, step: int, values: Mapping[str, float]) -> None:
        """Record one epoch, over the step of the run.

        Args:
            round_number: The round that is being fitted; not smaller than in earlier calls.
            step: Number of the optimizer step within the whole run.
            values: Such as ``train/loss``, ``val/accuracy``, ``lr``, ``sets/labeled``.

        Raises:
            OSError: This or an earlier record could not be written.
        """
        self._add_epoch(round_number, step, values)
        # Of the cards of a group the flat one, of the learning rate, shall not be the first.
        tags = {name: name if "/" in name else f"train/{name}" for name in values}
        named = {f"{FIT}/{tags[name]}": value for name, value in values.items()}
        self._file.add(_scalars(named | {f"{FIT}/round": round_number}), step)

    def _add_epoch(self, round_number: int, step: int, values: Mapping[str, float]) -> None:
        self._fits.add(round_number, values)
        self._saw_tooth.add(round_number, step, values)

    def round(self, labels: int, values: Mapping[str, float]) -> None:
        """Record the results of one round.

        Args:
            labels: Labels paid for by the time of the fit; of ``6_stream_over_seen`` samples seen.
            values: Such as ``1_learning_curve/accuracy``, ``6_query/score_mean``, ``3_time/fit_s``.

        Raises:
            OSError: This or an earlier record could not be written.
        """
        self._file.add(_scalars(values), labels)

    def by_label(self, labels: int, found: Labels) -> None:
        """Record what a round's model is worth label by label.

        Args:
            labels: Labels paid for by the time of the fit.
            found: As `dal.recording.by_label.by_label` gives it; nothing is recorded of nothing.

        Raises:
            OSError: This or an earlier record could not be written.
        """
        from torch.utils.tensorboard import summary

        if not found:
            return
        table = label_table(found, MOST_LABELS)
        self._file.add(summary.text(f"{BY_LABEL}/table", table), labels)
        if len(found) <= MOST_CURVES:
            curves = {f"{BY_LABEL}/f1/{name}": values["f1"] for name, values in found.items()}
            self._file.add(_scalars(curves), labels)

    def query(
        self,
        labels: int,
        picks: Sequence[Pick],
        *,
        pool_scores: Tensor | None = None,
        images: Tensor | None = None,
    ) -> None:
        """Record what a query picked.

        Args:
            labels: Labels paid for before the query.
            picks: The picked samples, most wanted first; the first 32 make the table
                ``6_query/picks``.
            pool_scores: Float, (N,), scores of all candidates, for ``6_query/scores_pool``.
            images: uint8 or float, (at most b, channels, H, W), the picked samples in the order of
                ``picks``. The first 32 become the picture ``6_query/picked``.

        Raises:
            OSError: This or an earlier record could not be written.
        """
        from torch.utils.tensorboard import summary

        picks = picks[:MAX_IMAGES]
        if pool_scores is not None and len(pool_scores):
            scores = pool_scores.detach().cpu().numpy()
            self._file.add(summary.histogram(f"{QUERY}/scores_pool", scores, _BINS), labels)
        if images is not None and len(images):
            shown = images[: len(picks)]
            grid = captioned(shown, [pick.lines for pick in picks[: len(shown)]])
            self._file.add(
                summary.image(f"{QUERY}/picked", grid.numpy(), dataformats="CHW"), labels
            )
        if picks:
            self._file.add(summary.text(f"{QUERY}/picks", _table(picks)), labels)

    def class_histogram(self, labels: int, counts: Tensor, samples: int | None = None) -> None:
        """Record how many queried samples each class has got so far.

        Args:
            labels: Labels paid for.
            counts: Integer, (C,), for the figure ``7_figures/queried_classes``.
            samples: How many samples they come from; None for their sum.

        Raises:
            OSError: An earlier record could not be written.
        """
        number = int(counts.sum()) if samples is None else samples
        title = f"{number} sample{'s' * (number != 1)} queried so far"
        figure = class_histogram(counts, self._class_names, title)
        self._figure("queried_classes", figure, labels)

    def confusion(self, labels: int, counts: Tensor) -> None:
        """Record the confusion matrix of the test part as the figure ``7_figures/confusion``.

        Multi-label outcomes become ``7_figures/outcomes``.

        Args:
            labels: Labels paid for by the time of the fit.
            counts: int64, (C, C), rows are true classes; or outcomes of labels, (C, 2, 2).

        Raises:
            ValueError: The shape is not (C, C).
            OSError: An earlier record could not be written.
        """
        if counts.ndim == 3:
            self._figure("outcomes", label_outcomes(counts, self._class_names), labels)
        else:
            self._figure("confusion", confusion_matrix(counts, self._class_names), labels)

    def curve(self, labels: int, figure: Figure) -> None:
        """Record the learning curve so far as the figure ``7_figures/learning_curve``.

        Args:
            labels: Labels paid for at its last point.
            figure: As `dal.recording.figures.learning_curve` gives it.

        Raises:
            OSError: This or an earlier record could not be written.
        """
        self._figure("learning_curve", figure, labels)

    def fits(self, labels: int) -> None:
        """Record the epochs of some rounds over each other, as the figure ``7_figures/fits``.

        Args:
            labels: Labels paid for by the time of the last fit.

        Raises:
            OSError: This or an earlier record could not be written.
        """
        figure = self._fits.draw(self._metric)
        if figure is not None:
            self._figure("fits", figure, labels)

    def saw_tooth(self, labels: int, title: str) -> Figure | None:
        """Record the epochs of all rounds in a row, as the figure ``7_figures/saw_tooth``.

        Args:
            labels: Labels paid for by the time of the last fit.
            title: Stands above it.

        Returns:
            The figure; None where no fit has gone on for more than one epoch.

        Raises:
            OSError: This or an earlier record could not be written.
        """
        figure = self._saw_tooth.draw(title)
        if figure is not None:
            self._figure("saw_tooth", figure, labels)
        return figure

    def plane(self, labels: int, picture: NDArray[np.uint8]) -> None:
        """Record what the plane looked like so far, as the figure ``7_figures/plane``.

        Args:
            labels: Labels paid for by the time of the last fit.
            picture: uint8, (height, width, 3).

        Raises:
            OSError: This or an earlier record could not be written.
        """
        from torch.utils.tensorboard import summary

        self._file.add(summary.image(f"{FIGURES}/plane", picture, dataformats="HWC"), labels)

    def flush(self) -> None:
        """Bring everything recorded so far to the file.

        Raises:
            OSError: A record could not be written; free some space and resume the run.
        """
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file; the last call.

        Raises:
            OSError: A record could not be written.
        """
        self._file.close()

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _figure(self, name: str, figure: Figure, labels: int) -> None:
        from torch.utils.tensorboard import summary

        pixels = np.ascontiguousarray(to_pixels(figure))
        self._file.add(summary.image(f"{FIGURES}/{name}", pixels, dataformats="HWC"), labels)


def _scalars(values: Mapping[str, float]) -> Summary:
    """One summary for all values: a fit has hundreds of epochs, some of a few milliseconds."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(
        value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    )


def _table(picks: Sequence[Pick]) -> str:
    """Picks as a Markdown table."""
    told = any(pick.content for pick in picks)
    head = f"| row |{' content |' * told} label | guess | score |"
    rows = [
        f"| {p.row} |{f' {cell(p.content)} |' * told} {cell(p.label)} | {cell(p.guess)} | "
        f"{p.score:.4g} |"
        for p in picks
    ]
    return "\n".join([head, re.sub(r" \w+ ", " --- ", head), *rows])
