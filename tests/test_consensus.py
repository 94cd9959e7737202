"""One label of several answers: against plain loops, and against crowd-kit."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import pytest
import torch
from torch import Tensor

from dal import settings
from dal.consensus import CONSENSUS, Crowd, Votes, dawid_skene, fit_crowd, latest, majority

NONE_OF_THESE = -2


def simulated(
    accuracy: list[float], samples: int, each: int, classes: int, seed: int = 0
) -> tuple[Votes, Tensor]:
    """Answers of people who are right so often, and what is true."""
    rng = torch.Generator().manual_seed(seed)
    true = torch.randint(classes, (samples,), generator=rng)
    drawn = [torch.randperm(len(accuracy), generator=rng)[:each] for _ in range(samples)]
    who, what = torch.stack(drawn).flatten(), torch.arange(samples).repeat_interleave(each)
    right = torch.rand(len(who), generator=rng) < torch.tensor(accuracy)[who]
    other = (true[what] + torch.randint(1, classes, (len(who),), generator=rng)) % classes
    shuffled = torch.randperm(len(who), generator=rng)
    votes = Votes(what, who, torch.where(right, true[what], other))
    return Votes(votes.samples[shuffled], who[shuffled], votes.targets[shuffled]), true


def answers_of(votes: Votes) -> dict[int, list[tuple[int, int]]]:
    """Of each sample who said what, in order of time."""
    found = defaultdict(list)
    rows = zip(
        votes.samples.tolist(), votes.annotators.tolist(), votes.targets.tolist(), strict=True
    )
    for sample, annotator, target in rows:
        found[sample].append((annotator, target))
    return found


def majority_by_hand(answers: list[tuple[int, int]]) -> tuple[int, float]:
    counts = Counter(target for _, target in answers)
    best = max(counts.values())
    last = [target for _, target in answers if counts[target] == best][-1]
    return last, best / len(answers)


def em_by_hand(votes: Votes, person: float, row: float, steps: int) -> dict[int, dict[int, float]]:
    """Dawid and Skene's EM with the assumptions of `fit_crowd`, written with dictionaries."""
    answers = {n: said for n, said in answers_of(votes).items() if len(said) > 1}
    classes = sorted({target for said in answers.values() for _, target in said})
    people, size = {who for said in answers.values() for who, _ in said}, len(classes)
    probs = {
        n: {k: sum(t == k for _, t in said) / len(said) for k in classes}
        for n, said in answers.items()
    }
    for _ in range(steps):
        every = [(n, who, target) for n, said in answers.items() for who, target in said]
        crowd = (sum(probs[n][t] for n, _, t in every) + 1) / (len(every) + 2)
        matrix = {}
        for who in people:
            own = [(n, t) for n, other, t in every if other == who]
            right = (sum(probs[n][t] for n, t in own) + person * crowd) / (len(own) + person)
            for k in classes:
                wrong = (1 - right) / (size - 1)
                cells = {
                    said: sum(probs[n][k] for n, t in own if t == said)
                    + row * (right if said == k else wrong)
                    for said in classes
                }
                matrix[who, k] = {said: n / sum(cells.values()) for said, n in cells.items()}
        often = {k: (sum(p[k] for p in probs.values()) + 1) / (len(probs) + size) for k in classes}
        new = {}
        for n, said in answers.items():
            joint = {
                k: often[k] * math.prod(matrix[who, k][target] for who, target in said)
                for k in classes
            }
            new[n] = {k: joint[k] / sum(joint.values()) for k in classes}
        probs = new
    return probs


def test_the_rules_are_those_of_the_settings() -> None:
    assert tuple(CONSENSUS) == settings.CONSENSUS


@pytest.mark.parametrize("each", [1, 2, 3, 4])
def test_majority_against_counting(each: int) -> None:
    votes, _ = simulated([0.7, 0.6, 0.5, 0.4], samples=60, each=each, classes=3)
    votes = Votes(votes.samples * 7 + 5, votes.annotators, votes.targets)
    decided = majority(votes)
    by_hand = {n: majority_by_hand(said) for n, said in answers_of(votes).items()}
    assert decided.samples.tolist() == sorted(by_hand)
    assert decided.targets.tolist() == [by_hand[n][0] for n in sorted(by_hand)]
    assert decided.confidence.tolist() == [by_hand[n][1] for n in sorted(by_hand)]


def test_latest_is_the_last_answer() -> None:
    votes, _ = simulated([0.7, 0.6, 0.5], samples=40, each=3, classes=3)
    decided, answers = latest(votes), answers_of(votes)
    assert decided.targets.tolist() == [answers[n][-1][1] for n in range(40)]
    agree = [sum(t == said[-1][1] for _, t in said) / 3 for _, said in sorted(answers.items())]
    assert decided.confidence.tolist() == pytest.approx(agree)


@pytest.mark.parametrize("rule", CONSENSUS.values())
def test_the_only_answer_is_the_label(rule) -> None:  # type: ignore[no-untyped-def]
    """Whoever gave it, and whatever is known of them from other samples."""
    votes, _ = simulated([0.9, 0.9, 0.1], samples=50, each=3, classes=3)
    alone = torch.arange(100, 110)
    said = torch.arange(10) % 3
    both = Votes(
        torch.cat([votes.samples, alone]),
        torch.cat([votes.annotators, torch.tensor([2, 3] * 5)]),
        torch.cat([votes.targets, said]),
    )
    decided = rule(both)
    assert decided.targets[50:].tolist() == said.tolist()
    assert ((decided.confidence > 0) & (decided.confidence <= 1)).all()
    only = rule(Votes(alone, torch.arange(10), said))
    assert only.targets.tolist() == said.tolist()
    assert only.confidence.tolist() == [1.0] * 10


@pytest.mark.parametrize("rule", CONSENSUS.values())
def test_nobody_said_anything(rule) -> None:  # type: ignore[no-untyped-def]
    none = torch.empty(0, dtype=torch.int64)
    assert len(rule(Votes(none, none, none)).targets) == 0
    assert rule(Votes(none, none, torch.empty(0, 3, dtype=torch.int64))).targets.shape == (0, 3)


@pytest.mark.parametrize("rule", CONSENSUS.values())
def test_none_of_these_is_one_class_more(rule) -> None:  # type: ignore[no-untyped-def]
    none = NONE_OF_THESE
    votes = Votes(
        torch.tensor([4, 4, 4, 8, 8, 8]),
        torch.tensor([0, 1, 2, 0, 1, 2]),
        torch.tensor([1, none, none, none, 1, 1]),
    )
    assert rule(votes).targets.tolist() == [none, 1]


@pytest.mark.parametrize("rule", [majority, dawid_skene])
def test_labels_are_decided_one_by_one(rule) -> None:  # type: ignore[no-untyped-def]
    columns = [simulated([0.8, 0.7, 0.6, 0.6], 40, 3, 2, seed=0)[0]]
    who, what = columns[0].annotators, columns[0].samples
    rng = torch.Generator().manual_seed(3)
    noise = (torch.rand(len(who), 2, generator=rng) < 0.3).long()
    targets = torch.cat([columns[0].targets[:, None], columns[0].targets[:, None] ^ noise], 1)
    decided = rule(Votes(what, who, targets))
    alone = [rule(Votes(what, who, targets[:, label])) for label in range(3)]
    assert decided.targets.tolist() == torch.stack([d.targets for d in alone], 1).tolist()
    least = torch.stack([d.confidence for d in alone]).amin(0)
    assert decided.confidence.tolist() == least.tolist()


@pytest.mark.parametrize(
    ("person", "row", "steps"), [(10.0, 5.0, 1), (10.0, 5.0, 7), (3.0, 1.0, 4)]
)
def test_em_against_dictionaries(
    person: float, row: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.consensus.STEPS", steps)
    votes, _ = simulated([0.9, 0.7, 0.5, 0.3], samples=25, each=3, classes=4)
    votes = Votes(votes.samples, votes.annotators * 3, votes.targets - 2)  # any numbers will do
    crowd, by_hand = fit_crowd(votes, person, row), em_by_hand(votes, person, row, steps)
    found = dict(zip(crowd.samples.tolist(), crowd.probs.tolist(), strict=True))
    assert found.keys() == by_hand.keys()
    assert not crowd.settled
    for n, expected in by_hand.items():
        assert found[n] == pytest.approx([expected[k] for k in sorted(expected)], abs=1e-12)


SAID = (
    "2120000100020010022201020222022222212010100220000010012110101111211110000020010022201111120000"
    "1000021112112111220221011011100111021101212110010112122122212220122221100100000122111121120221"
    "222220200000"
)
"""What 5 people said of 40 samples, sample by sample."""

CROWD_KIT = {
    5: [2e-05, 0.00033, 0.99965, 0.99589, 0.00411, 0.0, 0.96478, 0.01264, 0.02258, 0.99935],
    20: [0.0, 0.0, 1.0, 0.9995, 0.0005, 0.0, 0.99927, 0.00073, 0.0, 1.0],
}
"""The first probabilities after so many steps, by crowd-kit 1.4.2::

    n = range(200)
    answers = {"task": [i // 5 for i in n], "worker": [i % 5 for i in n], "label": list(SAID)}
    DawidSkene(n_iter=steps, tol=0).fit_predict_proba(pandas.DataFrame(answers)).sort_index()
"""


@pytest.mark.parametrize("steps", CROWD_KIT)
def test_em_without_assumptions_against_crowd_kit(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.consensus.STEPS", steps)
    place = torch.arange(len(SAID))
    crowd = fit_crowd(Votes(place // 5, place % 5, torch.tensor(list(map(int, SAID)))), 0, 0)
    assert crowd.probs.flatten()[:10].tolist() == pytest.approx(CROWD_KIT[steps], abs=6e-6)


def test_people_are_found_out() -> None:
    accuracy = [0.95, 0.9, 0.8, 0.2, 0.25]
    votes, true = simulated(accuracy, samples=400, each=3, classes=4)
    crowd = fit_crowd(votes)
    assert crowd.settled
    assert crowd.quality.tolist() == pytest.approx(accuracy, abs=0.08)
    assert crowd.confusion.sum(2).flatten().tolist() == pytest.approx([1.0] * 20)
    right = {
        rule: float((rule(votes).targets == true).double().mean()) for rule in CONSENSUS.values()
    }
    assert right[dawid_skene] > right[majority] + 0.05 > right[latest] + 0.05


def test_a_bias_of_one_person_is_seen() -> None:
    """Somebody who takes every 0 for a 1 is no spammer."""
    votes, true = simulated([0.95] * 4, samples=400, each=3, classes=3)
    biased = (votes.annotators == 0) & (true[votes.samples] == 0)
    crowd = fit_crowd(Votes(votes.samples, votes.annotators, votes.targets.masked_fill(biased, 1)))
    assert float(crowd.confusion[0, 0, 1]) > 0.9
    assert float(crowd.confusion[0, 2, 2]) > 0.85
    assert float(crowd.confusion[1:, 0, 0].min()) > 0.85


@pytest.mark.parametrize("each", [3, 5])
def test_with_few_answers_a_person_it_is_the_majority(each: int) -> None:
    """Nobody is known: the answers of one person on one sample decide against no majority."""
    for said in itertools.product(range(3), repeat=each):
        votes = Votes(torch.zeros(each).long(), torch.arange(each), torch.tensor(said))
        assert dawid_skene(votes).targets.tolist() == majority(votes).targets.tolist()


def test_one_answer_a_sample_takes_no_step() -> None:
    crowd = fit_crowd(Votes(torch.arange(9), torch.arange(9) % 2, torch.arange(9) % 3))
    assert isinstance(crowd, Crowd)
    assert crowd.settled
    assert (crowd.steps, len(crowd.samples), len(crowd.annotators)) == (0, 0, 0)


def test_all_answers_alike() -> None:
    votes = Votes(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), torch.full((4,), 7))
    decided = dawid_skene(votes)
    assert decided.targets.tolist() == [7, 7]
    assert decided.confidence.tolist() == pytest.approx([1.0, 1.0])


def test_unrest_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("dal.consensus.STEPS", 2)
    votes, _ = simulated([0.9, 0.6, 0.4], samples=50, each=3, classes=3)
    dawid_skene(votes)
    assert "has not come to rest after 2 steps" in caplog.text
