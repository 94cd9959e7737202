"""Which encoder a data set of texts takes, and the division of a data set by it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dal.data.dataset import Dataset
from dal.data.joined import JoinedStore
from dal.data.source import Split
from dal.data.store import Store
from dal.data.texts.bag_of_words import BagOfWords
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.ngrams import NGrams
from dal.data.texts.stores import EncodedStore, RaggedStore, TextStore
from dal.data.texts.tokenizer import Tokenizer
from dal.data.texts.word_ids import WordIds

ENCODERS: dict[str, type[TextEncoder]] = {
    one.kind: one for one in (NGrams, BagOfWords, WordIds, Tokenizer)
}
"""Every encoder by its kind."""


def encoder_of_model() -> None:
    """The encoder that the model takes, see `with_encoder_of`."""


def are_texts(store: Store | None) -> bool:
    """Whether samples are texts that no encoder has made inputs of."""
    if isinstance(store, JoinedStore):
        return any(map(are_texts, store.parts))
    return isinstance(store, TextStore)


def with_encoder_of(dataset: Dataset, model: Any) -> Dataset:
    """A data set of texts with the encoder that a model takes, where it has none.

    Args:
        dataset: Any data set.
        model: The class of a model, or a partial of it. Its attribute ``text_encoder`` is the kind
            of its encoder, which is given those of the model's arguments that it has parameters
            for; a model without that attribute takes features.
    """
    if not are_texts(dataset.store) or dataset.encoder is not None:
        return dataset
    made = model if isinstance(model, partial) else partial(model)
    encoder = ENCODERS[getattr(made.func, "text_encoder", BagOfWords.kind)]
    wanted = inspect.signature(encoder).parameters
    given = {name: value for name, value in made.keywords.items() if name in wanted}
    return replace(dataset, encoder=encoder(**given))


def encode_parts(
    encoder: TextEncoder | None, learned_from: Split, parts: Sequence[Split | None]
) -> tuple[TextEncoder, list[Split | None]]:
    """What makes inputs of the parts of a data set of texts, and the parts as such.

    Args:
        encoder: None for `NGrams`.
        learned_from: The training part, from whose texts it learns what has to be learned.
        parts: All parts, None where there is none; several may name rows of one store.

    Returns:
        The fitted encoder, and the parts as inputs; rows of all of them have one length.
    """
    fitted = (encoder or NGrams()).fitted(_texts_of(learned_from))
    made: dict[int, Store] = {}
    return fitted, [part and _encoded(part, fitted, made) for part in parts]


def _texts_of(split: Split) -> list[str]:
    return [str(split.show(n)) for n in range(len(split))]


def _encoded(split: Split, encoder: TextEncoder, made: dict[int, Store]) -> Split:
    """A part as inputs; ``made`` holds those of the stores that were met before."""

    def inputs(store: Store) -> Store:
        if isinstance(store, JoinedStore):
            return JoinedStore([inputs(part) for part in store.parts])
        assert isinstance(store, TextStore)
        if id(store) not in made:
            made[id(store)] = EncodedStore(encoder.encode(store.texts), store)
            _widen([one.encoded for one in made.values() if isinstance(one, EncodedStore)])
        return made[id(store)]

    return Split(inputs(split.store), split.rows, split.targets, None, split.positions)


def _widen(stores: Sequence[Store]) -> None:
    """Give rows of all stores the length of the longest."""
    ragged = [store for store in stores if isinstance(store, RaggedStore)]
    for store in ragged:
        store.width = max(one.width for one in ragged)


def recipe_of(encoder: TextEncoder, of_data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How a text becomes an input, see `dal.data.Dataset.recipe`.

    Args:
        encoder: A fitted one.
        of_data: How a file gives texts, where the data set came from one.
    """
    return {**(of_data or {}), "kind": "texts", "encoder": encoder.kind, **encoder.recipe()}


def encoder_from(recipe: Mapping[str, Any]) -> TextEncoder:
    """The encoder of a recipe, which may be anybody's.

    Raises:
        ValueError: It is none.
    """
    try:
        return ENCODERS[recipe["encoder"]].from_recipe(recipe)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fact = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"what it says of how texts become inputs is damaged ({fact:.200}); restore it"
        ) from error
