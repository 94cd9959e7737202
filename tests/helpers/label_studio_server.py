"""A stand-in for a Label Studio server: it answers as version 1.23.2 was seen to do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from waiting import join

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "eyJh.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJl"
ANNOTATION: dict[str, Any] = {
    "id": 7, "completed_by": 1, "result": [], "was_cancelled": False, "ground_truth": False,
    "created_at": "2026-11-28T22:54:09.854578Z", "updated_at": "2026-11-28T22:54:09.854604Z",
    "draft_created_at": None, "lead_time": 1.25, "prediction": {}, "result_count": 1,
    "unique_id": "cb280583-16f4-4919-9dd8-6b1cf01a1480", "import_id": None, "last_action": None,
    "bulk_created": False, "task": 10008, "project": 4, "updated_by": 1, "parent_prediction": None,
    "parent_annotation": None, "last_created_by": None,
}  # fmt: skip
TASK: dict[str, Any] = {
    "id": 1, "annotations": [], "drafts": [], "predictions": [], "data": {}, "meta": {},
    "created_at": "2026-11-28T22:53:56.432745Z", "updated_at": "2026-11-28T22:54:09.953576Z",
    "allow_skip": True, "inner_id": 1, "total_annotations": 0, "cancelled_annotations": 0,
    "total_predictions": 0, "comment_count": 0, "unresolved_comment_count": 0,
    "last_comment_updated_at": None, "project": 4, "updated_by": 1, "comment_authors": [],
}  # fmt: skip


class LabelStudio:
    """The server's state, and what people do there.

    Attributes:
        projects: By number, as they were created.
        tasks: Of all projects, in the order of import; of an import's predictions their bodies.
        uploads: Files by name, of all projects.
        storages: Bodies of local-files storages.
        seen: Method and path of each request, and its key.
        before: Called with method and path before a request is answered; what it returns is sent
            in place of an answer: a status with words, or a redirection; or raises ``OSError`` to
            drop the connection.
        after: The same, when what was asked is done: a reply that gets lost.
        access: Personal access tokens are exchanged for it.
    """

    def __init__(self) -> None:
        self.url = ""
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: list[dict[str, Any]] = []
        self.uploads: dict[str, bytes] = {}
        self.storages: list[dict[str, Any]] = []
        self.seen: list[tuple[str, str, str | None]] = []
        self.before: Callable[[str, str], Any] = lambda method, path: None
        self.after: Callable[[str, str], Any] = lambda method, path: None
        self.access = "first.access.key"
        self.lock = threading.RLock()
        self._annotations = 0

    def of(self, project: int) -> list[dict[str, Any]]:
        return [task for task in self.tasks if task["project"] == project]

    def task(self, sample: int, question: str | None = None) -> dict[str, Any]:
        """The one task of a sample, in the latest question or in one."""
        found = [task for task in self.tasks if task["data"].get("dal_sample") == sample]
        named = [t for t in found if question in (None, t["data"]["dal_question"])]
        return named[-1]

    def answer(
        self, task: dict[str, Any], *choices: str, person: int = 1, seconds: Any = 1.25
    ) -> dict[str, Any]:
        """Somebody answers; without choices they submit none."""
        value = {"choices": list(choices)}
        result = {"from_name": "label", "to_name": "sample", "type": "choices", "value": value}
        return self._annotate(task, [result] if choices else [], False, person, seconds)

    def skip(self, task: dict[str, Any], person: int = 1) -> dict[str, Any]:
        return self._annotate(task, [], True, person, None)

    def _annotate(
        self, task: dict[str, Any], result: Any, skipped: bool, person: int, seconds: Any
    ) -> dict[str, Any]:
        with self.lock:
            self._annotations += 1
            one = ANNOTATION | {
                "id": self._annotations, "result": result, "was_cancelled": skipped,
                "completed_by": person, "lead_time": seconds, "task": task["id"],
            }  # fmt: skip
            task["annotations"].append(one)
            task["cancelled_annotations" if skipped else "total_annotations"] += 1
            return one

    def create(self, **settings: Any) -> int:
        number = max(self.projects, default=0) + 1
        self.projects[number] = {"description": "", **settings}
        return number

    def add(self, project: int, task: dict[str, Any]) -> None:
        number = max((one["id"] for one in self.tasks), default=0) + 1
        own = {"id": number, "project": project, "annotations": [], "data": task["data"]}
        self.tasks.append(TASK | own | {"predictions": task.get("predictions", [])})

    def reply(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """A status, and what goes with it; None for what there is not."""
        project = int(found[1]) if (found := re.match(r"/api/projects/(\d+)/", path)) else 0
        if found and project not in self.projects:
            return 404, _fault(404, "No Project matches the given query.")
        if path == "/api/token/refresh/":
            good = body == {"refresh": PERSONAL}
            return (
                (200, {"access": self.access}) if good else (401, _fault(401, "Token is invalid"))
            )
        if path == "/api/projects/" and method == "GET":
            return 200, self._listed(query)
        if path == "/api/projects/":
            return 201, {"id": self.create(**body)}
        if path.endswith("/import") and query.get("commit_to_project") == "false":
            start = len(self.uploads)
            self.uploads |= {f"upload/{project}/1a2b3c4d-{n}": data for n, data in body.items()}
            return 201, {"file_upload_ids": [*range(start, len(self.uploads))]}
        if path.endswith("/import"):
            for task in body:
                self.add(project, task)
            return 201, {"task_count": len(body), "file_upload_ids": []}
        if path.endswith("/file-uploads"):
            meant = json.loads(query.get("ids", "[]"))
            files = [
                {"id": number, "file": file, "size": len(data)}
                for number, (file, data) in enumerate(self.uploads.items())
                if query.get("all") or number in meant
            ]
            return 200, files
        if path.endswith("/export"):
            return 200, [task for task in self.of(project) if task["annotations"]]
        if path.endswith("/annotators/"):
            people = {a["completed_by"] for task in self.of(project) for a in task["annotations"]}
            return 200, [{"id": p, "email": f"p{p}@example.org"} for p in sorted(people)]
        if path == "/api/tasks/":
            return 200, {"total": 0, "tasks": self.of(int(query["project"]))}
        if match := re.fullmatch(r"/api/tasks/(\d+)/", path):
            return self._one_task(method, int(match[1]))
        if path == "/api/storages/localfiles" and method == "GET":
            return 200, [one for one in self.storages if one["project"] == int(query["project"])]
        if path == "/api/storages/localfiles":
            self.storages.append(body)
            return 201, body
        if path == "/data/local-files/":
            return (200, {}) if "missing" not in query["d"] else (404, {})
        return 404, _fault(404, "Not found.")

    def _listed(self, query: dict[str, str]) -> Any:
        rows = []
        for number, project in self.projects.items():
            named = query.get("title", "") in project["title"]
            if named and query.get("ids", str(number)) == str(number):
                own = self.of(number)
                counts = [sum(t[f"{k}_annotations"] for t in own) for k in ("total", "cancelled")]
                done = sum(1 for task in own if task["annotations"])
                rows.append({
                    "id": number, "title": project["title"],
                    "description": project["description"], "task_number": len(own),
                    "total_annotations_number": counts[0],
                    "skipped_annotations_number": counts[1], "finished_task_number": done,
                })  # fmt: skip
        return {"count": len(rows), "next": None, "previous": None, "results": rows}

    def _one_task(self, method: str, number: int) -> Any:
        found = [task for task in self.tasks if task["id"] == number]
        if not found:
            return 404, _fault(404, "No Task matches the given query.")
        if method == "DELETE":
            self.tasks.remove(found[0])
            return 204, None
        return 200, found[0]


def _fault(status: int, detail: str) -> dict[str, Any]:
    return {"id": "1e0c930b", "status_code": status, "version": "1.23.2", "detail": detail}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def _answer(self) -> None:
        studio, parts = self.server.studio, urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        key = self.headers.get("Authorization")
        with studio.lock:
            studio.seen.append((self.command, parts.path, key))
            before = studio.before
        try:
            sent = before(self.command, parts.path)
            good = key in (f"Token {TOKEN}", f"Bearer {studio.access}")
            if sent is None and not (good or parts.path == "/api/token/refresh/"):
                sent = 401, _fault(401, "Invalid token.")
            if sent is None:
                with studio.lock:
                    sent = studio.reply(self.command, parts.path, query, self._body(data))
                    text = json.dumps(sent[1]).encode() if sent[1] is not None else b""
                studio.after(self.command, parts.path)
            else:
                text = sent[1] if isinstance(sent[1], bytes) else json.dumps(sent[1]).encode()
        except OSError:
            self.close_connection = True
            return
        self.send_response(sent[0])
        for name, value in sent[2].items() if len(sent) > 2 else ():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _body(self, data: bytes) -> Any:
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/form-data"):
            return json.loads(data) if data else None
        boundary = kind.partition("boundary=")[2].encode()
        files = {}
        for part in data.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name = re.search(rb'filename="([^"]+)"', head)
            assert name is not None
            files[name[1].decode()] = content.removesuffix(b"\r\n")
        return files


for _method in ("GET", "POST", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    studio: LabelStudio


@contextmanager
def serving(studio: LabelStudio | None = None, port: int = 0) -> Iterator[LabelStudio]:
    """The stand-in on a port of this machine, for the time of a block."""
    studio = studio or LabelStudio()
    with _Server(("127.0.0.1", port), _Handler) as server:
        server.studio = studio
        studio.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield studio
        finally:
            server.shutdown()
            join(thread)
