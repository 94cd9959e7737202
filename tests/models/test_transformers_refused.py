"""Folders of networks of texts that lack something, are damaged, or come with code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_texts
import torch

from dal.data.texts.tokenizer import Tokenizer
from dal.models import TransformersNetwork

SHAPE = {"tokens": (16,), "mask": (16,)}
RAN = "ran"
CODE = f"open({RAN!r}, 'w').close()\nclass Own: pass\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_texts.folder(tmp_path_factory.mktemp("network") / "tiny")


@pytest.fixture
def tiny(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of a sound folder, named as people name one beside them."""
    shutil.copytree(whole, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    return "tiny"


def made(path: str | None = "tiny", **settings: Any) -> None:
    """What a run makes: the tokenizer, then the network."""
    Tokenizer(path, length=16, weights=settings.get("weights", "DEFAULT"))
    TransformersNetwork(SHAPE, 2, 400, path=path, **settings)


def refused(error: type[Exception], fact: str, *arguments: Any, **settings: Any) -> None:
    with pytest.raises(error, match=fact) as caught:
        made(*arguments, **settings)
    assert "\n" not in str(caught.value)
    assert not Path(RAN).exists()


def configured(**more: Any) -> None:
    """Let config.json say something else."""
    file = Path("tiny/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def test_a_sound_folder_is_taken(tiny: str) -> None:
    made(tiny)


def test_folders_that_are_not_there_are_told(tiny: str) -> None:
    refused(ValueError, r"takes model\.path; set it to a folder", None)
    for path in ("./nowhere", "a/b/c", "/nowhere/at/all"):
        refused(FileNotFoundError, f"^model.path={path}: there is no such folder; give one", path)


def test_a_name_without_a_connection_says_what_to_put_where(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path("cache").absolute()))
    told = (
        r"^model\.path=some/name is no folder, and could not be downloaded .*; put config\.json, "
    )
    refused(OSError, told + r".*https://huggingface\.co/some/name into the folder ", "some/name")


@pytest.mark.parametrize(
    ("lacks", "error", "fact"),
    [
        ("config.json", FileNotFoundError, r"^model\.path=tiny holds no config\.json; give a"),
        ("tokenizer.json", FileNotFoundError, r"^tiny holds weights and no tokenizer\.json, .*set"),
    ],
)
def test_what_a_folder_lacks_is_told(
    tiny: str, lacks: str, error: type[Exception], fact: str
) -> None:
    (Path(tiny) / lacks).unlink()
    refused(error, fact)


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ({"auto_map": {"AutoModel": "own.Own"}}, r"comes with code of its own \(auto_map"),
        ({"model_type": "own"}, r"is no encoder of texts \(model_type 'own'\); choose one, such"),
        ({"model_type": ["bert"]}, "is no encoder of texts"),
        ({"model_type": "gpt2"}, "is no encoder of texts"),
        ({"is_decoder": True}, "is no encoder of texts"),
        ({"num_hidden_layers": 10**9}, r"builds no bert \(it is larger than its weights\)"),
        ({"vocab_size": 10**8}, r"builds no bert \(it is larger than its weights\)"),
        ({"hidden_size": 33}, r"its config\.json builds no bert \(.*\); restore it"),
        ({"num_hidden_layers": "many"}, r"its config\.json builds no bert"),
        ({"hidden_size": 64}, r"the weights tiny/model\.safetensors do not fit .* another shape"),
    ],
)
def test_configs_that_build_no_network_are_refused(
    tiny: str, more: dict[str, Any], fact: str
) -> None:
    Path("tiny/own.py").write_text(CODE)
    configured(**more)
    refused(ValueError, fact)


def test_a_billion_labels_of_a_config_play_no_part(tiny: str) -> None:
    configured(num_labels=10**9)
    made()


def test_a_random_start_fits_into_memory(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 2**10)  # a megabyte in all
    configured(num_hidden_layers=10**9)
    refused(ValueError, r"\(it does not fit into the memory", weights=None)


def test_texts_longer_than_a_network_takes_are_refused(tiny: str) -> None:
    configured(max_position_embeddings=8)
    refused(ValueError, "cannot take texts of 16 tokens .*set model.length to", weights=None)


def test_attention_of_another_repository_is_not_looked_for(tiny: str) -> None:
    configured(attn_implementation="own/attention", _attn_implementation="own/attention")
    made()


def rewritten(name: str, content: str) -> Callable[[], None]:
    return lambda: Path("tiny", name).write_text(content) and None


class _Runs:
    """An object that runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {RAN}",)


def pickled(content: Any) -> None:
    Path("tiny/model.safetensors").unlink()
    torch.save(content, "tiny/pytorch_model.bin")


def listed(names: Any) -> None:
    Path("tiny/model.safetensors").unlink()
    Path("tiny/model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (rewritten("config.json", "{"), r"config\.json is damaged .*; restore it"),
        (rewritten("config.json", "[" * 100000), r"config\.json is damaged"),
        (rewritten("config.json", "[1]"), r"config\.json holds no JSON object; restore it"),
        (rewritten("tokenizer.json", "{}"), r"tiny/tokenizer\.json .*restore it"),
        (rewritten("model.safetensors", "no"), r"tiny/model\.safetensors is damaged, or holds"),
        (lambda: pickled({"weight": _Runs()}), r"pytorch_model\.bin is damaged, or holds other"),
        (lambda: pickled(_Runs()), r"pytorch_model\.bin is damaged, or holds other"),
        (lambda: pickled({"weight": torch.zeros(2)}), r"pytorch_model\.bin do not fit"),
        (lambda: listed({"a": "../../other.safetensors"}), "lists no files of its folder"),
        (lambda: listed(None), "lists no files of its folder"),
    ],
)
def test_damaged_files_are_named_and_run_nothing(
    tiny: str, change: Callable[[], None], fact: str
) -> None:
    change()
    refused(ValueError, fact)


@pytest.mark.parametrize(
    ("part", "content", "fact"),
    [
        (
            "pre_tokenizer",
            {"Regex": "(a+)+$"},
            r"tokenizer\.json cannot cut these texts .*; restore",
        ),
        ("post_processor", [["X", 0]] * 30, "makes token .*, or more than 16 of a text; restore"),
        ("post_processor", [["X", 10**6]], "makes token 1000000 of 316, or more than 16"),
    ],
)
def test_what_a_tokenizer_makes_of_texts_is_not_believed(
    tiny: str, capfd: pytest.CaptureFixture[str], part: str, content: Any, fact: str
) -> None:
    file = Path("tiny/tokenizer.json")
    told = json.loads(file.read_text())
    if part == "pre_tokenizer":
        told[part] = {"type": "Split", "pattern": content, "behavior": "Removed", "invert": False}
    else:
        ends = [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in content]
        text = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
        known = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in content}
        told[part] = {
            "type": "TemplateProcessing",
            "single": [*ends, text[0]],
            "pair": text,
            "special_tokens": known,
        }
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=fact):
        Tokenizer(tiny, length=16).fitted([]).encode(["a" * 40 + "!"])


def test_safetensors_are_read_and_what_is_pickled_beside_them_is_not(tiny: str) -> None:
    torch.save(_Runs(), "tiny/pytorch_model.bin")
    made()
    assert not Path(RAN).exists()


@pytest.mark.parametrize("package", ["transformers", "tokenizers"])
def test_a_missing_package_names_the_command(
    tiny: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    command = r'; install it: pip install -e "\.\[transformers\]"$'
    refused(ValueError, f"the package {package} .*{command}")


def test_nobody_imports_transformers_who_does_not_ask_for_it(tmp_path: Path) -> None:
    code = """
import sys
import dal, dal.cli.command, dal.data, dal.export, dal.models, dal.runs.from_config
from dal.data.texts.encoding import ENCODERS
dal.models.TextTransformer({"tokens": (8,), "mask": (8,)}, 2, 30)
packages = ("transformers", "tokenizers", "huggingface_hub", "safetensors")
assert not [name for name in packages if name in sys.modules]
ENCODERS["tokenizer"](length=8).fitted(["a text"])
assert "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=200)
