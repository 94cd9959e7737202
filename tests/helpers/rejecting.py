"""An oracle that says of some samples that they are none of the classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dal.oracles import Answers, SimulatedOracle
from dal.pool import REJECTED


class Rejecting(SimulatedOracle):
    """Rejects samples of a class; or, without one, the first sample of every query."""

    def __init__(self, targets: Tensor, junk: int | None = None) -> None:
        super().__init__(targets)
        self.junk = junk

    def collect(self, ticket: Any) -> Answers:
        answers = super().collect(ticket)
        first = torch.arange(len(answers.targets)) == 0
        rejected = first if self.junk is None else answers.targets == self.junk
        return replace(answers, targets=answers.targets.masked_fill(rejected, REJECTED))
