"""Texts that a trained model shall predict: made into inputs as those were that it learned from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dal.data.faults import naming
from dal.data.label_columns import column
from dal.data.store import Store
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.encoding import encoder_from
from dal.data.texts.reading import joined_texts, read_texts
from dal.data.texts.stores import RaggedStore, checked_texts
from dal.utils.inputs import InputSpec

log = logging.getLogger(__name__)

KIND = "texts"
"""What the recipes of texts say of their kind."""
TEXT = "text"
"""The column of the text where a recipe names none."""


def encoder_for(
    recipe: Mapping[str, Any] | None, vocab_size: int | None, shapes: InputSpec
) -> TextEncoder | None:
    """What makes inputs of texts for a model; None for a model of other things.

    Args:
        recipe: See `dal.data.Dataset.recipe`; it may be anybody's.
        vocab_size: V that the model was built for; None where it was built for none.
        shapes: Shapes of a sample that it was built for.

    Raises:
        ValueError: The recipe is damaged, or is not the model's.
    """
    if recipe is None or recipe.get("kind") != KIND:
        return None
    encoder = encoder_from(recipe)
    if encoder.vocab_size != vocab_size:
        raise ValueError(
            f"its model takes {vocab_size} different words or terms, and what it says of texts "
            f"makes {encoder.vocab_size}; it is damaged or altered: restore it"
        )
    # Texts that are cut are all of one length, and so is what the model was built for.
    if isinstance(none := encoder.encode([]), RaggedStore) and none.masked:
        made = dict.fromkeys((*none.values, "mask"), (none.width,))
        if made != shapes:
            raise ValueError(
                f"its model takes inputs of {shapes}, and what it says of texts makes {made}; it "
                "is damaged or altered: restore it"
            )
    return encoder


def as_texts(inputs: Any) -> list[str] | None:
    """Texts that were given as a list, an array or a column of them; None where it is none of such.

    Texts that are empty are warned about.

    Raises:
        TypeError: One of them is no text, such as a missing one; says which.
        ValueError: It is one text and no list, or one holds what is no text.
    """
    if isinstance(inputs, str):
        raise ValueError("one text was given; give a list, such as [text]")
    if isinstance(inputs, Tensor | Mapping | Store):
        return None
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind not in "OUT":
        return None
    texts = list(inputs.tolist() if isinstance(inputs, np.ndarray) else inputs)
    if not texts:
        raise ValueError("there are no texts to predict; give at least one")
    checked_texts(texts)
    if empty := [row for row, text in enumerate(texts) if not text.strip()]:
        log.warning(
            "%d of %d texts are empty, the first is text %d (counted from 0); what is predicted "
            "of them is no more than a guess",
            len(empty),
            len(texts),
            empty[0],
        )
    return texts


def encoded_like(encoder: TextEncoder | None, inputs: Any, shapes: InputSpec) -> Store | None:
    """Inputs of texts, in rows at least as long as those that a model learned from.

    Args:
        encoder: See `encoder_for`.
        inputs: What shall be predicted, see `as_texts`.
        shapes: Shapes of a sample that the model learned from.

    Returns:
        None where these are no texts, or the model takes none.

    Raises:
        TypeError, ValueError: See `as_texts`.
    """
    if encoder is None or (texts := as_texts(inputs)) is None:
        return None
    store = encoder.encode(texts)
    if isinstance(store, RaggedStore) and isinstance(shapes, dict):
        store.width = max(store.width, *(shape[0] for shape in shapes.values()))
    return store


def text_blocks(
    path: Path, recipe: Mapping[str, Any], size: int
) -> Iterator[tuple[list[str], list[str], dict[int, str]]]:
    """The texts of a file, so many at a time.

    Args:
        path: See `dal.data.texts.reading.read_texts`.
        recipe: Says which columns hold the text, and which one names it.
        size: Rows of a block.

    Yields:
        What people know the rows by; their texts; and which of them are none, by their place.

    Raises:
        ValueError: The file cannot be read, or lacks a column.
    """
    columns, name = columns_of(recipe), id_of(recipe)
    start = 0
    for block in read_texts(path, columns, size):
        with naming(str(path)):
            for one in columns:
                column(block, one, "the heading of the texts")
        texts = joined_texts(block, columns)
        numbers = [str(row) for row in range(start, start + len(texts))]
        faults = {row: why for row, text in enumerate(texts) if (why := _fault(text))}
        yield list(block.get(name, numbers)) if name else numbers, texts, faults
        start += len(texts)


def _fault(text: str) -> str | None:
    """Why a text cannot be predicted; None where it can."""
    if not text.strip():
        return "it is empty"
    try:
        checked_texts([text])
    except ValueError:
        return "it holds a NUL character or half of a surrogate pair"
    return None


def columns_of(recipe: Mapping[str, Any]) -> list[str]:
    """The columns of the text.

    Raises:
        ValueError: The recipe is damaged.
    """
    columns = recipe.get("columns", [TEXT])
    if not isinstance(columns, list) or not columns or not all(isinstance(c, str) for c in columns):
        raise ValueError(
            "what the model says of the columns of texts is damaged; restore the file of the model"
        )
    return columns


def id_of(recipe: Mapping[str, Any]) -> str | None:
    """The column that names texts for people, or None."""
    name = recipe.get("id")
    return name if isinstance(name, str) else None
