"""An oracle that knows the labels: for experiments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dal.data.source import is_known
from dal.oracles.base import Answers, Oracle
from dal.query.base import Query


class SimulatedOracle(Oracle):
    """Answers at once with the data set's own labels.

    Args:
        targets: int64, (num_total,) or (num_total, C), labels of the training part.
        foreign: bool, (num_total,), samples of none of the classes: it abstains, and the question
            costs as much as any other. None for none.

    Raises:
        ValueError: A label is unknown, so it could not be answered.
    """

    name = "simulated"

    def __init__(self, targets: Tensor, foreign: Tensor | None = None) -> None:
        self._foreign = torch.zeros(len(targets), dtype=torch.bool) if foreign is None else foreign
        unknown = (~is_known(targets) & ~self._foreign).nonzero()
        if len(unknown):
            raise ValueError(
                f"training samples without label: {len(unknown)}, number {int(unknown[0])} first; "
                "a simulated oracle cannot answer for them; use oracle=files to label by hand"
            )
        self._targets = targets

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Nothing needs to be sent."""
        return {"indices": query.indices.tolist()}

    def collect(self, ticket: dict[str, Any]) -> Answers:
        """The labels, none for foreign samples; every answer costs 1."""
        indices = torch.tensor(ticket["indices"], dtype=torch.int64)
        return Answers(
            indices=indices,
            targets=self._targets[indices],
            abstained=self._foreign[indices],
            cost=torch.ones(len(indices)),
        )
