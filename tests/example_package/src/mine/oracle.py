"""An oracle: an annotator who knows the labels, and leaves out every so-manyth sample."""

from typing import Any

import torch
from torch import Tensor

from dal.oracles import Answers, Oracle
from dal.query import Query


class Hasty(Oracle):
    """Answers at once, and abstains on samples whose number is a multiple of ``skips``.

    Args:
        targets: int64, (number of training samples,), their labels; dal gives them.
        skips: On which samples it abstains.
        cost: Of an answer; an abstention costs as much.
    """

    name = "hasty"

    def __init__(self, targets: Tensor, skips: int = 7, cost: float = 1.0) -> None:
        if skips < 2:
            raise ValueError(f"oracle.skips={skips}; give at least 2")
        self._targets, self._skips, self._cost = targets, skips, cost

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Ask; the ticket is of plain values, and all that `collect` gets."""
        return {"indices": query.indices.tolist()}

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers; None where they are not there yet: the run ends then, as "waiting"."""
        indices = torch.tensor(ticket["indices"], dtype=torch.int64)
        return Answers(
            indices=indices,
            targets=self._targets[indices],
            abstained=indices % self._skips == 0,
            cost=torch.full((len(indices),), self._cost),
        )
