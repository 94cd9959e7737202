"""An oracle that knows the labels: for experiments."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from dal.data.source import is_known
from dal.oracles.base import Answers, Oracle
from dal.pool import REJECTED
from dal.query.base import Query


class SimulatedOracle(Oracle):
    """Answers at once with the data set's own labels.

    Args:
        targets: int64, (num_total,) or (num_total, C), labels of the training part.
        foreign: bool, (num_total,), samples of none of the classes, where the question costs as
            much as any other. None for none.
        on_foreign: What it says of those: it can ``abstain``, or ``reject``, which means none of
            the classes.

    Raises:
        ValueError: A label is unknown, so it could not be answered.
    """

    name = "simulated"

    def __init__(
        self,
        targets: Tensor,
        foreign: Tensor | None = None,
        on_foreign: Literal["abstain", "reject"] = "abstain",
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

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Nothing needs to be sent."""
        return {"indices": query.indices.tolist()}

    def collect(self, ticket: dict[str, Any]) -> Answers:
        """The labels, of foreign samples none or `REJECTED`; every answer costs 1."""
        indices = torch.tensor(ticket["indices"], dtype=torch.int64)
        targets, foreign = self._targets[indices], self._foreign[indices]
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
