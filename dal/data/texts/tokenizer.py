"""Texts as the tokens of a pretrained network, or of a tokenizer that learns them here."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from dal.data.store import Store
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.stores import MOST_PLACES, RaggedStore
from dal.utils.pretrained import CONFIG, SETTINGS, TOKENIZER, folder_of, read_json, weight_files
from dal.utils.ranges import check_whole

log = logging.getLogger(__name__)

AT_ONCE = 2048
"""Texts that are cut into tokens at once."""

LARGEST = 8192
"""Tokens of a vocabulary that is learned, where nothing says how many."""

SHORTEST = 8
SPECIAL = ("[CLS]", "[SEP]", "[UNK]", "[MASK]")


class Tokenizer(TextEncoder):
    """Parts of words, as the package tokenizers cuts them.

    Inputs are ``tokens``, int64, (B, length), and their ``mask``, bool, (B, length), true where a
    text has a token.

    A tokenizer that learns cuts lower-case texts (NFKC) into bytes and joins those that often stand
    together (byte-pair encoding), with ``[CLS]`` in front of a text and ``[SEP]`` behind it. It
    knows every text, and learns the same from the same texts.

    Args:
        path: A folder with ``tokenizer.json``, or a name of huggingface.co; one without it, and
            without weights that would ask for a certain one, has a tokenizer learned. None for one
            that is learned.
        length: Tokens of a text, the special ones among them, at least 8; longer texts are cut.
            At most as many as ``tokenizer_config.json`` says.
        vocab_size: Most tokens of a vocabulary that is learned, at least 300; None for those of
            ``config.json``, 8192 without one.
        weights: None where the network of that folder starts with weights of its own; see
            `dal.models.TransformersNetwork`.

    Raises:
        FileNotFoundError: There is no such folder, or no tokenizer in it beside weights.
        OSError: It could not be downloaded.
        ValueError: A number is out of range, a file is damaged, or tokenizers is not installed.
    """

    kind = "tokenizer"

    def __init__(
        self,
        path: str | None = None,
        length: int = 128,
        vocab_size: int | None = None,
        weights: str | None = "DEFAULT",
    ) -> None:
        check_whole("model.length", length, SHORTEST, most=MOST_PLACES)
        if vocab_size is not None:
            check_whole("model.vocab_size", vocab_size, 300)
        self.length, self._most, self._padding = length, vocab_size or LARGEST, 0
        self._tokens: Any = None
        if path is not None:
            self._read(folder_of(path, weights is not None), weights, vocab_size)

    def _read(self, folder: Path, weights: str | None, vocab_size: int | None) -> None:
        """Take over what the files of a folder say."""
        said = [read_json(folder / name) for name in SETTINGS if (folder / name).is_file()]
        longest = next((one["model_max_length"] for one in said if "model_max_length" in one), None)
        if isinstance(longest, int | float) and SHORTEST <= longest < self.length:
            raise ValueError(
                f"model.length={self.length}: the tokenizer of {folder} takes texts of {longest:g} "
                f"tokens; set model.length={longest:g} or less"
            )
        if (folder / TOKENIZER).is_file():
            content = (folder / TOKENIZER).read_text("utf-8", "replace")
            self._take(content, str(folder / TOKENIZER))
        elif weights is not None and weight_files(folder):
            raise FileNotFoundError(
                f"{folder} holds weights and no {TOKENIZER}, which tells what their tokens are; "
                "make it with transformers.AutoTokenizer.from_pretrained(folder)"
                ".save_pretrained(folder), or set model.weights=null"
            )
        elif (folder / CONFIG).is_file():
            config = read_json(folder / CONFIG)
            size, padding = config.get("vocab_size"), config.get("pad_token_id")
            if vocab_size is None and isinstance(size, int) and size >= 300:
                self._most = size
            if isinstance(padding, int) and 0 <= padding <= len(SPECIAL):
                self._padding = padding

    def _take(self, content: str, name: str) -> None:
        """Become the tokenizer of a JSON text: a description, which opens and runs nothing."""
        tokens = _package().Tokenizer
        try:
            found = tokens.from_str(content)
            found.no_padding()
            found.enable_truncation(self.length)
        except BaseException as error:
            raise _of_package(error, f"{name} is no tokenizer") from error
        self._tokens = found
        self.vocab_size = max(found.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def fit(self, texts: Sequence[str]) -> None:
        """See `TextEncoder.fit`: which parts of words there are, unless a file says so."""
        if self._tokens is None:
            learned = _learned(texts, self._most, self._padding)
            log.info("a tokenizer of %d tokens, learned from the texts", learned.get_vocab_size())
            self._take(learned.to_str(), "what was learned")

    def encode(self, texts: Sequence[str]) -> Store:
        """See `TextEncoder.encode`."""
        tokens, lengths, cut = [torch.zeros(0, dtype=torch.int32)], [0], 0
        for start in range(0, len(texts), AT_ONCE):
            try:
                some = [*map(_sound, texts[start : start + AT_ONCE])]
                encoded = self._tokens.encode_batch_fast(some)
            except BaseException as error:
                raise _of_package(error, f"{TOKENIZER} cannot cut these texts") from error
            ids = [one.ids for one in encoded]
            self._check(ids)
            tokens.append(torch.tensor([i for one in ids for i in one], dtype=torch.int32))
            lengths += map(len, ids)
            cut += sum(bool(one.overflowing) for one in encoded)
        if cut:
            log.info("%d of %d texts are cut to %d tokens", cut, len(texts), self.length)
        counts = torch.tensor(lengths[1:], dtype=torch.int64)
        return RaggedStore({"tokens": torch.cat(tokens)}, counts, self.length, masked=True)

    def _check(self, ids: Sequence[Sequence[int]]) -> None:
        """Refuse what a description that is damaged may make of texts."""
        most = max((max(one, default=0) for one in ids), default=0)
        if most >= (self.vocab_size or 0) or max(map(len, ids), default=0) > self.length:
            raise ValueError(
                f"the tokenizer makes token {most} of {self.vocab_size}, or more than {self.length}"
                f" of a text; restore {TOKENIZER}"
            )

    def recipe(self) -> dict[str, Any]:
        """See `TextEncoder.recipe`: the description of the tokenizer, and the length of texts."""
        return {"tokenizer": self._tokens.to_str(), "length": self.length}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """See `TextEncoder.from_recipe`."""
        if not isinstance(recipe["tokenizer"], str):
            raise TypeError("the recipe holds no tokenizer")
        one = cls(length=recipe["length"])
        one._take(recipe["tokenizer"], "the recipe")
        return one


def _of_package(error: BaseException, fact: str) -> BaseException:
    """What to raise for what went wrong in the package, of which not all is an Exception."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        return error
    return ValueError(f"{fact} ({error!s:.200}); restore it")


def _package() -> Any:
    # Its threads would go on beside those that a run is given, and warn in forked processes.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the tokens of model=transformers take the package tokenizers ({error}); install it: "
            'pip install -e ".[transformers]"'
        ) from error
    return tokenizers


def _learned(texts: Sequence[str], most: int, padding: int) -> Any:
    """A tokenizer of at most so many tokens, ``[PAD]`` the one of that number."""
    made = _package()
    special = [*SPECIAL[:padding], "[PAD]", *SPECIAL[padding:]]
    one = made.Tokenizer(made.models.BPE())
    lower = [made.normalizers.NFKC(), made.normalizers.Lowercase()]
    one.normalizer = made.normalizers.Sequence(lower)
    one.pre_tokenizer = made.pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = made.trainers.BpeTrainer(
        vocab_size=most,
        min_frequency=2,
        show_progress=False,
        special_tokens=special,
        initial_alphabet=sorted(made.pre_tokenizers.ByteLevel.alphabet()),
    )
    one.train_from_iterator(map(_sound, texts), trainer)
    one.post_processor = made.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, special.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return one


def _sound(text: str) -> str:
    """A text without halves of surrogate pairs, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode("utf-8")
