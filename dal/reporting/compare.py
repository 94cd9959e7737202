"""Which runs may be compared, and the numbers that a comparison shows."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean, median

import numpy as np

from dal.reporting.measures import column, measured, sign
from dal.reporting.records import RunError, RunRecord
from dal.reporting.statistics import LEVEL, Paired, area, half_width, holm, paired, paired_p
from dal.reporting.titles import flat, told_apart
from dal.settings import changed_defaults


@dataclass(frozen=True)
class Group:
    """Runs that differ in strategy and seed alone.

    Attributes:
        data: Option of the data set.
        model: Option of the model.
        protocol: Digest of the settings shared.
        curves: The runs used, by strategy and seed.
        span: Smallest and largest number of labels that all of them reach: areas are taken there.
        unpaired: Why a seed's runs do not share their start, by seed; such seeds are not paired.
        about: What tells it apart from other groups of its data set and model; empty for the only.
    """

    data: str
    model: str
    protocol: str
    curves: Mapping[str, Mapping[int, RunRecord]]
    span: tuple[int, int]
    unpaired: Mapping[int, str] = field(default_factory=dict)
    about: str = ""

    @property
    def title(self) -> str:
        """Name, and what tells it apart."""
        return f"{self.name}: {self.about}" if self.about else self.name

    @property
    def every(self) -> list[RunRecord]:
        """All runs."""
        return [run for runs in self.curves.values() for run in runs.values()]

    @property
    def wastes(self) -> bool:
        """Whether some answers were "none of these"."""
        return any(r.wasted for run in self.every for r in run.rounds)

    @property
    def paid_for(self) -> str:
        """What the x-axis of curves counts."""
        return "Labels paid for, \u201cnone of these\u201d included" if self.wastes else "Labels"

    @property
    def name(self) -> str:
        """Data set and model, as a title."""
        return ", ".join(part for part in (self.data, self.model) if part) or "runs"

    @property
    def metric(self) -> str:
        """What the curves show, by its name in `dal.reporting.measures`."""
        return next(iter(next(iter(self.curves.values())).values())).metric

    @property
    def sign(self) -> int:
        """1 where the highest value of the metric is the best, -1 where the lowest is."""
        return sign(self.metric)

    @property
    def seeds(self) -> list[int]:
        """All seeds of any strategy."""
        return sorted({seed for runs in self.curves.values() for seed in runs})


@dataclass(frozen=True)
class Line:
    """What a table shows of one strategy; areas in percent.

    Attributes:
        strategy: Its name.
        seeds: Its seeds.
        area: Mean area under the curve.
        half: Half the width of its 95 % interval; NaN for one seed.
        gain: Paired differences to the baseline; None for the baseline or without a shared seed.
        p_holm: Holm's corrected p-value of the group's tests; None without a test.
    """

    strategy: str
    seeds: tuple[int, ...]
    area: float
    half: float
    gain: Paired | None
    p_holm: float | None


def make_groups(runs: Iterable[RunRecord]) -> list[Group]:
    """Put runs that differ in strategy and seed alone together.

    Args:
        runs: Complete runs, or partial ones that shall be cut to what all have.

    Raises:
        RunError: A strategy has two runs at one seed, or the runs of a group share no labels, show
            different metrics or were begun under other defaults.
    """
    gathered: dict[tuple[str, str, str], dict[str, dict[int, RunRecord]]] = {}
    for run in runs:
        seeds = gathered.setdefault(run.group, {}).setdefault(run.strategy, {})
        if run.seed in seeds:
            raise RunError(
                f"two runs of {run.strategy}, seed {run.seed}, with the same settings: "
                f"{seeds[run.seed].where} and {run.where}; give one of them"
            )
        seeds[run.seed] = run
    groups = [_group(key, curves) for key, curves in sorted(gathered.items())]
    by_name: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_name[group.name].append(group)
    return [group for named in by_name.values() for group in _with_titles(named)]


def _with_titles(groups: list[Group]) -> list[Group]:
    """Groups of one name, each with what tells it apart: its protocol where no words do."""
    if len(groups) == 1:
        return groups
    words = told_apart([_settings(group) for group in groups])
    counts = Counter(words)
    return [
        replace(group, about=said if said and counts[said] == 1 else f"protocol {group.protocol}")
        for group, said in zip(groups, words, strict=True)
    ]


def _group(key: tuple[str, str, str], curves: dict[str, dict[int, RunRecord]]) -> Group:
    every = Group(*key, curves, (0, 0)).every
    others = [run for run in every if run.metric != every[0].metric]
    if others:
        raise RunError(
            f"{every[0].where} shows {measured(every[0].metric)} and {others[0].where} "
            f"{measured(others[0].metric)}: give --metric {column(every[0].metric)}, or another "
            "that all runs have"
        )
    recorded = [run for run in every if run.settings]
    for run in recorded[1:]:
        if changed := changed_defaults(recorded[0].settings, run.settings):
            raise RunError(
                f"{recorded[0].where} and {run.where} were begun under other defaults of "
                f"{', '.join(changed)}; give runs of one version"
            )
    span = max(run.labels[0] for run in every), min(run.labels[-1] for run in every)
    if span[0] > span[1]:
        first = max(every, key=lambda run: run.labels[0])
        last = min(every, key=lambda run: run.labels[-1])
        raise RunError(
            f"{first.where} begins with {span[0]} labels and {last.where} ends with {span[1]}: "
            "they have no number of labels in common; leave one out"
        )
    return Group(*key, curves, span, _mismatches(curves))


def _mismatches(curves: Mapping[str, Mapping[int, RunRecord]]) -> dict[int, str]:
    """Seeds at which recorded starts differ, with what differs and where."""
    found: dict[int, str] = {}
    by_seed: dict[int, list[RunRecord]] = defaultdict(list)
    for runs in curves.values():
        for seed, run in runs.items():
            by_seed[seed].append(run)
    for seed, runs_of_seed in by_seed.items():
        recorded = [run for run in runs_of_seed if run.start]
        for run in recorded[1:]:
            names = run.start.keys() & recorded[0].start.keys()
            parts = [n for n in sorted(names) if run.start[n][:8] != recorded[0].start[n][:8]]
            if parts:
                found[seed] = f"{', '.join(parts)} of {recorded[0].where} and {run.where}"
    return found


def why_protocols_differ(groups: Sequence[Group]) -> list[str]:
    """What distinguishes groups of the same data set and model, one sentence each pair in a row."""
    sentences = []
    for first, second in pairwise(groups):
        if first.name != second.name:
            continue
        words = told_apart([_settings(first), _settings(second)])
        one, two = (
            f"{group.protocol or '?'} ({said or 'settings that were not recorded'})"
            for group, said in zip((first, second), words, strict=True)
        )
        sentences.append(f"{first.name}: protocols {one} and {two} differ, so they are shown apart")
    return sentences


def _settings(group: Group) -> dict[str, object]:
    return flat(next((run.settings for run in group.every if run.settings), {}))


def area_between(run: RunRecord, span: tuple[int, int]) -> float:
    """Area in percent under a run's curve between two numbers of labels; linear at the ends."""
    inside = [n for n in run.labels if span[0] < n < span[1]]
    labels = sorted({span[0], *inside, span[1]})
    values = np.interp(labels, run.labels, run.values)
    return 100 * area(labels, list(values))


def areas(group: Group) -> dict[str, dict[int, float]]:
    """Area in percent of every run, by strategy and seed."""
    return {
        name: {seed: area_between(run, group.span) for seed, run in runs.items()}
        for name, runs in group.curves.items()
    }


def differences(
    first: Mapping[int, float], second: Mapping[int, float], unpaired: Iterable[int] = ()
) -> list[float]:
    """Differences at the seeds that both have and that share their start."""
    shared = (first.keys() & second.keys()) - set(unpaired)
    return [first[seed] - second[seed] for seed in sorted(shared)]


def lines(group: Group, baseline: str, margin: float) -> list[Line]:
    """What the table of areas shows, the best mean first.

    Args:
        group: The runs.
        baseline: The strategy that the others are compared with; where it was not run, none are.
        margin: Points of area within which a strategy counts as good as the baseline.
    """
    found = areas(group)
    gains: dict[str, Paired] = {}
    for name, values in found.items():
        pairs = differences(values, found.get(baseline, {}), group.unpaired)
        if name != baseline and pairs:
            gains[name] = paired(pairs, margin)
    corrected = holm({name: gain.p for name, gain in gains.items() if not math.isnan(gain.p)})
    table = [
        Line(
            name,
            tuple(sorted(values)),
            fmean(values.values()),
            half_width(list(values.values())),
            gains.get(name),
            corrected.get(name),
        )
        for name, values in found.items()
    ]
    return sorted(table, key=lambda line: -group.sign * line.area)


def needed(run: RunRecord, value: float) -> float:
    """Labels at which the curve first is as good as a value; infinite where it never is."""
    better = sign(run.metric)
    return next((float(r.labels) for r in run.rounds if better * (r.value - value) >= 0), math.inf)


def median_needed(runs: Iterable[RunRecord], value: float) -> tuple[float, int]:
    """Median over seeds of `needed`, and how many seeds got there."""
    found = [needed(run, value) for run in runs]
    return float(median(found)), sum(map(math.isfinite, found))


def targets_of(group: Group) -> tuple[float, ...]:
    """One or two values of the metric for which the labels needed are worth showing.

    The better one is the best value that any strategy reaches, the other the best that all reach;
    where the initial labels give the latter already, or both are the same, it is one step worse
    than the better one. A step is five points, or one point where five leave no value at all.
    A strategy reaches what half its seeds reach.
    """
    better = group.sign  # what is better the lower is counted below 0
    every = [list(runs.values()) for runs in group.curves.values()]
    start = 100 * max(median(better * run.values[0] for run in runs) for runs in every)
    ends = [median(max(better * v for v in run.values) for run in runs) for runs in every]
    for step in (5, 1):
        low, high = (math.floor(100 * end / step + 1e-9) * step for end in (min(ends), max(ends)))
        high = min(high, (100 if better > 0 else 0) - step)
        low = low if start < low < high else high - step
        if high > start:
            return tuple(better * points / 100 for points in (low, high) if points > start)
    return ()


def saved(strategy: float, baseline: float) -> float | None:
    """Share of the baseline's labels that a strategy saves; None where one never got there."""
    if not (math.isfinite(strategy) and math.isfinite(baseline)):
        return None
    return 1 - strategy / baseline


def wins(groups: Sequence[Group]) -> dict[tuple[str, str], float]:
    """How often a strategy beats another: the pairwise penalty matrix.

    In each group, the share of the numbers of labels after round 0, at which both were measured
    on at least two shared seeds, where a two-sided paired t-test at 0.05 says that the first is
    better; summed over groups.

    Reference:
        J. T. Ash, C. Zhang, A. Krishnamurthy, J. Langford and A. Agarwal. Deep batch active
        learning by diverse, uncertain gradient lower bounds. ICLR 2020, section 5.
    """
    totals: dict[tuple[str, str], float] = defaultdict(float)
    for group in groups:
        at = {
            name: {seed: dict(zip(run.labels, run.values, strict=True)) for seed, run in r.items()}
            for name, r in group.curves.items()
        }
        for first in at:
            for second in at:
                if first != second:
                    share = _share_won(at[first], at[second], group.unpaired, group.sign)
                    if share is not None:
                        totals[first, second] += share
    return dict(totals)


def by_losses(won: Mapping[tuple[str, str], float]) -> list[str]:
    """The strategies of `wins`, those that lose least first."""
    lost: dict[str, float] = defaultdict(float)
    for (_, loser), share in won.items():
        lost[loser] += share
    return sorted(lost, key=lambda name: (lost[name], name))


def _share_won(
    first: Mapping[int, Mapping[int, float]],
    second: Mapping[int, Mapping[int, float]],
    unpaired: Mapping[int, str],
    better: int,
) -> float | None:
    seeds = sorted((first.keys() & second.keys()) - unpaired.keys())
    if len(seeds) < 2:
        return None
    shared = sorted(set.intersection(*(set(c[seed]) for c in (first, second) for seed in seeds)))
    if len(shared) < 2:
        return None
    gains = np.array([[first[s][n] - second[s][n] for n in shared[1:]] for s in seeds])
    p = paired_p(gains)
    return float(((better * gains.mean(axis=0) > 0) & (p < LEVEL)).mean())


def picked(runs: Iterable[RunRecord]) -> Counter[str]:
    """How many samples of each class were picked in some runs, by class name."""
    total: Counter[str] = Counter()
    for run in runs:
        for r in run.rounds:
            total.update(r.picks)
    return total
