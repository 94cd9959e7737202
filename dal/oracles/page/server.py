"""The page by HTTP: who may ask what. What the answers mean is `Desk`'s and `View`'s matter."""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from werkzeug.exceptions import BadRequest, HTTPException, NotFound, RequestEntityTooLarge
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from dal.oracles.page.desk import ClosedError, Desk, NotYetError
from dal.oracles.page.question import checked_name
from dal.oracles.page.samples import BusyError, Samples, UnseenError
from dal.oracles.page.view import View

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

T = TypeVar("T")

LARGEST_BODY = 2**16
"""Bytes of what a page sends, at most: a thousand labels take a tenth of it."""
PATIENCE = 15.0
"""Seconds that a page waits for something new."""
GOODBYE = 0.5
"""Seconds that pages have at the end of a run to learn of it."""
DAYS = 7
"""So long a browser keeps the cookie."""

TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "webmanifest": "application/manifest+json",
}
"""Media types of the files of the page, by their endings; no others are served."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Handler(WSGIRequestHandler):
    """Keeps connections open, and writes no addresses to the console: they hold the token once."""

    protocol_version = "HTTP/1.1"
    timeout = 60.0

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing: what goes wrong is logged by `Server`."""

    def version_string(self) -> str:
        """Name no versions."""
        return "dal"


class Server:
    """Serves the page from threads of its own until it is closed.

    Args:
        desk: Where people answer.
        view: What they see.
        samples: What they are asked about.
        host: Address to listen at; names of this machine, and addresses, are all that browsers may
            call it by.
        port: Port; 0 for any that is free.
        token: The secret that the address holds.

    Raises:
        OSError: The port is taken, or the address is not this machine's.
    """

    def __init__(
        self, desk: Desk, view: View, samples: Samples, host: str, port: int, token: str
    ) -> None:
        self._desk, self._view, self._samples = desk, view, samples
        self._token, self._host = token.encode(), host
        # Cookies do not tell ports apart: each run has a name of its own for it.
        self.cookie = f"dal-{hashlib.sha256(self._token).hexdigest()[:8]}"
        self._at_hand, self._told = 0, set[str]()
        self._closing = threading.Event()
        listening = _listen(host, port)
        with listening:
            self.port: int = listening.getsockname()[1]
            self._server = make_server(
                host, self.port, self.serve, threaded=True, request_handler=_Handler,
                fd=listening.fileno(),
            )  # fmt: skip
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="page", args=(0.1,), daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the page is, with the token."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(
            self._host, self._host
        )
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/?token={self._token.decode()}"

    def close(self) -> None:
        """Let pages that wait learn how the run ended, then stop."""
        desk = self._desk
        with desk.changed:
            self._closing.set()
            desk.bump()
            told = lambda: self._told.issuperset(desk.at_work()) and not self._at_hand  # noqa: E731
            desk.changed.wait_for(told, GOODBYE)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request: the application, as WSGI has it."""
        self._count(1)
        request = Request(environ)
        request.max_content_length = LARGEST_BODY
        try:
            response = self._answer(request)
        except ClosedError as error:
            response = _json(409, error=str(error), question=error.question)
        except (BusyError, NotYetError) as error:
            response = _json(503, error=str(error))
        except UnseenError as error:
            log.warning("%s", error)
            response = _json(404, error=str(error))
        except RequestEntityTooLarge:
            response = _json(413, error=f"more than {LARGEST_BODY} bytes were sent")
        except HTTPException as error:
            response = _json(error.code or 500, error=error.description or error.name)
        except OSError as error:
            log.warning("an answer could not be written: %s", error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            gone = error.errno in (errno.ENOENT, errno.ESTALE)
            fact = "the disk is full" if full else f"the disk refused it ({error.strerror})"
            fact = "the folder of the run is no longer where it was" if gone else fact
            response = _json(507, error=f"{fact}; the answer is not saved yet")
        except Exception as error:
            log.exception("the page failed at %s %s", request.method, request.path)
            response = _json(500, error=f"{type(error).__name__}; train.log says more")
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.call_on_close(lambda: self._count(-1))
        return response(environ, start_response)

    def _count(self, change: int) -> None:
        """Count requests that are at hand: the last ones are answered before the process ends."""
        with self._desk.changed:
            self._at_hand += change
            self._desk.changed.notify_all()

    def _answer(self, request: Request) -> Response:
        if not self._is_ours(request.headers.get("Host", "")):
            return _json(403, error="the page is not known by this name; take the address as given")
        if request.method == "GET" and request.path == "/":
            return self._enter(request) if "token" in request.args else _static("index.html")
        if request.method == "GET" and request.path.startswith("/static/"):
            return _static(request.path.removeprefix("/static/"))
        if not self._knows(request.cookies.get(self.cookie, "")):
            return _json(403, error="open the address that the run has logged, with its token")
        if request.method == "GET":
            return self._get(request)
        if request.method == "POST":
            return self._post(request)
        return _json(405, error=f"{request.method} does nothing here")

    def _is_ours(self, host: str) -> bool:
        """Whether a browser calls this machine by a name that no other site can have.

        Any other name may be that of a site which made it mean this machine (DNS rebinding).
        """
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.strip("[]").lower()
        if name in ("localhost", self._host.lower()):
            return True
        if self._is_open and name in (socket.gethostname().lower(), socket.getfqdn().lower()):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._is_open

    @property
    def _is_open(self) -> bool:
        return not is_loopback(self._host)

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token)

    def _enter(self, request: Request) -> Response:
        """Exchange the token in the address for a cookie."""
        if not self._knows(request.args["token"]):
            return _json(403, error="the token is not that of this run; take the address as given")
        response = Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            self.cookie, self._token.decode(), max_age=DAYS * 86400, httponly=True,
            samesite="Strict",
        )  # fmt: skip
        return response

    def _get(self, request: Request) -> Response:
        _, _, path = request.path.partition("/api/")
        kind, _, item = path.partition("/")
        if path == "state":
            return self._state(request)
        if kind == "sample" and item:
            return self._sample(item)
        if kind == "image" and item:
            data, media = self._samples.image(self._index(item))
            # Another run at this address has other pictures under the same names.
            response = Response(
                data, mimetype=media, headers={"Cache-Control": "private, no-cache"}
            )
            response.add_etag()
            return response.make_conditional(request)
        raise NotFound("there is no such page")

    def _state(self, request: Request) -> Response:
        name, since = request.args.get("name", ""), request.args.get("since", type=int)
        name = _refused(lambda: checked_name(name)) if name else ""
        desk = self._desk
        with desk.changed:
            if name:
                desk.saw(name)
            new = lambda: desk.version != since or self._closing.is_set()  # noqa: E731
            desk.changed.wait_for(new, PATIENCE)
            state = self._view.state(name)
            if self._closing.is_set():
                self._told.add(name)
        return _json(200, **state)

    def _sample(self, item: str) -> Response:
        index = self._index(item)
        found = self._samples.describe(index)
        with self._desk.changed:
            sheet = self._desk.sheet
            shown = None if sheet is None else sheet.items.get(item)
            guess, probs = (None, None) if shown is None else self._view.guess(shown)
        image = f"/api/image/{item}" if found["kind"] == "image" else None
        return _json(200, id=item, **found, image=image, guess=guess, probs=probs)

    def _index(self, item: str) -> int:
        """The sample that the page calls so.

        Raises:
            NotFound: It is not asked about.
        """
        with self._desk.changed:
            sheet = self._desk.sheet
            if sheet is None or item not in sheet.items:
                raise NotFound("this sample is not asked about")
            return sheet.items[item].index

    def _post(self, request: Request) -> Response:
        origin = request.headers.get("Origin", "")
        if origin.partition("://")[2].lower() != request.headers["Host"].lower():
            return _json(403, error="this was sent by another page")
        if request.mimetype != "application/json":
            return _json(415, error="send application/json")
        sent = _refused(lambda: _sent(request.get_data()))
        if request.path == "/api/answer":
            mine = _refused(lambda: self._desk.answer(sent))
            return _json(200, version=self._desk.version, mine=mine)
        if request.path == "/api/hand_in":
            _refused(lambda: self._desk.hand_in(sent))
            return _json(200, version=self._desk.version)
        raise NotFound("there is no such page")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fact = f"port {port} is taken by another program; set oracle.port to another, or to 0"
        elif error.errno == errno.EACCES:
            fact = f"port {port} is kept for the system; set oracle.port to 1024 or more, or to 0"
        else:
            fact = f"cannot listen at {host}:{port} ({error.strerror}); set oracle.host"
        raise OSError(error.errno, fact) from error


def _refused(take: Callable[[], T]) -> T:
    """What something gives of what was sent; what it refuses is the page's fault, in words.

    Raises:
        BadRequest: It refused it.
    """
    try:
        return take()
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _sent(body: bytes) -> Mapping[str, Any]:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("what was sent is no JSON") from None
    if not isinstance(sent, dict):
        raise ValueError("what was sent is no JSON object")
    return sent


def _json(status: int, **content: Any) -> Response:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=str)
    return Response(text.encode(), status, mimetype="application/json")


def _static(name: str) -> Response:
    """A file of the page."""
    folder = files("dal.oracles.page") / "static"
    media = TYPES.get(name.rpartition(".")[2])
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    if media is None or name not in names:
        raise NotFound("there is no such file")
    headers = {"Cache-Control": "no-cache"}
    return Response((folder / name).read_bytes(), content_type=media, headers=headers)
