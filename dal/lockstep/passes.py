"""Predictions of several networks in one pass, each over samples of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dal.data.source import Split
from dal.inference.batches import by_length
from dal.inference.pool_pass import evaluating
from dal.learners.network import TorchLearner
from dal.lockstep.stack import Stack
from dal.models.base import Output
from dal.query.needs import Features, Need, Needs, Probs
from dal.utils.inputs import stack_inputs


def stacked_logits(
    models: Stack | Sequence[nn.Module],
    splits: Sequence[Split],
    device: torch.device,
    batch_size: int,
    check: Callable[[], None],
) -> Tensor:
    """Logits of all N samples of R parts of data of one length, each under its own network.

    What `check` raises between two batches ends it.

    Returns:
        float, (R, N, C), on the device.
    """
    indices = torch.arange(len(splits[0])).expand(len(splits), -1)

    def read(output: Output) -> dict[Need, Tensor]:
        return {Probs(): output.logits.float()}

    found = _pass(models, splits, indices, device, batch_size, read, check)
    return found[Probs()]


def stacked_scan(
    learners: Sequence[TorchLearner],
    indices: Sequence[Tensor],
    needs: Needs,
    check: Callable[[], None],
) -> list[dict[Need, Tensor]]:
    """Class probabilities and features as `pool_pass` computes them, for R networks at once.

    Args:
        learners: R learners of one architecture.
        indices: R times int64, (N,).
        needs: `Probs` and `Features`, or fewer.
        check: Called before each batch; may raise to abandon the pass.

    Returns:
        For each learner one tensor a need, (N, ...), on the device.
    """
    known = [learner.embedded(own, needs) for learner, own in zip(learners, indices, strict=True)]
    if not (needs := needs - set(known[0])):
        return known
    first = learners[0]

    def read(output: Output) -> dict[Need, Tensor]:
        values: dict[Need, Tensor] = {}
        if Probs() in needs:
            logits = output.logits.float()
            values[Probs()] = first.task.probs(logits.flatten(0, 1)).view_as(logits)
        if Features() in needs:
            if output.features is None:
                raise ValueError("features were asked of a network that returns logits only")
            values[Features()] = output.features.float()
        return values

    results = _pass(
        [learner.model for learner in learners],
        [learner.source.train for learner in learners],
        torch.stack(list(indices)),
        first.device,
        first.batch_size,
        read,
        check,
    )
    return [
        own | {need: value[number].clone() for need, value in results.items()}
        for number, own in enumerate(known)
    ]


def _pass(
    models: Stack | Sequence[nn.Module],
    splits: Sequence[Split],
    indices_RN: Tensor,
    device: torch.device,
    batch_size: int,
    read: Callable[[Output], dict[Need, Tensor]],
    check: Callable[[], None],
) -> dict[Need, Tensor]:
    """Batches that all together have as many samples as one of a network's own pass.

    Samples are taken in the order of their lengths, the longest first; those of a batch are cut to
    one length, at least that of each: what differs from a network's own pass is the rounding.
    """
    found = [
        by_length(own, split.buckets)[0] for split, own in zip(splits, indices_RN, strict=True)
    ]
    orders = [order for order in found if order is not None]
    if orders:
        indices_RN = indices_RN.gather(1, torch.stack(orders))
    stack = models if isinstance(models, Stack) else Stack(models)
    stack.train(False)
    parts: list[dict[Need, Tensor]] = []
    with evaluating(stack.base), torch.no_grad():
        for batch_RB in torch.split(indices_RN, max(batch_size // len(splits), 1), dim=1):
            check()
            pairs = list(zip(splits, batch_RB, strict=True))
            length = max((split.length(batch) or 0 for split, batch in pairs), default=0) or None
            inputs = stack_inputs([split.take(batch, device, length) for split, batch in pairs])
            parts.append(read(stack(inputs)))
    results = {need: torch.cat([part[need] for part in parts], 1) for need in parts[0]}
    if orders:
        places = [order.argsort().to(device) for order in orders]
        for need, value in results.items():
            rows = [own[place] for own, place in zip(value, places, strict=True)]
            results[need] = torch.stack(rows)
    return results
