"""Data-parallel training: each process steps over its part of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dal.training.fit import Fit
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

    def noise_seed(self) -> int:
        """See `Fit.noise_seed`: that of a single process in the first one, else another."""
        if current().is_main:
            return super().noise_seed()
        keys = self.context.round, "noise", self.state.epoch, "rank", current().rank
        return derive(self.context.seed, *keys)

    def sums(self) -> tuple[Tensor, Tensor]:
        """See `Epochs.sums`: over all processes, float64."""
        ranks = current()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for loss, right in zip(self.progress.losses, self.progress.correct, strict=True):
            sums[0] += loss / ranks.world_size
            sums[1] += right
        loss_sum, correct = ranks.all_reduce_sum(sums.cpu()).unbind()
        return loss_sum, correct

    @contextmanager
    def judged(self) -> Iterator[None]:
        """See `Epochs.judged`: with the first process's statistics of BatchNorm in all.

        `DistributedDataParallel` hands these around before a step, not after the last one; and each
        process predicts a part of the validation split and of the pool.
        """
        with super().judged():
            buffers = dict(self.model.named_buffers())
            if buffers:
                first = current().broadcast(lambda: {n: b.cpu() for n, b in buffers.items()})
                for name, buffer in buffers.items():
                    buffer.copy_(first[name])
            yield

    def own_part(self, batch: Tensor, part: slice) -> Tensor:
        """See `Epochs.own_part`: a stretch of the part."""
        rows = self._own_rows(len(batch), part)
        # All processes must go through the backward pass; one without samples takes the first
        # one, whose loss counts nothing.
        own = batch[rows.start : max(rows.stop, rows.start + 1)]
        # As in `Epochs.train`: BatchNorm cannot normalize a single sample.
        return own.repeat(2) if self.normalizes and len(own) == 1 else own

    def _own_rows(self, count: int, part: slice) -> range:
        """Which of a batch's samples are this process's of a part; none, from the part's first."""
        places = range(count)[part]
        stretch = current().part(len(places))
        return places[stretch.start : stretch.stop] if stretch else places[:0]

    def losses(self, batch: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """This process's stretch of a part of a batch: its share of the loss, right predictions.

        `DistributedDataParallel` averages gradients over W processes, so that with own losses
        l_i of a batch of B the share is W (sum of l_i) / B: its mean over processes is the batch's
        mean. With weights, W (sum of w_i l_i) / (sum of all w).
        """
        own, rows = self.own_part(batch, part), self._own_rows(len(batch), part)
        counted = len(rows) > 0
        copies = len(own) // max(len(rows), 1)
        drawn = slice(rows.start, rows.start + max(len(rows), 1))
        logits = self.forward(self._network, own, drawn).logits.float()
        share, right = self.verdict(logits, own, self.step_task, batch)
        right = right // copies * counted
        return share * (current().world_size / copies if counted else 0), right

    @property
    def _network(self) -> DistributedDataParallel:
        if "parallel" not in self.__dict__:
            self.parallel = DistributedDataParallel(self.model)
        return self.parallel
