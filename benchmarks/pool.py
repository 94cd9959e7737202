"""The pool pass, the instability query, and gradient lengths over the pool."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.setup import Setup
from benchmarks.table import Row
from benchmarks.timing import MATRIX, forward_macs, interleave, matrix_product
from dal.learners import RoundContext, TorchLearner
from dal.query import Features, GradNorms, History, Instability, PredictionHistory, Probs
from dal.query.base import PoolView
from dal.query.needs import Needs


def pool_pass(setup: Setup) -> list[Row]:
    """Probabilities and features of the pool, against loops that run the network and no more."""
    learner, split = setup.learner(), setup.source.train
    model = learner.model.eval()
    raw = split.inputs.to(setup.device)
    everything = torch.arange(len(split))
    inputs = split.take(everything, setup.device)
    needs: Needs = frozenset({Probs(), Features()})
    loops = {str(size): _loop(model, inputs, size) for size in setup.batch_sizes}
    search = interleave(loops, 3, setup.device)
    best = min(loops, key=search.median)
    products = 10 if setup.device.type == "cpu" else 100
    times = interleave(
        {
            "pass": lambda: learner.scan(everything, needs, RoundContext()),
            "bare": loops[best],
            "preparing": _loop(model, raw, int(best), split.prepare),
            "products": matrix_product(setup.device, products),
        },
        setup.repeat,
        setup.device,
    )
    macs = len(split) * sum(forward_macs(model, inputs[:1]))
    size = f"n = {len(split):,}, batches of {learner.batch_size}"
    measured = f"{times.median('pass'):.3f} s ({size})"
    bare = f"{times.median('bare'):.3f} s (prepared float32 in memory, best batch size {best})"
    preparing = f"{times.median('preparing'):.3f} s (prepares each batch from uint8, {best})"
    products_reference = f"its {macs / 1e9:.1f} G multiply-adds at the rate of 1024³ products"
    factor = products * MATRIX**3 / macs
    return [
        Row("pool pass / bare loop", measured, bare, *times.ratio("pass", "bare"), 1.15),
        Row("pool pass / preparing loop", measured, preparing, *times.ratio("pass", "preparing")),
        Row("pool pass / mult-adds", measured, products_reference,
            *times.ratio("pass", "products", factor)),
    ]  # fmt: skip


def _loop(
    model: nn.Module, inputs: Tensor, size: int, prepare: Callable[[Tensor], Tensor] | None = None
) -> Callable[[], None]:
    def work() -> None:
        with torch.inference_mode():
            for batch in torch.split(inputs, size):
                model(batch if prepare is None else prepare(batch))

    return work


def instability_query(setup: Setup) -> list[Row]:
    """Scores and choice from three remembered predictions, against the pass that made one."""
    learner, strategy = setup.learner(), Instability(window=3)
    pool = torch.arange(len(setup.source.train))
    history = PredictionHistory(len(pool), setup.source.num_classes, keep=3)
    needs: Needs = frozenset({Probs()})
    for number in range(3):
        setup.fitted(learner, setup.initial()[: -1 - number], number, epochs=min(5, setup.epochs))
        view = learner.scan(pool, needs, RoundContext(number))
        history.append(number, pool, view[Probs()])

    def query() -> None:
        seen = view.with_result(History(3), history.last(3, pool))
        strategy.select(seen, 10, torch.Generator().manual_seed(0))

    times = interleave(
        {"query": query, "pass": lambda: learner.scan(pool, needs, RoundContext())},
        setup.repeat,
        setup.device,
    )
    return [
        Row(
            "instability query (N = 3) / pool pass",
            f"{1e3 * times.median('query'):.1f} ms (last + score + select, n = {len(pool):,})",
            f"{times.median('pass'):.3f} s (probabilities)",
            *times.ratio("query", "pass"),
            target=0.05,
            unit="%",
        )
    ]


def gradient_length(setup: Setup) -> list[Row]:
    """Gradient lengths of all labels, against autograd item by item, and forward passes."""
    learner = setup.learner()
    setup.fitted(learner, setup.initial(), 0, epochs=min(5, setup.epochs))
    model = learner.model.eval()
    plain = setup.learner().model.to(memory_format=torch.contiguous_format).eval()
    plain.load_state_dict(model.state_dict())
    pool = torch.arange(min(setup.items, len(setup.source.train)))
    few = setup.source.train.take(pool[: setup.items_autograd], setup.device)
    lengths: Needs = frozenset({Probs(), GradNorms()})
    forwards: Needs = frozenset({Probs()})

    def scan(needs: Needs) -> PoolView:
        return learner.scan(pool, needs, RoundContext())

    torch.testing.assert_close(
        scan(lengths)[GradNorms()][: len(few)],
        lengths_by_autograd(plain, few),
        rtol=1e-2,
        atol=1e-5,
    )
    times = interleave(
        {
            "lengths": lambda: scan(lengths),
            "autograd": lambda: lengths_by_autograd(plain, few),
            "forward": lambda: scan(forwards),
        },
        setup.repeat,
        setup.device,
    )
    item, single = times.median("lengths") / len(pool), times.median("autograd") / len(few)
    forward = times.median("forward") / len(pool)
    measured = f"{1e3 * item:.3f} ms an item (n = {len(pool):,}, all {_labels(learner)} labels)"
    return [
        Row(
            "per-sample autograd / gradient lengths",
            measured,
            f"{1e3 * single:.2f} ms an item (n = {len(few)}, one forward, C backward)",
            *times.ratio("autograd", "lengths", len(pool) / len(few)),
            target=25,
            at_least=True,
        ),
        Row(
            "gradient lengths / forward passes",
            measured,
            f"{1e3 * forward:.4f} ms an item (the pool pass with probabilities)",
            *times.ratio("lengths", "forward"),
        ),
    ]


def lengths_by_autograd(model: nn.Module, inputs: Tensor) -> Tensor:
    """Lengths of the full loss gradient, one item and one label at a time: float32, (N, C)."""
    parameters = list(model.parameters())
    rows = []
    for x in torch.split(inputs, 1):
        losses = -model(x).logits.log_softmax(1)[0]
        gradients = [torch.autograd.grad(y, parameters, retain_graph=True) for y in losses]
        norms = [torch.stack(torch._foreach_norm(g)).norm() for g in gradients]
        rows.append(torch.stack(norms))
    return torch.stack(rows)


def _labels(learner: TorchLearner) -> int:
    return learner.source.num_classes
