"""An oracle that knows the labels: for experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dal.data.source import Source, is_known
from dal.export import load
from dal.oracles.base import Answers, Oracle
from dal.pool import REJECTED
from dal.query.base import Query
from dal.utils.inputs import Inputs


class SimulatedOracle(Oracle):
    """Answers at once with the data set's own labels.

    Args:
        targets: int64, (num_total,) or (num_total, C), labels of the training part.
        foreign: bool, (num_total,), samples of none of the classes, where the question costs as
            much as any other. None for none.
        on_foreign: What it says of those: it can ``abstain``, or ``reject``, which means none of
            the classes.
        truth: The directory of a run whose model answers about samples that a run makes; None for
            the data set's own function, see `dal.data.Dataset.truth`.

    Raises:
        ValueError: A label is unknown, so it could not be answered.
    """

    name = "simulated"

    def __init__(
        self,
        targets: Tensor,
        foreign: Tensor | None = None,
        on_foreign: Literal["abstain", "reject"] = "abstain",
        truth: str | Path | None = None,
    ) -> None:
        if on_foreign not in ("abstain", "reject"):
            raise ValueError(f"oracle.on_foreign={on_foreign}; give abstain or reject")
        self._rejects = on_foreign == "reject"
        self._foreign = torch.zeros(len(targets), dtype=torch.bool) if foreign is None else foreign
        unknown = (~is_known(targets) & ~self._foreign).nonzero()
        if len(unknown):
            raise ValueError(
                f"training samples without label: {len(unknown)}, number {int(unknown[0])} first; "
                "a simulated oracle cannot answer for them; use oracle=files to label by hand"
            )
        self._targets = targets
        self._truth_of = None if truth is None else Path(truth).expanduser()
        self._truth: Callable[[Inputs], Tensor] | None = None
        self._source: Source | None = None

    def open(self, source: Source) -> None:
        """Take the data, and what knows the labels of made samples.

        Raises:
            FileNotFoundError: There is no model in the directory that ``truth`` names.
            ValueError: Its classes are not those of the data.
        """
        self._source = source
        self._truth = source.truth if self._truth_of is None else model_of(self._truth_of, source)

    def why_not_made(self) -> str:
        """See `Oracle.why_not_made`."""
        if self._truth is not None:
            return ""
        name = "these data" if self._source is None else self._source.name
        return (
            f"nothing tells it what samples are that {name} did not come with; give oracle.truth="
            "RUN, the directory of a run whose model answers, data that know it, such as "
            "data=two_gaussians and data=moons, or oracle=files for people"
        )

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Nothing needs to be sent."""
        return {"indices": query.indices.tolist()}

    def collect(self, ticket: dict[str, Any]) -> Answers:
        """The labels, of foreign samples none or `REJECTED`; every answer costs 1."""
        indices = torch.tensor(ticket["indices"], dtype=torch.int64)
        targets, foreign = self._labels(indices)
        if self._rejects:
            none = 0 if targets.ndim == 2 else REJECTED
            shape = (-1, *[1] * (targets.ndim - 1))
            targets, foreign = targets.masked_fill(foreign.view(shape), none), foreign & False
        return Answers(
            indices=indices,
            targets=targets,
            abstained=foreign,
            cost=torch.ones(len(indices)),
        )

    def _labels(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The targets of some samples, and which of them are foreign."""
        made = indices >= len(self._targets)
        own = indices.masked_fill(made, 0)
        targets, foreign = self._targets[own], self._foreign[own] & ~made
        if made.any():
            if self._truth is None or self._source is None:
                raise ValueError(f"oracle=simulated: {self.why_not_made()}")
            targets[made] = self._truth(self._source.train.raw(indices[made]))
        return targets, foreign


def model_of(run_dir: Path, source: Source) -> Callable[[Inputs], Tensor]:
    """What a trained model takes samples for: plain weights, nothing of it is executed.

    Args:
        run_dir: Of the run that trained it.
        source: The data, whose classes must be the model's.

    Raises:
        FileNotFoundError: There is no model.
        ValueError: Its classes are others, or in another order.
    """
    predictor = load(run_dir, device="cpu")
    if predictor.class_names != tuple(source.class_names):
        raise ValueError(
            f"oracle.truth={run_dir}: its model knows the classes {list(predictor.class_names)}, "
            f"and {source.name} has {list(source.class_names)}; give a run on the same classes"
        )

    def told(raw: Inputs) -> Tensor:
        guesses = predictor.task.guess(predictor.predict_proba(raw))
        return torch.tensor([target for target, _ in guesses], dtype=torch.int64)

    return told
