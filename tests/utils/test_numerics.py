import json
import subprocess
from typing import Any

import pytest
import torch

from dal.utils.numerics import differences, environment, full_float32, pick_device, signature

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


def test_pick_device_finds_what_is_there() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:7", "gpu", "", "meta:x", "cpu:x"])
def test_pick_device_refuses_what_is_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=rf"device={name} is not there.*there is cpu"):
        pick_device(name)


def test_signature_and_environment_are_plain() -> None:
    for values in (signature(CPU, threads=3), environment()):
        assert json.loads(json.dumps(values)) == values
        assert all(type(v) in (str, int, bool, type(None)) for v in values.values())
    assert signature(CPU, threads=3)["threads"] == 3


@pytest.mark.parametrize(
    ("saved", "now", "words"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": 1, "b": "x"}, {"a": 2, "b": "x"}, "a 1 -> 2"),
        ({}, {"a": "x"}, 'a null -> "x"'),
        ({"a": 1, "b": 2}, {"a": 3, "b": 4}, "a 1 -> 3, b 2 -> 4"),
    ],
)
def test_differences_says_what_changed(saved: Any, now: Any, words: str) -> None:
    assert differences(saved, now) == words


def test_environment_without_git_says_nothing_of_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert (environment()["git_commit"], environment()["git_dirty"]) == (None, None)


@pytest.mark.parametrize("name", ["meta", "meta:0"])
def test_pick_device_refuses_what_is_not_supported(name: str) -> None:
    with pytest.raises(ValueError, match=rf"device={name} is not supported.*there is cpu"):
        pick_device(name)


def tf32_settings() -> tuple[Any, ...]:
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    newer = [cudnn.conv, cudnn.rnn, matmul] if hasattr(cudnn, "conv") else []
    old = (cudnn.allow_tf32, torch.get_float32_matmul_precision())
    return *old, *(holder.fp32_precision for holder in newer)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_full_float32_is_without_tf32_and_restores(precision: str) -> None:
    was = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        before = tf32_settings()
        with full_float32(CPU):
            assert tf32_settings() == before
        with full_float32(CUDA):
            assert tf32_settings()[:2] == (False, "highest")
            assert set(tf32_settings()[2:]) <= {"ieee"}
        assert tf32_settings() == before
    finally:
        torch.set_float32_matmul_precision(was)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9")
def test_full_float32_keeps_newer_settings_of_the_caller() -> None:
    conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    rnn: Any = torch.backends.cudnn.rnn  # type: ignore[attr-defined]
    was = rnn.fp32_precision
    rnn.fp32_precision = "ieee"
    try:
        before = (conv.fp32_precision, rnn.fp32_precision)
        with full_float32(CUDA):
            assert (conv.fp32_precision, rnn.fp32_precision) == ("ieee", "ieee")
        assert (conv.fp32_precision, rnn.fp32_precision) == before
    finally:
        rnn.fp32_precision = was


def test_device_decides_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"gpu of {device}")
    assert (environment(CPU)["gpu"], environment(CUDA)["gpu"]) == (None, "gpu of cuda:0")
    flags = {key: value for key, value in signature(CUDA).items() if key.startswith("tf32")}
    assert set(flags) == {"tf32_matmul", "tf32_conv"}
    with full_float32(CUDA):
        off = signature(CUDA)
    assert (off["tf32_matmul"], off["tf32_conv"]) == (False, False)
    assert not any(key.startswith("tf32") for key in signature(CPU))
