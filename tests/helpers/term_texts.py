"""Made-up texts as terms with weights, of many lengths, one of them empty."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dal.data.source import Source, Split
from dal.data.texts.stores import RaggedStore

TERMS, LONGEST = 40, 12


def store(count: int, seed: int = 0) -> RaggedStore:
    """Texts of 1 to `LONGEST` different terms, in ascending order; the first has none."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, LONGEST + 1, (count,), generator=rng)
    lengths[0] = 0
    drawn = [torch.randperm(TERMS, generator=rng)[:n].sort().values for n in lengths]
    weights = [torch.full((int(n),), max(int(n), 1) ** -0.5) for n in lengths]
    values = {"terms": torch.cat(drawn).int(), "weights": torch.cat(weights)}
    return RaggedStore(values, lengths, LONGEST)


def source(count: int = 90, classes: int = 3, multilabel: bool = False, seed: int = 0) -> Source:
    """A data set of terms, its own test part; what terms a text has tells its class mostly."""
    texts = store(count, seed)
    rng = torch.Generator().manual_seed(seed + 1)
    read = texts.read(torch.arange(count))
    assert isinstance(read, dict)
    meaning = torch.randn(TERMS, classes, generator=rng)
    scores = F.embedding_bag(
        read["terms"], meaning, mode="sum", per_sample_weights=read["weights"]
    ) + 0.3 * torch.randn(count, classes, generator=rng)
    targets = (scores > 0.2).long() if multilabel else scores.argmax(1)
    split = Split.of(texts, targets)
    names = tuple(f"class {c}" for c in range(classes))
    return Source("terms", split, split, None, names, vocab_size=TERMS)
