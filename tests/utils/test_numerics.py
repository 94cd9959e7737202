import json
import subprocess
from typing import Any

import pytest
import torch

from dal.utils.numerics import differences, environment, pick_device, signature

CPU = torch.device("cpu")


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
