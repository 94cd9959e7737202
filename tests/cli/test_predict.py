"""``dal predict``: the table it writes, and what it refuses."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dal
from dal.cli import predict
from dal.data import Dataset, make_source, table
from dal.data.images.decode import VERSION
from dal.data.source import Source
from dal.export import save_estimator, save_model
from dal.models import MLP
from dal.models.estimators import random_forest
from dal.train_set import TrainSet

IMAGES = {"kind": "images", "size": 4, "fit": "crop", "channels": 3, "version": VERSION}


def saved(folder: Path, data: Dataset, thresholds: tuple[float, ...] = ()) -> Source:
    """The data of a run whose model has the weights that it began with."""
    folder.mkdir(exist_ok=True)
    source = make_source(data, seed=0)
    torch.manual_seed(0)
    model = MLP(source.input_shape, source.num_classes).eval()
    save_model(folder, model, MLP, source, thresholds)
    return source


def of_table(folder: Path, target: Any = "y") -> tuple[Source, Path]:
    rng = np.random.default_rng(0)
    rows = [f"r{n},{n},{value:.3f},{'ab'[n % 2]}\n" for n, value in enumerate(rng.normal(size=30))]
    path = folder / "t.csv"
    path.write_text("name,n,x,y\n" + "".join(rows))
    return saved(folder / "run", table(str(path), target, id="name")), path


def given(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["dal predict", *map(str, arguments)])
    predict.main()


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> str:
    with pytest.raises(SystemExit) as end:
        given(monkeypatch, *arguments)
    assert isinstance(end.value.code, str)
    return end.value.code


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_table_are_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = of_table(tmp_path)
    out = tmp_path / "new folder" / "p.csv"
    given(monkeypatch, tmp_path / "run", path, "--out", out, "--all")
    assert capsys.readouterr().out == f"{out}\n"
    rows = rows_of(out)
    probs = dal.load(tmp_path / "run").predict_proba(table(str(path), "y", id="name").inputs)
    assert list(rows[0]) == [
        "name", "class", "probability", "probability of a", "probability of b",
    ]  # fmt: skip
    assert [row["name"] for row in rows] == [f"r{n}" for n in range(30)]
    assert [row["class"] for row in rows] == ["ab"[c] for c in probs.argmax(1).tolist()]
    assert [row["probability"] for row in rows] == [f"{p:.6g}" for p in probs.amax(1).tolist()]
    assert [row["probability of b"] for row in rows] == [f"{p:.6g}" for p in probs[:, 1].tolist()]
    given(monkeypatch, tmp_path / "run", path, "--out", out)
    assert capsys.readouterr().out == f"{out} (replaced)\n"
    assert list(rows_of(out)[0]) == ["name", "class", "probability"]


def test_a_table_takes_the_place_of_nothing_but_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = of_table(tmp_path)
    pipe, link, new = tmp_path / "pipe", tmp_path / "link", tmp_path / "new.csv"
    os.mkfifo(pipe)
    for out in (pipe, Path("/dev/null")):
        message = refused(monkeypatch, tmp_path / "run", path, "--out", out)
        assert message == f"error: --out={out} is a device or a pipe; give the name of a file"
        assert out.exists()
        assert not out.is_file()
    link.symlink_to(new.name)
    for _ in range(2):  # the target is not there yet, and is
        given(monkeypatch, tmp_path / "run", path, "--out", link)
        assert link.is_symlink()
        assert len(rows_of(new)) == 30
    link.unlink()
    link.symlink_to(path.name)
    message = refused(monkeypatch, tmp_path / "run", path, "--out", link)
    assert message.endswith("is what shall be predicted; give another name")
    long = tmp_path / ("x" * 250)  # a temporary name beside it would be too long
    message = refused(monkeypatch, tmp_path / "run", path, "--out", long)
    assert message.startswith(f"error: --out={long} cannot be written (File name too long); give")


def test_pictures_that_cannot_be_read_have_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    data = Dataset("p", inputs, torch.arange(20) % 2, ("katze", "hündin"), recipe=IMAGES)
    saved(tmp_path / "run", data)
    photos = tmp_path / "photos"
    photos.mkdir()
    names = ["=1+1.png", "a b.png", 'quote".png', "two\nlines.png", "ä.png"]
    for name in names:
        Image.new("RGB", (5, 5), "red").save(photos / name)
    (photos / "bad.png").write_bytes(b"")
    out = tmp_path / "p.csv"
    given(monkeypatch, tmp_path / "run", photos, "--out", out)
    rows = {row["file"]: row for row in rows_of(out)}
    # names are written as they are, but for line breaks
    assert [*rows] == ["=1+1.png", "a b.png", "bad.png", 'quote".png', "two\\nlines.png", "ä.png"]
    assert rows["bad.png"]["class"] == rows["bad.png"]["probability"] == ""
    assert {row["class"] for name, row in rows.items() if name != "bad.png"} <= {"katze", "hündin"}
    assert out.read_bytes()[:3] == b"\xef\xbb\xbf"
    assert "1 of 6 have no class: bad.png (it is empty)" in capsys.readouterr().err
    for name in names:
        (photos / name).unlink()
    message = refused(monkeypatch, tmp_path / "run", photos, "--out", out)
    assert message == "error: nothing there can be predicted: bad.png (it is empty)"
    assert len(rows_of(out)) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "photos", "run"]


@pytest.mark.parametrize("thresholds", [(), (0.6, 0.4)])
def test_sets_of_labels_are_written_with_their_probability(
    thresholds: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 5
    targets = (torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) > 0.5).long()
    saved(tmp_path / "run", Dataset("m", inputs, targets, ("joy", "fear")), thresholds)
    np.save(tmp_path / "new.npy", inputs.numpy())
    given(monkeypatch, tmp_path / "run", tmp_path / "new.npy", "--out", tmp_path / "p.csv")
    probs = dal.load(tmp_path / "run").predict_proba(inputs).double()
    held = probs > torch.tensor(thresholds or (0.5, 0.5)).double()
    assert not thresholds or not torch.equal(held, probs > 0.5)
    texts = [
        ";".join(n for n, h in zip(("joy", "fear"), row, strict=True) if h) or "-" for row in held
    ]
    rows = rows_of(tmp_path / "p.csv")
    assert [row["row"] for row in rows] == [str(n) for n in range(40)]
    assert [row["class"] for row in rows] == texts
    assert {"-", "joy;fear"} & {*texts}
    together = torch.where(held, probs, 1 - probs).prod(1)
    assert [float(row["probability"]) for row in rows] == pytest.approx(together.tolist(), rel=1e-5)


def test_scikit_learn_models_predict_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = of_table(tmp_path)
    labeled = torch.arange(len(source.train))
    weights = torch.ones(len(labeled))
    train_set = TrainSet(labeled, source.train.targets, weights)
    save_estimator(tmp_path / "run", random_forest, source, train_set, 0)
    given(monkeypatch, tmp_path / "run", path, "--out", tmp_path / "p.csv")
    data = table(str(path), "y", id="name")
    found = dal.load(tmp_path / "run").predict(data.inputs)
    assert [row["class"] for row in rows_of(tmp_path / "p.csv")] == found


def test_what_cannot_be_predicted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = of_table(tmp_path)
    run, before = tmp_path / "run", path.read_text()
    assert "is what shall be predicted; give another" in refused(
        monkeypatch, run, path, "--out", path
    )
    assert path.read_text() == before
    assert "is a folder; give the name of a file" in refused(
        monkeypatch, run, path, "--out", tmp_path
    )
    out = ("--out", tmp_path / "p.csv")
    assert "holds no run" in refused(monkeypatch, tmp_path, path, *out)
    (tmp_path / "status.json").write_text("{}")
    assert "has fitted no model yet" in refused(monkeypatch, tmp_path, path, *out)
    assert "is a folder, but the model learned from a" in refused(monkeypatch, run, tmp_path, *out)
    assert "device=tpu is not there" in refused(monkeypatch, run, path, *out, "--device", "tpu")
    np.save(tmp_path / "wide.npy", np.zeros((3, 9)))
    assert "a sample has shape (9,)" in refused(monkeypatch, run, tmp_path / "wide.npy", *out)
    model = run / "model.pt"
    model.write_bytes(model.read_bytes()[:-5])
    assert "model.pt is damaged" in refused(monkeypatch, run, path, *out)
    assert not (tmp_path / "p.csv").exists()
