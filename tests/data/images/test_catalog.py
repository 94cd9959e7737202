"""What lies in a folder of pictures: every layout, tables of labels, and names of all kinds."""

import os
import time
import unicodedata

import pytest
import torch

from dal.data import UNKNOWN
from dal.data.images.catalog import catalog
from dal.data.images.layout import PARTS
from dal.data.images.names import shown
from dal.data.images.tree import walk


def lay(root, *paths):
    """Files without content, and folders where a path ends with a slash."""
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return root


def told(found):
    """(part, label or None) by file name."""
    labels = [
        None
        if target == UNKNOWN or (isinstance(target, list) and UNKNOWN in target)
        else found.class_names[target]
        if isinstance(target, int)
        else target
        for target in found.targets.tolist()
    ]
    parts = [PARTS[part] for part in found.parts]
    return dict(zip(found.names, zip(parts, labels, strict=True), strict=True))


def test_class_folders_hold_pictures_at_any_depth(tmp_path):
    found = catalog(lay(tmp_path, "cat/b.jpg", "cat/x/y/a.PNG", "dog/1.jpeg", "cat/a.webp"))
    assert found.names == ["cat/a.webp", "cat/b.jpg", "cat/x/y/a.PNG", "dog/1.jpeg"]
    assert found.class_names == ("cat", "dog")
    assert found.targets.tolist() == [0, 0, 0, 1]
    assert found.targets.dtype == torch.int64
    assert found.odd == []


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev"])
@pytest.mark.parametrize("test", ["test", "testing", "TEST"])
def test_folders_of_parts(tmp_path, train, validation, test):
    names = [f"{train}/a/1.jpg", f"{train}/b/2.jpg", f"{validation}/a/3.jpg", f"{test}/b/4.jpg"]
    assert told(catalog(lay(tmp_path, *names))) == {
        names[0]: ("train", "a"),
        names[1]: ("train", "b"),
        names[2]: ("validation", "a"),
        names[3]: ("test", "b"),
    }


def test_a_test_folder_beside_class_folders(tmp_path):
    assert told(catalog(lay(tmp_path, "a/1.jpg", "b/2.jpg", "test/a/3.jpg"))) == {
        "a/1.jpg": ("train", "a"),
        "b/2.jpg": ("train", "b"),
        "test/a/3.jpg": ("test", "a"),
    }


@pytest.mark.parametrize("word", ["unlabeled", "unlabelled", "pool", "active", "Pool"])
@pytest.mark.parametrize("within", ["", "train/"])
def test_unlabeled_pictures_lie_at_any_depth(tmp_path, word, within):
    new = [f"{within}{word}/1.jpg", f"{within}{word}/cat/deep/2.jpg", f"{within}3.jpg"]
    found = catalog(lay(tmp_path, f"{within}cat/4.jpg", f"{within}dog/5.jpg", *new))
    assert found.class_names == ("cat", "dog")
    assert {told(found)[name] for name in new} == {("train", None)}
    assert len(found.names) == 5


def test_unlabeled_at_the_top_beside_train(tmp_path):
    found = catalog(lay(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "unlabeled/x/2.jpg", "3.jpg"))
    assert told(found)["unlabeled/x/2.jpg"] == told(found)["3.jpg"] == ("train", None)
    assert "1 picture beside the folders, unlabeled (3.jpg)" in found.odd


def test_pictures_beside_train_are_left_out_and_told_of(tmp_path):
    found = catalog(lay(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "meta/2.jpg", "test/a/3.jpg"))
    assert "meta/2.jpg" not in found.names
    assert found.class_names == ("a", "b")
    (odd,) = found.odd
    assert odd.startswith("1 picture beside train/ left out (in meta)")


def test_test_pictures_without_a_label_are_left_out_and_told_of(tmp_path):
    found = catalog(
        lay(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg", "test/pool/2.jpg")
    )
    assert len(found.names) == 2
    (odd,) = found.odd
    assert odd.startswith("2 test or validation pictures without a label left out (test/1.jpg, ")


def test_a_folder_that_class_names_names_is_a_class_whatever_it_is_called(tmp_path):
    lay(tmp_path, "beach/1.jpg", "pool/2.jpg", "test/3.jpg")
    found = catalog(tmp_path, class_names=["beach", "pool", "test"])
    assert [label for _, label in told(found).values()] == ["beach", "pool", "test"]
    assert set(found.parts) == {0}


def test_class_names_decide_the_order_and_must_hold_every_folder(tmp_path):
    lay(tmp_path, "a/1.jpg", "b/2.jpg")
    assert catalog(tmp_path, class_names=["c", "b", "a"]).targets.tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"the folder 'b' is no class of data.class_names"):
        catalog(tmp_path, class_names=["a", "c"])


def test_empty_folders_are_classes_and_folders_of_other_files_are_none(tmp_path):
    found = catalog(lay(tmp_path, "a/1.jpg", "b/", "c/.DS_Store", "notes/x/list.txt", "2.jpg"))
    assert found.class_names == ("a", "b", "c")
    assert told(found)["2.jpg"] == ("train", None)
    assert "no class, since only other files lie there: notes" in found.odd
    assert "1 file of other kinds (notes/x/list.txt)" in found.odd


def test_pictures_alone_with_class_names(tmp_path):
    found = catalog(lay(tmp_path, "1.jpg", "2.jpg"), class_names=["a", "b"])
    assert found.class_names == ("a", "b")
    assert found.targets.tolist() == [UNKNOWN, UNKNOWN]
    assert found.odd == []


def test_files_of_systems_are_not_looked_at(tmp_path):
    lay(tmp_path, "a/1.jpg", "b/2.jpg", "a/.DS_Store", "a/._1.jpg", "Thumbs.db", "b/desktop.ini")
    lay(tmp_path, "__MACOSX/a/1.jpg", ".git/x/1.jpg", "b/@eaDir/1.jpg")
    found = catalog(tmp_path)
    assert found.names == ["a/1.jpg", "b/2.jpg"]
    assert found.odd == []


NAMES = [
    "with blanks .jpg",
    "quote\"s' and, commas.jpg",
    "line\nbreak\ttab.jpg",
    "back\\slash.jpg",
    os.fsdecode(b"latin-\xe9.jpg"),
    unicodedata.normalize("NFC", "é.jpg"),
    unicodedata.normalize("NFD", "é.jpg"),
    "日本語 🐈.jpg",
]


def test_names_of_all_kinds_stay_as_they_are(tmp_path):
    found = catalog(lay(tmp_path, *[f"{folder}/{name}" for folder in "ab" for name in NAMES]))
    assert found.names == sorted(f"{folder}/{name}" for folder in "ab" for name in NAMES)


def test_names_as_people_see_them():
    assert [shown(name) for name in NAMES] == [
        NAMES[0],
        NAMES[1],
        "line\\nbreak\\ttab.jpg",
        NAMES[3],
        "latin-\\xe9.jpg",
        *NAMES[5:],
    ]
    assert shown("a\\\x1b[31m") == "a\\\\\\x1b[31m"
    shown("".join(map(chr, range(0x110000)))).encode()


def test_two_normal_forms_of_a_class_are_one_class(tmp_path):
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    found = catalog(lay(tmp_path, f"{forms[0]}/1.jpg", f"{forms[1]}/2.jpg", "tea/3.jpg"))
    assert found.class_names == (forms[0], "tea")
    assert found.targets.tolist().count(0) == 2
    assert catalog(tmp_path, class_names=["tea", forms[1]]).class_names == ("tea", forms[0])


def test_a_class_folder_that_is_no_utf8(tmp_path):
    found = catalog(lay(tmp_path, os.fsdecode(b"caf\xe9/1.jpg"), " dog /2.jpg"))
    assert set(found.class_names) == {"caf\\xe9", "dog"}


def test_links_to_folders_are_followed_once_each(tmp_path):
    lay(tmp_path / "elsewhere", "x/1.jpg", "2.jpg")
    root = lay(tmp_path / "data", "a/3.jpg", "a/b/4.jpg", "dog/")
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "b" / "up").symlink_to(root / "a")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "zebra").symlink_to(tmp_path / "elsewhere")
    tree = walk(root)
    assert tree.names == ["a/3.jpg", "a/b/4.jpg", "cat/2.jpg", "cat/x/1.jpg"]
    assert tree.skipped == ["a/b/up", "cat/back", "zebra"]
    assert "3 links to what is read already (a/b/up, cat/back, zebra)" in catalog(root).odd


def test_broken_links_are_files_and_pipes_are_none(tmp_path):
    lay(tmp_path, "a/1.jpg", "b/")
    (tmp_path / "a" / "2.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "a" / "3.jpg").symlink_to(tmp_path / "a" / "3.jpg")
    (tmp_path / "a" / "4.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    os.mkfifo(tmp_path / "a" / "5.jpg")
    (tmp_path / "a" / "6.jpg").symlink_to(tmp_path / "a" / "5.jpg")
    tree = walk(tmp_path)
    assert tree.names == ["a/1.jpg", "a/2.jpg", "a/3.jpg", "a/4.jpg"]
    assert tree.others == ["a/5.jpg", "a/6.jpg"]


def test_a_path_that_is_no_folder(tmp_path):
    lay(tmp_path, "1.jpg")
    with pytest.raises(FileNotFoundError, match=r"does not exist; set data.path to a folder"):
        catalog(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"is a file; set data.path to the folder"):
        catalog(tmp_path / "1.jpg")


def test_many_files_in_one_folder_are_found_in_a_moment(tmp_path):
    lay(tmp_path, "a/", "b/1.jpg")
    for number in range(20_000):
        os.close(os.open(tmp_path / "a" / f"{number:06}.jpg", os.O_CREAT))
    start = time.process_time()
    found = catalog(tmp_path)
    assert time.process_time() - start < 5  # 100 µs a file were 2 s; 0.1 s on an idle machine
    assert len(found.names) == 20_001


def table(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,kind\n1.jpg,dog\nx/2.jpg,cat\n3.jpg,\n"),
        ("labels.tsv", "kind\tfile_name\ndog\t1.jpg\ncat\tx/2.jpg\n\t3.jpg\n"),
        (
            "metadata.jsonl",
            '{"file_name": "1.jpg", "kind": "dog"}\n{"file_name": "x/2.jpg", "kind": "cat"}\n'
            '{"file_name": "3.jpg"}\n',
        ),
    ],
)
def test_a_table_is_found_by_itself(tmp_path, name, text):
    lay(tmp_path, "1.jpg", "x/2.jpg", "3.jpg", "4.jpg", "notes.txt")
    table(tmp_path / name, text)
    table(tmp_path / "other.csv", "a,b\n1,2\n")
    found = catalog(tmp_path)
    assert found.class_names == ("cat", "dog")
    assert told(found) == {
        "1.jpg": ("train", "dog"),
        "3.jpg": ("train", None),
        "4.jpg": ("train", None),
        "x/2.jpg": ("train", "cat"),
    }
    assert found.labels_from == name
    assert f"1 picture without a row in {name} (4.jpg)" in found.odd
    assert "2 files of other kinds (notes.txt, other.csv)" in found.odd


def test_a_named_table_elsewhere_with_its_column(tmp_path):
    root = lay(tmp_path / "data", "1.jpg", "2.jpg")
    table(tmp_path / "my labels.txt", "file_name;a;b\n1.jpg;u;v\n2.jpg;w;v\nlost.jpg;w;v\n")
    with pytest.raises(ValueError, match=r"my labels.txt: it has the columns a, b; set data.targ"):
        catalog(root, tmp_path / "my labels.txt")
    found = catalog(root, tmp_path / "my labels.txt", "a")
    assert [label for _, label in told(found).values()] == ["u", "w"]
    assert found.odd == ["1 row of my labels.txt without a file (lost.jpg)"]
    with pytest.raises(ValueError, match="there is no column 'c'"):
        catalog(root, tmp_path / "my labels.txt", "c")
    with pytest.raises(ValueError, match=r"'a'.*not in class_names"):
        catalog(root, tmp_path / "my labels.txt", "a", ["u", "x"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        catalog(root, tmp_path / "nowhere.csv")


def test_a_column_of_splits(tmp_path):
    lay(tmp_path, *[f"{number}.jpg" for number in range(6)])
    splits = ["train", "Validation", "test", "", "unlabeled", "test"]
    rows = [f"{number}.jpg,{'ab'[number % 2]},{split}" for number, split in enumerate(splits)]
    rows[5] = "5.jpg,,test"
    table(tmp_path / "m.csv", "\n".join(["file_name,label,split", *rows]))
    found = catalog(tmp_path)
    assert told(found) == {
        "0.jpg": ("train", "a"),
        "1.jpg": ("validation", "b"),
        "2.jpg": ("test", "a"),
        "3.jpg": ("train", "b"),
        "4.jpg": ("train", "a"),
    }
    assert found.odd[0].startswith("1 test or validation picture without a label left out (5.jpg)")
    table(tmp_path / "m.csv", "file_name,label,split\n0.jpg,a,train\n1.jpg,b,fold 2\n")
    with pytest.raises(ValueError, match=r"m.csv: row 2 has 'fold 2' in the column 'split'"):
        catalog(tmp_path)


def test_a_table_in_each_folder_of_a_part(tmp_path):
    lay(tmp_path, "train/1.jpg", "train/x/2.jpg", "test/1.jpg", "unlabeled/3.jpg")
    table(tmp_path / "train/metadata.csv", "file_name,label\n1.jpg,a\nx/2.jpg,b\n")
    table(tmp_path / "test/metadata.csv", "file_name,label\n1.jpg,b\n")
    found = catalog(tmp_path)
    assert told(found) == {
        "test/1.jpg": ("test", "b"),
        "train/1.jpg": ("train", "a"),
        "train/x/2.jpg": ("train", "b"),
        "unlabeled/3.jpg": ("train", None),
    }


def test_tables_that_are_called_train_and_test(tmp_path):
    lay(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    table(tmp_path / "train.csv", "file_name,label\n1.jpg,a\n2.jpg,b\n")
    table(tmp_path / "test.csv", "file_name,label\n3.jpg,b\n")
    assert told(catalog(tmp_path))["3.jpg"] == ("test", "b")
    table(tmp_path / "more.csv", "file_name,label\n3.jpg,b\n")
    with pytest.raises(ValueError, match=r"more.csv, test.csv, train.csv in .* by data.metadata"):
        catalog(tmp_path)


def test_the_folder_of_a_part_where_no_column_says_so(tmp_path):
    lay(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg")
    rows = "train/1.jpg,a\n./train/2.jpg,b\ntest\\3.jpg,a\n"
    table(tmp_path / "m.csv", f"file_name,label\n{rows}")
    assert [part for part, _ in told(catalog(tmp_path)).values()] == ["test", "train", "train"]


def test_several_labels_a_picture(tmp_path):
    lay(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    table(tmp_path / "m.csv", "file_name,tags\n1.jpg,sea;sky\n2.jpg,-\n3.jpg,sky\n")
    found = catalog(tmp_path)
    assert found.class_names == ("sea", "sky")
    assert found.targets.tolist() == [[1, 1], [0, 0], [0, 1], [UNKNOWN, UNKNOWN]]
    table(tmp_path / "m.csv", "file_name,sea,sky,by\n1.jpg,1,1,me\n2.jpg,0,0,me\n3.jpg,0,1,me\n")
    assert catalog(tmp_path, target=["sky", "sea"]).targets[2].tolist() == [1, 0]


def test_names_in_a_table_are_matched_raw_and_then_by_form(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    lay(tmp_path, f"{nfd}1.jpg", f"{nfc}2.jpg", f"{nfd}2.jpg", os.fsdecode(b"\xe9.jpg"))
    rows = [f"{nfc}1.jpg,a", f"{nfc}2.jpg,a", f"{nfd}2.jpg,b", "\\xe9.jpg,b"]
    table(tmp_path / "m.csv", "\n".join(["file_name,label", *rows]))
    assert told(catalog(tmp_path)) == {
        f"{nfd}1.jpg": ("train", "a"),
        f"{nfc}2.jpg": ("train", "a"),
        f"{nfd}2.jpg": ("train", "b"),
        os.fsdecode(b"\xe9.jpg"): ("train", "b"),
    }


def test_a_table_may_name_files_that_end_otherwise(tmp_path):
    lay(tmp_path, "1", "2.dat", "3.dat")
    table(tmp_path / "m.csv", "file_name,label\n1,a\n2.dat,b\n")
    found = catalog(tmp_path)
    assert found.names == ["1", "2.dat"]


def test_rows_that_contradict_each_other(tmp_path):
    lay(tmp_path, "1.jpg", "2.jpg")
    table(tmp_path / "m.csv", "file_name,label\n1.jpg,a\n2.jpg,b\n./1.jpg,a\n")
    assert catalog(tmp_path).targets.tolist() == [0, 1]
    table(tmp_path / "m.csv", "file_name,label\n1.jpg,a\n2.jpg,b\n1.jpg,b\n")
    with pytest.raises(ValueError, match=r"m.csv: it has two rows for 1.jpg, 1 and 3"):
        catalog(tmp_path)


def test_a_table_of_other_files(tmp_path):
    lay(tmp_path, "1.jpg")
    table(tmp_path / "m.csv", "file_name,label\na.jpg,a\n/etc/passwd,b\n")
    with pytest.raises(ValueError, match=r"m.csv: it names 2 files, and none is there"):
        catalog(tmp_path)


def test_a_table_wins_over_the_names_of_folders(tmp_path):
    lay(tmp_path, "x/1.jpg", "y/2.jpg")
    table(tmp_path / "m.csv", "file_name,label\nx/1.jpg,a\ny/2.jpg,b\n")
    found = catalog(tmp_path)
    assert found.class_names == ("a", "b")
    assert "labels are those of m.csv, not the names of folders" in found.odd


def test_a_column_called_label_is_meant_among_others(tmp_path):
    lay(tmp_path, "1.jpg", "2.jpg")
    table(tmp_path / "m.csv", "file_name,label,round,who\n1.jpg,a,0,x\n2.jpg,b,1,y\n")
    assert catalog(tmp_path).class_names == ("a", "b")


def test_a_table_of_other_columns_is_told_of(tmp_path):
    lay(tmp_path, "x/1.jpg", "y/2.jpg")
    table(tmp_path / "m.csv", "image,label\n1.jpg,a\n")
    told_of = "m.csv is no table of labels: it has image, label and no file_name"
    assert told_of in catalog(tmp_path).odd


def test_a_list_of_files_takes_no_labels_from_folders(tmp_path):
    lay(tmp_path, "x/1.jpg", "y/2.jpg")
    table(tmp_path / "list.csv", "file_name\nx/1.jpg\n")
    found = catalog(tmp_path)
    assert (found.class_names, found.targets.tolist()) == (("x", "y"), [0, 1])
    assert "list.csv lists files and says nothing else of them" in found.odd


def test_a_table_without_labels_or_file_names(tmp_path):
    lay(tmp_path, "1.jpg", "2.jpg")
    table(tmp_path / "m.csv", "file_name\n1.jpg\n2.jpg\n")
    assert catalog(tmp_path).class_names == ()
    assert catalog(tmp_path, class_names=["a", "b"]).targets.tolist() == [UNKNOWN, UNKNOWN]
    table(tmp_path / "other.csv", "name,label\n1.jpg,a\n")
    with pytest.raises(ValueError, match=r"other.csv has no column file_name .it has name, label"):
        catalog(tmp_path, tmp_path / "other.csv")


def test_a_target_without_a_table(tmp_path):
    lay(tmp_path, "a/1.jpg", "b/2.jpg")
    with pytest.raises(ValueError, match=r"data.target=kind names labels of a table, and no table"):
        catalog(tmp_path, target="kind")


def test_a_table_that_cannot_be_read_is_told_of(tmp_path):
    lay(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "m.csv").write_bytes(b"\xff\x00")
    (tmp_path / "n.csv").symlink_to(tmp_path / "nowhere.csv")
    odd = catalog(tmp_path).odd
    for name in ("m.csv", "n.csv"):
        assert any(name in phrase and "not taken for a table" in phrase for phrase in odd)


def test_words_for_missing_values_in_a_table_are_unknown_labels(tmp_path):
    lay(tmp_path, *[f"{number}.jpg" for number in range(4)])
    table(tmp_path / "m.csv", "file_name,label\n0.jpg,a\n1.jpg,NA\n2.jpg,b\n3.jpg,NaN\n")
    found = catalog(tmp_path)
    assert found.class_names == ("a", "b")
    assert [label for _, label in told(found).values()] == ["a", None, "b", None]
    found = catalog(tmp_path, class_names=["a", "b", "NA"])
    assert [label for _, label in told(found).values()] == ["a", "NA", "b", None]


def test_a_table_with_a_nul_character_is_refused(tmp_path):
    lay(tmp_path, "0.jpg", "1.jpg")
    table(tmp_path / "m.csv", "file_name,label\n0.jpg,a\n1.jpg,b\0\n")
    with pytest.raises(ValueError, match=r"m\.csv, line 3: no text; save .*NUL"):
        catalog(tmp_path)
