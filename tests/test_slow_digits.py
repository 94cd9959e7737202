"""Strategies earn their labels on real digits: learning curves against random, paired by seed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats

import dal
from dal.data import digits, initial_labels, make_source
from dal.models import MLP
from dal.query import Badge, Entropy, Instability, Margin, Random, Strategy
from dal.training.early_stopping import EarlyStopping
from dal.training.optim import adam
from dal.training.trainer import Trainer

SEEDS = range(10)
STRATEGIES: tuple[type[Strategy], ...] = (Entropy, Margin, Badge, Instability)


def area(strategy: Strategy, seed: int) -> float:
    """Area under the learning curve of one run: split, first labels and weights are the seed's."""
    source = make_source(digits(), seed=seed)
    stop = EarlyStopping(monitor="train/loss", patience=10, min_delta=0.001)
    result = dal.run(
        source,
        partial(MLP, hidden=[64]),
        strategy,
        initial=initial_labels(source.train.targets, seed=seed, per_class=2),
        settings=dal.Settings(query_size=20, budget=300, seed=seed, threads=1),
        trainer=Trainer(epochs=60, optimizer=adam(), early_stopping=stop),
    )
    return result.aubc


@pytest.mark.slow
def test_strategies_beat_random_on_digits() -> None:
    random = np.array([area(Random(), seed) for seed in SEEDS])
    lines = [f"random: mean area {random.mean():.4f}"]
    not_above = []
    for strategy in STRATEGIES:
        gains = np.array([area(strategy(), seed) for seed in SEEDS]) - random
        half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
        lines.append(f"{strategy.__name__}: {100 * gains.mean():+.2f} ± {100 * half:.2f} points")
        if not gains.mean() - half > 0:
            not_above.append(strategy.__name__)
    table = "; ".join(lines) + f" (mean paired difference, 95 %, {len(SEEDS)} seeds)"
    print(table)
    assert not not_above, f"{', '.join(not_above)} not above random: {table}"
