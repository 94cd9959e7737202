"""Made-up texts as tokens, of many lengths, one of them empty."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.data.source import Source, Split
from dal.data.texts.stores import RaggedStore

WIDTH = 40
WORDS = 30
"""Token 0 is padding, 1 an unknown word."""


def store(count: int, seed: int = 0, longest: int = WIDTH) -> RaggedStore:
    """Texts of 0 to ``longest`` tokens; the first is empty."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=rng)
    lengths[0] = 0
    tokens = torch.randint(1, WORDS, (int(lengths.sum()),), generator=rng)
    return RaggedStore({"tokens": tokens.int()}, lengths, WIDTH, masked=True)


def classes_of(texts: RaggedStore, classes: int) -> Tensor:
    """A class for each text: which of the first words occurs most."""
    read = texts.read(torch.arange(len(texts)))
    assert isinstance(read, dict)
    counts = [(read["tokens"] == 2 + c).sum(1) for c in range(classes)]
    return torch.stack(counts, 1).argmax(1)


def source(count: int = 60, classes: int = 3, multilabel: bool = False, seed: int = 0) -> Source:
    """A data set of tokens, its own test part."""
    texts = store(count, seed)
    targets = classes_of(texts, classes)
    if multilabel:
        other = (targets + torch.arange(count)) % classes
        targets = torch.nn.functional.one_hot(torch.stack([targets, other], 1), classes).amax(1)
    else:
        targets[:classes] = torch.arange(classes)
    split = Split.of(texts, targets)
    names = tuple(f"class {c}" for c in range(classes))
    return Source("texts", split, split, None, names, vocab_size=WORDS)
