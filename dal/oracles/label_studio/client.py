"""Requests to a Label Studio server of the user's, by the standard library alone.

What a server sends is foreign data: replies are read up to a limit, must be JSON, and their types
are checked where they are used (`field`).
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

log = logging.getLogger(__name__)

T = TypeVar("T")
VARIABLE = "LABEL_STUDIO_API_KEY"
"""Environment variable that holds the token."""
LARGEST = 2**28
"""Bytes of a reply, at most: what 200,000 answered tasks take."""
PATIENCE = 300.0
"""Seconds without a byte after which a server counts as gone: imports take long."""
_SAID = 300
"""Letters of a server's own words in an error, at most."""


class UnreachableError(OSError):
    """The server does not answer as it should, and may do so later."""


class RefusedError(ValueError):
    """The server will not do what was asked.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def checked_url(url: str) -> str:
    """The address of a server, without a slash at its end.

    Raises:
        ValueError: It is none, or holds a password.
    """
    parts = urlsplit(url if url.isprintable() else "")
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:  # the port is no number
        valid = False
    if not valid or parts.query or parts.fragment or " " in url:
        raise ValueError(
            f"oracle.url={url!r:.80} is no address of a server; give one such as "
            "http://127.0.0.1:8080"
        )
    if "@" in parts.netloc:
        raise ValueError(
            "oracle.url holds a user name or password, which would be written down with the run; "
            f"leave it out and give the token by {VARIABLE}"
        )
    if parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
        log.warning("%s: the token is sent unencrypted; use https where others listen", url)
    return url.rstrip("/")


def read_token(path: str | None) -> str:
    """The token, from a file or else from the environment.

    Raises:
        ValueError: There is none.
        FileNotFoundError: There is no such file.
    """
    if path is not None:
        token, where = Path(path).expanduser().read_text(errors="replace").strip(), path
    else:
        token, where = os.environ.get(VARIABLE, "").strip(), VARIABLE
    if not token:
        raise ValueError(
            f"{where} holds no token of Label Studio; set {VARIABLE} (or oracle.token_file) to the "
            "one that its page Account & Settings shows"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(f"{where} holds more than a token; give the token alone, on one line")
    return token


class Client:
    """Sends requests with a token, and follows no redirection: nobody else gets the token.

    A personal access token (one with two dots) is exchanged for a key that lives for minutes, at
    the first request and whenever the server no longer takes that key; no clock is asked.

    Args:
        url: The server; see `checked_url`.
        token: Of either kind; see `read_token`.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url, self._token = url, token
        self._renewable = token.count(".") == 2
        self._header = "" if self._renewable else f"Token {token}"
        loopback = _is_loopback(str(urlsplit(url).hostname))
        proxies = [ProxyHandler({})] if loopback else []
        self._opener: OpenerDirector = build_opener(_NoRedirection(), *proxies)

    def get(self, path: str, **query: Any) -> Any:
        """The reply to a GET, such as ``get("/api/projects/", page_size=10)``.

        Raises:
            UnreachableError: The server is gone, fails, or sends no JSON.
            RefusedError: It says no.
        """
        return self._send("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Any) -> Any:
        """The reply to a POST of JSON; see `get`."""
        return self._send("POST", path, json.dumps(body).encode(), "application/json")

    def delete(self, path: str) -> None:
        """Delete what has this address; see `get`."""
        self._send("DELETE", path)

    def is_there(self, path: str) -> bool:
        """Whether something has this address; see `get`."""
        try:
            self._send("GET", path, peek=True)
        except RefusedError as error:
            if error.status != 404:
                raise
            return False
        return True

    def upload(self, path: str, files: Mapping[str, bytes]) -> Any:
        """The reply to a POST of PNG files by their names; see `get`."""
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n".encode()
            + data
            + b"\r\n"
            for name, data in files.items()
        ]
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        return self._send("POST", path, body, f"multipart/form-data; boundary={boundary}")

    def _send(
        self, method: str, path: str, body: bytes | None = None, kind: str = "", peek: bool = False
    ) -> Any:
        for last in (False, True):
            if not self._header:
                self._renew()
            try:
                return self._once(method, path, body, kind, self._header, peek)
            except RefusedError as error:
                if error.status != 401 or last or not self._renewable:
                    raise
                self._header = ""
        raise AssertionError

    def _renew(self) -> None:
        body = json.dumps({"refresh": self._token}).encode()
        reply = self._once("POST", "/api/token/refresh/", body, "application/json", "")
        access = field(reply, "access", str)
        if not (access.isascii() and access.isprintable()):
            raise UnreachableError(f"{self.url} gave a key that is none")
        self._header = f"Bearer {access}"

    def _once(
        self, method: str, path: str, body: bytes | None, kind: str, key: str, peek: bool = False
    ) -> Any:
        headers = {"Accept": "application/json"}
        headers |= {"Content-Type": kind} if kind else {}
        headers |= {"Authorization": key} if key else {}
        request = Request(self.url + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=PATIENCE) as reply:
                return None if peek else self._parsed(reply.read(LARGEST + 1))
        except HTTPError as error:
            with error:
                raise self._fault(error) from None
        except (OSError, HTTPException) as error:
            if isinstance(error, UnreachableError):
                raise
            reason = getattr(error, "reason", None) or error
            raise UnreachableError(
                f"Label Studio at {self.url} does not answer ({reason})"
            ) from None

    def _parsed(self, data: bytes) -> Any:
        if len(data) > LARGEST:
            raise ValueError(f"{self.url} sent more than {LARGEST >> 20} MiB; is it Label Studio?")
        try:
            return json.loads(data) if data else None
        except (ValueError, RecursionError):
            raise UnreachableError(
                f"{self.url} does not answer as Label Studio does; check oracle.url"
            ) from None

    def _fault(self, error: HTTPError) -> Exception:
        """What an answer of failure means, in words."""
        status, text = error.code, _words(error)
        if status in (301, 302, 303, 307, 308):
            target = urlsplit(str(error.headers.get("Location")))
            place = f"{target.scheme}://{target.netloc}" if target.netloc else target.path
            return RefusedError(
                status,
                f"{self.url} redirects to {place:.80}, which is not followed, so that nobody else "
                "gets the token; set oracle.url to it if that is your server",
            )
        if status == 401 or status == 403:
            return RefusedError(
                status,
                f"Label Studio at {self.url} refuses the token ({text}); copy one from its page "
                f"Account & Settings into {VARIABLE} (or oracle.token_file), and run the same "
                "command again",
            )
        if status >= 500 or status in (408, 425, 429):
            return UnreachableError(
                f"Label Studio at {self.url} fails ({status}: {text}); its own log says why"
            )
        return RefusedError(status, f"Label Studio at {self.url} refuses ({status}: {text})")


def field(reply: Any, name: str, kind: type[T]) -> T:
    """A value of a reply.

    Raises:
        UnreachableError: It is not there, or of another type.
    """
    value = reply.get(name) if isinstance(reply, Mapping) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UnreachableError(f"Label Studio sent no {name}; dal was made for its version 1.23")
    return value


def rows(reply: Any) -> Sequence[Mapping[str, Any]]:
    """A reply that is a list of objects.

    Raises:
        UnreachableError: It is something else.
    """
    if not isinstance(reply, list) or not all(isinstance(row, Mapping) for row in reply):
        raise UnreachableError("Label Studio sent no list; dal was made for its version 1.23")
    return reply


def _words(error: IO[bytes]) -> str:
    """What the server itself says, on one line."""
    try:
        found = json.loads(error.read(2**16))
        parts = [found.get("detail"), *dict(found.get("validation_errors") or {}).values()]
        text = " ".join(str(part) for part in parts if part)
    except (OSError, HTTPException, ValueError, TypeError, AttributeError, RecursionError):
        text = ""
    text = "".join(letter for letter in text if letter.isprintable())
    return text[:_SAID] or "without a reason"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirection(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Redirections are errors."""
