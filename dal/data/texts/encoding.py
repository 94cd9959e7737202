"""Which encoder a data set of texts takes, and the division of a data set by it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from dal.data.source import Dataset, Split
from dal.data.store import JoinedStore, Store
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.ngrams import BagOfWords, NGrams
from dal.data.texts.stores import EncodedStore, TextStore

ENCODERS: dict[str, type[TextEncoder]] = {one.kind: one for one in (NGrams, BagOfWords)}
"""Every encoder by its kind."""


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
    encoder: TextEncoder | None, train: Split
) -> tuple[TextEncoder, Callable[[Split], Split]]:
    """What makes inputs of the parts of a data set of texts.

    Args:
        encoder: None for `NGrams`.
        train: The training part, from whose texts it learns what has to be learned.

    Returns:
        The fitted encoder, and a function that gives a part as inputs.
    """
    fitted = (encoder or NGrams()).fitted([str(train.show(n)) for n in range(len(train))])
    made: dict[int, Store] = {}

    def encoded(store: Store) -> Store:
        if isinstance(store, JoinedStore):
            return JoinedStore([encoded(part) for part in store.parts])
        assert isinstance(store, TextStore)
        if id(store) not in made:
            made[id(store)] = EncodedStore(fitted.encode(store.texts), store)
        return made[id(store)]

    def part(split: Split) -> Split:
        return Split(encoded(split.store), split.rows, split.targets, None, split.positions)

    return fitted, part


def recipe_of(encoder: TextEncoder) -> dict[str, Any]:
    """How a text becomes an input, see `dal.data.Dataset.recipe`."""
    return {"kind": "texts", "encoder": encoder.kind, **encoder.recipe()}


def encoder_from(recipe: Any) -> TextEncoder:
    """The encoder of a recipe; see `TextEncoder.from_recipe`."""
    return ENCODERS[recipe["encoder"]].from_recipe(recipe)
