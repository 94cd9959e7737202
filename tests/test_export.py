from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dal
from dal import checkpoint
from dal.data import (
    Dataset,
    digits,
    initial_labels,
    make_multilabel_classification,
    make_source,
    two_gaussians,
)
from dal.data.source import Source
from dal.export import FILE, save_model
from dal.models import MLP, LeNet5, LogisticRegression, ResNet18
from dal.models.estimators import svm
from dal.oracles import FilesOracle
from dal.query import Margin
from dal.training.trainer import Trainer
from dal.utils.numerics import pick_device

TABLE = make_source(two_gaussians(60, standardize=True), seed=0)


def saved(
    folder: Path, make_model: Any = MLP, source: Source = TABLE, model: nn.Module | None = None
) -> nn.Module:
    model = model or make_model(source.input_shape, source.num_classes)
    save_model(folder, model.eval(), make_model, source)
    return model


@pytest.mark.parametrize(
    ("make_model", "source"),
    [
        (MLP, TABLE),
        (partial(MLP, hidden=[7], dropout=0.1), TABLE),
        (LeNet5, make_source(digits(size=28), seed=0)),
    ],
)
def test_loaded_model_predicts_raw_inputs_as_the_saved_one(
    tmp_path: Path, make_model: Any, source: Source
) -> None:
    model = saved(tmp_path, make_model, source)
    predictor = dal.load(tmp_path)
    raw = source.test.inputs[:6]
    expected = model(source.test.take(torch.arange(6))).logits.softmax(1)
    torch.testing.assert_close(predictor.predict_proba(raw.numpy()), expected)
    names = [source.class_names[c] for c in expected.argmax(1).tolist()]
    assert predictor.predict(raw) == names
    assert predictor.class_names == source.class_names


def test_images_without_a_channel_axis_are_taken(tmp_path: Path) -> None:
    source = make_source(digits(size=28), seed=0)
    saved(tmp_path, LeNet5, source)
    predictor, raw = dal.load(tmp_path), source.test.inputs[:4]
    assert torch.equal(predictor.predict_proba(raw[:, 0]), predictor.predict_proba(raw))


def test_tensors_with_a_gradient_are_taken(tmp_path: Path) -> None:
    saved(tmp_path)
    predictor, raw = dal.load(tmp_path), TABLE.test.inputs[:4].float()
    got = predictor.predict_proba(raw.clone().requires_grad_())
    assert torch.equal(got, predictor.predict_proba(raw))


def test_device_is_picked_by_name(tmp_path: Path) -> None:
    saved(tmp_path)
    assert dal.load(tmp_path, device="auto").device == pick_device("auto")
    with pytest.raises(ValueError, match="device=cuda:77 is not there"):
        dal.load(tmp_path, device="cuda:77")


def test_loading_leaves_out_the_weights_it_was_fine_tuned_from(tmp_path: Path) -> None:
    source = make_source(digits(), seed=0)
    make_model = partial(ResNet18, weights="gone.pth")
    model = saved(tmp_path, make_model, source, ResNet18(source.input_shape, 10))
    loaded = dal.load(tmp_path).model
    assert torch.equal(loaded.head.weight, model.head.weight)


def test_network_without_a_name_must_be_passed(tmp_path: Path) -> None:
    model = saved(tmp_path, lambda shape, classes: nn.Linear(shape[0], classes))
    with pytest.raises(ValueError, match="pass it as model="):
        dal.load(tmp_path)
    predictor = dal.load(tmp_path, model=nn.Linear(2, 2))
    raw = np.zeros((3, 2), np.float32)
    with torch.inference_mode():
        expected = model(TABLE.train.prepare(torch.from_numpy(raw))).softmax(1)
    torch.testing.assert_close(predictor.predict_proba(raw), expected)


def test_network_of_another_package_must_be_allowed(tmp_path: Path) -> None:
    saved(tmp_path, nn.Bilinear, model=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="plugins"):
        dal.load(tmp_path)


def test_missing_model_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="give the run's command"):
        dal.load(tmp_path)


@pytest.mark.parametrize("name", ["", "mistyped"])
def test_directory_of_no_run_is_a_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / name} holds no run"):
        dal.load(tmp_path / name)


def test_damaged_model_is_a_clear_error(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is damaged"):
        dal.load(tmp_path)


@pytest.mark.parametrize(
    ("raw", "fact"),
    [
        (np.zeros((0, 2)), "empty"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.zeros(3), "shape"),
        (np.zeros((2, 5)), "shape"),
        (np.zeros((2, 8, 8)), "shape"),
    ],
)
def test_inputs_of_another_kind_are_refused(tmp_path: Path, raw: Any, fact: str) -> None:
    saved(tmp_path)
    with pytest.raises(ValueError, match=fact):
        dal.load(tmp_path).predict_proba(raw)


def test_multilabel_predictions_are_lists_of_names_above_one_half(tmp_path: Path) -> None:
    torch.manual_seed(0)  # not every network tells the samples apart
    source = make_source(make_multilabel_classification(100, n_classes=4), seed=0)
    model = saved(tmp_path, MLP, source)
    predictor = dal.load(tmp_path)
    raw = source.test.inputs[:20]
    logits = model(source.test.take(torch.arange(20))).logits
    torch.testing.assert_close(predictor.predict_proba(raw), logits.sigmoid())
    names = [[str(c) for c in range(4) if row[c] > 0] for row in logits.tolist()]
    assert predictor.predict(raw) == names
    assert len({len(found) for found in names}) > 1


@pytest.mark.parametrize("make_model", [MLP, svm])
@pytest.mark.parametrize("waiting", [False, True])
def test_removed_model_is_written_again_to_the_same_bits(
    tmp_path: Path, make_model: Any, waiting: bool
) -> None:
    """Of a complete run, and of one that waits for answers."""

    def again() -> str:
        oracle = FilesOracle(tmp_path / "queries", TABLE.class_names) if waiting else None
        settings = dal.Settings(budget=4, query_size=2, threads=1)
        initial = initial_labels(TABLE.train.targets, seed=0, per_class=2)
        trainer = Trainer(epochs=2)
        options = {"initial": initial, "oracle": oracle, "trainer": trainer, "settings": settings}
        return dal.run(TABLE, make_model, Margin(), **options, run_dir=tmp_path).status

    assert again() == ("waiting" if waiting else "complete")
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"give the run's command \(again\)"):
        dal.load(tmp_path)
    again()
    assert (tmp_path / FILE).read_bytes() == content
    assert dal.load(tmp_path).predict(TABLE.test.inputs[:3])


def test_model_knows_the_rows_it_was_made_of_in_one_bit_each(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).standard_normal((8000, 2)).astype(np.float32)
    data = Dataset("many", inputs, np.arange(8000) % 2)
    source = make_source(data, seed=0, validation=100)
    saved(tmp_path, LogisticRegression, source)
    seen = dal.load(tmp_path).seen
    assert seen is not None
    assert torch.equal(seen, source.seen)
    assert not torch.isin(source.test.positions, seen).any()
    (stored,) = checkpoint.load(tmp_path / "model.pt")["seen"].values()
    assert stored.nbytes <= 1000


def test_model_keeps_how_its_files_became_inputs(tmp_path: Path) -> None:
    recipe = {"kind": "table", "columns": ["a", "b"], "fill": {"a": 0.1}, "categories": {}}
    data = Dataset("t", torch.rand(20, 2), torch.arange(20) % 2, ("a", "b"), recipe=recipe)
    saved(tmp_path, source=make_source(data, seed=0))
    assert dal.load(tmp_path).recipe == recipe
    saved(tmp_path)
    assert dal.load(tmp_path).recipe is None


def test_files_are_predicted_block_by_block_as_arrays_are(tmp_path: Path) -> None:
    saved(tmp_path)
    inputs = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).repeat(2000, 1)
    np.save(tmp_path / "new.npy", inputs.numpy())
    predictor = dal.load(tmp_path)
    found = list(predictor.predict_files(tmp_path / "new.npy"))
    assert len(found) > 1
    assert [name for some in found for name in some.names] == [str(n) for n in range(80000)]
    expected = predictor.predict_proba(inputs)
    assert torch.equal(torch.cat([some.probs for some in found]), expected)
