"""A browser's part of the labeling page, without a browser."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Answers a redirection as it is."""

    def redirect_request(self, *_: Any) -> None:
        """Do not follow."""


class Client:
    """Opens an address with its token, and has a name.

    Args:
        address: As the oracle logs it.
        name: Of the person.
    """

    def __init__(self, address: str, name: str = "Ann") -> None:
        self.base, self.name = address.partition("/?")[0], name
        self._opener = urllib.request.build_opener(NoRedirect)
        self.entered = self.send("GET", address.removeprefix(self.base))
        self.cookie = (self.entered[2].get("Set-Cookie") or "").partition(";")[0]

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes, Any]:
        """Status, content and headers of what comes back."""
        request = urllib.request.Request(self.base + path, body, headers or {}, method=method)
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a page."""
        status, content, _ = self.send("GET", path, None, {"Cookie": self.cookie})
        return status, json.loads(content)

    def post(self, path: str, **content: Any) -> tuple[int, Any]:
        """Status and JSON after sending something as this person's page would."""
        headers = {
            "Cookie": self.cookie,
            "Origin": self.base,
            "Content-Type": "application/json",
        }
        body = json.dumps({"name": self.name, **content}).encode()
        status, found, _ = self.send("POST", path, body, headers)
        return status, json.loads(found)

    def state(self, since: int | None = None) -> Any:
        """What is on the page."""
        more = "" if since is None else f"&since={since}"
        status, found = self.get(f"/api/state?name={self.name}{more}")
        assert status == 200, found
        return found

    def until(self, phase: str, but: str | None = None, seconds: float = 60.0) -> Any:
        """The state once it has a phase, with another question than one."""
        end = time.monotonic() + seconds
        state = self.state()
        while state["phase"] != phase or (but is not None and state["question"] == but):
            assert time.monotonic() < end, state
            state = self.state(state["version"])
        return state

    def answer(self, item: str, answer: Any, **more: Any) -> tuple[int, Any]:
        """Answer a sample of the question that its name begins with, unless told otherwise."""
        sent = {
            "question": item.rpartition("-")[0],
            "id": item,
            "answer": answer,
            "seconds": 1.5,
            "nonce": uuid.uuid4().hex,
        }
        return self.post("/api/answer", **sent | more)

    def hand_in(self, question: str, **more: Any) -> tuple[int, Any]:
        """Hand a question in."""
        return self.post("/api/hand_in", question=question, **more)
