"""Query scores and batch selection on made-up predictions and features, against other libraries.

The peers are an extra, ``pip install -e ".[bench]"``; without it their rows are left out.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.large_pool import extra_memory
from benchmarks.setup import Setup
from benchmarks.table import Row
from benchmarks.timing import interleave, timed
from dal.query import (
    Badge,
    BatchBALD,
    CoreSet,
    Features,
    Members,
    PoolView,
    Probs,
    entropy,
    expected_gradient_length,
    last_layer_lengths,
    member_statistics,
)
from dal.query.base import Strategy
from dal.query.needs import Need


def committee(setup: Setup) -> list[Row]:
    """Entropy, margin, least confidence and BALD from one pass, against one logarithm."""
    size, classes, members = setup.sizes.scores, setup.sizes.classes, setup.sizes.members
    members_KNC = _members(members, size, classes, setup.device)
    alternatives: dict[str, Callable[[], object]] = {
        "statistics": lambda: member_statistics(members_KNC),
        "log": lambda: torch.log(members_KNC),
    }
    members_NKC = members_KNC.transpose(0, 1).contiguous().cpu()
    members_NCK = members_NKC.transpose(1, 2).contiguous().numpy()
    peers = {
        "baal's BALD": _peer("baal.active.heuristics", lambda m: (
            lambda: m.BALD().compute_score(members_NCK))),
        "ALiPy's KL": _peer("alipy.query_strategy", lambda m: (
            lambda: m.QueryInstanceQBC.calc_avg_KL_divergence(list(members_KNC.cpu().numpy())))),
        "batchbald-redux's BALD": _peer("batchbald_redux.batchbald", lambda m: (
            lambda: m.compute_entropy(members_NKC.log())
            - m.compute_conditional_entropy(members_NKC.log()))),
    }  # fmt: skip
    found = {name: work for name, work in peers.items() if work is not None}
    fast = alternatives | {n: w for n, w in found.items() if n.startswith("baal")}
    times = interleave(fast, setup.repeat, setup.device)
    measured = f"{1e3 * times.median('statistics'):.0f} ms (n = {size:,}, K = {members})"
    rows = [
        Row("entropy, margin, least confidence, BALD / torch.log", measured,
            f"{1e3 * times.median('log'):.0f} ms", *times.ratio("statistics", "log"), 3),
    ]  # fmt: skip
    for name, work in found.items():
        if name in times.seconds:
            row = _against(name, measured, times.median(name), times.ratio(name, "statistics"), 4)
        else:
            row = _once(name, measured, work, times.median("statistics"), 100, setup)
        rows.append(row)
    return rows


def badge(setup: Setup) -> list[Row]:
    """A BADGE query, against scikit-activeml's."""
    size, width = setup.sizes.selection, setup.sizes.width
    view = _view(size, setup)
    work = _selection(Badge(), view, setup.sizes.picks)
    peer = _peer("skactiveml.pool", lambda m: _skactiveml_badge(m, view, setup.sizes.picks))
    times = interleave({"dal": work}, setup.repeat, setup.device)
    measured = f"{times.median('dal'):.2f} s (n = {size:,}, d = {width}, b = {setup.sizes.picks})"
    with extra_memory() as peak:
        work()
    rows = [Row("BADGE, peak extra memory", measured, "", *3 * (max(peak[0], 1) / 1e6,), 100,
                unit=" MB")]  # fmt: skip
    if peer is not None:
        dal = times.median("dal")
        rows.append(_once("scikit-activeml's Badge", measured, peer, dal, 30, setup))
    return rows


def core_set(setup: Setup) -> list[Row]:
    """A k-center query, against scikit-activeml's, whose sequence must be the same."""
    size, width = setup.sizes.selection, setup.sizes.width
    view = _view(size, setup)
    work = _selection(CoreSet(), view, setup.sizes.picks)
    peer = _peer("skactiveml.pool", lambda m: _skactiveml_core_set(m, view, setup.sizes.picks))
    if peer is None:
        return []
    same = bool((torch.as_tensor(peer()) == work().indices.cpu()).all())
    times = interleave({"dal": work, "peer": peer}, setup.repeat, setup.device)
    measured = f"{times.median('dal'):.2f} s (n = {size:,}, d = {width}, b = {setup.sizes.picks})"
    name = f"scikit-activeml's CoreSet ({'same sequence' if same else 'ANOTHER SEQUENCE'})"
    return [_against(name, measured, times.median("peer"), times.ratio("peer", "dal"), 5)]


def batch_bald(setup: Setup) -> list[Row]:
    """A BatchBALD query, against batchbald-redux with 10,000 samples."""
    size, picks = setup.sizes.joint, 10
    members_KNC = _members(setup.sizes.members, size, setup.sizes.classes, setup.device)
    view = PoolView(torch.arange(size), {Members(): members_KNC}, num_total=size,
                    num_classes=setup.sizes.classes)  # fmt: skip
    work = _selection(BatchBALD(), view, picks)
    logs_NKC = members_KNC.transpose(0, 1).double().log().cpu()
    peer = _peer("batchbald_redux.batchbald", lambda m: (
        lambda: m.get_batchbald_batch(logs_NKC, picks, 10_000, dtype=torch.double)))  # fmt: skip
    if peer is None:
        return []
    times = interleave({"dal": work}, setup.repeat, setup.device)
    measured = f"{times.median('dal'):.2f} s (n = {size:,}, K = {setup.sizes.members}, b = {picks})"
    name = "batchbald-redux, 10,000 samples"
    return [_once(name, measured, peer, times.median("dal"), 10, setup)]


def last_layer(setup: Setup) -> list[Row]:
    """Expected gradient length of the last layer, against entropy twice and one matrix norm."""
    size, width = setup.sizes.scores, setup.sizes.width
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(size, width, generator=rng).to(setup.device)
    probs = torch.randn(size, setup.sizes.classes, generator=rng).softmax(1).to(setup.device)
    times = interleave(
        {
            "length": lambda: expected_gradient_length(probs, last_layer_lengths(probs, features)),
            "reference": lambda: (
                entropy(probs),
                entropy(probs),
                torch.linalg.vector_norm(features, dim=1),
            ),
        },
        max(setup.repeat, 9),
        setup.device,
    )
    return [
        Row("gradient length of the last layer / entropy twice + a matrix norm",
            f"{1e3 * times.median('length'):.0f} ms (n = {size:,}, d = {width})",
            f"{1e3 * times.median('reference'):.0f} ms", *times.ratio("length", "reference"), 1),
    ]  # fmt: skip


def _members(count: int, size: int, classes: int, device: torch.device) -> Tensor:
    """Members that agree on some samples and not on others: float32, (K, N, C)."""
    rng = torch.Generator().manual_seed(0)
    shared = 3 * torch.randn(size, classes, generator=rng)
    spread = torch.rand(size, 1, generator=rng)
    own = torch.randn(count, size, classes, generator=rng)
    return (shared + 2 * spread * own).softmax(-1).to(device)


def _view(size: int, setup: Setup) -> PoolView:
    rng = torch.Generator().manual_seed(0)
    width, classes, labeled = setup.sizes.width, setup.sizes.classes, 20
    features = torch.randn(size + labeled, width, generator=rng).to(setup.device)
    probs = (2 * torch.randn(size, classes, generator=rng)).softmax(1).to(setup.device)
    results: dict[Need, Tensor] = {
        Probs(): probs,
        Features(): features[:size],
        Features("labeled"): features[size:],
    }
    return PoolView(torch.arange(size), results, num_total=size + labeled, num_classes=classes)


def _selection(strategy: Strategy, view: PoolView, picks: int) -> Callable[[], Any]:
    return lambda: strategy.select(view, picks, torch.Generator().manual_seed(0))


def _skactiveml_badge(module: Any, view: PoolView, picks: int) -> Callable[[], Any]:
    """Its query with a classifier that gives the same probabilities and features."""
    from skactiveml.base import SkactivemlClassifier

    features, probs = view[Features()].cpu().numpy(), view[Probs()].cpu().numpy()
    size, classes = probs.shape

    class Given(SkactivemlClassifier):  # type: ignore[misc]
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            self.classes_ = np.arange(classes)
            return self

        def predict_proba(self, X: Any, return_embeddings: bool = False) -> Any:
            rows = X[:, 0].astype(int)
            return (probs[rows], features[rows]) if return_embeddings else probs[rows]

    X = np.arange(size, dtype=float)[:, None]
    y = np.full(size, np.nan)
    strategy = module.Badge(random_state=0, clf_embedding_flag_name="return_embeddings")
    return lambda: strategy.query(X, y, clf=Given(classes=np.arange(classes)), fit_clf=False,
                                  batch_size=picks)  # fmt: skip


def _skactiveml_core_set(module: Any, view: PoolView, picks: int) -> Callable[[], Any]:
    features = torch.cat([view[Features()], view[Features("labeled")]]).cpu().numpy()
    y = np.full(len(features), np.nan)
    y[len(view) :] = 0
    return lambda: module.CoreSet(random_state=0).query(features, y, batch_size=picks)


def _peer(module: str, make: Callable[[Any], Callable[[], Any]]) -> Callable[[], Any] | None:
    """A peer's work, or None with a note where it is not installed."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        sys.stderr.write(f"{module} is not installed, its row is left out: pip install .[bench]\n")
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(importlib.import_module(module))


def _against(
    name: str, measured: str, seconds: float, ratio: tuple[float, float, float], target: float
) -> Row:
    return Row(f"{name} / dal", measured, f"{seconds:.2f} s", *ratio, target, at_least=True)


def _once(
    name: str, measured: str, peer: Callable[[], Any], seconds: float, target: float, setup: Setup
) -> Row:
    """A peer so slow that it is run once, against the median of ours."""
    theirs = timed(peer, setup.device)
    return _against(name, measured, theirs, (theirs / seconds,) * 3, target)
