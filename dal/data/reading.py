"""Files that a trained model shall predict: read block by block, as its training data were.

Nothing is cached or kept, so folders, tables and arrays may be of any size.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dal.data.faults import naming
from dal.data.images.decode import VERSION, Decoding, UnreadableError, decode
from dal.data.images.examine import cores, read_file, reason
from dal.data.images.names import PICTURE, shown
from dal.data.images.tree import walk
from dal.data.npz import stored_inputs
from dal.data.store import Store
from dal.data.table_features import Encoder, say_unknown
from dal.data.table_files import BLOCK, ENDINGS, read_blocks, read_table
from dal.data.texts.predicting import columns_of, id_of, text_blocks
from dal.data.texts.reading import read_texts
from dal.models.backbone import LARGEST
from dal.utils.inputs import Inputs
from dal.utils.ranges import check_whole

log = logging.getLogger(__name__)

Recipe = Mapping[str, Any]
PathLike = str | Path
ARRAYS = (".npz", ".npy")
FILE = "file_name"
"""The column of a table that lists pictures."""


@dataclass(frozen=True)
class Block:
    """Some samples of a file.

    Attributes:
        names: What people know the n samples by.
        inputs: Those that can be read, in their order, before any preparation: arrays, or a list of
            texts; None where none can.
        faults: Why others cannot, by their place in the block.
    """

    names: Sequence[str]
    inputs: Inputs | list[str] | None
    faults: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """What a file or a folder holds.

    Attributes:
        title: What the names of its samples are: ``file``, ``row``, or the column of ids.
        count: How many there are; None where only reading it tells.
        read: Gives all of them, about so many at a time, never none.
    """

    title: str
    count: int | None
    read: Callable[[int], Iterator[Block]]


def inputs_like(recipe: Recipe | None, path: PathLike | Sequence[PathLike]) -> Samples:
    """The samples of a file, made into inputs as those were that a model learned from.

    Args:
        recipe: See `dal.data.Dataset.recipe`; None for a model that learned from arrays.
        path: An ``.npz`` archive or ``.npy`` file of inputs, for any model; a table, for one that
            learned from a table or from texts; a ``.txt`` file of a text a line, for one that
            learned from texts; a folder of pictures, a picture, a list of pictures, or a table
            with a column ``file_name``, for one that learned from pictures.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: It is nothing that this model takes, or cannot be read; says what to give.
    """
    kind = None if recipe is None else recipe["kind"]
    if not isinstance(path, str | Path):
        if kind != "images":
            raise ValueError(f"a list of files was given, but {_takes(kind)}")
        return _pictures([str(name) for name in path], [Path(name) for name in path], recipe)
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {_takes(kind)}")
    ending = path.suffix.casefold()
    if ending in ARRAYS and path.is_file():
        return _arrays(stored_inputs(str(path)))
    if kind == "images" and (found := _files_of(path, ending)):
        return _pictures(*found, recipe)
    if recipe is not None and kind == "table" and ending in ENDINGS and path.is_file():
        return _table(path, recipe)
    if recipe is not None and kind == "texts" and ending in ENDINGS and path.is_file():
        return _texts(path, recipe)
    what = "a folder" if path.is_dir() else f"a file {ending}" if ending else "a file"
    raise ValueError(f"{path} is {what}, but {_takes(kind)}")


def check_recipe(recipe: Any) -> None:
    """Refuse a recipe by which no file could be read, of a file that may be anybody's.

    Raises:
        ValueError, TypeError, LookupError: It is none; says why.
    """
    if recipe is None:
        return
    kind = recipe["kind"]
    if kind == "images":
        how = _decoding(recipe)
        check_whole("the size of its pictures", how.size, 1, most=LARGEST)
        if how.channels not in (1, 3) or how.fit not in ("crop", "squash"):
            raise ValueError(f"pictures are not made by {how}")
    elif kind not in ("table", "texts"):
        raise ValueError(f"{kind!r:.80} is no kind of samples")


def _decoding(recipe: Recipe) -> Decoding:
    return Decoding(**{key: value for key, value in recipe.items() if key != "kind"})


def _takes(kind: str | None) -> str:
    """What a model takes, for errors."""
    if kind == "images":
        return (
            "the model learned from pictures; give a folder of pictures, a picture, or an .npz or "
            ".npy file of prepared ones"
        )
    if kind == "table":
        return f"the model learned from a table; give one with its columns ({', '.join(ENDINGS)})"
    if kind == "texts":
        return (
            f"the model learned from texts; give a table with a column of them "
            f"({', '.join(ENDINGS)}), or a .txt file of a text a line"
        )
    return (
        "the model learned from arrays; give an .npz or .npy file of inputs like those "
        "(numpy.save), or of their features where features=file stands in front of it"
    )


def _arrays(store: Store) -> Samples:
    def read(size: int) -> Iterator[Block]:
        for start in range(0, len(store), size):
            rows = range(start, min(start + size, len(store)))
            yield Block([str(row) for row in rows], store.read(torch.arange(start, rows.stop)))

    return Samples("row", len(store), read)


def _table(path: Path, recipe: Recipe) -> Samples:
    encoder, name = Encoder(recipe), recipe["id"]

    def read(size: int) -> Iterator[Block]:
        unknown: Counter[str] = Counter()
        start = 0
        for block in read_blocks(path, min(size, BLOCK)):
            with naming(str(path)):
                found = encoder(block)
            count = len(found.inputs)
            sound = [row for row in range(count) if row not in found.faults]
            unknown.update(found.unknown)
            numbers = [str(row) for row in range(start, start + count)]
            names = block.get(name, numbers) if name else numbers
            inputs = torch.from_numpy(found.inputs[sound]) if sound else None
            yield Block(names, inputs, found.faults)
            start += count
        say_unknown(f"rows of {path}", unknown)

    has_ids = bool(name) and name in next(read_blocks(path, 1))
    return Samples(name if has_ids else "row", None, read)


def _texts(path: Path, recipe: Recipe) -> Samples:
    def read(size: int) -> Iterator[Block]:
        for names, texts, faults in text_blocks(path, recipe, min(size, BLOCK)):
            sound = [text for row, text in enumerate(texts) if row not in faults]
            yield Block(names, sound or None, faults)

    name = id_of(recipe)
    has_ids = name is not None and name in next(read_texts(path, columns_of(recipe), 1))
    return Samples(name if name is not None and has_ids else "row", None, read)


def _files_of(path: Path, ending: str) -> tuple[list[str], list[Path]] | None:
    """The names of the pictures that are meant, and where they are; None where none are."""
    if path.is_dir():
        names = walk(path).names
        if not names:
            raise ValueError(f"{path} holds no pictures; give a folder that does")
        return [shown(name) for name in names], [path / name for name in names]
    if PICTURE.search(path.name):
        return [shown(path.name)], [path]
    if ending not in ENDINGS:
        return None
    table = read_table(path)
    if FILE not in table:
        raise ValueError(
            f"{path} has no column {FILE}; name the pictures there, as seen from its folder"
        )
    return table[FILE], [path.parent / name for name in table[FILE]]


def _pictures(names: Sequence[str], paths: Sequence[Path], recipe: Recipe | None) -> Samples:
    how = _decoding(recipe or {})
    if how.version != VERSION:
        log.warning(
            "pictures are decoded by %s, and those that the model learned from were by %s; their "
            "bits may differ",
            VERSION,
            how.version,
        )

    def read(size: int) -> Iterator[Block]:
        for some, pixels in _ahead(names, paths, how, size):
            faults = {n: one for n, one in enumerate(pixels) if isinstance(one, str)}
            sound = [one for one in pixels if not isinstance(one, str)]
            yield Block(some, torch.from_numpy(np.stack(sound)) if sound else None, faults)

    return Samples("file", len(names), read)


def _ahead(
    names: Sequence[str], paths: Sequence[Path], how: Decoding, size: int
) -> Iterator[tuple[Sequence[str], list[NDArray[np.uint8] | str]]]:
    """Pictures by blocks, decoded by threads one block ahead; or why they cannot be."""
    starts = iter(range(0, len(names), size))
    waiting: deque[tuple[int, list[Future[NDArray[np.uint8] | str]]]] = deque()
    with ThreadPoolExecutor(cores()) as pool:
        try:
            while True:
                for start in islice(starts, 2 - len(waiting)):
                    own = paths[start : start + size]
                    waiting.append((start, [pool.submit(_decoded, one, how) for one in own]))
                if not waiting:
                    return
                start, work = waiting.popleft()
                yield names[start : start + size], [one.result() for one in work]
        finally:
            pool.shutdown(cancel_futures=True)


def _decoded(path: Path, how: Decoding) -> NDArray[np.uint8] | str:
    try:
        return decode(read_file(str(path))[2], how)
    except (OSError, UnreadableError, MemoryError) as error:
        return reason(error)
