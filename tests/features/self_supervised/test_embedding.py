"""Features learned from the training part: what they see, the cache, kills, refusals."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from stores import content

from dal import checkpoint
from dal.data import Dataset, digits, make_source
from dal.features import SelfSupervised
from dal.features.self_supervised.pretraining import automatic_steps
from dal.models import ResNet18, SmallCNN

CPU = torch.device("cpu")
STEPS = 7


def pictures(count: int = 40, tests: int = 10, channels: int = 1, side: int = 16) -> Dataset:
    """Bars that lie or stand, with noise."""
    rng = torch.Generator().manual_seed(0)
    total = count + tests
    images = torch.randint(0, 80, (total, channels, side, side), generator=rng)
    images[::2, :, side // 2] += 150
    images[1::2, :, :, side // 2] += 150
    images, targets = images.to(torch.uint8), torch.arange(total) % 2
    if not tests:
        return Dataset("bars", images, targets, ("lie", "stand"))
    first = images[:count], targets[:count], ("lie", "stand")
    return Dataset("bars", *first, images[count:], targets[count:])


def embedding(tmp_path: Path, **settings: Any) -> SelfSupervised:
    settings = {"steps": STEPS, "batch": 16, "cache_dir": str(tmp_path / "cache"), **settings}
    return SelfSupervised(**settings)


def encoders(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*.encoder.pt"))


def trained(caplog: pytest.LogCaptureFixture) -> int:
    """How often an encoder was trained, according to the log."""
    return sum("features: training" in record.message for record in caplog.records)


def stop_at(number: int) -> Callable[[], None]:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt

    return check


@pytest.mark.parametrize("method", ["simclr", "vicreg"])
def test_all_parts_become_features_of_length_one(tmp_path: Path, method: str) -> None:
    data = pictures()
    found = embedding(tmp_path, method=method, dtype="float32")(data, CPU)
    train, test = content(found.inputs), content(found.test_inputs)
    assert (train.shape, test.shape) == ((40, 128), (10, 128))
    torch.testing.assert_close(train.norm(dim=1), torch.ones(40))
    assert torch.equal(found.targets, data.targets)
    assert make_source(found, seed=0).train.take(torch.arange(40)).std(0).max() < 1.1


def test_training_finds_what_is_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    embedding(tmp_path, steps=60, batch=32, views="objects")(pictures(100), CPU)
    (share,) = re.findall(r"([\d.]+)% of known labels", caplog.text)
    assert float(share) > 90


def test_neither_test_samples_nor_labels_play_a_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = pictures()
    embedding(tmp_path)(data, CPU)
    other = replace(data, test_inputs=255 - content(data.test_inputs), targets=1 - data.targets)
    embedding(tmp_path)(other, CPU)
    unlabeled = replace(data, targets=torch.full((40,), -1))
    embedding(tmp_path)(unlabeled, CPU)
    assert trained(caplog) == 1
    embedding(tmp_path)(replace(data, inputs=255 - content(data.inputs)), CPU)
    assert trained(caplog) == 2


def test_only_the_training_part_of_the_run_is_learned_from(tmp_path: Path) -> None:
    data = pictures(60, tests=0)
    frozen = embedding(tmp_path)
    frozen.divide = partial(make_source, seed=3, validation=6)
    found = frozen(data, CPU)
    source = make_source(data, seed=3, validation=6)
    assert found.seen is not None
    assert torch.equal(found.seen, source.train.positions)
    assert make_source(found, seed=3, validation=6)
    with pytest.raises(ValueError, match="test samples were in the training"):
        make_source(found, seed=4)


def test_an_encoder_is_trained_once_for_its_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = pictures()
    first = content(embedding(tmp_path)(data, CPU).inputs)
    again = content(embedding(tmp_path, standardize=False, batch_size=5)(data, CPU).inputs)
    assert torch.equal(first, again)
    assert trained(caplog) == 1
    for number, settings in enumerate(
        ({"seed": 1}, {"lr": 0.001}, {"views": "digits"}, {"steps": 3}, {"temperature": 0.2})
    ):
        other = content(embedding(tmp_path, **settings)(data, CPU).inputs)
        assert trained(caplog) == 2 + number
        assert not torch.equal(first, other)


@pytest.mark.parametrize("number", [1, 3, STEPS, STEPS + 2])
def test_killed_training_goes_on_to_the_same_bits(tmp_path: Path, number: int) -> None:
    data = pictures()
    whole = content(embedding(tmp_path / "whole")(data, CPU).inputs)
    with pytest.raises(KeyboardInterrupt):
        embedding(tmp_path)(data, CPU, stop_at(number))
    assert not encoders(tmp_path)
    assert torch.equal(content(embedding(tmp_path)(data, CPU).inputs), whole)
    assert not list((tmp_path / "cache").glob("*.training.pt"))


@pytest.mark.parametrize("ending", ["encoder.pt", "training.pt"])
def test_damaged_files_are_said_and_made_again(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = pictures()
    whole = content(embedding(tmp_path / "whole")(data, CPU).inputs)
    if ending == "encoder.pt":
        embedding(tmp_path)(data, CPU)
    else:
        with pytest.raises(KeyboardInterrupt):
            embedding(tmp_path)(data, CPU, stop_at(4))
    (path,) = (tmp_path / "cache").glob(f"*.{ending}")
    path.write_bytes(path.read_bytes()[:-9])
    found = content(embedding(tmp_path)(data, CPU).inputs)
    assert "trained again" in caplog.text
    assert torch.equal(found, whole)


def test_facts_that_lost_a_name_keep_the_features(tmp_path: Path) -> None:
    whole = content(embedding(tmp_path)(pictures(), CPU).inputs)
    (facts,) = (tmp_path / "cache").glob("*.json")
    facts.write_text(facts.read_text().replace('"seconds"', '"sebonds"'))
    assert torch.equal(content(embedding(tmp_path)(pictures(), CPU).inputs), whole)


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    data = pictures()
    embedding(tmp_path)(data, CPU)
    others = tmp_path / "cache" / ".other.pth.7.tmp"
    halves = [path.with_name(f".{path.name}.7.tmp") for path in (tmp_path / "cache").glob("*.*p*")]
    for half in (others, *halves):
        half.touch()
    embedding(tmp_path)(data, CPU)
    assert len(halves) > 2
    assert [path for path in (others, *halves) if path.exists()] == [others]


@pytest.mark.parametrize("where", ["cache", "cache/sub"])
def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "cache").touch()
    made = embedding(tmp_path)
    made.cache_dir = str(tmp_path / where)
    with pytest.raises(OSError, match=r"cannot write an encoder into .*; free space, or set feat"):
        made(pictures(), CPU)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dal.features.self_supervised.files.write_atomically", full)
    with pytest.raises(
        OSError, match=r"^\[Errno 28\] cannot write an encoder .*\(No space.*again$"
    ):
        embedding(tmp_path)(pictures(), CPU)


def test_samples_that_came_late_teach_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = pictures(50, tests=0)
    begun = replace(data, inputs=content(data.inputs)[:44], targets=data.targets[:44])
    first = embedding(tmp_path)(begun, CPU)
    grown = embedding(tmp_path)(replace(data, appended=6), CPU)
    assert trained(caplog) == 1
    assert torch.equal(content(grown.inputs)[:44], content(first.inputs))
    assert content(grown.inputs).shape == (50, 128)


def test_foreign_samples_and_new_ones_are_embedded_by_the_same_encoder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data, frozen = pictures(), embedding(tmp_path, dtype="float32")
    with pytest.raises(ValueError, match="give it the data set first"):
        frozen.embed(content(data.inputs))
    found = content(frozen(data, CPU).inputs)
    torch.testing.assert_close(frozen.embed(content(data.inputs)), found)
    foreign = frozen.foreign(pictures(20), CPU)
    assert content(foreign.inputs).shape == (20, 128)
    assert trained(caplog) == 1


@pytest.mark.parametrize(("encoder", "warned"), [("small", False), ("auto", True)])
def test_a_large_encoder_on_a_cpu_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, encoder: Any, warned: bool
) -> None:
    data = pictures(16, 4, side=33)
    embedding(tmp_path, steps=1, batch=4, encoder=encoder)(data, CPU)
    assert ("resnet18 is slow on a CPU" in caplog.text) == warned


@pytest.mark.parametrize(("name", "kind"), [("small", SmallCNN), ("resnet18", ResNet18)])
def test_an_encoder_starts_a_network_of_its_kind(
    tmp_path: Path, name: Literal["small", "resnet18"], kind: Any
) -> None:
    data = pictures(20, channels=3)
    embedding(tmp_path, encoder=name, steps=2)(data, CPU)
    (weights,) = (tmp_path / "cache").glob("*.pth")
    network = kind((3, 16, 16), 5, weights=str(weights))
    (encoder,) = encoders(tmp_path)
    learned = checkpoint.load(encoder)["weights"]
    own = network.state_dict()
    alike = [key for key in learned if not key.startswith("head.")]
    assert alike
    assert all(torch.equal(own[key], learned[key]) for key in alike)


def test_weights_that_were_removed_are_written_again_from_the_encoder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    embedding(tmp_path)(pictures(), CPU)
    (weights,) = (tmp_path / "cache").glob("*.pth")
    before = torch.load(weights)
    weights.unlink()
    embedding(tmp_path)(pictures(), CPU)
    after = torch.load(weights)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert trained(caplog) == 1


def test_small_pools_are_one_batch_and_curves_are_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    embedding(tmp_path, batch=256)(pictures(), CPU)
    assert "batches of all 40 samples" in caplog.text
    assert "views=signs (shift, scale, rotation" in caplog.text
    assert list((tmp_path / "cache").glob("*.tb/events*"))


def test_collapse_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    black = torch.zeros(40, 1, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"the features of bars by simclr have collapsed"):
        embedding(tmp_path)(replace(pictures(), inputs=black), CPU)
    assert not encoders(tmp_path)


def test_what_is_no_image_or_too_little_is_refused(tmp_path: Path) -> None:
    table = Dataset("table", torch.randn(40, 3), torch.arange(40) % 2, ("a", "b"))
    for data, message in (
        (table, r"samples of table have shape \(3,\).* features=none"),
        (pictures(12), "has 12 samples, and features=self_supervised learns from 16 or more"),
        (pictures(side=6), r"8 x 8 pixels or more, not of 6 x 6; set data\.size=28"),
    ):
        with pytest.raises(ValueError, match=message):
            embedding(tmp_path)(data, CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "byol"}, r"features\.method='byol'; choose simclr or vicreg"),
        ({"encoder": "vit"}, r"features\.encoder='vit'; choose auto or small or resnet18"),
        ({"views": "faces"}, r"features\.views='faces'; choose auto or digits"),
        ({"steps": 0}, r"features\.steps=0"),
        ({"batch": 1}, r"features\.batch=1"),
        ({"lr": 0.0}, r"features\.lr=0.0"),
        ({"temperature": -1.0}, r"features\.temperature=-1.0"),
        ({"seed": -1}, r"features\.seed=-1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfSupervised(**settings)


def test_automatic_steps_go_by_the_samples() -> None:
    assert [automatic_steps(n) for n in (100, 2500, 20_000, 60_000)] == [200, 250, 707, 1200]


def test_data_sets_say_what_they_depict() -> None:
    assert digits().depicts == "digits"
