"""Where texts are kept, and what a model reads of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.data.store import CPU, Store, fits
from dal.utils.digest import digest_tensors
from dal.utils.inputs import Inputs


def checked_texts(texts: Sequence[Any], what: str = "text", first: int = 0) -> Sequence[str]:
    """Texts as they are, each of which can be written to a file.

    Args:
        texts: A list, or anything like it.
        what: What to call one in errors, before its number.
        first: The number of the first.

    Raises:
        TypeError: One is no text, such as None.
        ValueError: One holds what is no text: a NUL character, or half of a surrogate pair.
    """
    for number, text in enumerate(texts, first):
        if not isinstance(text, str):
            raise TypeError(f"{what} {number} is {text!r:.40}, no text; give a str, '' for none")
        if (not text.isascii() and _SURROGATE.search(text)) or "\0" in text:
            raise ValueError(
                f"{what} {number} holds a NUL character or half of a surrogate pair, which is no "
                "text; take it out"
            )
    return texts


MOST_PLACES = 2**20
"""Places of a text that is cut, at most: all rows are of that length where they are read."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class TextStore(Store):
    """Texts before an encoder has made inputs of them: they can be shown, and not yet read.

    Args:
        texts: One a sample; kept, not copied.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Inputs:
        """Refused: see `dal.data.texts.encoder.TextEncoder`.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "texts are no inputs of a model before they are encoded; divide the data set with "
            "make_source, which does that"
        )

    def show(self, row: int) -> str:
        """The text itself."""
        return self.texts[row]

    def sample(self, rows: Tensor) -> Inputs:
        """See `Store.sample`: a digest of each text, uint8, (B, 32)."""
        texts = (self.texts[row] for row in rows.tolist())
        return _digests(text.encode("utf-8", "surrogatepass") for text in texts)

    def digest(self) -> str:
        """By content, which is read once."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_texts(self.texts)


def digest_texts(texts: Sequence[str]) -> str:
    """Tells texts, and their order, from others: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _digests(contents: Iterable[bytes]) -> Tensor:
    """A digest of each, uint8, (B, 32)."""
    digests = b"".join(hashlib.sha256(content).digest() for content in contents)
    return torch.from_numpy(np.frombuffer(digests, np.uint8).reshape(-1, 32).copy())


def bucket_lengths(width: int) -> list[int]:
    """To which lengths rows are cut: 8, 16, 24, 32, 48, 64, 96, 128, ... below the width, and it.

    Few, so that few batches are filled up; each at most half as long again as the one before it
    (above 16), so that little padding is computed on.
    """
    steps = sorted({8, *(8 << n for n in range(1, 58)), *(24 << n for n in range(57))})
    return [*(step for step in steps if step < width), width]


class RaggedStore(Store):
    """Samples of many lengths, kept behind each other and read as rows of one length.

    What is beyond a sample's own length is 0, and may be cut off, see `buckets`.

    Args:
        values: Tensors (T,) by name: the values of all samples behind each other. Whole numbers
            are read as int64, whatever they are kept as.
        lengths: int64, (N,), how many of the T values each sample has, in order; 0 or more.
        width: L, the length of all rows, at least 1 and at least the longest length.
        masked: Whether rows tell which of their places are values: ``mask``, bool, (B, L).
    """

    def __init__(
        self, values: Mapping[str, Tensor], lengths: Tensor, width: int, masked: bool = False
    ) -> None:
        # One value more, so that there is something to point at where all samples are empty.
        self.values = {name: torch.cat([t, t.new_zeros(1)]) for name, t in values.items()}
        self.lengths, self.width, self.masked = lengths, width, masked
        self.starts = lengths.cumsum(0) - lengths
        self._on: dict[torch.device, dict[str, Tensor] | None] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Inputs:
        """See `Store.read`: tensors (B, L) by name."""
        device = torch.device(device)
        kept = self._moved(device)
        if kept is None:
            found = self.read(rows.cpu())
            assert isinstance(found, dict)
            return {name: tensor.to(device) for name, tensor in found.items()}
        rows = rows.to(device, non_blocking=True)
        places = torch.arange(self.width, device=device)
        inside = places < kept["lengths"][rows].unsqueeze(1)
        where = (kept["starts"][rows].unsqueeze(1) + places).where(inside, 0)
        read: dict[str, Tensor] = {}
        for name in self.values:
            found_BL = kept[f"values {name}"][where] * inside
            read[name] = found_BL if found_BL.is_floating_point() else found_BL.long()
        return read | ({"mask": inside} if self.masked else {})

    def sample(self, rows: Tensor) -> Inputs:
        """See `Store.sample`: a digest of each sample's own values, uint8, (B, 32)."""
        bounds = zip(self.starts[rows].tolist(), self.lengths[rows].tolist(), strict=True)
        values = [tensor.numpy() for tensor in self.values.values()]
        return _digests(
            b"".join(one[start : start + length].tobytes() for one in values)
            for start, length in bounds
        )

    def buckets(self, rows: Tensor) -> Tensor | None:
        """See `Store.buckets`: the first of `bucket_lengths` that a sample's own length fits in."""
        steps = torch.tensor(bucket_lengths(self.width))
        return steps[torch.bucketize(self.lengths[rows.cpu()], steps)]

    def resident(self, device: torch.device | str) -> bool:
        """See `Store.resident`."""
        return self._moved(torch.device(device)) is not None

    def digest(self) -> str:
        """By content, which is read once; the length of rows plays no part."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_tensors(self._kept)

    @property
    def _kept(self) -> dict[str, Tensor]:
        values = {f"values {name}": tensor for name, tensor in self.values.items()}
        return {**values, "lengths": self.lengths, "starts": self.starts}

    def _moved(self, device: torch.device) -> dict[str, Tensor] | None:
        """All that is kept, on the device; None where it does not fit."""
        if device not in self._on:
            size = sum(tensor.nbytes for tensor in self._kept.values())
            moved = {name: tensor.to(device) for name, tensor in self._kept.items()}
            self._on[device] = moved if fits(size, device) else None
        return self._on[device]


class EncodedStore(Store):
    """Texts with what an encoder has made of them: models read this, people see the texts.

    Args:
        inputs: What was made of each text.
        texts: The texts, in the same order.
    """

    def __init__(self, inputs: Store, texts: TextStore) -> None:
        self.encoded, self.texts = inputs, texts

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Inputs:
        """See `Store.read`."""
        return self.encoded.read(rows, device)

    def sample(self, rows: Tensor) -> Inputs:
        """See `Store.sample`: of what was made of the texts."""
        return self.encoded.sample(rows)

    def buckets(self, rows: Tensor) -> Tensor | None:
        """See `Store.buckets`."""
        return self.encoded.buckets(rows)

    def resident(self, device: torch.device | str) -> bool:
        """See `Store.resident`."""
        return self.encoded.resident(device)

    def show(self, row: int) -> str:
        """The text."""
        return self.texts.show(row)

    def digest(self) -> str:
        """Of the texts and of what was made of them."""
        both = self.encoded.digest() + self.texts.digest()
        return hashlib.sha256(both.encode()).hexdigest()
