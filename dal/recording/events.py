"""Takes back what a killed process wrote to TensorBoard's event files beyond its last commit.

An event file is a sequence of records: length (uint64), checksum of the length, data, checksum of
the data; the data is an ``Event``. Opening a folder again adds a second file, and points written
twice show twice. TensorBoard's own remedy, a session-start event (``purge_step``), hides the old
points only in readers that know it, and only if the new file's name sorts behind the old one's,
which a restart within the same second or on a machine whose clock is behind does not promise.
`rewind` therefore removes such points from disk. A TensorBoard that is running meanwhile follows;
only one started with ``--load_fast=false`` must be started again to see the resumed run.

A run's points stand in one folder, which TensorBoard lists as one entry, though their x differ:
labels, or optimizer steps. A session-start event would hide the points of both at one x.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dal.utils.safe_files import remove_temporary, write_atomically

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

HISTORY = "events.out.tfevents.0000000000.history"
"""Name of the file that holds all points kept so far; it sorts before every other event file."""

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")


def rewind(folder: Path, stays: Callable[[str, int], bool]) -> list[Event]:
    """Remove the points that will be written again from the event files of one folder.

    What is left is merged into one file, in order of x, without what a kill left half written.
    A process killed while it rewinds loses nothing: the old files go only after the new one is
    complete, and records that then stand in both are kept once.

    Args:
        folder: Holds the event files; subfolders are not touched. Need not exist.
        stays: Whether a point stays, by its tag and its x. Points written as one stay together,
            by the first tag.

    Returns:
        The events left.

    Raises:
        OSError: The files cannot be read, written or removed.
    """
    remove_temporary(folder)
    files = sorted(folder.glob("events.out.tfevents.*"))
    kept = _staying(stays, files)
    if kept:
        _write(folder / HISTORY, list(kept))
    for file in files:
        if not kept or file.name != HISTORY:
            file.unlink()
    return list(kept.values())


def _staying(stays: Callable[[str, int], bool], files: list[Path]) -> dict[bytes, Event]:
    """The distinct summary records that stay, each with its event, in order of x."""
    found: dict[bytes, Event] = {}
    for file in files:
        for event, record in _records(file):
            if event.summary.value and stays(event.summary.value[0].tag, event.step):
                found[record] = event
    return dict(sorted(found.items(), key=lambda pair: pair[1].step))


def _records(file: Path) -> Iterator[tuple[Event, bytes]]:
    """The events of a file, each with its whole record, up to the first damaged one."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
    from tensorboard.compat.proto.event_pb2 import Event

    content = memoryview(file.read_bytes())
    end = 0
    while (span := _data_span(content, end)) is not None:
        start, (begin, stop), end = end, span, span[1] + _CHECKSUM.size
        try:
            yield Event.FromString(content[begin:stop]), bytes(content[start:end])
        except DecodeError:
            return


def _data_span(content: memoryview, start: int) -> tuple[int, int] | None:
    """Where the data of the record at ``start`` begins and stops; None for an incomplete record."""
    length = content[start : start + _LENGTH.size]
    begin = start + _LENGTH.size + _CHECKSUM.size
    if not _matches(length, content[start + _LENGTH.size : begin]):
        return None
    stop = begin + _LENGTH.unpack(length)[0]
    rest = len(content) - stop - _CHECKSUM.size
    # A checksum takes 0.2 s per MB in Python, and only the last record can be half written.
    if rest < 0 or (rest == 0 and not _matches(content[begin:stop], content[stop:])):
        return None
    return begin, stop


def _matches(data: memoryview, checksum: memoryview) -> bool:
    """Whether data and their stored checksum agree; False where the checksum is cut off."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    if len(checksum) < _CHECKSUM.size:
        return False
    return bool(masked_crc32c(bytes(data)) == _CHECKSUM.unpack(checksum)[0])


def _write(path: Path, records: list[bytes]) -> None:
    """Write an event file that is either there and complete or not there."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    def write(file: IO[bytes]) -> None:
        RecordWriter(file).write(Event(file_version="brain.Event:2").SerializeToString())
        file.writelines(records)

    # Readers take every name with "tfevents" in it for an event file, a temporary one as well.
    complete = path.with_name("history")
    write_atomically(complete, write)
    complete.replace(path)
