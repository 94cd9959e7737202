"""Pictures in a folder as a data set: what is read, what is told, what grows."""

import csv
import logging
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dal.checkpoint import load, save
from dal.data import UNKNOWN, image_folder, make_source
from dal.data.joined import JoinedStore
from dal.settings import differing


def picture(path, shade, size=(8, 8), mode="RGB"):
    """A file of one color; shades that differ make contents that differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = (shade, 255 - shade, shade // 2) if mode == "RGB" else shade
    Image.new(mode, size, color).save(path, "PNG")
    return path


def lay(root, *names, start=0):
    for number, name in enumerate(names):
        picture(root / name, start + 5 * number)
    return root


BEGINNING = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "unlabeled/1.png"]


@pytest.fixture
def read(tmp_path, caplog):
    """Reads the folder ``photos``; what it tells stands in ``caplog``."""
    caplog.set_level(logging.INFO)

    def read(path=None, **settings):
        caplog.clear()
        settings.setdefault("cache_dir", str(tmp_path / "cache"))
        return image_folder(str(path or tmp_path / "photos"), workers=1, **settings)

    return read


@pytest.fixture
def photos(tmp_path):
    return tmp_path / "photos"


def pixels(store):
    return store.read(torch.arange(len(store)))


def shades(store):
    """The red of each picture, by which `picture` tells them apart."""
    return pixels(store)[:, 0, 0, 0].tolist()


def recorded(dataset, tmp_path):
    """What a run reads back of the listing that it wrote."""
    save(tmp_path / "samples.pt", {"listing": dataset.listing})
    return load(tmp_path / "samples.pt")["listing"]


def test_a_folder_of_all_parts(read, photos, caplog):
    lay(photos, "train/cat/1.png", "train/cat/2.png", "train/dog/3.png", "train/pool/4.png")
    lay(photos, "val/cat/1.png", "test/dog/1.png", "test/cat/2.png", "unlabeled/x/1.png", start=99)
    dataset = read()
    assert dataset.name == "photos"
    assert dataset.class_names == ("cat", "dog")
    assert dataset.targets.tolist() == [0, 0, 1, UNKNOWN, UNKNOWN]
    assert dataset.validation_targets.tolist() == [0]
    assert dataset.test_targets.tolist() == [0, 1]
    assert pixels(dataset.store).shape == (5, 3, 8, 8)
    assert pixels(dataset.store).dtype == torch.uint8
    assert shades(dataset.store) == [0, 5, 10, 15, 114]
    assert shades(dataset.test_store) == [109, 104]
    assert shades(dataset.validation_store) == [99]
    assert dataset.contents == [
        "train/cat/1.png", "train/cat/2.png", "train/dog/3.png", "train/pool/4.png",
        "unlabeled/x/1.png", "test/cat/2.png", "test/dog/1.png", "val/cat/1.png",
    ]  # fmt: skip
    assert dataset.appended == 0
    assert caplog.messages == [
        "photos: 8 pictures in 2 classes (train 3, validation 1, test 2), 2 unlabeled; 8x8"
    ]
    source = make_source(dataset, seed=0)
    assert source.sizes == {"train": 5, "validation": 1, "test": 2}
    assert source.train.take(torch.tensor([0])).shape == (1, 3, 8, 8)


def test_the_normalization_is_imagenets_or_ones_own(read, photos):
    lay(photos, *BEGINNING)
    dataset = read()
    assert dataset.mean == (0.485, 0.456, 0.406)
    assert dataset.std == (0.229, 0.224, 0.225)
    assert read(channels=1).mean == (0.449,)
    assert read(channels=1).std == (0.226,)
    assert read(mean=[0.1, 0.2, 0.3], std=[1, 2, 3]).mean == (0.1, 0.2, 0.3)
    with pytest.raises(ValueError, match="mean or std is given without the other"):
        read(mean=[0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="give 1 of both"):
        read(channels=1, mean=[0.1, 0.2, 0.3], std=[1, 2, 3])


@pytest.mark.parametrize(
    ("sizes", "expected", "words"),
    [
        ([(8, 8)] * 3, 8, "8x8"),
        ([(8, 12), (9, 8), (8, 12)], 8, "8x12 mostly"),
        ([(8, 12), (9, 9), (8, 12)], 224, "8x12 mostly"),
        ([(256, 300)] * 3, 256, "256x300"),
        ([(9, 8), (30, 20), (8, 12)], 224, "9x8 to 30x20"),
        ([(257, 257)] * 3, 224, "257x257"),
    ],
)
def test_the_size_that_all_have_or_224(read, photos, caplog, sizes, expected, words):
    for number, size in enumerate(sizes):
        picture(photos / "ab"[number % 2] / f"{number}.png", number, size)
    dataset = read()
    assert dataset.store.spec == (3, expected, expected)
    assert caplog.messages[0].endswith(f"; {words}")
    assert dataset.recipe["size"] == expected
    assert read(size=5).store.spec == (3, 5, 5)


def test_pixels_are_kept_where_the_environment_says(tmp_path, photos, monkeypatch):
    lay(photos, *BEGINNING)
    monkeypatch.setenv("DAL_CACHE_DIR", str(tmp_path / "mine"))
    image_folder(str(photos), workers=1)
    assert list((tmp_path / "mine" / "images").glob("*/*.npy"))


def test_heic_is_set_aside_with_what_to_do(read, photos, caplog):
    lay(photos, *BEGINNING)
    (photos / "cat" / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(90))
    assert len(read().store) == len(BEGINNING)
    assert "cat/phone.HEIC: it is a HEIC picture; convert it to JPEG" in caplog.text


def test_gray_pictures_have_one_channel(read, photos, caplog):
    for number in range(4):
        picture(photos / "ab"[number % 2] / f"{number}.png", number, mode="L")
    dataset = read()
    assert dataset.store.spec == (1, 8, 8)
    assert dataset.recipe == {"kind": "images", "size": 8, "fit": "crop", "channels": 1,
                              "version": dataset.recipe["version"]}  # fmt: skip
    assert read(channels=3).store.spec == (3, 8, 8)
    picture(photos / "a" / "9.png", 200)
    assert read().store.spec == (3, 8, 8)
    assert caplog.messages[1] == "photos: 4 gray pictures among colored ones"


def test_colors_that_the_sampled_files_do_not_show_are_told_of(read, photos, caplog, monkeypatch):
    monkeypatch.setattr("dal.data.images.folder.SAMPLED", 2)
    for number in range(3):
        picture(photos / "ab"[number % 2] / f"{number}.png", number, mode="L")
    picture(photos / "a" / "1.png", 77)
    assert read().store.spec[0] == 1
    assert "1 colored picture read as gray; data.channels=3 keeps colors" in caplog.text


def test_what_is_odd_is_told_in_one_line(read, photos, caplog):
    lay(photos, "train/cat/1.png", "train/cat/2.png", "train/Dog/1.png", "train/dog/1.png")
    (photos / "train" / "ape").mkdir()
    shutil.copy(photos / "train/cat/1.png", photos / "train/cat/3.png")
    for name in ("cat", "fox"):
        (photos / "test" / name).mkdir(parents=True)
        shutil.copy(photos / "train/cat/2.png", photos / "test" / name / "1.png")
    (photos / "notes.txt").write_text("x")
    read()
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    for phrase in (
        "no picture yet of ape",
        "only test or validation pictures of fox",
        "classes that differ in upper and lower case or blanks only: Dog and dog",
        "1 picture there more than once (train/cat/1.png = train/cat/3.png)",
        "1 picture with two different labels (test/cat/1.png = test/fox/1.png)",
        "1 test picture in the training part as well (test/cat/1.png = test/fox/1.png)",
        "1 file of other kinds (notes.txt)",
    ):
        assert phrase in line


def test_nothing_odd_is_no_line(read, photos, caplog):
    lay(photos, *BEGINNING)
    read()
    assert len(caplog.messages) == 1


def damage(photos):
    (photos / "cat" / "0.png").write_bytes(b"")
    (photos / "cat" / "line\nbreak.png").write_bytes(b"no picture")
    whole = picture(photos / "dog" / "0.png", 200, (64, 64)).read_bytes()
    (photos / "dog" / "0.png").write_bytes(whole[: len(whole) // 2])
    (photos / "dog" / "3.png").symlink_to(photos / "nowhere.png")


def test_damaged_files_are_set_aside_and_named_in_a_file(read, photos, caplog):
    lay(photos, *BEGINNING)
    damage(photos)
    dataset = read()
    assert dataset.contents == BEGINNING
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "4 files set aside, since unreadable (cat/0.png: it is empty, " in line
    file = line.partition("; /")[2].partition(" names all")[0]
    with Path(f"/{file}").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["file", "reason"]
    assert [name for name, _ in rows[1:]] == [
        "cat/0.png", "cat/line\\nbreak.png", "dog/0.png", "dog/3.png"
    ]  # fmt: skip
    assert all(reason for _, reason in rows)


def test_damaged_files_can_be_refused(read, photos):
    lay(photos, *BEGINNING)
    assert len(read(on_damage="fail").targets) == 5
    damage(photos)
    with pytest.raises(ValueError, match=r"4 of 9 files cannot be read .cat/0.png: it is empty, "):
        read(on_damage="fail")


def test_a_folder_of_damaged_files_alone(read, photos):
    lay(photos, "a/1.png", "b/1.png")
    (photos / "a/1.png").write_bytes(b"")
    (photos / "b/1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no picture to train on is left of 2 .a/1.png: it is em"):
        read()


def test_folders_that_nothing_can_be_learned_from(read, photos, tmp_path):
    photos.mkdir()
    (photos / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"there is no picture .*1 file of other kinds"):
        read()
    with pytest.raises(FileNotFoundError, match=r"does not exist; set data.path"):
        read(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"notes.txt is a file; set data.path"):
        read(photos / "notes.txt")
    lay(photos, "1.png", "2.png")
    with pytest.raises(ValueError, match=r"2 pictures, and nothing says .* data.class_names="):
        read()
    (photos / "m.jsonl").write_text('{"file_name": "1.png", "boxes": [1, 2]}')
    with pytest.raises(ValueError, match=r"2 pictures, and nothing says .*l, line 1: 'boxes'"):
        read()
    lay(photos, "cat/1.png")
    with pytest.raises(ValueError, match=r"one class only .cat., .*a folder for each class"):
        read()
    (photos / "dog").mkdir()
    assert read().class_names == ("cat", "dog")


def test_pictures_that_all_lie_in_the_test_part(read, photos):
    lay(photos, "test/a/1.png", "test/b/1.png")
    with pytest.raises(ValueError, match=r"no picture to train on is left of 2 .all lie in other"):
        read()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "data.size=0; give at least 1"),
        ({"size": 10**9}, r"data.size=1000000000, for one picture: this takes"),
        ({"fit": "pad"}, "data.fit=pad is unknown; use crop or squash"),
        ({"channels": 4}, "data.channels=4 is unknown; use 1 or 3 or null"),
        ({"on_damage": "stop"}, "data.on_damage=stop is unknown; use skip or fail"),
    ],
)
def test_settings_out_of_range(read, photos, settings, message):
    lay(photos, *BEGINNING)
    with pytest.raises(ValueError, match=message):
        read(**settings)


def test_pictures_without_any_label(read, photos, caplog):
    lay(photos, "1.png", "x/2.png", "3.png")
    shutil.rmtree(photos / "x")
    dataset = read(class_names=["cat", "dog"])
    assert dataset.class_names == ("cat", "dog")
    assert dataset.targets.tolist() == [UNKNOWN, UNKNOWN]
    assert caplog.messages == ["photos: 2 pictures in 2 classes (cat, dog), 2 unlabeled; 8x8"]


def test_a_table_of_labels(read, photos, caplog):
    lay(photos, "1.png", "2.png", "3.png", "4.png")
    rows = "1.png,sea;sky,train\n2.png,sky,train\n3.png,sea,test\n"
    (photos / "metadata.csv").write_text(f"file_name,tags,split\n{rows}")
    dataset = read()
    assert dataset.targets.tolist() == [[1, 1], [0, 1], [UNKNOWN, UNKNOWN]]
    assert dataset.test_targets.tolist() == [[1, 0]]
    assert caplog.messages[0] == (
        "photos: 4 pictures in 2 classes (train 2, test 1), 1 unlabeled, labels from metadata.csv; "
        "8x8"
    )
    assert make_source(dataset, seed=0).task.kind == "multilabel"
    assert read(metadata="metadata.csv").targets.equal(dataset.targets)
    assert read(metadata=str(photos / "metadata.csv")).targets.equal(dataset.targets)
    with pytest.raises(FileNotFoundError, match=r"^other.csv does not exist"):
        read(metadata="other.csv")


NAMES = [
    "a b.png",
    "quote\"s' and, commas.png",
    "line\nbreak.png",
    os.fsdecode(b"latin-\xe9.png"),
    unicodedata.normalize("NFC", "é.png"),
    unicodedata.normalize("NFD", "é.png"),
]


def test_names_of_all_kinds_survive_a_run(read, photos, tmp_path):
    lay(photos, *[f"{folder}/{name}" for folder in ("cat", "dog") for name in NAMES])
    dataset = read()
    assert len(dataset.contents) == 12
    assert "cat/line\\nbreak.png" in dataset.contents
    assert "cat/latin-\\xe9.png" in dataset.contents
    "".join(dataset.contents).encode()
    again = read(known=recorded(dataset, tmp_path))
    assert again.contents == dataset.contents
    assert again.listing["names"] == dataset.listing["names"]
    assert torch.equal(pixels(again.store), pixels(dataset.store))


def test_the_same_folder_gives_the_same_listing(read, photos, tmp_path, caplog):
    lay(photos, *BEGINNING, "test/cat/9.png", "val/dog/9.png")
    first = read()
    again = read(known=recorded(first, tmp_path))
    assert len(caplog.messages) == 1
    assert again.contents == first.contents
    assert repr(again.listing) == repr(first.listing)  # tensors of this size in full
    one, two = (make_source(dataset, seed=0) for dataset in (first, again))
    assert one.fingerprint() == two.fingerprint()


def test_files_that_come_later_stand_behind_the_others(read, photos, tmp_path, caplog):
    lay(photos, *BEGINNING, "test/cat/1.png", "test/dog/1.png", "val/cat/1.png")
    first = read()
    lay(photos, "cat/0.png", "unlabeled/0.png", start=200)
    lay(photos, "test/cat/0.png", "val/dog/0.png", start=220)
    second = read(known=recorded(first, tmp_path))
    assert second.appended == 2
    new = ["cat/0.png", "unlabeled/0.png"]
    assert second.contents[:7] == [*BEGINNING, *new]
    assert second.targets.tolist() == [*first.targets.tolist(), 0, UNKNOWN]
    assert shades(second.store) == [0, 5, 10, 15, 20, 200, 205]
    assert second.test_targets.tolist() == first.test_targets.tolist()
    assert shades(second.test_store) == shades(first.test_store)
    assert "2 new test or validation pictures left out (test/cat/0.png, val/dog/0.png)" in (
        caplog.text
    )
    assert isinstance(second.store, JoinedStore)
    lay(photos, "a.png", start=240)
    third = read(known=recorded(second, tmp_path))
    assert third.appended == 3
    assert third.contents[:8] == [*BEGINNING, *new, "a.png"]
    one, two, three = (make_source(dataset, seed=0) for dataset in (first, second, third))
    assert one.fingerprint() == two.fingerprint() == three.fingerprint()
    assert three.appended == 3


def test_pictures_that_are_read_as_they_are_needed(read, photos, tmp_path):
    lay(photos, *BEGINNING, "test/cat/1.png")
    kept, lazy = read(), read(lazy=True)
    assert repr(lazy.listing) == repr(kept.listing)
    assert torch.equal(pixels(lazy.store), pixels(kept.store))
    lay(photos, "cat/0.png", start=200)
    grown = read(lazy=True, known=recorded(lazy, tmp_path), cache_dir=str(tmp_path / "other"))
    assert shades(grown.store) == [0, 5, 10, 15, 20, 200]


def test_pipes_and_huge_files_are_set_aside(read, photos, caplog):
    lay(photos, "1.png", "2.png")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "huge.jpg").touch()
    os.truncate(photos / "huge.jpg", 2**36)
    os.mkfifo(photos / "m.csv")
    rows = ["file_name,label", "1.png,a", "2.png,b", "pipe.jpg,a", "huge.jpg,b"]
    (photos / "labels.csv").write_text("\n".join(rows))
    found = read(metadata="labels.csv")
    assert found.contents == ["1.png", "2.png"]
    assert found.store.spec == (3, 8, 8)
    assert "pipe.jpg: it is no regular file" in caplog.text
    assert "huge.jpg: it has more than 2 GB" in caplog.text
    with pytest.raises(ValueError, match=r"m\.csv is no regular file"):
        read(metadata="m.csv")


def test_pictures_without_a_cache(read, photos, tmp_path, caplog):
    lay(photos, *BEGINNING)
    (photos / "cat/3.png").write_bytes(b"")
    (tmp_path / "file").touch()
    found = read(lazy=True, cache_dir=str(tmp_path / "file"))
    assert shades(found.store) == [0, 5, 10, 15, 20]
    assert "cat/3.png: it is empty" in caplog.text
    assert "to name all, cannot be written" in caplog.text


def test_growth_does_not_look_for_another_size(read, photos, tmp_path):
    lay(photos, *BEGINNING)
    first = read()
    picture(photos / "cat" / "large.png", 99, (300, 400))
    assert read(known=recorded(first, tmp_path)).store.spec == (3, 8, 8)
    assert read().store.spec == (3, 224, 224)


def test_other_content_under_a_known_name(read, photos, tmp_path, caplog):
    lay(photos, *BEGINNING)
    first = read()
    picture(photos / "cat/2.png", 150)
    second = read(known=recorded(first, tmp_path))
    assert second.appended == 0
    assert second.targets.tolist() == first.targets.tolist()
    assert shades(second.store) == [0, 150, 10, 15, 20]
    assert "1 picture with other content than before (cat/2.png); labels are kept" in (caplog.text)
    assert second.store.digest() != first.store.digest()
    one, two = (make_source(dataset, seed=0) for dataset in (first, second))
    assert one.fingerprint() == two.fingerprint()  # so that the run goes on
    third = read(known=recorded(second, tmp_path))
    assert "other content" not in caplog.text
    assert make_source(third, seed=0).fingerprint() == one.fingerprint()


def test_files_that_are_gone_or_damaged_come_from_the_cache(read, photos, tmp_path, caplog):
    lay(photos, *BEGINNING)
    first = read()
    (photos / "cat/2.png").unlink()
    (photos / "dog/1.png").write_bytes(b"damaged")
    second = read(known=recorded(first, tmp_path))
    assert shades(second.store) == shades(first.store)
    assert second.contents == first.contents
    assert "2 pictures gone or damaged now (cat/2.png, dog/1.png)" in caplog.text
    assert "set aside" not in caplog.text
    assert second.store.digest() == first.store.digest()
    third = read(known=recorded(second, tmp_path))
    assert shades(third.store) == shades(first.store)
    with pytest.raises(ValueError, match=r"2 pictures of this run gone or damaged .cat/2"):
        read(known=recorded(first, tmp_path), cache_dir=str(tmp_path / "other"))


def test_a_file_that_was_moved_into_a_class_is_the_same_sample(read, photos, tmp_path, caplog):
    lay(photos, *BEGINNING)
    first = read()
    shutil.move(photos / "unlabeled/1.png", photos / "cat/new.png")
    shutil.move(photos / "dog/1.png", photos / "dog/1b.png")
    second = read(known=recorded(first, tmp_path))
    assert second.appended == 0
    assert second.contents == ["cat/1.png", "cat/2.png", "dog/1b.png", "dog/2.png", "cat/new.png"]
    assert second.targets.tolist() == first.targets.tolist()
    assert shades(second.store) == shades(first.store)
    assert (
        "2 pictures with another path (dog/1.png is dog/1b.png, unlabeled/1.png is cat/new.p"
        in (caplog.text)
    )
    assert "gone" not in caplog.text
    read(known=recorded(second, tmp_path))
    assert "another path" not in caplog.text


def test_files_that_changed_places_keep_their_labels(read, photos, tmp_path):
    lay(photos, *BEGINNING)
    first = read()
    shutil.move(photos / "cat/1.png", photos / "x.png")
    shutil.move(photos / "dog/1.png", photos / "cat/1.png")
    shutil.move(photos / "x.png", photos / "dog/1.png")
    second = read(known=recorded(first, tmp_path))
    assert shades(second.store) == shades(first.store)
    assert second.targets.tolist() == first.targets.tolist()
    assert second.contents[:3] == ["dog/1.png", "cat/2.png", "cat/1.png"]


def test_a_file_that_was_edited_beside_its_original_is_new(read, photos, tmp_path):
    lay(photos, *BEGINNING)
    first = read()
    shutil.move(photos / "cat/2.png", photos / "cat/original.png")
    picture(photos / "cat/2.png", 150)
    second = read(known=recorded(first, tmp_path))
    assert second.contents == ["cat/1.png", "cat/original.png", *BEGINNING[2:], "cat/2.png"]
    assert second.targets.tolist() == [*first.targets.tolist(), 0]
    assert shades(second.store) == [*shades(first.store), 150]
    assert second.appended == 1
    third = read(known=recorded(second, tmp_path))
    assert third.contents == second.contents


def test_a_file_in_the_place_of_another_is_not_taken_for_it(read, photos, tmp_path):
    lay(photos, *BEGINNING)
    first = read()
    shutil.move(photos / "cat/1.png", photos / "dog/1.png")
    with pytest.raises(ValueError, match=r"1 picture of this run gone .*dog/1.png"):
        read(known=recorded(first, tmp_path))


def test_a_label_that_changed_is_told_of_and_not_taken(read, photos, tmp_path, caplog):
    lay(photos, "1.png", "2.png", "3.png")
    (photos / "m.csv").write_text("file_name,label\n1.png,a\n2.png,b\n")
    first = read()
    (photos / "m.csv").write_text("file_name,label\n1.png,b\n2.png,b\n3.png,a\n")
    second = read(known=recorded(first, tmp_path))
    assert second.targets.tolist() == first.targets.tolist() == [0, 1, UNKNOWN]
    assert "2 pictures with another label than when this run began (1.png, 3.png)" in caplog.text


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_class_that_came_later_is_left_out(read, photos, tmp_path, caplog, multilabel):
    lay(photos, "1.png", "2.png", "3.png", "4.png")
    rows = ["file_name,label", "1.png,a;b" if multilabel else "1.png,a", "2.png,b"]
    (photos / "m.csv").write_text("\n".join(rows))
    for name in ("3.png", "4.png"):
        shutil.move(photos / name, tmp_path / name)
    first = read()
    for name in ("3.png", "4.png"):
        shutil.move(tmp_path / name, photos / name)
    (photos / "m.csv").write_text("\n".join([*rows, "3.png,A", "4.png,b"]))
    second = read(known=recorded(first, tmp_path))
    assert second.class_names == ("a", "b")
    assert second.contents == ["1.png", "2.png", "4.png"]
    assert second.targets.tolist() == [*first.targets.tolist(), [0, 1] if multilabel else 1]
    assert "1 new picture of classes that this run does not have left out (3.png)" in caplog.text


def test_a_run_goes_on_where_its_class_folders_are_gone(read, photos, tmp_path):
    lay(photos, *BEGINNING)
    first = read()
    for name in ("cat", "dog", "unlabeled"):
        shutil.rmtree(photos / name)
    assert shades(read(known=recorded(first, tmp_path)).store) == shades(first.store)


def test_the_name_and_the_path(read, photos, tmp_path):
    lay(photos, *BEGINNING)
    assert read(name="mine").name == "mine"
    (tmp_path / "link").symlink_to(photos)
    assert read(tmp_path / "link").contents == read().contents
    assert np.array_equal(pixels(read(tmp_path / "link").store), pixels(read().store))


def test_how_files_are_read_makes_no_other_run():
    usual = {"path": "photos", "lazy": None, "workers": None, "on_damage": "skip", "cache_dir": "a"}
    other = {"path": "photos", "lazy": True, "workers": 3, "on_damage": "fail", "cache_dir": "b"}
    assert differing({"data": other}, {"data": usual}) == {}
    assert differing({"data": {**usual, "path": "mine"}}, {"data": usual}) == {"data.path": "mine"}
