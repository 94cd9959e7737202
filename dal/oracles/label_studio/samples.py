"""What people see of a sample in Label Studio: a picture's address, a text, or named cells."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from torch import Tensor

from dal.data.rows import Rows, cells_of
from dal.data.source import Source
from dal.oracles.label_studio.client import Client, field, rows
from dal.oracles.pictures import as_png

CELLS = 200
"""So many numbers of a sample are shown at most."""
UPLOADED = 50
"""Pictures that are uploaded at once: Label Studio takes 100."""
LARGEST_UPLOAD = 2**25
"""Bytes after which fewer pictures are uploaded at once."""


def kind_of(source: Source) -> str:
    """What the samples are to people: ``image``, ``text`` or ``table``."""
    if source.image(0) is not None:
        return "image"
    told = source.contents is not None and not isinstance(source.contents, Rows)
    return "text" if told or isinstance(source.show(0), str) else "table"


def told(source: Source, kind: str, index: int) -> dict[str, Any]:
    """What is shown of a sample that is no picture, and what it is called, for a task's data."""
    content, shown = source.content(index), source.show(index)
    if kind == "text":
        return {"text": content or str(shown)}
    title, cells = cells_of(source, index) or (content, _numbers(shown))
    return {"columns": cells} | ({"title": title} if title else {})


def _numbers(shown: Any) -> dict[str, str]:
    """The numbers of a sample under their names, or numbered from 0.

    Args:
        shown: float, (D,), or tensors by name, as `dal.data.store.Store.show` gives them.
    """
    if isinstance(shown, Mapping):
        return {str(name): _text(value) for name, value in list(shown.items())[:CELLS]}
    if not isinstance(shown, Tensor):
        return {"": str(shown)}
    numbers = shown.flatten()[:CELLS]
    return {str(place): f"{float(x):.6g}" for place, x in enumerate(numbers)}


def _text(value: Tensor) -> str:
    listed = ", ".join(f"{float(x):.6g}" for x in value.flatten()[:CELLS])
    return listed if value.numel() <= CELLS else f"{listed}, ..."


class Pictures(Protocol):
    """Gives pictures addresses that Label Studio shows them by."""

    def addresses(self, project: int, indices: Sequence[int]) -> list[str]:
        """Of some samples, in their order; what is missing on the server is put there.

        Raises:
            ValueError: A picture cannot be shown so.
            UnreachableError: The server is gone.
        """


class Uploaded:
    """Pictures as PNG files that are uploaded, each once for a run.

    Args:
        client: The server.
        source: The data.
        mark: Gives that of the run; the names of the files begin with it.
    """

    def __init__(self, client: Client, source: Source, mark: Callable[[], str]) -> None:
        self._client, self._source, self._mark = client, source, mark
        self._known: dict[str, str] = {}

    def addresses(self, project: int, indices: Sequence[int]) -> list[str]:
        """See `Pictures.addresses`."""
        mark = self._mark()
        names = [f"{mark}-{index}.png" for index in indices]
        if not self._known.keys() >= set(names):
            self._look(f"/api/projects/{project}/file-uploads", {"all": "true"})
        batch: dict[str, bytes] = {}
        for index, name in zip(indices, names, strict=True):
            if name not in self._known and name not in batch:
                image = self._source.image(index)
                assert image is not None
                batch[name] = as_png(image)
            if len(batch) == UPLOADED or sum(map(len, batch.values())) > LARGEST_UPLOAD:
                self._upload(project, batch)
                batch = {}
        if batch:
            self._upload(project, batch)
        return [f"/data/{self._known[name]}" for name in names]

    def _upload(self, project: int, files: Mapping[str, bytes]) -> None:
        path = f"/api/projects/{project}/import?commit_to_project=false"
        numbers = field(self._client.upload(path, files), "file_upload_ids", list)
        listed = json.dumps(numbers, separators=(",", ":"))
        self._look(f"/api/projects/{project}/file-uploads", {"ids": listed})
        if missing := files.keys() - self._known.keys():
            raise ValueError(f"Label Studio did not keep {min(missing)}; its own log says why")

    def _look(self, path: str, query: Mapping[str, Any]) -> None:
        """Note the files that are there; the server puts eight digits before their names."""
        for row in rows(self._client.get(path, **query)):
            file = field(row, "file", str)
            self._known[posixpath.basename(file).partition("-")[2]] = quote(file)


class Local:
    """Pictures that Label Studio reads itself, from a folder on its machine.

    Args:
        client: The server.
        source: The data; its contents are paths below ``images``.
        document_root: ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`` as the server knows it.
        images: The folder that ``data.path`` names, as the server knows it; below the root.

    Raises:
        ValueError: The folder is not below the root, or the samples are no files.
    """

    def __init__(self, client: Client, source: Source, document_root: str, images: str) -> None:
        self._client, self._source, self._checked = client, source, False
        self._images = posixpath.normpath(images)
        self._below = posixpath.relpath(self._images, posixpath.normpath(document_root))
        if self._below in (".", "..") or self._below.startswith("../"):
            raise ValueError(
                f"oracle.images={images} is not a folder below oracle.document_root="
                f"{document_root}, which Label Studio asks for; give both as its machine knows them"
            )
        if source.contents is None:
            raise ValueError(
                f"oracle.pictures=local needs picture files, and {source.name} has arrays; use "
                "upload"
            )

    def addresses(self, project: int, indices: Sequence[int]) -> list[str]:
        """See `Pictures.addresses`."""
        path = "/api/storages/localfiles"
        storages = rows(self._client.get(path, project=project))
        if not any(storage.get("path") == self._images for storage in storages):
            self._client.post(
                path, {"project": project, "path": self._images, "use_blob_urls": True}
            )
        found = [self._address(index) for index in indices]
        if not self._checked and not self._client.is_there(found[0]):
            raise ValueError(
                f"Label Studio does not find {found[0]}; oracle.images must be the folder that "
                "data.path names, and oracle.document_root its "
                "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, with "
                "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
            )
        self._checked = True
        return found

    def _address(self, index: int) -> str:
        name = self._source.content(index)
        if not name or "\\" in name:
            raise ValueError(
                f"sample {index} ({name!r}) has no file name that an address can hold; use "
                "oracle.pictures=upload"
            )
        return f"/data/local-files/?d={quote(posixpath.join(self._below, name))}"
