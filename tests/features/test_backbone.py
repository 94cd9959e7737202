"""Features of a frozen network: values, cache, damage, weights, refusals."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import content
from torchvision import models

import dal
from dal import checkpoint
from dal.data import Dataset, initial_labels, make_source
from dal.data.store import ArrayStore
from dal.export import FILE, save_model
from dal.features import Preprocess, RunEmbedding, Torchvision
from dal.features.cache import FeatureCache
from dal.models import LeNet5, LogisticRegression
from dal.models.backbone import torchvision_backbone, weights_digest
from dal.query import Entropy
from dal.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the state dict of a ResNet-18."""
    path = tmp_path_factory.mktemp("weights") / "r18.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.resnet18(weights=None).state_dict(), path)
    return path


def pictures(count: int = 12, tests: int = 5, channels: int = 3, seed: int = 0) -> Dataset:
    rng = torch.Generator().manual_seed(seed)
    shape = (count + tests, channels, 8, 8)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
    targets = torch.arange(count + tests) % 2
    return Dataset(
        "pictures", images[:count], targets[:count], ("a", "b"), images[count:], targets[count:]
    )


def embedding(weights: Path, tmp_path: Path, **settings: Any) -> Torchvision:
    settings = {"size": 32, "cache_dir": str(tmp_path / "cache"), **settings}
    return Torchvision("resnet18", str(weights), **settings)


def embedded_by_hand(weights: Path, images: torch.Tensor) -> torch.Tensor:
    network = models.resnet18(weights=None)
    network.load_state_dict(torch.load(weights))
    network.fc = torch.nn.Identity()
    prepared = Preprocess((32, 32))(images)
    with torch.no_grad():
        return network.eval()(prepared)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_before_the_last_layer(
    weights: Path, tmp_path: Path, channels: int
) -> None:
    data = pictures(channels=channels)
    found = embedding(weights, tmp_path, dtype="float32", batch_size=5)(data, CPU)
    assert data.test_inputs is not None
    assert found.test_inputs is not None
    for got, images in (
        (content(found.inputs), data.inputs),
        (content(found.test_inputs), data.test_inputs),
    ):
        want = embedded_by_hand(weights, images)
        assert got.shape == (len(images), 512)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.targets, data.targets)
    assert found.standardize


def test_half_precision_is_the_rounded_one(weights: Path, tmp_path: Path) -> None:
    data = pictures()
    half = content(embedding(weights, tmp_path)(data, CPU).inputs)
    full = content(embedding(weights, tmp_path, dtype="float32")(data, CPU).inputs)
    assert half.dtype == torch.float16
    assert torch.equal(half, full.half())


@pytest.mark.parametrize("name", ["ResNet18_Weights", "ViT_B_16_Weights", "Swin_T_Weights"])
@pytest.mark.parametrize("shape", [(3, 40, 60), (3, 300, 260), (3, 224, 224)])
def test_preprocess_is_that_of_the_weights(name: str, shape: tuple[int, ...]) -> None:
    from dal.models.backbone import _own_preprocess

    transforms = getattr(models, name).IMAGENET1K_V1.transforms()
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, *shape, generator=rng)
    torch.testing.assert_close(_own_preprocess(transforms)(images), transforms(images))


def test_whole_numbers_count_as_parts_of_255() -> None:
    images = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    prepare = Preprocess((9, 9))
    torch.testing.assert_close(prepare(images), prepare(images / 255))


def computed(caplog: pytest.LogCaptureFixture) -> int:
    """How often the network ran, according to the log."""
    return sum("once over" in record.message for record in caplog.records)


def test_network_runs_once_and_again_only_for_what_changed(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data, state = pictures(), torch.load(weights)
    first = content(embedding(weights, tmp_path)(data, CPU).inputs)
    again = content(embedding(weights, tmp_path)(data, CPU).inputs)
    assert computed(caplog) == 1
    assert torch.equal(first, again)
    state["layer4.1.bn2.bias"][3] += 1
    torch.save(state, tmp_path / "r18.pt")
    changed = content(embedding(tmp_path / "r18.pt", tmp_path)(data, CPU).inputs)
    assert computed(caplog) == 2
    assert not torch.equal(first, changed)
    embedding(weights, tmp_path)(pictures(seed=1), CPU)
    embedding(weights, tmp_path, size=40)(data, CPU)
    embedding(weights, tmp_path, dtype="float32")(data, CPU)
    assert computed(caplog) == 5
    embedding(weights, tmp_path, standardize=False, batch_size=3)(data, CPU)
    assert computed(caplog) == 5


@pytest.mark.parametrize("what", ["byte", "short", "facts", "header"])
def test_damaged_cache_is_said_and_computed_again(
    weights: Path, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = pictures()
    first = content(embedding(weights, tmp_path)(data, CPU).inputs)
    (array,) = (tmp_path / "cache").glob("*.npy")
    written = bytearray(array.read_bytes())
    if what == "facts":
        array.with_suffix(".json").write_text("{")
    elif what == "short":
        array.write_bytes(written[:-7])
    else:
        written[1 if what == "header" else -1] ^= 1
        array.write_bytes(written)
    again = content(embedding(weights, tmp_path)(data, CPU).inputs)
    assert "computed again" in caplog.text
    assert torch.equal(first, again)


def test_array_without_its_facts_does_not_count(weights: Path, tmp_path: Path) -> None:
    embedding(weights, tmp_path)(pictures(), CPU)
    (array,) = (tmp_path / "cache").glob("*.npy")
    facts = array.with_suffix(".json")
    assert json.loads(facts.read_text())["made_by"] == "resnet18 (r18.pt)"
    facts.unlink()
    before = array.stat().st_ino
    embedding(weights, tmp_path)(pictures(), CPU)
    assert facts.is_file()
    assert array.stat().st_ino != before


def test_interrupted_computation_leaves_nothing_half_written(weights: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedding(weights, tmp_path)(pictures(), CPU, stop)
    left = sorted(p.suffix for p in (tmp_path / "cache").iterdir())
    assert left == [".lock", ".parts"]
    assert not any((tmp_path / "cache").glob("*.parts/*"))


def test_killed_computation_goes_on_where_it_was(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.features.network.BLOCK", 4)
    data, calls = pictures(), []

    def stop_at(number: int) -> None:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt

    whole = embedding(weights, tmp_path / "whole")(data, CPU)
    with pytest.raises(KeyboardInterrupt):
        embedding(weights, tmp_path)(data, CPU, lambda: stop_at(4))
    found = embedding(weights, tmp_path)(data, CPU, lambda: stop_at(0))
    assert len(calls) == 4 + 2  # blocks 0 to 2 are there; 12 training images and 5 test images
    assert torch.equal(content(found.inputs), content(whole.inputs))
    assert torch.equal(content(found.test_inputs), content(whole.test_inputs))
    assert not any((tmp_path / "cache").glob("*.parts"))


def test_blocks_are_announced_before_they_are_read(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noting(ArrayStore):
        """Knows what was announced, and what was read since."""

        def expect(self, batches: Iterable[torch.Tensor]) -> None:
            announced.extend(batch.tolist() for batch in batches)

        def read(self, rows: torch.Tensor, device: torch.device | str = CPU) -> Any:
            if len(announced) > 0:
                taken.append(rows.tolist())
            return super().read(rows, device)

    monkeypatch.setattr("dal.features.network.BLOCK", 5)
    announced: list[list[int]] = []
    taken: list[list[int]] = []
    data, calls = pictures(), []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    noting = replace(data, inputs=Noting(content(data.inputs)), test_inputs=None, test_targets=None)
    with pytest.raises(KeyboardInterrupt):
        embedding(weights, tmp_path)(noting, CPU, stop)
    assert announced == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert taken == announced[:2]
    announced.clear()
    taken.clear()
    embedding(weights, tmp_path)(noting, CPU)
    assert announced == taken == [[5, 6, 7, 8, 9], [10, 11]]


def test_second_process_waits_for_the_first_and_can_be_ended(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache = FeatureCache(tmp_path, "key")
    waited: list[float] = []
    monkeypatch.setattr("dal.features.cache.time.sleep", waited.append)

    def check() -> None:
        if len(waited) == 2:
            raise KeyboardInterrupt

    with (
        cache.alone(),
        pytest.raises(KeyboardInterrupt),
        FeatureCache(tmp_path, "key").alone(check),
    ):
        pass
    assert caplog.text.count("waiting for it") == 1
    with cache.alone(check), FeatureCache(tmp_path, "other").alone(check):
        assert len(waited) == 2


def test_weights_below_a_prefix_are_found(weights: Path, tmp_path: Path) -> None:
    state = {f"module.encoder_q.{k}": v for k, v in torch.load(weights).items()}
    state |= {f"module.encoder_k.{k}": v + 1 for k, v in torch.load(weights).items()}
    state["module.queue"] = torch.zeros(3)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "moco.pth")
    own, _ = torchvision_backbone("resnet18", str(weights))
    found, _ = torchvision_backbone("resnet18", str(tmp_path / "moco.pth"))
    assert weights_digest(own) == weights_digest(found)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "swin_t", "densenet121"])
def test_backbones_of_other_families_lose_their_last_layer(name: str, tmp_path: Path) -> None:
    network = models.get_model(name, weights=None)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    backbone, _ = torchvision_backbone(name, str(tmp_path / "w.pt"))
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = backbone.eval()(images).features
        torch.testing.assert_close(linear(features), network.eval()(images), atol=1e-4, rtol=1e-4)


def test_bad_weights_and_backbones_name_the_remedy(weights: Path, tmp_path: Path) -> None:
    for backbone, given, message in (
        ("resnet18", "nowhere.pt", r"features\.weights=nowhere\.pt: there is no such file"),
        ("resnet18", "IMAGENET", "one of torchvision's names for resnet18: IMAGENET1K_V1"),
        ("resnet81", str(weights), r"features\.backbone='resnet81'"),
        ("squeezenet1_0", str(weights), "no linear layer"),
        ("resnet34", str(weights), r"do not fit resnet34.*layer1\.2\.conv1\.weight first"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            torchvision_backbone(backbone, given)
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ValueError, match=r"features\.weights=.*text\.pt is damaged, or"):
        torchvision_backbone("resnet18", str(tmp_path / "text.pt"))


def test_weights_that_cannot_be_downloaded_name_file_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("network unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(OSError, match=r"resnet18-f37072fd\.pth from .* into .*checkpoints by hand"):
        torchvision_backbone("resnet18", "IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, r"features\.dtype='int8'; choose float16 or float32"),
        ({"size": 8}, r"features\.size=8; give at least 32"),
        ({"batch_size": 0}, r"features\.batch_size=0"),
    ],
)
def test_settings_out_of_range_are_refused(
    weights: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        embedding(weights, tmp_path, **settings)


def test_inputs_that_are_no_images_are_refused(weights: Path, tmp_path: Path) -> None:
    table = Dataset("table", torch.randn(4, 3), torch.arange(4) % 2, ("a", "b"))
    with pytest.raises(ValueError, match=r"samples of table have shape \(3,\)"):
        embedding(weights, tmp_path)(table, CPU)


def test_features_beyond_half_precision_are_refused(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights)
    state["layer4.1.bn2.bias"] += 1e5
    torch.save(state, tmp_path / "huge.pt")
    with pytest.raises(ValueError, match=r"image 0 are not finite .* features\.dtype=float32"):
        embedding(tmp_path / "huge.pt", tmp_path)(pictures(), CPU)
    assert embedding(tmp_path / "huge.pt", tmp_path, dtype="float32")(pictures(), CPU)


def test_folder_that_cannot_be_made_is_named(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"set features\.cache_dir"):
        embedding(weights, tmp_path, cache_dir=str(tmp_path / "file" / "x"))(pictures(), CPU)


def test_network_of_an_earlier_run_gives_its_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (60, 1, 28, 28), dtype=np.uint8))
    data = Dataset("small", images, torch.arange(60) % 2, ("a", "b"))
    source = make_source(data, seed=0)
    settings = dal.Settings(budget=1, query_size=1)
    initial = initial_labels(source.train.targets, seed=0, per_class=2)
    dal.run(
        source,
        LeNet5,
        Entropy(),
        initial=initial,
        trainer=Trainer(epochs=1),
        settings=settings,
        run_dir=tmp_path / "run",
    )
    frozen = RunEmbedding(str(tmp_path / "run"), str(tmp_path / "cache"), dtype="float32")
    found = content(frozen(data, CPU).inputs)
    predictor = dal.load(tmp_path / "run")
    with torch.no_grad():
        want = predictor.model(predictor.prepare(images)).features
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(frozen.embed(images[:7]), want[:7], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"\(3, 28, 28\), and LeNet5 of run takes"):
        frozen.embed(images.expand(-1, 3, -1, -1))
    dal.run(
        make_source(frozen(data, CPU), seed=0),
        LogisticRegression,
        Entropy(),
        initial=initial,
        settings=settings,
        trainer=Trainer(epochs=1),
    )


def a_run(folder: Path, data: Dataset, seed: int, **split: Any) -> Path:
    """A run directory with the model of a network that nobody trained."""
    source = make_source(data, seed=seed, **split)
    folder.mkdir()
    save_model(folder, LeNet5(source.input_shape, 2), LeNet5, source)
    return folder


def small(tests: int = 0, change: int = 0) -> Dataset:
    rng = np.random.default_rng(change)
    images = torch.from_numpy(rng.integers(0, 256, (60 + tests, 1, 28, 28), dtype=np.uint8))
    targets = torch.arange(60 + tests) % 2
    test = (images[60:], targets[60:]) if tests else ()
    return Dataset("small", images[:60], targets[:60], ("a", "b"), *test)


def test_features_of_a_run_are_not_tested_on_what_its_network_was_fitted_to(tmp_path: Path) -> None:
    data = small()
    run = RunEmbedding(
        str(a_run(tmp_path / "run", data, seed=0, validation=10)), str(tmp_path / "cache")
    )
    found = run(data, CPU)
    tested = {int(n) for n in make_source(data, seed=0).test.positions}
    other = {int(n) for n in make_source(data, seed=1).test.positions}
    known = len(other - tested)
    assert 0 < known < len(other)
    with pytest.raises(ValueError, match=f"^{known} of {len(other)} test samples were in .* seed"):
        make_source(found, seed=1)
    with pytest.raises(ValueError, match="split settings of that run"):
        make_source(found, seed=0, test_fraction=0.5)
    for split in ({}, {"validation": 10}, {"validation": 5}, {"stratified": True}):
        assert {int(n) for n in make_source(found, seed=0, **split).test.positions} == tested
    assert make_source(run(small(change=1), CPU), seed=1)  # other data: nobody saw them


def test_features_of_a_run_with_an_official_test_part_go_with_every_seed(tmp_path: Path) -> None:
    data = small(tests=20)
    run = RunEmbedding(str(a_run(tmp_path / "run", data, seed=0)), str(tmp_path / "cache"))
    assert make_source(run(data, CPU), seed=1)
    with pytest.raises(ValueError, match="test samples were in the training"):
        make_source(run(data, CPU), seed=0, kind="merged")


def test_models_of_earlier_versions_do_not_say_what_they_saw(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = small()
    file = a_run(tmp_path / "run", data, seed=0) / FILE
    old = {k: v for k, v in checkpoint.load(file).items() if k not in ("data", "seen")}
    checkpoint.save(file, old)
    assert make_source(
        RunEmbedding(str(tmp_path / "run"), str(tmp_path / "cache"))(data, CPU), seed=1
    )
    assert "keep the seed and the split of that run" in caplog.text


def test_validation_part_has_its_features_too(weights: Path, tmp_path: Path) -> None:
    data, more = pictures(), pictures(4, 0, seed=1)
    data = replace(data, validation_inputs=more.inputs, validation_targets=more.targets)
    found = embedding(weights, tmp_path, dtype="float32")(data, CPU)
    sources = [make_source(d, seed=0) for d in (data, found)]
    assert sources[1].sizes == sources[0].sizes == {"train": 12, "validation": 4, "test": 5}
    expected = embedded_by_hand(weights, more.store.read(torch.arange(4)))  # type: ignore[arg-type]
    torch.testing.assert_close(content(found.validation_inputs), expected, rtol=1e-4, atol=1e-5)


def test_images_that_are_added_leave_the_features_of_the_others_as_they_are(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data, more = pictures(), pictures(3, 0, seed=1)
    inputs = torch.cat([content(data.inputs), content(more.inputs)])
    targets = torch.cat([data.targets, more.targets])
    grown = replace(data, inputs=inputs, targets=targets, appended=3)
    before, after, again = (
        make_source(embedding(weights, tmp_path)(d, CPU), seed=0) for d in (data, grown, grown)
    )
    assert computed(caplog) == 2
    assert "once over 3 images" in caplog.text
    assert after.fingerprint() == before.fingerprint() == again.fingerprint()
    assert torch.equal(after.train.inputs[:12], before.train.inputs)  # type: ignore[index]
    expected = embedded_by_hand(weights, content(more.inputs)).half()
    assert torch.allclose(after.train.inputs[12:], expected, rtol=1e-2)  # type: ignore[index]
