"""Folders of pretrained networks of texts: config.json, tokenizer.json, weights."""

from __future__ import annotations

import json
import logging
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
SETTINGS = ("tokenizer_config.json", CONFIG)
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""Files with weights, in the order in which they are looked for."""

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def folder_of(path: str, weights: bool) -> Path:
    """The folder of a network: one of this machine, or one that is downloaded once by its name.

    Args:
        path: A folder, or else a name of huggingface.co such as ``distilbert/distilroberta-base``.
        weights: Whether weights are wanted too.

    Raises:
        FileNotFoundError: There is no such folder, and the path is no name.
        OSError: It could not be downloaded; what to put where by hand is said.
        ValueError: The package that downloads is not installed.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if not _NAME.fullmatch(path) or path.startswith("."):
        raise FileNotFoundError(
            f"model.path={path}: there is no such folder; give one that holds {CONFIG}, "
            f"{TOKENIZER} and {WEIGHTS[0]}, or a name of huggingface.co"
        )
    return _downloaded(path, weights)


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a folder; none where it holds none.

    Raises:
        ValueError: The list of its files is damaged.
    """
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None or found.suffix != ".json":
        return [] if found is None else [found]
    parts = read_json(found).get("weight_map")
    names = set(parts.values()) if isinstance(parts, dict) else set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ValueError(f"{found} lists no files of its folder; restore it")
    return [folder / name for name in sorted(names)]


def read_json(file: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        ValueError: It holds something else.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); restore it") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no JSON object; restore it")
    return found


def _downloaded(name: str, weights: bool) -> Path:
    files = [TOKENIZER, *SETTINGS, *(("model*.safetensors", WEIGHTS[1]) if weights else ())]
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants
        from huggingface_hub.errors import LocalEntryNotFoundError
        from huggingface_hub.utils import disable_progress_bars
    except ModuleNotFoundError as error:
        raise ValueError(
            f"model.path={name} is no folder, and downloading takes a package ({error}); install "
            'it: pip install -e ".[transformers]"'
        ) from error
    disable_progress_bars()
    find = partial(hub.snapshot_download, name, allow_patterns=files)
    try:
        return _complete(find(local_files_only=True), weights)
    except (LocalEntryNotFoundError, FileNotFoundError):
        log.info("downloading %s from https://huggingface.co/%s", ", ".join(files), name)
    try:
        return _complete(find(), weights)
    except Exception as error:  # of many kinds, by what fails
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(
            f"model.path={name} is no folder, and could not be downloaded ({reason}); put "
            f"{CONFIG}, {TOKENIZER} and {WEIGHTS[0]} from https://huggingface.co/{name} into the "
            f"folder {Path(name).absolute()}, or copy the folder {constants.HF_HUB_CACHE}/models--"
            f"{name.replace('/', '--')} from a machine that has them"
        ) from error


def _complete(folder: str, weights: bool) -> Path:
    """The folder, where it holds what is needed: a download may have ended early."""
    found = Path(folder)
    if not (found / CONFIG).is_file() or (weights and not weight_files(found)):
        raise FileNotFoundError(f"it has no {CONFIG}" + f" or no {WEIGHTS[0]}" * weights)
    return found
