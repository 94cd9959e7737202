"""Which rule makes the best label of several answers: simulated crowds on digits.

``python -m benchmarks.consensus``; cleanlab is a peer, left out where it is not installed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean, stdev

import numpy as np
import torch
from torch import Tensor

from dal.consensus import Decided, Votes, dawid_skene, latest, majority
from dal.data import digits, make_source
from dal.data.source import Source
from dal.oracles import Noisy, Oracle, Several, SimulatedOracle
from dal.query import Query

SAMPLES, SEEDS, EACH = 300, 10, (2, 3, 5)
NAMES = tuple(map(str, range(10)))


def matrix(changes: Mapping[tuple[int, int], float], accuracy: float = 0.9) -> list[list[float]]:
    """Shares of answers: even errors, but for some pairs of true and said class."""
    shares = torch.full((10, 10), (1 - accuracy) / 9).fill_diagonal_(accuracy)
    for (true, said), share in changes.items():
        shares[true] *= (1 - share) / (1 - shares[true, said])
        shares[true, said] = share
    return (shares / shares.sum(1, keepdim=True)).tolist()


ALWAYS_SEVEN = [[float(said == 7) for said in range(10)] for _ in range(10)]
PAIRS = {(3, 8): 0.8, (9, 4): 0.8, (1, 7): 0.8, (5, 6): 0.8}

CROWDS: Mapping[str, list[dict[str, object]]] = {
    "good (0.8 to 0.95)": [{"accuracy": a} for a in (0.8, 0.83, 0.86, 0.89, 0.92, 0.95)],
    "alike (all 0.75)": [{"accuracy": 0.75}] * 6,
    "two of six guess": [{"accuracy": a} for a in (0.9, 0.85, 0.85, 0.8, 0.1, 0.1)],
    "one of six says 7, one guesses": [
        *({"accuracy": a} for a in (0.9, 0.85, 0.85, 0.8, 0.1)),
        {"confusion": ALWAYS_SEVEN},
    ],
    "half biased on four classes": [
        *({"accuracy": 0.9} for _ in range(3)),
        *({"confusion": matrix(PAIRS)} for _ in range(3)),
    ],
    "all confuse similar (0.7)": [{"accuracy": 0.7, "confused": "similar"}] * 6,
    "sixty, 0.5 to 0.95": [{"accuracy": 0.5 + 0.45 * n / 59} for n in range(60)],
}


def answers_of(source: Source, crowd: str, each: int, seed: int) -> tuple[Votes, Tensor]:
    """What a crowd says of some samples, and what is true."""
    targets = source.train.targets
    people: dict[str, Oracle] = {
        f"p{n}": Noisy(SimulatedOracle(targets), NAMES, seed=seed, **how)  # type: ignore[arg-type]
        for n, how in enumerate(CROWDS[crowd])
    }
    oracle = Several(people, seed=seed, annotators_per_sample=each)
    oracle.open(source)
    drawn = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))[:SAMPLES]
    answers = oracle.collect(oracle.submit(Query(drawn, torch.zeros(SAMPLES)), 0))
    assert answers is not None
    assert answers.annotators is not None
    numbers = {name: n for n, name in enumerate(people)}
    who = torch.tensor([numbers[name] for name in answers.annotators])
    order = torch.randperm(len(who), generator=torch.Generator().manual_seed(seed + 1))
    return Votes(answers.indices[order], who[order], answers.targets[order]), targets


def cleanlab(source: Source, votes: Votes) -> Decided:
    """What cleanlab's CROWDLAB decides: people weighed against a model's out-of-sample predictions.

    The model is a logistic regression, in 5 folds, on the labels of the majority.
    """
    from cleanlab.multiannotator import get_label_quality_multiannotator
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    first = majority(votes)
    inputs = source.train.take(first.samples)
    assert isinstance(inputs, Tensor)
    model, labels = LogisticRegression(max_iter=200), first.targets.numpy()
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    pixels = inputs.flatten(1).numpy()
    probs = cross_val_predict(model, pixels, labels, cv=folds, method="predict_proba")
    table = np.full((len(first.samples), int(votes.annotators.max()) + 1), np.nan)
    place = torch.searchsorted(first.samples, votes.samples)
    table[place, votes.annotators] = votes.targets
    table = table[:, ~np.isnan(table).all(0)]
    found = get_label_quality_multiannotator(table, probs, verbose=False)["label_quality"]
    label, quality = (found[f"consensus_{key}"].to_numpy() for key in ("label", "quality_score"))
    return Decided(first.samples, torch.tensor(label.astype(np.int64)), torch.tensor(quality))


def compare(rules: Mapping[str, Callable[[Votes], Decided]], source: Source, first: int) -> str:
    """The share of right labels in percent, by crowd and answers a sample, as Markdown."""
    rows = ["| crowd | answers | " + " | ".join(rules) + " |", "|---|---:|" + "---:|" * len(rules)]
    for crowd in CROWDS:
        for each in EACH:
            shares: dict[str, list[float]] = {name: [] for name in rules}
            for seed in range(first, first + SEEDS):
                votes, true = answers_of(source, crowd, each, seed)
                for name, rule in rules.items():
                    found = rule(votes)
                    right = found.targets == true[found.samples]
                    shares[name].append(100 * float(right.double().mean()))
            cells = [f"{fmean(s):.1f} ± {stdev(s):.1f}" for s in shares.values()]
            rows.append(f"| {crowd} | {each} | " + " | ".join(cells) + " |")
            sys.stderr.write(rows[-1] + "\n")
    return "\n".join(rows)


def main() -> None:
    """Print the table."""
    source = make_source(digits(), seed=0, kind="none")
    rules: dict[str, Callable[[Votes], Decided]] = {
        "latest": latest,
        "majority": majority,
        "dawid_skene": dawid_skene,
        "as published": partial(dawid_skene, person=0, row=0),
    }
    if importlib.util.find_spec("cleanlab") is not None:
        rules["cleanlab"] = partial(cleanlab, source)
    sys.stdout.write(compare(rules, source, first=0) + "\n")


if __name__ == "__main__":
    main()
