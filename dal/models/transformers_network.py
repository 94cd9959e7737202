"""Any encoder of texts of the package transformers, and its weights."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from dal.models.fine_tuning import FineTuned, Trainable, check_trainable
from dal.models.weights import is_file, load_weights, no_larger_than, read_state
from dal.utils.inputs import InputSpec
from dal.utils.memory import memory_of_machine, out_of_memory
from dal.utils.pretrained import CONFIG, folder_of, read_json, weight_files

Pooling = Literal["mean", "first"]

SHORT = 16
"""Tokens of the texts that a network is tried on, besides one of full length."""

_UNUSED = ("num_labels", "id2label", "label2id")
"""What a config says of labels, which may be a billion; the last layer is always fresh."""

_NEVER = torch.finfo(torch.float32).min
_OLD = re.compile(r"LayerNorm\.(gamma|beta)$")
_NEW = {"gamma": "LayerNorm.weight", "beta": "LayerNorm.bias"}


class TransformersNetwork(FineTuned):
    """An encoder of texts (BERT, RoBERTa, DeBERTa, ModernBERT, ...) with a fresh last layer.

    Inputs are ``tokens``, int64, (B, L), and ``mask``, bool, (B, L), true where a text has a token.
    Features are those of the tokens; what stands beyond a text plays no part in them. Code that
    comes with a network is never run: only networks of transformers itself are built.

    Args:
        input_shape: Of tokens and mask, (L,) each.
        num_classes: Number of classes C; the last layer is always fresh.
        vocab_size: V, the number of tokens; of a random start the network has so many.
        path: A folder with ``config.json`` and weights (``model.safetensors``, also in parts, or
            ``pytorch_model.bin``); or a name of huggingface.co, which is downloaded once.
        architecture: The content of ``config.json`` instead of a path, for a random start.
        weights: ``DEFAULT`` for those of the folder, a random start where it holds none; None for a
            random start; or a file (.pt, .pth, .safetensors) with a state dict of that network,
            also below a prefix.
        pooling: Features of a text: the ``mean`` of those of its tokens, or those of its ``first``
            token, such as ``[CLS]``.
        trainable: See `dal.models.fine_tuning.FineTuned`.
        length: Tokens of a text, special ones among them; for the tokenizer, see
            `dal.data.texts.tokenizer.Tokenizer`.

    Attributes:
        arguments: Those that build the network again without the folder.
        sample_numel: See `dal.models.base.numel_in`.

    Raises:
        ValueError: transformers is not installed; the network is none of its encoders of texts, or
            cannot take such texts; or weights are damaged or do not fit.
        FileNotFoundError: There is no such folder, or no ``config.json`` in it.
        OSError: It could not be downloaded.
    """

    text_encoder: ClassVar[str] = "tokenizer"

    def __init__(
        self,
        input_shape: InputSpec,
        num_classes: int,
        vocab_size: int | None = None,
        path: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = "DEFAULT",
        pooling: Pooling = "mean",
        trainable: Trainable = "all",
        length: int = 128,
    ) -> None:
        tokens = _length(input_shape)
        if pooling not in get_args(Pooling):
            raise ValueError(f"model.pooling={pooling!r}; choose mean or first")
        name = "the network" if path is None else f"model.path={path}"
        files: list[Path] = []
        size = None
        if architecture is None:
            architecture, files = _files(path, weights)
            size = None if files else vocab_size
        check_trainable(trainable, weights if files else None)
        with no_larger_than(*_room(files)):
            network, config = _network(dict(architecture), size, name)
        if files:
            state = {k: v for file in files for k, v in _state(file).items()}
            remedy = f"give the folder of the {CONFIG} that they are of"
            load_weights(network, state, f"the weights {files[0]}", name, remedy)
        known = network.get_input_embeddings().num_embeddings
        if vocab_size is not None and vocab_size > known:
            raise ValueError(
                f"{name}: the tokenizer has {vocab_size} tokens, and the network {known}; give the "
                "tokenizer.json of that network, or set model.weights=null for a network of that "
                "many"
            )
        body = _Pooled(network, pooling, config.get("pad_token_id"))
        width = _tried(body, tokens, min(known, vocab_size or known), name)
        super().__init__(body, width, num_classes, trainable, name)
        self.sample_numel = tokens * width
        self.arguments = {"path": None, "architecture": config}


class _Pooled(nn.Module):
    """Features (B, D) of texts.

    Args:
        network: Of transformers.
        pooling: See `TransformersNetwork`.
        padding: The token that stands beyond texts; some networks count positions by it.

    Attributes:
        counted: Whether positions are counted from 0 and handed over, a row for each sample, as
            gradient lengths want them.
        spread: Whether masks are handed over for each pair of tokens, which spares networks a look
            at their values.
    """

    def __init__(self, network: nn.Module, pooling: Pooling, padding: Any) -> None:
        super().__init__()
        self.network, self.pooling, self.padding = network, pooling, padding
        self.counted = self.spread = False

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Features (B, D) of ``tokens`` (B, L) and their ``mask`` (B, L)."""
        hidden = self.hidden(x["tokens"], x["mask"])
        if self.pooling == "first":
            return hidden[:, 0]
        inside = x["mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * inside).sum(1) / inside.sum(1).clamp(min=1)

    def hidden(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """What the network makes of each token: (B, L, D)."""
        more = {"attention_mask": mask.long()}
        if self.spread:
            pairs = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
            more["attention_mask"] = torch.zeros(()).to(mask.device).where(pairs, _NEVER)
        if self.counted:
            places = torch.arange(tokens.shape[1], device=tokens.device)
            more["position_ids"] = places.expand_as(tokens)
        tokens = tokens.where(mask, self.padding)
        found: Tensor = self.network(input_ids=tokens, **more)[0]
        return found


def _length(input_shape: Any) -> int:
    """L, of tokens and mask."""
    named = isinstance(input_shape, Mapping) and set(input_shape) == {"tokens", "mask"}
    shapes = {tuple(shape) for shape in input_shape.values()} if named else set()
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            "model=transformers takes texts, as tokens (L,) and their mask (L,), not inputs of "
            f"{input_shape}; choose another model, or data=text or data=goemotions"
        )
    return int(next(iter(shapes))[0])


def _files(path: str | None, weights: str | None) -> tuple[dict[str, Any], list[Path]]:
    """The content of ``config.json``, and the files with the weights to start from."""
    if path is None:
        raise ValueError(
            f"model=transformers takes model.path; set it to a folder with {CONFIG} and weights, "
            "or to a name of huggingface.co, such as distilbert/distilroberta-base"
        )
    if weights not in (None, "DEFAULT") and not is_file(weights):
        raise ValueError(
            f"model.weights={weights!r}; give DEFAULT for those of model.path, null for a random "
            "start, or a file (.pt, .pth, .safetensors)"
        )
    folder = folder_of(path, weights == "DEFAULT")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"model.path={path} holds no {CONFIG}; give a folder as "
            "transformers' save_pretrained writes it"
        )
    config = read_json(folder / CONFIG)
    if weights not in (None, "DEFAULT"):
        return config, [Path(weights)]
    return config, weight_files(folder) if weights else []


def _room(files: Sequence[Path]) -> tuple[int, str]:
    """How many numbers a network may have, and what is said where it has more."""
    if files:  # a byte a number, at least
        most = sum(file.stat().st_size for file in files if file.is_file())
        return most, "it is larger than its weights"
    # weights, gradients, and two averages of the optimizer
    return memory_of_machine() // 16, "it does not fit into the memory of this machine"


def _state(file: Path) -> dict[str, Tensor]:
    """Tensors by name, the names those of today."""
    state = read_state(str(file), "the weights")
    return {_OLD.sub(lambda match: _NEW[match[1]], key): value for key, value in state.items()}


def _network(
    content: dict[str, Any], vocab_size: int | None, name: str
) -> tuple[Any, dict[str, Any]]:
    """A network with random weights, and the content that it was built from.

    Args:
        content: Of ``config.json``.
        vocab_size: Its number of tokens; None for what the content says.
        name: In words, for errors.
    """
    package, kind = _package(), content.get("model_type")
    if "auto_map" in content:
        raise ValueError(
            f"{name} comes with code of its own (auto_map in its {CONFIG}), which is not run; "
            "choose a network of transformers itself, such as one of model_type bert, roberta, "
            "modernbert"
        )
    known = package.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decodes = content.get("is_decoder") or content.get("is_encoder_decoder")
    if not isinstance(kind, str) or kind not in known or decodes:
        raise ValueError(
            f"{name} is no encoder of texts (model_type {kind!r}); choose one, such as bert, "
            "distilbert, roberta, deberta-v2, modernbert"
        )
    # How attention is computed may be the name of a repository with code.
    content = {
        key: value
        for key, value in content.items()
        if "implementation" not in key and key not in _UNUSED
    }
    if vocab_size is not None:
        content["vocab_size"] = vocab_size
    config = package.CONFIG_MAPPING[kind]
    try:
        usual = config.from_dict(content)
        padding, size = usual.pad_token_id, usual.vocab_size
        inside = isinstance(padding, int) and 0 <= padding < size
        content |= {"vocab_size": size, "pad_token_id": padding if inside else 0}
        built = config.from_dict(content)
        if built.is_encoder_decoder:
            raise ValueError("it has a decoder")
        made = package.MODEL_MAPPING[type(built)]
        pooler = "add_pooling_layer" in inspect.signature(made).parameters
        more = {"add_pooling_layer": False} if pooler else {}
        # Of its ways to attention this computes the same for a text whatever stands beside it.
        network = package.AutoModel.from_config(
            built, attn_implementation="eager", dtype=torch.float32, **more
        )
    except Exception as error:  # of many kinds, by what a config holds
        if out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name}: its {CONFIG} builds no {kind} ({reason}); restore it, or choose "
            "another network"
        ) from error
    return network, content


def _tried(body: _Pooled, length: int, vocab_size: int, name: str) -> int:
    """How many features a network gives, tried on short texts and on one of full length.

    Args:
        body: Left in evaluation mode, and told how it hands over positions and masks.
        length: L.
        vocab_size: Its number of tokens.
        name: In words, for errors.

    Raises:
        ValueError: It cannot take such texts, or lets what stands beyond a text play a part.
    """
    body.eval()
    short, takes = min(length, SHORT), inspect.signature(body.network.forward).parameters
    tokens = torch.arange(length).remainder(vocab_size).unsqueeze(0)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    text, part = tokens[:, :short], max(1, short // 2)
    half = mask[:, :short].clone()
    half[:, part:] = False
    try:
        with torch.no_grad():
            whole = body.hidden(tokens, mask)
            padded, cut = body.hidden(text, half), body.hidden(text[:, :part], half[:, :part])
            if "position_ids" in takes:
                body.counted = True
                body.counted = _close(body.hidden(text, half), padded)
            body.spread = _takes_pairs(body, tokens, mask, whole) and (
                _takes_pairs(body, text, half, padded)
            )
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name} cannot take texts of {length} tokens ({reason}); set model.length to the most "
            "that it takes, often 512, or choose another network"
        ) from error
    if whole.shape[:2] != tokens.shape or not _close(padded[:, :part], cut):
        raise ValueError(
            f"{name} lets what stands beyond a text play a part in its features; choose a network "
            "that heeds the mask, such as bert, distilbert, roberta, deberta-v2, modernbert"
        )
    return int(whole.shape[2])


def _takes_pairs(body: _Pooled, tokens: Tensor, mask: Tensor, wanted: Tensor) -> bool:
    """Whether a network does the same with a mask for each pair of tokens; none of its own."""
    body.spread = True
    try:
        return _close(body.hidden(tokens, mask), wanted)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # it wants one for tokens
        if out_of_memory(error):
            raise
        return False
    finally:
        body.spread = False


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def _package() -> Any:
    # Before it is imported: it says nothing of its own, and tells nobody that it is used.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ValueError(
            f"model=transformers takes the package transformers ({error}); install it: pip install "
            '-e ".[transformers]"'
        ) from error
    return transformers
