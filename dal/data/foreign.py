"""Foreign samples in the pool: of none of the classes, so that an oracle can only say so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.hard_pools import Embed, HardPool, require_classes
from dal.data.joined import JoinedStore
from dal.data.source import UNKNOWN, Source, Split, is_known
from dal.data.store import Store, blocks
from dal.data.texts.encoding import are_texts
from dal.utils.inputs import in_words, map_pairs, tensors_of
from dal.utils.seeding import generator

__all__ = ["Ood"]


@dataclass(frozen=True)
class Ood(HardPool):
    """Foreign samples in the pool, of none of the classes; the oracle can only say so.

    Either samples of another data set of the same input shape, or those of classes that are held
    out: the model does not know these classes, and they leave test and validation part too.
    Whoever is asked about a foreign sample abstains: the question counts against the budget, the
    sample leaves the pool and is never trained on.

    Attributes:
        data: The other data set (its training part), or None to hold classes out.
        classes: Names of the classes that are held out, or None for another data set.
        ratio: Foreign samples for each sample of the pool's own; None for all there are.

    Raises:
        ValueError: A value is out of range, or neither or both of data and classes are given.
    """

    stage: ClassVar[int] = 1
    data: Dataset | None = None
    classes: Sequence[str | int] | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.classes is None):
            raise ValueError(
                "difficulty=ood needs foreign samples, of one kind: of another data set, "
                "data@difficulty.ood.data=fashion_mnist, or classes, difficulty.ood.classes=[8,9]"
            )
        if self.ratio is not None and not (self.ratio > 0 and math.isfinite(self.ratio)):
            raise ValueError(
                f"difficulty.ood.ratio={self.ratio}; give a number above 0, or null for all"
            )

    def embedded(self, embed: Embed) -> HardPool:
        """The same with features of the foreign samples, if those are another data set's."""
        return self if self.data is None else replace(self, data=embed(self.data))

    def __call__(self, source: Source, *, seed: int) -> Source:
        """Mix foreign samples into the pool, or make some of its classes foreign.

        Raises:
            ValueError: Shapes differ, there are too few foreign samples, or fewer than two
                classes stay.
        """
        rng = generator(seed, "pool", "ood")
        if self.data is not None:
            return self._mixed(source, self.data, rng)
        return self._held_out(source, [str(name) for name in self.classes or ()], rng)

    def _mixed(self, source: Source, data: Dataset, rng: torch.Generator) -> Source:
        own, other = source.train, data.store
        _check_alike(own, other, source.name, data.name)
        drawn = self._draw(torch.arange(len(other)), len(own), data.name, rng)
        unknown = torch.full((len(drawn), *own.targets.shape[1:]), UNKNOWN)
        train = Split(
            JoinedStore([own.store, other]),
            torch.cat([own.rows, len(own.store) + drawn]),
            torch.cat([own.targets, unknown]),
            own.prepare,
            torch.cat([own.positions, _first_free(source) + drawn]),
        )
        foreign = torch.arange(len(train)) >= len(own)
        foreign[: len(own)] |= source.is_foreign
        return replace(source, train=train, foreign=foreign)

    def _held_out(self, source: Source, classes: list[str], rng: torch.Generator) -> Source:
        require_classes(source, "ood", all_known=False)
        unknown = [name for name in classes if name not in source.class_names]
        names = tuple(name for name in source.class_names if name not in classes)
        if unknown or not classes or len(names) < 2:
            raise ValueError(
                f"difficulty.ood.classes={classes}: name some of the classes of {source.name}, "
                f"{', '.join(source.class_names)}, and leave at least 2"
            )
        numbers = torch.tensor(
            [names.index(name) if name in names else UNKNOWN for name in source.class_names]
        )
        train = _renumbered(source.train, numbers)
        foreign = source.is_foreign | (is_known(source.train.targets) & ~is_known(train.targets))
        drawn = self._draw(
            foreign.nonzero().flatten(), int((~foreign).sum()), "held-out classes", rng
        )
        kept = (~foreign).index_fill(0, drawn, True).nonzero().flatten()
        validation = source.validation
        return replace(
            source,
            train=train.part(kept),
            test=source.test and _known_only(_renumbered(source.test, numbers)),
            validation=validation and _known_only(_renumbered(validation, numbers)),
            class_names=names,
            foreign=foreign[kept],
        )

    def _draw(self, candidates: Tensor, own: int, name: str, rng: torch.Generator) -> Tensor:
        """The foreign samples that get into a pool of ``own`` others, in ascending order."""
        if self.ratio is None:
            return candidates
        count = round(self.ratio * own)
        if not 0 < count <= len(candidates):
            raise ValueError(
                f"difficulty.ood.ratio={self.ratio} asks for {count} foreign samples, and {name} "
                f"has {len(candidates)}; give at most {len(candidates) / own:.4g}, or null for all"
            )
        order = torch.randperm(len(candidates), generator=rng)
        return candidates[order[:count]].sort().values


def _check_alike(own: Split, other: Store, name: str, other_name: str) -> None:
    """Refuse foreign samples of another shape or type, or that are the first of the pool's own."""
    if are_texts(other):
        raise ValueError(
            f"{other_name} holds texts, which cannot be put among those of {name}; hold classes "
            "out, difficulty.ood.classes=[...]"
        )
    first = own.raw(torch.zeros(1, dtype=torch.int64))
    kinds = [in_words(sample) for sample in (first, other.first)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"samples of {name} are {kinds[0]} and those of {other_name} {kinds[1]}; "
            "foreign samples must be alike: choose another data@difficulty.ood.data"
        )
    for block in blocks(other):
        same = map_pairs(lambda x, y: (x == y).flatten(1).all(1), block, first)
        if bool(torch.stack(tensors_of(same)).all(0).any()):
            raise ValueError(
                f"{other_name} holds a sample of {name} itself, which is not foreign to it; "
                "choose another data@difficulty.ood.data"
            )


def _renumbered(split: Split, numbers: Tensor) -> Split:
    """The same samples, with ``numbers[c]`` in the place of class c."""
    known = split.targets != UNKNOWN
    targets = torch.where(known, numbers[split.targets.clamp(min=0)], UNKNOWN)
    return split.with_targets(targets)


def _known_only(split: Split) -> Split:
    known = is_known(split.targets).nonzero().flatten()
    if len(known) == 0:
        raise ValueError(
            "difficulty.ood.classes leaves no test or validation sample; hold out fewer"
        )
    return split.part(known)


def _first_free(source: Source) -> int:
    """The first number that no sample of the data set is known by."""
    splits = [s for s in (source.train, source.test, source.validation) if s is not None]
    return 1 + max(int(s.positions.max()) for s in splits)
