"""What the page shows of pictures, texts and rows."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from waiting import join

from dal.data import Dataset, image_folder, make_source, table, text
from dal.data.source import Source
from dal.features import Arrays
from dal.oracles.page.samples import BusyError, Samples, UnseenError

SECRET = "taken at home"


def tall(width: int = 60, height: int = 90) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", (width, height), "blue")
    image.paste((255, 0, 0), (0, 0, width, height // 2))
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("train/cat", "train/dog", "pool"):
        (root / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, SECRET  # lies on its side, with a description
    tall().transpose(Image.Transpose.ROTATE_90).save(root / "pool/a.jpg", exif=exif, quality=95)
    text = PngInfo()
    text.add_text("Comment", SECRET)
    tall().save(root / "pool/b.png", pnginfo=text)
    tall(3000, 1500).save(root / "pool/large.jpg")
    for place, name in enumerate(("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")):
        Image.new("RGB", (40, 40), (place * 20, 0, 0)).save(root / "train" / name)
    return root


def source_of(folder: Path, tmp_path: Path) -> Source:
    data = image_folder(str(folder), size=16, workers=1, cache_dir=str(tmp_path / "cache"))
    return make_source(data, seed=0, kind="none")


def place(source: Source, name: str) -> int:
    return next(i for i in range(len(source.train)) if source.content(i).endswith(name))


def shown(samples: Samples, index: int) -> tuple[Image.Image, bytes, str]:
    content, media = samples.image(index)
    image = Image.open(io.BytesIO(content))
    image.load()
    return image, content, media


def test_pictures_are_the_originals_upright_and_nothing_but_pixels(
    folder: Path, tmp_path: Path
) -> None:
    source = source_of(folder, tmp_path)
    samples = Samples(source)
    for name in ("a.jpg", "b.png"):
        image, content, media = shown(samples, place(source, name))
        assert (image.size, media) == ((60, 90), "image/png")
        above, below = (image.convert("RGB").getpixel((30, y)) for y in (20, 70))
        assert above[0] > 200
        assert below[2] > 200
        assert SECRET.encode() not in content
        assert not image.getexif()
    image, _, media = shown(samples, place(source, "large.jpg"))
    assert (image.size, media) == ((2000, 1000), "image/jpeg")


def test_a_file_that_was_changed_is_shown_as_the_model_knows_it(
    folder: Path, tmp_path: Path
) -> None:
    source = source_of(folder, tmp_path)
    Image.new("RGB", (50, 50), "green").save(folder / "pool/a.jpg")
    (folder / "pool/b.png").unlink()
    for name in ("a.jpg", "b.png"):
        image, _, _ = shown(Samples(source), place(source, name))
        assert image.size == (16, 16)


def test_a_file_that_is_gone_is_named(folder: Path, tmp_path: Path) -> None:
    data = image_folder(
        str(folder), size=16, workers=1, cache_dir=str(tmp_path / "cache"), lazy=True
    )
    source = make_source(data, seed=0, kind="none")
    (folder / "pool/b.png").unlink()
    with pytest.raises(UnseenError, match=r"b\.png.*restore it"):
        Samples(source).image(place(source, "b.png"))


def test_folders_do_not_tell_labels(folder: Path, tmp_path: Path) -> None:
    source = source_of(folder, tmp_path)
    samples = Samples(source)
    assert samples.describe(place(source, "3.png"))["title"] == "3.png"
    assert samples.describe(place(source, "b.png"))["title"] == "pool/b.png"


def test_pictures_are_shown_behind_features(folder: Path, tmp_path: Path) -> None:
    data = image_folder(str(folder), size=16, workers=1, cache_dir=str(tmp_path / "cache"))
    np.save(tmp_path / "features.npy", np.zeros((len(data.targets), 5), np.float32))
    features = Arrays(str(tmp_path / "features.npy"))(data, torch.device("cpu"))
    source = make_source(features, seed=0, kind="none")
    samples = Samples(source)
    for index in range(len(source.train)):
        assert samples.describe(index)["kind"] == "image"
        assert shown(samples, index)[0].size != (16, 16)


def test_features_of_merged_parts_keep_their_pictures(tmp_path: Path) -> None:
    def pixels(first: int, count: int) -> torch.Tensor:
        values = torch.arange(first, first + count, dtype=torch.uint8)
        return values.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()

    data = Dataset(
        "mine", pixels(0, 6), torch.arange(6) % 2, ("a", "b"), pixels(6, 4), torch.arange(4) % 2
    )
    np.save(tmp_path / "features.npy", np.arange(10, dtype=np.float32)[:, None].repeat(3, 1))
    features = Arrays(str(tmp_path / "features.npy"), standardize=False)
    source = make_source(features(data, torch.device("cpu")), seed=3, kind="merged")
    samples = Samples(source)
    for index in range(len(source.train)):
        feature = int(source.train.take(torch.tensor([index]))[0, 0])
        assert shown(samples, index)[0].getpixel((1, 1)) == feature


def test_rows_of_a_table_are_shown_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    long = "x" * 400
    path.write_text(
        f"size,color,note,label\n1.5,red,a,yes\n2.5,blue,{long},no\n3.5,red,c,yes\n4.5,red,a,no\n"
    )
    source = make_source(table(str(path), "label", drop=["note"]), seed=0, kind="none")
    samples = Samples(source)
    assert samples.describe(0) == {
        "kind": "table", "title": None, "text": None,
        "columns": [("size", "1.5"), ("color", "red"), ("note", "a")],
    }  # fmt: skip
    assert samples.describe(1)["columns"] == [("size", "2.5"), ("color", "blue"), ("note", long)]


@pytest.mark.parametrize("id", [None, "name"])
def test_cells_are_those_of_the_file(id: str | None, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,size,color,label\nf1,40.4444444076,red,yes\nf2,,,no\nf3,2.5,blue,yes\n")
    data = table(str(path), "label", id=id, missing="fill")
    samples = Samples(make_source(data, seed=0, kind="none"))
    name = [] if id else [("name", "f1")]
    assert samples.describe(0) == {
        "kind": "table", "title": "f1" if id else None, "text": None,
        "columns": [*name, ("size", "40.4444444076"), ("color", "red")],
    }  # fmt: skip
    assert samples.describe(1)["columns"][-2:] == [("size", ""), ("color", "")]


@pytest.mark.parametrize("id", [None, "key"])
def test_texts_of_a_file_are_shown_as_they_are_with_their_names(
    id: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "texts.csv"
    path.write_bytes(b'key,text,label\nk1,"=a <b>\r\nbold: a ",x\nk2,a b,y\nk3,,x\n')
    samples = Samples(make_source(text(str(path), "label", id=id), seed=0, kind="none"))
    for index, expected in enumerate(["=a <b>\r\nbold: a ", "a b", ""]):
        assert samples.describe(index) == {
            "kind": "text", "title": f"k{index + 1}" if id else None, "text": expected,
            "columns": None,
        }  # fmt: skip


def test_texts_and_bare_numbers_are_shown() -> None:
    inputs = torch.tensor([[0.5, 2], [1, 3]])
    data = Dataset("texts", inputs, torch.tensor([0, 1]), ("a", "b"), contents=["good", "bad"])
    described = Samples(make_source(data, seed=0, kind="none")).describe(1)
    assert (described["kind"], described["text"]) == ("text", "bad")
    bare = Dataset("bare", inputs, torch.tensor([0, 1]), ("a", "b"))
    described = Samples(make_source(bare, seed=0, kind="none")).describe(0)
    assert described["columns"] == [("0", "0.5"), ("1", "2")]


def test_nothing_is_read_while_the_run_reads() -> None:
    data = Dataset("bare", torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), ("a", "b"))
    samples = Samples(make_source(data, seed=0, kind="none"))
    held, let_go = threading.Event(), threading.Event()

    def run() -> None:
        with samples.lock:
            held.set()
            let_go.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(20)
    with pytest.raises(BusyError):
        samples.image(0, 0.05)
    let_go.set()
    join(thread)
    assert samples.image(0)[1] == "image/png"
