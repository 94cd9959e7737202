"""The pool pass: one batched run over the candidates that computes all a strategy asked for."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dal.inference.batches import Batches, Buckets, uncut
from dal.inference.dropout_masks import DropoutMasks
from dal.inference.gradients import GradientNorms
from dal.models.base import DropoutSampling, Output, forward
from dal.query.base import PoolView
from dal.query.needs import Features, GradNorms, Heights, Members, Need, Needs, Probs, Scores
from dal.task import Task
from dal.utils.inputs import Inputs, tensors_of
from dal.utils.memory import out_of_memory
from dal.utils.ranks import current
from dal.utils.signals import PreemptedError

log = logging.getLogger(__name__)

T = TypeVar("T")

Take = Callable[[Tensor, torch.device], Inputs]
"""Gives the prepared inputs of some indices on a device."""

Expect = Callable[[Iterable[Tensor]], None]
"""Told which indices will be taken next, batch by batch; a hint."""


def auto_batch_size(numel: int, device: torch.device) -> int:
    """Batch size of the pass for samples of ``numel`` numbers: a power of two.

    A batch of about half a million numbers keeps the activations of small networks in the caches
    of a CPU; a GPU wants about 32 times as much to be busy.
    """
    budget = 2**19 if device.type == "cpu" else 2**24
    exponent = max(budget // max(numel, 1), 1).bit_length() - 1
    return 1 << min(max(exponent, 5), 14)


def batch_size_for(asked: int | None, numel: int, pool: int, device: torch.device) -> int:
    """Batch size of the pass: what is asked for, but not beyond the pool.

    Batches are filled up to their size, so more than all samples would be computed for nothing, or
    not fit into memory. How many candidates a round has left plays no part: a sample's bits would
    change from round to round.

    Args:
        asked: The setting; None for automatic.
        numel: Numbers in a sample.
        pool: Samples of the whole pool, labeled or not; up to the automatic size, a batch may have
            more all the same.
        device: Where the pass computes.
    """
    automatic = auto_batch_size(numel, device)
    return automatic if asked is None else min(asked, max(automatic, pool))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of a block; every module's own mode and the RNG come back."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    model.eval()
    try:
        with torch.random.fork_rng(devices=[d.index for d in devices]):
            yield
    finally:
        for module, training in modes:
            module.training = training


def pool_pass(
    model: nn.Module,
    take: Take,
    indices: Tensor,
    needs: Needs,
    task: Task,
    *,
    device: torch.device,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
    on_batch: Callable[[], None] = lambda: None,
    description: str = "pool pass",
    masks: DropoutMasks | None = None,
    expect: Expect = lambda batches: None,
    buckets: Buckets = uncut,
) -> tuple[dict[Need, Tensor], int]:
    """Compute class probabilities, features, gradient lengths and members' predictions.

    One forward a batch serves all needs but `Members`, which take one each. Every batch has the
    same size, and samples of one length, see `Batches`. On out-of-memory the pass starts over with
    half the batch size, so that a result never depends on where in the pool memory ran out.

    Gradient lengths are always measured in float32, whatever ``dtype`` says: with `GradNorms` among
    the needs the whole forward, probabilities and features included, is float32 without autocast
    (and on CUDA without TF32).

    Args:
        model: Any network of `dal.models.base`; its modes, buffers and gradients stay as they are.
        take: Gives the inputs of a batch on the device.
        indices: int64, (N,), N >= 1.
        needs: What to compute: `Probs`, `Features`, `GradNorms`; `Members` given ``masks``;
            `Scores` of one strategy, which are made of each batch, so that nothing else of it is
            kept. All but the members' are those of the network without dropout.
        task: Turns logits into probabilities.
        device: Where the model is.
        batch_size: The size to start with.
        dtype: bfloat16 or float16 to run the forward under autocast; results are float32 still.
            Without effect when gradient lengths are asked for.
        on_batch: Called before each batch; may raise to abandon the pass.
        description: Shown at the progress bar.
        masks: The members, where `Members` are among the needs.
        expect: Told the batches before they are taken.
        buckets: The lengths that ``take`` may cut samples to.

    Returns:
        One tensor a need, (N, ...), for members (K, N, C), on the device, float64 where model and
        inputs are, `Heights` with `Scores` where they differ; and the batch size that worked.

    Raises:
        RuntimeError: Out of memory with a batch of one.
        ValueError: Features are asked of a network that has none to give.
    """

    def run(size: int) -> dict[Need, Tensor]:
        batches = Batches(indices, size, buckets)
        expect(batch for batch, _ in batches)
        shown = batches.shown(on_batch, description)
        return _run(model, take, shown, batches.count, needs, task, device, dtype, masks)

    results, size = _halving(run, batch_size, device, "the pool pass")
    return _gathered(results, Batches(indices, size, buckets), needs), size


def _gathered(results: dict[Need, Tensor], batches: Batches, needs: Needs) -> dict[Need, Tensor]:
    """What all processes have computed, each for some of the rows.

    A strategy is another object in each process, so what is made by it goes by its kind.
    """
    made = (Scores, Heights)
    kinds: dict[Need, Any] = {
        kind(need.of): kind for need in needs if isinstance(need, Scores) for kind in made
    }
    parts: dict[Any, Tensor] = {kinds.get(need, need): value for need, value in results.items()}
    current().all_gather_rows(parts, batches.rows, {Members(): 1})
    of_kind = {kind: need for need, kind in kinds.items()}
    ordered = batches.in_order(parts, {Members(): 1})
    return {of_kind.get(need, need): value for need, value in ordered.items()}


def predict_logits(
    model: nn.Module,
    take: Take,
    count: int,
    *,
    device: torch.device,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
    on_batch: Callable[[], None] = lambda: None,
    expect: Expect = lambda batches: None,
    buckets: Buckets = uncut,
) -> Tensor:
    """Logits of samples 0 to count - 1, by batches like those of the pass.

    Out of memory, it starts over with half the batch size, as the pass does. ``expect`` is told the
    batches before they are taken; ``buckets`` gives the lengths that ``take`` may cut samples to.

    Returns:
        float32, (count, C), on the device.

    Raises:
        RuntimeError: Out of memory with a batch of one.
    """

    def run(size: int) -> dict[str, Tensor]:
        batches = Batches(torch.arange(count), size, buckets)
        expect(batch for batch, _ in batches)
        with evaluating(model), torch.inference_mode():
            parts = [
                _full(_forward(model, take(batch, device), dtype).logits)[:kept]
                for batch, kept in batches.shown(on_batch, None)
            ]
            joined = torch.cat(parts) if parts else None
        return {} if joined is None else {"logits": joined.clone()}

    results, size = _halving(run, batch_size, device, "the prediction")
    batches = Batches(torch.arange(count), size, buckets)
    current().all_gather_rows(results, batches.rows, {})
    return batches.in_order(results, {})["logits"]


def _halving(
    run: Callable[[int], T], batch_size: int, device: torch.device, what: str
) -> tuple[T, int]:
    """Run with batches of that size, or half of it while memory runs out; result and size.

    Processes that share the work come together here, also where a signal has ended one's part.
    """
    while True:
        failed, signum = None, 0
        try:
            result = run(batch_size)
        except PreemptedError as error:
            signum = error.signum
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            failed = error
        current().end_all(signum)
        if not current().all_reduce_max(failed is not None):
            return result, batch_size
        if batch_size == 1:
            where = "" if failed else ", in another process"
            raise torch.OutOfMemoryError(
                f"out of memory in {what}, even with batches of one sample{where}; choose a "
                "smaller model, smaller inputs or committee, or free memory of this machine"
            ) from failed
        batch_size //= 2
        log.warning("out of memory in %s; going on with batches of %d", what, batch_size)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _run(
    model: nn.Module,
    take: Take,
    batches: Iterator[tuple[Tensor, int]],
    count: int,
    needs: Needs,
    task: Task,
    device: torch.device,
    dtype: torch.dtype,
    masks: DropoutMasks | None,
) -> dict[Need, Tensor]:
    results: dict[Need, Tensor] = {}
    position = 0
    computed = needs.union(*(need.of.needs for need in needs if isinstance(need, Scores)))
    with evaluating(model):
        engines = _gradient_engines(model, computed, task, device)
        for batch, kept in batches:
            inputs = take(batch, device)
            values: dict[Need, Tensor] = {}
            output: Output | None = None
            for need, engine in engines.items():
                output, values[need] = engine(inputs)
            with torch.inference_mode():
                if output is None and needs != {Members()}:
                    output = _forward(model, inputs, dtype)
                if output is not None:
                    values |= _read(output, computed, task)
                if Members() in needs:
                    assert masks is not None
                    values[Members()] = _members(model, inputs, masks, task, dtype)
                values = _scored(values, needs, batch, task)
            for need, value in values.items():
                if need not in results:
                    results[need] = _room(need, value, count)
                with torch.inference_mode():
                    _rows(need, results[need], position, kept).copy_(_rows(need, value, 0, kept))
            position += kept
    return results


def _gradient_engines(
    model: nn.Module, needs: Needs, task: Task, device: torch.device
) -> dict[Need, GradientNorms]:
    wanted = sorted((need for need in needs if isinstance(need, GradNorms)), key=repr)
    if wanted and device.type == "cpu":
        # Backward passes to the inputs of convolutions are a tenth faster with channels first.
        model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    return {need: GradientNorms(model, need.scope, need.labels, task.cotangents) for need in wanted}


def _scored(
    values: dict[Need, Tensor], needs: Needs, batch: Tensor, task: Task
) -> dict[Need, Tensor]:
    """What is kept of a batch: what was asked for, and the scores that are made of the rest."""
    kept = {need: value for need, value in values.items() if need in needs}
    for need in needs:
        if isinstance(need, Scores):
            view = PoolView(
                batch,
                values,
                num_total=len(batch),
                num_classes=values[Probs()].shape[1] if Probs() in values else 0,
                multilabel=not task.exclusive,
            )
            kept |= need.of.of_block(view)
    return kept


def _read(output: Output, needs: Needs, task: Task) -> dict[Need, Tensor]:
    values: dict[Need, Tensor] = {}
    if Probs() in needs:
        values[Probs()] = task.probs(_full(output.logits))
    if Features() in needs:
        if output.features is None:
            raise ValueError("features were asked of a network that returns logits only")
        values[Features()] = _full(output.features)
    return values


def _members(
    model: nn.Module, inputs: Inputs, masks: DropoutMasks, task: Task, dtype: torch.dtype
) -> Tensor:
    """Class probabilities of every member for one batch: (K, B, C)."""
    if isinstance(model, DropoutSampling) and isinstance(inputs, Tensor) and dtype == torch.float32:
        sets = [masks.of(k, model.mask_shapes, inputs.device) for k in range(masks.size)]
        logits = model.dropout_samples(inputs, sets)
        return task.probs(logits.flatten(0, 1)).view_as(logits)
    members = []
    for number in range(masks.size):
        with masks.member(number):
            members.append(task.probs(_full(_forward(model, inputs, dtype).logits)))
    return torch.stack(members)


def _room(need: Need, value: Tensor, count: int) -> Tensor:
    """Room for a need's answer for ``count`` samples, shaped like that for one batch."""
    shape = list(value.shape)
    shape[1 if isinstance(need, Members) else 0] = count
    return torch.empty(shape, dtype=value.dtype, device=value.device)


def _rows(need: Need, value: Tensor, start: int, count: int) -> Tensor:
    """The part of a need's answer that belongs to some samples."""
    return value.narrow(1 if isinstance(need, Members) else 0, start, count)


def _full(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype == torch.float64 else x.float()


def _forward(model: nn.Module, inputs: Inputs, dtype: torch.dtype) -> Output:
    if dtype == torch.float32:
        return forward(model, inputs)
    with torch.autocast(tensors_of(inputs)[0].device.type, dtype):
        return forward(model, inputs)
