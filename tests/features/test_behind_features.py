"""What a run on features leaves behind predicts what the features were made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stores import content
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from torchvision import models

import dal
from dal import checkpoint
from dal.data import Dataset, image_folder, initial_labels, make_source
from dal.export import FILE, save_estimator, save_model
from dal.features import NetworkEmbedding, RunEmbedding, SelfSupervised, Torchvision
from dal.models import MLP, LeNet5
from dal.models.estimators import random_forest
from dal.query import Entropy
from dal.train_set import TrainSet
from dal.training.trainer import Trainer

CPU = torch.device("cpu")


def pictures(channels: int = 1, side: int = 28) -> Dataset:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, channels, side, side), dtype=torch.uint8, generator=rng)
    targets = torch.arange(60) % 3
    names = ("a", "b", "c")
    return Dataset("small", images[:40], targets[:40], names, images[40:], targets[40:])


def undivided(seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (60, 1, 28, 28), dtype=np.uint8))
    return Dataset("small", images, torch.arange(60) % 3, ("a", "b", "c"))


def learned(folder: Path) -> SelfSupervised:
    return SelfSupervised(steps=3, batch=16, cache_dir=str(folder / "cache"))


def pretrained(folder: Path) -> Torchvision:
    if not (file := folder / "r18.pt").exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(models.resnet18(weights=None).state_dict(), file)
    return Torchvision("resnet18", str(file), size=32, cache_dir=str(folder / "cache"))


def of_run(folder: Path) -> RunEmbedding:
    if not (folder / "earlier").exists():
        (folder / "earlier").mkdir()
        source = make_source(pictures(), seed=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_model(folder / "earlier", LeNet5(source.input_shape, 3), LeNet5, source)
    return RunEmbedding(str(folder / "earlier"), str(folder / "cache"))


EMBEDDINGS = [learned, pretrained, of_run]


def run_on(folder: Path, embedding: NetworkEmbedding, data: Dataset) -> dal.data.Source:
    """A run directory with a model of features that nobody trained."""
    source = make_source(embedding(data, CPU), seed=0)
    (folder / "run").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = MLP(source.input_shape, 3)
        torch.nn.init.normal_(model.head.weight)  # so that samples differ by more than rounding
        save_model(folder / "run", model, MLP, source)
    return source


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_pictures_are_predicted_as_their_features_are(
    tmp_path: Path, embedding: Callable[[Path], NetworkEmbedding]
) -> None:
    data = pictures()
    source = run_on(tmp_path, embedding(tmp_path), data)
    predictor = dal.load(tmp_path / "run")
    with torch.no_grad():  # by hand, from the features of the cache
        given = source.test.take(torch.arange(20))
        expected = predictor.of_features.model(given).logits.softmax(1)
    of_pictures = predictor.predict_proba(content(data.test_inputs))
    torch.testing.assert_close(of_pictures, expected, atol=2e-3, rtol=0)
    assert expected.std(0).max() > 0.05
    of_features = predictor.predict_proba(content(source.test.store))
    torch.testing.assert_close(of_features, expected, atol=1e-6, rtol=0)


def test_features_are_rounded_as_those_were_that_the_model_learned_from(tmp_path: Path) -> None:
    data = pictures()
    source = run_on(tmp_path, learned(tmp_path), data)
    seen: list[torch.Tensor] = []
    behind = dal.load(tmp_path / "run")
    behind.model.model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    behind.predict_proba(content(data.test_inputs))
    torch.testing.assert_close(seen[0], source.test.take(torch.arange(20)), atol=1e-2, rtol=0)
    unprepared = seen[0] * torch.tensor(source.test.prepare.std).float()
    unprepared += torch.tensor(source.test.prepare.mean).float()
    torch.testing.assert_close(unprepared, unprepared.half().float(), atol=1e-6, rtol=1e-5)


def test_estimators_behind_features_predict_pictures_too(tmp_path: Path) -> None:
    data = pictures()
    source = make_source(learned(tmp_path)(data, CPU), seed=0)
    (tmp_path / "run").mkdir()
    all_of_it = TrainSet(torch.arange(40), source.train.targets, torch.ones(40))
    save_estimator(tmp_path / "run", random_forest, source, all_of_it, 0)
    predictor = dal.load(tmp_path / "run")
    found = predictor.predict(content(data.inputs))
    assert found == predictor.of_features.predict(content(source.train.store))
    large = torch.as_tensor(content(data.inputs)).float()
    large[3] = 1e38  # a forest would take the features, which are NaN, as missing values
    with pytest.raises(ValueError, match=r"of 1 of 40 samples is no number .* is sample 3 "):
        predictor.predict_proba(large)


def test_pictures_in_a_folder_are_decoded_as_those_of_the_run(tmp_path: Path) -> None:
    for number, image in enumerate(content(pictures(3, 40).inputs)):
        folder = tmp_path / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:02d}.png")
    data = image_folder(str(tmp_path / "photos"), size=28, cache_dir=str(tmp_path / "cache"))
    source = run_on(tmp_path, learned(tmp_path), data)
    predictor = dal.load(tmp_path / "run")
    (found,) = predictor.predict_files(tmp_path / "photos")
    assert len(found.names) == 40
    assert not found.faults
    features = dal.load(tmp_path / "run").of_features.predict_proba(content(data_features(source)))
    torch.testing.assert_close(found.probs, features, atol=2e-3, rtol=0)


def data_features(source: dal.data.Source) -> Any:
    """The features of all samples, in the order of the folder."""
    return source.train.store


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_other_pictures_than_the_front_takes_are_refused(
    tmp_path: Path, embedding: Callable[[Path], NetworkEmbedding]
) -> None:
    run_on(tmp_path, embedding(tmp_path), pictures())
    predictor = dal.load(tmp_path / "run")
    for wrong in (np.zeros((2, 3, 28, 28), np.uint8), np.zeros((2, 7), np.float32)):
        with pytest.raises(ValueError, match="give inputs like those of the training data"):
            predictor.predict(wrong)
    for files in (["a.png", "b.png"], "photos", [Path("a.png")], Path("photos")):
        with pytest.raises(ValueError, match="files are read by predict_files"):
            predictor.predict(files)  # type: ignore[arg-type]


def test_models_are_not_tested_on_what_a_run_behind_features_saw(tmp_path: Path) -> None:
    data = undivided(0)
    run_on(tmp_path, learned(tmp_path), data)
    again = RunEmbedding(str(tmp_path / "run"), str(tmp_path / "cache"))
    assert make_source(again(data, CPU), seed=0)
    with pytest.raises(ValueError, match="test samples were in the training"):
        make_source(again(data, CPU), seed=1)


def test_models_are_not_tested_on_what_the_run_before_the_run_before_saw(tmp_path: Path) -> None:
    data, other = undivided(0), undivided(1)
    source = make_source(data, seed=0)
    (tmp_path / "earlier").mkdir()
    save_model(tmp_path / "earlier", LeNet5(source.input_shape, 3), LeNet5, source)
    run_on(tmp_path, of_run(tmp_path), other)
    again = RunEmbedding(str(tmp_path / "run"), str(tmp_path / "cache"))
    assert make_source(again(data, CPU), seed=0)
    for seen in (data, other):
        with pytest.raises(ValueError, match="test samples were in the training"):
            make_source(again(seen, CPU), seed=1)


def test_pretrained_weights_that_are_others_by_now_are_refused(tmp_path: Path) -> None:
    run_on(tmp_path, pretrained(tmp_path), pictures())
    state = torch.load(tmp_path / "r18.pt")
    state["conv1.weight"] += 1
    torch.save(state, tmp_path / "r18.pt")
    with pytest.raises(ValueError, match=r"by other weights than those of .*r18\.pt; restore them"):
        dal.load(tmp_path / "run")
    (tmp_path / "r18.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.pt.*r18\.pt: there is no such file"):
        dal.load(tmp_path / "run")


def test_pretrained_weights_may_have_moved(tmp_path: Path) -> None:
    run_on(tmp_path, pretrained(tmp_path), pictures())
    images, moved = content(pictures().inputs), tmp_path / "elsewhere.pt"
    before = dal.load(tmp_path / "run").predict_proba(images)
    (tmp_path / "r18.pt").rename(moved)
    after = dal.load(tmp_path / "run", weights=str(moved)).predict_proba(images)
    assert torch.equal(before, after)
    own = tmp_path / "own"
    own.mkdir()
    run_on(own, learned(own), pictures())
    with pytest.raises(ValueError, match="the run keeps its own; leave them out"):
        dal.load(own / "run", weights=str(moved))


@pytest.mark.parametrize(
    "altered",
    [
        {"dtype": "int8"},
        {"dtype": None},
        {"input_shape": [-1]},
        {"model": {}},
        {"model": None},
        {"torchvision": {"backbone": "resnet18"}},
        {"torchvision": 3},
        {"recipe": {"a": 1}},
        {"recipe": "images"},
        {"recipe": {"kind": "images", "size": 60000}},
        {"recipe": {"kind": "images", "size": 28, "channels": 2}},
        {"input_shape": (1, 30000, 30000)},
    ],
)
def test_altered_fronts_are_refused_in_one_line(tmp_path: Path, altered: dict[str, Any]) -> None:
    run_on(tmp_path, learned(tmp_path), pictures())
    state = checkpoint.load(tmp_path / "run" / FILE)
    checkpoint.save(tmp_path / "run" / FILE, state | {"front": state["front"] | altered})
    with pytest.raises(ValueError, match=r"model\.pt") as caught:
        dal.load(tmp_path / "run").predict(content(pictures().inputs))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "altered",
    [
        {"prepare": {"size": 40000, "mean": (), "std": ()}},
        {"prepare": {"size": 8, "mean": (), "std": ()}},
        {"prepare": {"size": None, "mean": (0.0,) * 3, "std": (1.0,) * 3}},
        {"prepare": {"size": None, "mean": ("a",), "std": (1.0,)}},
        {"spec": {"_target_": ["os.system", "a\nb"]}},
        {"spec": {"_target_": "dal.models.LeNet5"}},
        {"fitted_on": {}},
    ],
)
def test_altered_encoders_are_refused_as_they_are_loaded(
    tmp_path: Path, altered: dict[str, Any]
) -> None:
    run_on(tmp_path, learned(tmp_path), pictures())
    state = checkpoint.load(tmp_path / "run" / FILE)
    state["front"] = state["front"] | {"model": state["front"]["model"] | altered}
    checkpoint.save(tmp_path / "run" / FILE, state)
    with pytest.raises(ValueError, match=r"model\.pt") as caught:
        dal.load(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_fronts_in_front_of_themselves_are_refused(tmp_path: Path) -> None:
    run_on(tmp_path, learned(tmp_path), pictures())
    state = checkpoint.load(tmp_path / "run" / FILE)
    state["front"]["model"] = state
    checkpoint.save(tmp_path / "run" / FILE, state)
    with pytest.raises(ValueError, match=r"model\.pt: it holds itself"):
        dal.load(tmp_path / "run")


def test_features_of_another_width_are_refused_with_the_right_one(tmp_path: Path) -> None:
    run_on(tmp_path, learned(tmp_path), pictures())
    with pytest.raises(ValueError, match=r"\(1, 28, 28\), by features \(128,\); give"):
        dal.load(tmp_path / "run").predict(np.zeros((2, 127), np.float32))


def test_a_larger_network_than_its_weights_is_not_built(tmp_path: Path) -> None:
    pretrained(tmp_path)
    with pytest.raises(ValueError, match="do not fit vit_l_16, which is larger"):
        Torchvision("vit_l_16", str(tmp_path / "r18.pt")).network(CPU)


def test_people_see_the_pictures_of_a_run_on_their_features(tmp_path: Path) -> None:
    data = pictures()
    source = make_source(learned(tmp_path)(data, CPU), seed=0)
    assert torch.equal(source.image(3), content(data.inputs)[3])
    dal.run(
        source,
        MLP,
        Entropy(),
        initial=initial_labels(source.train.targets, seed=0, count=6),
        trainer=Trainer(epochs=1),
        settings=dal.Settings(budget=4, query_size=4),
        run_dir=tmp_path / "run",
    )
    events = EventAccumulator(str(tmp_path / "run" / "tb"), {IMAGES: 0}).Reload()
    (picked,) = events.Images("6_query/picked")
    assert picked.width > 4 * 28
