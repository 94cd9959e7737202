"""Data-parallel training: each process steps over its part of every batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dal.models.base import forward
from dal.training.trainer import Fit
from dal.utils.ranks import current
from dal.utils.seeding import derive


class ParallelFit(Fit):
    """A fit shared by several processes, each with a copy of the network.

    Every process goes over the same batches in the same order and takes a stretch of each; the
    gradients of the whole batch come together in `DistributedDataParallel`, so all copies stay
    equal. Sums are formed in another order than in one process, which changes last bits. BatchNorm
    normalizes by the process's part of a batch and keeps the statistics of the first process;
    dropout draws other masks in each.
    """

    def noise(self, epoch: int) -> int:
        """Seed of an epoch's noise: that of a single process in the first one, else another."""
        ranks = current()
        own = () if ranks.is_main else ("rank", ranks.rank)
        return derive(self.context.seed, self.context.round, "noise", epoch, *own)

    def sums(self) -> tuple[float, float]:
        """Loss and number of right predictions, over all samples of the epoch."""
        ranks = current()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for loss, right in zip(self.progress.losses, self.progress.correct, strict=True):
            sums[0] += loss / ranks.world_size
            sums[1] += right
        loss_sum, correct = ranks.all_reduce_sum(sums.cpu()).tolist()
        return loss_sum, correct

    def _step(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """One step; gives the process's share of the loss and of the right predictions."""
        ranks, own = current(), self._own(batch)
        targets, weights = self.samples.targets[own], self.samples.weights
        with self._autocast():
            logits = forward(self._network, self.inputs(own)).logits
        logits = logits.float()
        # Gradients are averaged over processes, so each loss is its part of the batch's mean
        # times their number.
        if weights is None:
            share = self.task.losses(logits, targets).sum() / len(batch)
        else:
            losses = self.task.losses(logits, targets) * weights[own]
            share = losses.sum() / weights[batch].sum()
        loss = share * (ranks.world_size if self._has_part(batch) else 0)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        right = self.task.correct(logits.detach(), targets).sum() * self._has_part(batch)
        return loss.detach(), right

    def _own(self, batch: Tensor) -> Tensor:
        """This process's part of a batch; a sample that will not count where it has none."""
        part = current().part(len(batch))
        return batch[part.start : part.stop] if part else batch[:1]

    def _has_part(self, batch: Tensor) -> bool:
        return len(current().part(len(batch))) > 0

    @property
    def _network(self) -> DistributedDataParallel:
        if "parallel" not in self.__dict__:
            self.parallel = DistributedDataParallel(self.model)
        return self.parallel
