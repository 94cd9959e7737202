"""Pools that are harder than those of curated data sets: wrappers around a divided data set.

Each takes a `Source` and gives one with another training part; the test part stays as it is (but
for classes that are held out). They come after the split, so no copy of a test sample gets into the
pool, and everything they draw follows from the seed of the run: at one seed, all strategies meet
the same pool. `harden` applies several in one order: imbalanced, ood (`dal.data.foreign`),
repeated, noisy.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.draw import draw_by_class
from dal.data.joined import JoinedStore
from dal.data.source import UNKNOWN, Source, Split
from dal.data.store import ArrayStore, Store
from dal.utils.inputs import one_tensor, tensors_of
from dal.utils.memory import fitting
from dal.utils.seeding import generator

__all__ = ["Imbalanced", "Noisy", "Repeated"]

log = logging.getLogger(__name__)

Embed = Callable[[Dataset], Dataset]
"""Does to a foreign data set what was done to the run's own: see `dal.features`."""

_CHUNK = 4096
"""Samples to which noise is added at a time."""


class HardPool(ABC):
    """Makes the pool harder.

    Attributes:
        stage: Place in the order in which several are applied, low numbers first.
    """

    stage: ClassVar[int]

    @abstractmethod
    def __call__(self, source: Source, *, seed: int) -> Source:
        """Give the data with another training part.

        Args:
            source: The data.
            seed: Seed of the run; what is drawn depends on it and on nothing else of the run.
        """

    def embedded(self, embed: Embed) -> HardPool:
        """The same with the data sets that it holds embedded as the run's own."""
        return self


def harden(
    source: Source, pools: Iterable[HardPool], *, seed: int, embed: Embed = lambda data: data
) -> Source:
    """Apply several wrappers, in the order of their stages, whatever order they are given in.

    Args:
        source: The data.
        pools: The wrappers.
        seed: Seed of the run.
        embed: Applied to data sets that wrappers hold.

    Raises:
        ValueError: Samples came after the run had begun: the draws that made its pool would fall
            out otherwise.
    """
    pools = list(pools)
    if pools and source.appended:
        raise ValueError(
            f"difficulty={type(pools[0]).__name__.lower()} with {source.appended} samples that "
            f"were added to {source.name} since this run began: its pool would be another; take "
            "them away, or choose another saved_dir to start anew"
        )
    for pool in sorted(pools, key=lambda pool: pool.stage):
        before = len(source.train)
        source = pool.embedded(embed)(source, seed=seed)
        name = type(pool).__name__.lower()
        log.info("pool: %s, %s -> %s samples", name, f"{before:,}", f"{len(source.train):,}")
    return source


@dataclass(frozen=True)
class Imbalanced(HardPool):
    """Classes of unequal size in the pool; the test part stays balanced as it is.

    With ``long_tailed`` the sizes fall off geometrically from the first class to the last, with
    ``step`` the second half of the classes are small ones, all alike. Samples are dropped, as few
    as the ratio allows.

    Attributes:
        ratio: Size of the largest class by that of the smallest, at least 1.
        kind: ``long_tailed`` or ``step``.
        shuffle: Which classes are large is drawn by the seed, instead of following class numbers.

    Raises:
        ValueError: A value is out of range.

    Reference:
        K. Cao, C. Wei, A. Gaidon, N. Arechiga and T. Ma. Learning imbalanced datasets with
        label-distribution-aware margin loss. NeurIPS 2019, section 4.
    """

    stage: ClassVar[int] = 0
    ratio: float = 10.0
    kind: Literal["long_tailed", "step"] = "long_tailed"
    shuffle: bool = False

    def __post_init__(self) -> None:
        if not (self.ratio >= 1 and math.isfinite(self.ratio)):
            raise ValueError(
                f"difficulty.imbalanced.ratio={self.ratio}; give a number of at least 1"
            )
        if self.kind not in ("long_tailed", "step"):
            raise ValueError(
                f"difficulty.imbalanced.kind={self.kind!r}; choose long_tailed or step"
            )

    def __call__(self, source: Source, *, seed: int) -> Source:
        """Drop samples of the smaller classes.

        Raises:
            ValueError: A label is unknown, a class has no sample, or would be left without one.
        """
        require_classes(source, "imbalanced", all_known=True)
        targets, rng = source.train.targets, generator(seed, "pool", "imbalanced")
        counts = torch.bincount(targets, minlength=source.num_classes)
        sizes = self.sizes(counts, source.class_names, rng)
        kept = draw_by_class(targets, torch.arange(len(targets)), sizes, rng)
        return replace(source, train=source.train.part(kept))

    def sizes(self, counts: Tensor, names: Sequence[str], rng: torch.Generator) -> Tensor:
        """How many samples of each class stay: int64, (C,), for ``counts`` there are."""
        number = len(counts)
        place = torch.randperm(number, generator=rng) if self.shuffle else torch.arange(number)
        fall = place / (number - 1) if self.kind == "long_tailed" else place >= (number + 1) // 2
        shares = torch.tensor(self.ratio, dtype=torch.float64) ** -fall.double()
        sizes = ((counts / shares).min() * shares).round().long()
        if (sizes == 0).any():
            name = names[int((sizes == 0).nonzero()[0])]
            raise ValueError(
                f"difficulty.imbalanced.ratio={self.ratio} leaves no sample of class {name!r}; "
                "lower it"
            )
        return sizes


@dataclass(frozen=True)
class Repeated(HardPool):
    """Noisy copies of every sample of the pool, as in Repeated-MNIST.

    A strategy that looks at each sample by itself picks the same information again and again:
    ``query/redundant`` counts picks of which a copy was labeled before, or stands earlier in the
    same query.

    Attributes:
        copies: Copies of each sample, besides itself.
        noise: Standard deviation of the Gaussian noise, in units of the prepared inputs
            (normalized images, standardized features).

    Raises:
        ValueError: A value is out of range.

    Reference:
        A. Kirsch, J. van Amersfoort and Y. Gal. BatchBALD: Efficient and diverse batch acquisition
        for deep Bayesian active learning. NeurIPS 2019, section 4.1: two copies, noise 0.1.

    Copies with noise are made in memory, also where the samples themselves stay on the disk; exact
    copies (``noise=0``) take none.

    Differs from the paper: the first of each group stays as it is, and noisy images are rounded to
    whole numbers from 0 to 255.
    """

    stage: ClassVar[int] = 2
    copies: int = 2
    noise: float = 0.1

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"difficulty.repeated.copies={self.copies}; give at least 1")
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            raise ValueError(f"difficulty.repeated.noise={self.noise}; give a number from 0 on")

    def __call__(self, source: Source, *, seed: int) -> Source:
        """Put the copies behind the samples, one whole copy of the pool after the other.

        Raises:
            ValueError: There is not enough memory for so many.
        """
        train = source.train
        first = torch.zeros(1, dtype=torch.int64)
        of_one = [train.rows[first], train.positions[first], train.targets[first]]
        of_one += tensors_of(train.raw(first)) if self.noise else []
        size = self.copies * len(train) * sum(tensor.nbytes for tensor in of_one)
        with fitting(size, f"difficulty.repeated.copies={self.copies}"):
            return self._repeated(source, self.copies + 1, seed)

    def _repeated(self, source: Source, times: int, seed: int) -> Source:
        train = source.train
        if self.noise:
            copies = ArrayStore(self._noisy_copies(train, seed))
            store: Store = JoinedStore([train.store, copies])
            rows = torch.cat([train.rows, len(train.store) + torch.arange(len(copies))])
        else:
            store, rows = train.store, train.rows.repeat(times)
        targets = train.targets.repeat(times, *[1] * (train.targets.ndim - 1))
        repeated = Split(store, rows, targets, train.prepare, train.positions.repeat(times))
        foreign = None if source.foreign is None else source.foreign.repeat(times)
        return replace(source, train=repeated, foreign=foreign)

    def _noisy_copies(self, train: Split, seed: int) -> Tensor:
        """One whole copy of the samples after the other, in memory, wherever the samples are."""
        count = self.copies * len(train)
        copies = torch.empty(0)
        for number, first in enumerate(range(0, count, _CHUNK)):
            of = torch.arange(first, min(first + _CHUNK, count)) % len(train)
            chunk = one_tensor(train.raw(of), "difficulty=repeated")
            self._add_noise(chunk, train, generator(seed, "pool", "repeated", number))
            if first == 0:
                copies = chunk.new_empty((count, *chunk.shape[1:]))
            copies[first : first + _CHUNK] = chunk
        return copies

    def _add_noise(self, chunk: Tensor, train: Split, rng: torch.Generator) -> None:
        """Noise on some inputs, in place."""
        std = torch.tensor(train.prepare.std or (1.0,)).view(1, -1, *[1] * (chunk.ndim - 2))
        noise = torch.randn(chunk.shape, generator=rng) * self.noise * std
        if chunk.dtype == torch.uint8:
            noise, top = noise * 255, 255
            chunk.copy_((chunk + noise).round().clamp(0, top))
        else:
            chunk.copy_(chunk.float() + noise)
            if not chunk.isfinite().all():
                raise ValueError(
                    f"difficulty.repeated.noise={self.noise} takes inputs beyond float32; lower it"
                )


@dataclass(frozen=True)
class Noisy(HardPool):
    """Wrong labels: those of the oracle, of the initial samples and of the validation part.

    The test part stays clean, and so does a validation part that the data set came with.

    Attributes:
        rate: Share of the labels that are wrong, in [0, 1): exactly so many, rounded.
        mapping: What wrong labels are, class name to class name; only samples of the classes named
            are then mislabeled, at that rate. None: any of the other classes, all equally likely.

    Raises:
        ValueError: The rate is out of range.

    Reference:
        G. Patrini, A. Rozza, A. K. Menon, R. Nock and L. Qu. Making deep neural networks robust to
        label noise: a loss correction approach. CVPR 2017, section 5 (symmetric and asymmetric).
    """

    stage: ClassVar[int] = 3
    rate: float = 0.1
    mapping: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"difficulty.noisy.rate={self.rate}; give a number from 0 to below 1")

    def __call__(self, source: Source, *, seed: int) -> Source:
        """Make labels wrong.

        Raises:
            ValueError: The mapping names something else than classes.
        """
        require_classes(source, "noisy", all_known=False)
        becomes = self._becomes(source.class_names)

        def mislabeled(split: Split, part: str) -> Split:
            targets = split.targets.clone()
            rng = generator(seed, "pool", "noisy", part)
            _mislabel(targets, self.rate, becomes, source.num_classes, rng)
            return split.with_targets(targets)

        validation = source.validation
        if validation is not None and not source.own_validation:
            validation = mislabeled(validation, "validation")
        return replace(source, train=mislabeled(source.train, "train"), validation=validation)

    def _becomes(self, names: Sequence[str]) -> Tensor | None:
        """int64, (C,), the wrong label of each class, `UNKNOWN` where it has none."""
        if self.mapping is None:
            return None
        pairs = {str(a): str(b) for a, b in self.mapping.items()}
        bad = [name for pair in pairs.items() for name in pair if name not in names]
        same = [name for name, wrong in pairs.items() if name == wrong]
        if bad or same or not pairs:
            raise ValueError(
                f"difficulty.noisy.mapping={pairs}: map classes to other classes, by the names "
                f"{', '.join(names)}"
            )
        return torch.tensor([names.index(pairs[n]) if n in pairs else UNKNOWN for n in names])


def _mislabel(
    targets: Tensor, rate: float, becomes: Tensor | None, classes: int, rng: torch.Generator
) -> None:
    """Make a share of the known targets wrong, in place."""
    good = targets != UNKNOWN
    if becomes is not None:
        good = good & (becomes[targets.clamp(min=0)] != UNKNOWN)
    candidates = good.nonzero().flatten()
    order = torch.randperm(len(candidates), generator=rng)
    wrong = candidates[order[: round(rate * len(candidates))]]
    if becomes is not None:
        targets[wrong] = becomes[targets[wrong]]
    else:
        shift = torch.randint(1, classes, (len(wrong),), generator=rng)
        targets[wrong] = (targets[wrong] + shift) % classes


def require_classes(source: Source, name: str, *, all_known: bool) -> None:
    """Refuse data without one class a sample, or without labels where all must be known.

    Raises:
        ValueError: Naming what is missing.
    """
    targets = source.train.targets
    if targets.ndim != 1:
        raise ValueError(
            f"difficulty={name} is made for one class a sample, and {source.name} has several "
            "labels a sample; leave it out"
        )
    if all_known and (targets == UNKNOWN).any():
        raise ValueError(
            f"difficulty={name} must know every label of the pool, and "
            f"{int((targets == UNKNOWN).sum())} of {source.name} are unknown; leave it out"
        )
    present = torch.bincount(targets[targets >= 0], minlength=source.num_classes)
    if all_known and (present == 0).any():
        absent = source.class_names[int((present == 0).nonzero()[0])]
        raise ValueError(
            f"difficulty={name}: the pool has no sample of class {absent!r}; leave it out"
        )
