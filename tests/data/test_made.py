"""Samples that a run makes stand behind those of its training part, for all who take indices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dal.data import UNKNOWN, Dataset, Source, make_source
from dal.data.made import MadeSplit, with_room
from dal.oracles.label_studio.samples import kind_of, told
from dal.oracles.page.samples import Samples


def pixels() -> Source:
    images = torch.arange(20 * 16, dtype=torch.uint8).view(20, 1, 4, 4)
    return make_source(Dataset("tiny", images, torch.arange(20) % 2, ("a", "b")), seed=0)


def numbers() -> Source:
    inputs = torch.arange(40.0).view(20, 2)
    words = [f"row {n}" for n in range(20)]
    data = Dataset("table", inputs, torch.arange(20) % 2, ("a", "b"), contents=words)
    return make_source(data, seed=0)


def with_two(source: Source) -> tuple[Source, MadeSplit, Tensor]:
    source = with_room(source)
    train = source.train
    assert isinstance(train, MadeSplit)
    first = train.store.first
    assert isinstance(first, Tensor)
    return source, train, train.add(torch.cat([first + 1, first + 2]))


@pytest.mark.parametrize("make", [pixels, numbers])
def test_made_samples_are_taken_like_others(make: object) -> None:
    plain = make()  # type: ignore[operator]
    source, train, made = with_two(plain)
    total = len(plain.train)
    assert len(train) == total == len(train.targets)
    assert made.tolist() == [total, total + 1]
    both = torch.tensor([total + 1, 0, total])
    first = train.store.first
    assert isinstance(first, Tensor)
    assert torch.equal(
        train.raw(both), torch.cat([first + 2, plain.train.raw(both[1:2]), first + 1])
    )
    assert torch.equal(train.take(both), train.part(both).take(torch.arange(3)))
    assert train.original(both) == [21, plain.train.original(both[1:2])[0], 20]
    assert train.part(both).positions.tolist() == train.original(both)
    assert train.part(both).targets.tolist() == [UNKNOWN, int(plain.train.targets[0]), UNKNOWN]
    assert torch.equal(torch.as_tensor(train.show(total)), (first + 1)[0])
    assert source.content(total) == ""
    assert source.fingerprint() != ""
    assert train.redundant(both, torch.tensor([1])) == 0


def test_made_samples_are_forgotten_and_refused() -> None:
    _, train, _ = with_two(numbers())
    train.forget(1)
    assert train.num_made == 1
    assert train.add(torch.zeros(1, 2)).tolist() == [len(train) + 1]
    train.forget()
    assert train.made is None
    for wrong in (torch.zeros(1, 3), torch.zeros(1, 2, dtype=torch.float64)):
        with pytest.raises(ValueError, match="were made for data of"):
            train.add(wrong)


def test_a_split_around_one_with_made_samples_begins_without_them() -> None:
    _, train, _ = with_two(numbers())
    other = MadeSplit(train)
    made = other.add(torch.full((1, 2), 7.0))
    assert made.tolist() == [len(train)]
    assert torch.equal(torch.as_tensor(other.raw(made)), torch.full((1, 2), 7.0))


def test_the_page_shows_made_pictures_and_numbers() -> None:
    source, _, made = with_two(pixels())
    samples = Samples(source)
    assert samples.describe(int(made[0]))["kind"] == "image"
    content, media = samples.image(int(made[1]))
    assert media == "image/png"
    assert content != samples.image(0)[0]
    source, _, made = with_two(numbers())
    assert samples.describe(0)["kind"] == "image"
    found = Samples(source).describe(int(made[0]))
    assert found["kind"] == "table"
    assert [cell for _, cell in found["columns"]] == ["1", "2"]


def test_label_studio_is_told_the_numbers_of_made_samples() -> None:
    source, _, made = with_two(numbers())
    assert told(source, "table", int(made[0])) == {"columns": {"0": "1", "1": "2"}}
    plain, _, made = with_two(pixels())
    assert kind_of(plain) == "image"
    assert plain.image(int(made[0])) is not None
