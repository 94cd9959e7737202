"""Picked images as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dal.data import Dataset, make_source
from dal.data.store import ArrayStore
from dal.features.base import with_features
from dal.oracles import FilesOracle
from dal.oracles.pictures import SHOWN, draw
from dal.query import Query

RNG = torch.Generator().manual_seed(0)


def images(channels: int, count: int = 3) -> Tensor:
    size = (count, channels, 6, 9)
    return torch.randint(0, 256, size, generator=RNG, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_hold_the_pixels(tmp_path: Path, channels: int) -> None:
    given = images(channels)
    draw(given, [8, 3, 5], tmp_path / "round_0002")
    folder = tmp_path / "round_0002"
    assert sorted(path.name for path in folder.iterdir()) == ["3.png", "5.png", "8.png"]
    for image, name in zip(given, [8, 3, 5], strict=True):
        with Image.open(folder / f"{name}.png") as opened:
            found = np.asarray(opened)
        expected = image[:3].permute(1, 2, 0).numpy()
        assert np.array_equal(found.reshape(expected.shape), expected)
    with Image.open(tmp_path / "round_0002.png") as sheet:
        assert sheet.size == (3 * 120, 72 + 22)


def test_floats_are_drawn_and_a_long_sheet_ends(tmp_path: Path) -> None:
    draw(torch.rand(SHOWN + 5, 1, 4, 4, generator=RNG), range(SHOWN + 5), tmp_path / "round")
    assert len(list((tmp_path / "round").iterdir())) == SHOWN + 5
    with Image.open(tmp_path / "round.png") as sheet:
        assert sheet.size == (10 * 120, SHOWN // 10 * (112 + 22))


def source_of(inputs: Tensor) -> Dataset:
    return Dataset("mine", inputs, torch.arange(len(inputs)) % 2, ("cat", "dog"))


def test_files_come_with_pictures_named_by_index(tmp_path: Path) -> None:
    given = images(3, 40)
    source = make_source(source_of(given), seed=0)
    positions = source.train.positions
    query = Query(torch.tensor([7, 2]), torch.tensor([0.5, 0.25]))
    names = positions[query.indices].tolist()

    def oracle(pictures: bool) -> FilesOracle:
        made = FilesOracle(tmp_path, source.class_names, positions, pictures=pictures)
        made.open(source)
        return made

    ticket = oracle(False).submit(query, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["round_0004.csv"]
    assert oracle(True).collect(ticket) is None  # asked for later: they come while it waits
    for name in names:
        with Image.open(tmp_path / "round_0004" / f"{name}.png") as opened:
            assert np.array_equal(np.asarray(opened), given[name].permute(1, 2, 0).numpy())
    assert (tmp_path / "round_0004.png").is_file()
    oracle(True).submit(query, 5)
    drawn = {path.name for path in (tmp_path / "round_0005").iterdir()}
    assert drawn == {f"{name}.png" for name in names}
    first, second = (tmp_path / f"round_000{n}.png" for n in (4, 5))
    assert first.read_bytes() == second.read_bytes()


def test_people_see_the_pictures_that_features_were_made_of(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (20, 3, 6, 5), dtype=torch.uint8)
    rows = ArrayStore(torch.randn(20, 4))
    source = make_source(with_features(source_of(images), rows, None, True), seed=0)
    positions = source.train.positions
    oracle = FilesOracle(tmp_path, source.class_names, positions, pictures=True)
    oracle.open(source)
    oracle.submit(Query(torch.tensor([3]), torch.tensor([0.5])), 0)
    (number,) = positions[torch.tensor([3])].tolist()
    with Image.open(tmp_path / "round_0000" / f"{number}.png") as opened:
        assert np.array_equal(np.asarray(opened), images[number].permute(1, 2, 0).numpy())


def test_pictures_of_what_is_no_image_are_refused(tmp_path: Path) -> None:
    source = make_source(source_of(torch.zeros(20, 3)), seed=0)
    with pytest.raises(ValueError, match=r"oracle\.pictures=true but the samples of mine are no"):
        FilesOracle(tmp_path, source.class_names, pictures=True).open(source)
    FilesOracle(tmp_path, source.class_names).open(source)
