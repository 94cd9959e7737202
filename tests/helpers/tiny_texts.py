"""A tiny pretrained network of texts on the disk, made in a second, and texts for it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from dal.data.texts.tokenizer import Tokenizer

GOOD, BAD = ["glad", "happy", "love", "joy"], ["sad", "angry", "hate", "awful"]
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "two", "dogs", "saw", "it", "rain"]
LENGTH = 16


def texts(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Texts of two classes, and which."""
    draw = random.Random(seed)
    labels = [draw.randrange(2) for _ in range(count)]
    made = []
    for label in labels:
        words = draw.choices(WORDS, k=draw.randrange(1, 9)) + draw.choices((BAD, GOOD)[label], k=2)
        draw.shuffle(words)
        made.append(" ".join(words))
    return made, labels


def config(kind: str = "bert", **more: Any) -> dict[str, Any]:
    """The content of a config.json."""
    sizes = {
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        "modernbert": {"local_attention": 4, "bos_token_id": 0, "eos_token_id": 1}
        | {"cls_token_id": 0, "sep_token_id": 1},
    }
    return {
        "model_type": kind,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 400,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        **sizes.get(kind, {}),
        **more,
    }


def folder(path: Path, kind: str = "bert", weights: bool = True, tokens: bool = True) -> Path:
    """A folder as people download it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config(kind)))
    if weights:
        network(path, kind).save_pretrained(path)
    if tokens:
        one = Tokenizer(vocab_size=400).fitted(texts(300)[0])
        (path / "tokenizer.json").write_text(one.recipe()["tokenizer"])
    return path


def network(path: Path, kind: str = "bert") -> Any:
    """Theirs, for the classification of texts."""
    import transformers

    content = {key: value for key, value in config(kind).items() if key != "model_type"}
    made = transformers.AutoConfig.for_model(kind, **content)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return transformers.AutoModelForSequenceClassification.from_config(made)
