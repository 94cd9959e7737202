"""Pictures with words below them."""

from __future__ import annotations

import pytest
import torch

from dal.recording.pictures import captioned


def test_each_picture_stands_above_its_words() -> None:
    images = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    plain = captioned(images, [["", ""], ["", ""]])
    assert plain.dtype == torch.uint8
    assert plain.shape[0] == 3
    left, right = plain.chunk(2, dim=2)
    assert (left == 0).sum() == 3 * 96 * 96
    assert (right == 255).all()
    words = captioned(images, [["", ""], ["", "word"]])
    left, right = words.chunk(2, dim=2)
    assert torch.equal(left, plain.chunk(2, dim=2)[0])
    dark = (right[0] < 128).nonzero()
    assert len(dark) > 20
    assert int(dark[:, 0].min()) > 96 + 14


@pytest.mark.parametrize("long", ["name " * 40, "two\nlines " * 9, "\u540d\u524d" * 99])
def test_long_words_stay_below_their_own_picture(long: str) -> None:
    images = torch.ones(3, 3, 8, 8)
    sheet = captioned(images, [["a"], [long], ["b"]])
    assert sheet.shape == captioned(images, [["a"], ["x"], ["b"]]).shape
    for place, (left, right) in enumerate([("a", "b"), ("b", "a")]):
        other = captioned(images, [[left], [long], [right]]).chunk(3, dim=2)
        assert torch.equal(other[1], sheet.chunk(3, dim=2)[1])
        assert torch.equal(other[2], sheet.chunk(3, dim=2)[2]) is (place == 0)


def test_rows_are_filled_up_with_white() -> None:
    images = torch.zeros(5, 1, 8, 8)
    sheet = captioned(images, [["x"]] * 5, columns=3)
    width = sheet.shape[2] // 3
    assert (sheet[:, sheet.shape[1] // 2 :, 2 * width :] == 255).all()
    assert not (sheet[:, : sheet.shape[1] // 2, 2 * width :] == 255).all()


def test_as_many_captions_as_images() -> None:
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        captioned(torch.zeros(2, 1, 8, 8), [["x"]])
