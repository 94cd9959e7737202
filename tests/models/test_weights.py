"""Weights from files that are damaged, somebody else's, or no weights at all."""

from __future__ import annotations

import pickle
import random
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dal.models import ResNet18
from dal.models.weights import load_weights, read_state

STATE = nn.Linear(3, 2).state_dict()


def written(path: Path, state: Any, **options: Any) -> bytes:
    torch.save(state, path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s}])
def test_state_dicts_are_read_wherever_they_stand(tmp_path: Path, wrap: Any) -> None:
    written(tmp_path / "w.pt", wrap(OrderedDict(STATE)))
    found = read_state(str(tmp_path / "w.pt"), "model.weights")
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def damaged(tmp_path: Path) -> list[bytes]:
    rng = random.Random(0)
    whole = written(tmp_path / "new.pt", STATE)
    old = written(tmp_path / "old.pt", STATE, _use_new_zipfile_serialization=False)
    cut = [content[: rng.randrange(len(content))] for content in (whole, old) for _ in range(25)]
    flipped = []
    for content in (whole, old):
        for _ in range(25):
            changed = bytearray(content)
            for _ in range(40):
                changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            flipped.append(bytes(changed))
    noise = [rng.randbytes(rng.randrange(200)) for _ in range(100)]
    texts = [b"", b"no weights", b"80", b"list index", b"}q\x00.", b"\x80\x02", b"(dp0\n.", b"0."]
    return cut + flipped + noise + texts + [b"PK\x03\x04" + part for part in noise[:20]]


def test_damaged_files_are_one_line_that_names_setting_and_file(tmp_path: Path) -> None:
    """Single bits of numbers may flip without notice: a file of weights carries no digest."""
    path, refused = tmp_path / "w.pt", 0
    contents = damaged(tmp_path)
    for content in contents:
        path.write_bytes(content)
        try:
            read_state(str(path), "model.weights")
        except ValueError as error:
            message = str(error)
            refused += 1
            assert message.startswith(f"model.weights={path} ")
            assert "\n" not in message
            assert "weights_only" not in message
    assert refused > 0.9 * len(contents)


@pytest.mark.parametrize(
    "state",
    [[1, 2], {}, {"a": 1}, {1: torch.zeros(1)}, {"model": {}}, torch.zeros(3), "text", None],
)
def test_files_without_a_state_dict_are_refused(tmp_path: Path, state: Any) -> None:
    written(tmp_path / "w.pt", state)
    with pytest.raises(ValueError, match=r"features\.weights=.* holds no state dict"):
        read_state(str(tmp_path / "w.pt"), "features.weights")


def test_whole_networks_are_not_unpickled(tmp_path: Path) -> None:
    """They are code; torch advises to trust the file, and we do not."""
    written(tmp_path / "w.pt", nn.Linear(3, 2))
    (tmp_path / "p.pt").write_bytes(pickle.dumps(nn.Linear(3, 2)))
    for name in ("w.pt", "p.pt"):
        with pytest.raises(ValueError, match="can run code; save the weights with") as caught:
            read_state(str(tmp_path / name), "model.weights")
        assert not re.search("weights_only|likely succeed", str(caught.value))


def test_networks_say_it_likewise(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.weights=.*w\.pth is damaged"):
        ResNet18((3, 32, 32), 5, weights=str(tmp_path / "w.pth"))
    with pytest.raises(FileNotFoundError, match=r"model\.weights=.*: there is no such file"):
        ResNet18((3, 32, 32), 5, weights=str(tmp_path))


def test_two_networks_in_a_file_are_told_apart_by_nobody() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    own = {key: value + 1 for key, value in network.state_dict().items()}
    other = {key: value - 1 for key, value in network.state_dict().items()}
    both = {f"x.{k}": v for k, v in other.items()} | {f"y.{k}": v for k, v in own.items()}
    with pytest.raises(ValueError, match=r"hold mine 2 times, below x\. and y\.; save"):
        load_weights(network, both, "model.weights=w.pt", "mine")
    del both["x.1.bias"]
    load_weights(network, both, "model.weights=w.pt", "mine")
    assert all(torch.equal(v, own[k]) for k, v in network.state_dict().items())
    load_weights(network, {f"ema.{k}": v for k, v in other.items()} | own, "w", "mine")
    assert all(torch.equal(v, own[k]) for k, v in network.state_dict().items())


def test_whole_numbers_are_no_weights() -> None:
    network = nn.Linear(3, 2)
    state = {key: value.to(torch.int8) for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"fit mine: weight holds torch\.int8.* as float32"):
        load_weights(network, state, "model.weights=w.pt", "mine")
    load_weights(network, {k: v.half() for k, v in state.items()}, "model.weights=w.pt", "mine")


def test_downloads_that_ended_early_are_damaged_files(tmp_path: Path) -> None:
    """Of some lengths torch gives the operating system's "Invalid argument" alone."""
    path = tmp_path / "w.pth"
    whole = written(path, nn.Linear(200, 100).state_dict())
    for length in range(100, len(whole), 1000):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.weights=.*w\.pth is damaged"):
            read_state(str(path), "model.weights")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.to_sparse(), "is sparse, or has no numbers"),
        (lambda v: v.to("meta"), "is sparse, or has no numbers"),
        (lambda v: v * float("nan"), r"not finite as torch\.float32; its training diverged"),
        (lambda v: v.double() + 1e300, r"not finite as torch\.float32; its training diverged"),
    ],
)
def test_weights_without_numbers_to_start_from_are_one_line(change: Any, said: str) -> None:
    network = nn.Linear(3, 2)
    state = {key: change(value) for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=rf"model\.weights=w\.pt .*weight .*{said}") as raised:
        load_weights(network, state, "model.weights=w.pt", "mine")
    assert "\n" not in str(raised.value)
