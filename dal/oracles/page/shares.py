"""Who is to answer which samples of a question, as people come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping


class Shares:
    """Samples that people have before them: each of them so many people's.

    Whoever has nothing left gets what nobody has, or else half of what another one has before them,
    from the end of it, where that one looks last; all of it where that one is away. So people share
    a question evenly without anybody saying how many they are, and nobody waits for one who left.

    Args:
        wanted: How many people each sample of the question is meant for, in the order to show.
        before: Who answered a sample in an earlier question, which is asked once more: others are
            asked first.
    """

    def __init__(
        self,
        wanted: Mapping[str, int],
        before: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.wanted, self.items = dict(wanted), list(wanted)
        self.before = before or {}
        self.held: dict[str, dict[str, None]] = {}
        self.answered: dict[str, set[str]] = {item: set() for item in wanted}

    def of(self, name: str, others: Collection[str]) -> list[str]:
        """What somebody has answered or is to answer, in order; more is taken where nothing is.

        Args:
            name: Who asks.
            others: Who else is at work now.
        """
        if not self.held.get(name):
            self.held[name] = dict.fromkeys(self._more(name, others))
        own = self.held[name]
        return [item for item in self.items if item in own or name in self.answered[item]]

    def answer(self, name: str, item: str, given: bool) -> None:
        """Take down that somebody answered, or took the answer back."""
        if not given:
            self.answered[item].discard(name)
            self.held.setdefault(name, {})[item] = None
            return
        self.answered[item].add(name)
        self.held.get(name, {}).pop(item, None)
        if self.is_done(item):
            for own in self.held.values():
                own.pop(item, None)

    def is_done(self, item: str) -> bool:
        """Whether a sample has as many answers as it is meant to have."""
        return len(self.answered[item]) >= self.wanted[item]

    def counts(self) -> Callable[[str], tuple[int, int]]:
        """Gives how many somebody has answered, and how many are theirs in all, by name."""
        done = Counter(name for names in self.answered.values() for name in names)
        return lambda name: (done[name], done[name] + len(self.held.get(name, ())))

    def _more(self, name: str, others: Collection[str]) -> list[str]:
        may = [item for item in self.items if self._may(name, item, others)]
        takers = dict.fromkeys(self.items, 0)
        for own in self.held.values():
            for item in own:
                takers[item] += 1
        room = [n for n in may if takers[n] + len(self.answered[n]) < self.wanted[n]]
        return room or self._from_another(name, set(may), others)

    def _may(self, name: str, item: str, others: Collection[str]) -> bool:
        """Whether somebody may get a sample: not one they answered before, if others may."""
        known = self.before.get(item, ())
        again = name in known and any(other not in known for other in others)
        return not again and name not in self.answered[item]

    def _from_another(self, name: str, may: set[str], others: Collection[str]) -> list[str]:
        """Part of what the one has who has most of it to give."""
        offers: list[tuple[str, list[str]]] = []
        for other, own in self.held.items():
            if other == name:
                continue
            free = [item for item in self.items if item in own and item in may]
            kept = (len(free) + 1) // 2 if other in others else 0
            offers.append((other, free[kept:]))
        other, taken = max(offers, key=lambda offer: len(offer[1]), default=("", []))
        for item in taken:
            del self.held[other][item]
        return taken
