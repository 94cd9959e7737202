"""TensorBoard files of a run, in three kinds of folder because their x-axes differ.

tb/              x = training labels: test results, queries, times, figures, settings
tb/steps/        x = optimizer step through all rounds: the saw-tooth when labels are added
tb/round_003/    x = epoch of that round: the same tags in every round, so that rounds overlay
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from torch import Tensor

from dal.recording.event_file import EventFile
from dal.recording.events import remove_later_rounds, rewind
from dal.recording.figures import (
    class_histogram,
    confusion_matrix,
    image_grid,
    label_outcomes,
    to_pixels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

MAX_IMAGES = 32
"""How many of the picked images are recorded per query."""
_COLUMNS = 8


class TensorBoard:
    """Records a run for TensorBoard; a resumed run continues without points shown twice.

    Epochs cost about 0.05 ms a call, scalars 0.1 ms, a histogram of 60 000 scores 10 ms, images
    0.1 s and figures 0.1 to 0.3 s. Epochs reach the disk within a second, the other records from a
    thread of their writer, all at the latest with `flush`. If that fails, on a full disk for
    instance, the next call on the same folder, or `flush` or `close`, raises the OSError; call
    `flush` once a round so that none is lost.

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
        labels: int | None = None,
        step: int | None = None,
        round_number: int | None = None,
        epoch: int | None = None,
    ) -> None:
        """Open the folder and remove every point that the run is going to write again.

        The four numbers are the first x of each kind that will be written from now on; points at
        or beyond them come from a process that was killed after its last commit. A fresh run
        leaves them out: whatever the folder holds is removed.

        Args:
            folder: ``<run>/tb``; created if need be.
            class_names: The C class names.
            metric: Which one the learning curve shows.
            labels: For the root folder, number of training labels.
            step: For ``steps``, optimizer step through all rounds.
            round_number: The round that is being fitted, or is fitted next.
            epoch: The epoch of that round; folders of later rounds are removed.

        Raises:
            OSError: The folder cannot be read or written.
        """
        self._folder = folder
        self._class_names, self._metric = class_names, metric
        self._root, kept = _open(folder, labels)
        self._configured = kept > 0
        self._steps = _open_events(folder / "steps", step)
        self._round: EventFile | None = None
        self._round_number = -1
        remove_later_rounds(folder, -1 if round_number is None else round_number)
        if round_number is not None and _round_folder(folder, round_number).exists():
            self._open_round(round_number, epoch)

    def config(self, text: str, hparams: Mapping[str, str | int | float | bool]) -> None:
        """Record the settings of the run; does nothing where they are recorded already.

        Args:
            text: The resolved configuration as YAML.
            hparams: Plain settings worth comparing across runs; they stand in the same event file
                as the points, so that no second run shows up in TensorBoard.

        Raises:
            OSError: An earlier record could not be written.
        """
        from torch.utils.tensorboard.summary import hparams as summaries

        if self._configured:
            return
        self._configured = True
        self._root.add_text("config", f"```yaml\n{text}\n```", 0)
        self._root.add_custom_scalars(_layout(self._metric))
        # The hyper-parameter view has no form for a bool of its own.
        plain = {k: str(v).lower() if isinstance(v, bool) else v for k, v in hparams.items()}
        for summary in summaries(plain, {f"test/{self._metric}": 0.0}):
            self._root.file_writer.add_summary(summary)

    def epoch(self, round_number: int, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Record one epoch, over the step of the run and over the epoch of its round.

        Args:
            round_number: The round that is being fitted; not smaller than in earlier calls.
            epoch: Number of the epoch within the round.
            step: Number of the optimizer step within the whole run.
            values: Such as ``train/loss``, ``val/accuracy``, ``lr``.

        Raises:
            OSError: An earlier record could not be written.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        writer = self._round
        if writer is None or round_number != self._round_number:
            writer = self._open_round(round_number)
        # One event for all values: a fit has hundreds of epochs, some of a few milliseconds.
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._steps.add(summary, step)
        writer.add(summary, epoch)

    def round(self, labels: int, values: Mapping[str, float]) -> None:
        """Record the results of one round.

        Args:
            labels: Number of training labels the model was fitted on.
            values: Such as ``test/accuracy``, ``query/score_mean``, ``time/fit_s``.

        Raises:
            OSError: An earlier record could not be written.
        """
        for tag, value in values.items():
            self._root.add_scalar(tag, value, labels)

    def query(
        self,
        labels: int,
        *,
        scores: Tensor,
        pool_scores: Tensor | None = None,
        images: Tensor | None = None,
    ) -> None:
        """Record what a query picked.

        Args:
            labels: Number of training labels before the query.
            scores: Float, (b,), the score of each picked sample, most wanted first.
            pool_scores: Float, (N,), scores of all candidates, for ``query/scores_pool``.
            images: uint8 or float, (at most b, channels, H, W), the picked samples in the order of
                ``scores``. The first 32 make the grid ``query/picked``; their scores stand in the
                text ``query/picked_scores``, cell by cell.

        Raises:
            ValueError: A shape does not fit.
            OSError: An earlier record could not be written.
        """
        if pool_scores is not None and len(pool_scores):
            self._root.add_histogram("query/scores_pool", pool_scores.detach().cpu(), labels)
        if images is not None and len(images):
            grid = image_grid(images[:MAX_IMAGES], columns=_COLUMNS)
            self._root.add_image("query/picked", grid, labels)
            table = _table(scores[: min(len(images), MAX_IMAGES)].tolist())
            self._root.add_text("query/picked_scores", table, labels)

    def class_histogram(self, labels: int, counts: Tensor, samples: int | None = None) -> None:
        """Record how many queried samples each class has got so far.

        Args:
            labels: Number of training labels.
            counts: Integer, (C,), for the figure ``query/class_histogram``.
            samples: How many samples they come from; None for their sum.

        Raises:
            OSError: An earlier record could not be written.
        """
        number = int(counts.sum()) if samples is None else samples
        title = f"{number} sample{'s' * (number != 1)} queried so far"
        figure = class_histogram(counts, self._class_names, title)
        self._figure("query/class_histogram", figure, labels)

    def confusion(self, labels: int, counts: Tensor) -> None:
        """Record the confusion matrix of the test part as the figure ``test/confusion``.

        Multi-label outcomes become ``test/outcomes``.

        Args:
            labels: Number of training labels the model was fitted on.
            counts: int64, (C, C), rows are true classes; or outcomes of labels, (C, 2, 2).

        Raises:
            ValueError: The shape is not (C, C).
            OSError: An earlier record could not be written.
        """
        if counts.ndim == 3:
            self._figure("test/outcomes", label_outcomes(counts, self._class_names), labels)
        else:
            self._figure("test/confusion", confusion_matrix(counts, self._class_names), labels)

    def curve(self, labels: int, figure: Figure) -> None:
        """Record the learning curve so far as the figure ``curve/accuracy``, or of its metric.

        Args:
            labels: Number of training labels at its last point.
            figure: As `dal.recording.figures.learning_curve` gives it.

        Raises:
            OSError: An earlier record could not be written.
        """
        self._figure(f"curve/{self._metric}", figure, labels)

    def flush(self) -> None:
        """Wait until everything recorded so far is in the files.

        Raises:
            OSError: A record could not be written; free some space and resume the run.
        """
        for writer in self._writers():
            writer.flush()

    def close(self) -> None:
        """Flush and close the files; the last call.

        Raises:
            OSError: A record could not be written.
        """
        with ExitStack() as stack:
            for writer in self._writers():
                stack.callback(writer.close)

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_round(self, number: int, epoch: int | None = None) -> EventFile:
        """Change over to the folder of a round."""
        if self._round is not None:
            self._round.close()
        self._round = _open_events(_round_folder(self._folder, number), epoch)
        self._round_number = number
        return self._round

    def _writers(self) -> list[SummaryWriter | EventFile]:
        """The writers that are open."""
        writers = (self._root, self._steps, self._round)
        return [writer for writer in writers if writer is not None]

    def _figure(self, tag: str, figure: Figure, labels: int) -> None:
        # `SummaryWriter.add_figure` would import pyplot and with it global state.
        self._root.add_image(tag, to_pixels(figure), labels, dataformats="HWC")


def _open(folder: Path, first: int | None) -> tuple[SummaryWriter, int]:
    """A writer for a folder after its points from ``first`` on are removed, and how many stay."""
    from torch.utils.tensorboard import SummaryWriter

    kept = rewind(folder, first or 0)
    return SummaryWriter(str(folder), purge_step=first or 0), kept


def _open_events(folder: Path, first: int | None) -> EventFile:
    """A file for points of epochs, after those from ``first`` on are removed."""
    rewind(folder, first or 0)
    return EventFile(folder, first or 0)


def _layout(metric: str) -> dict[str, dict[str, list[str | list[str]]]]:
    """Charts of TensorBoard's custom scalars."""
    return {
        f"labels vs {metric}": {
            f"test {metric}": ["Multiline", [f"^test/{metric}$"]],
            "test calibration and loss": ["Multiline", ["^test/ece$", "^test/loss$"]],
        }
    }


def _round_folder(folder: Path, number: int) -> Path:
    return folder / f"round_{number:03d}"


def _table(scores: list[float]) -> str:
    """Scores as a Markdown table laid out like the grid of images."""
    rows = [scores[i : i + _COLUMNS] for i in range(0, len(scores), _COLUMNS)]
    lines = ["| " + " | ".join(f"{score:.4g}" for score in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
