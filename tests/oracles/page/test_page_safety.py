"""Who may ask the labeling page what."""

from __future__ import annotations

import json
import logging
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from page_client import Client

from dal.data import Dataset, make_source
from dal.data.source import Source
from dal.oracles import PageOracle
from dal.query.base import Query
from dal.utils.logs import log_to_file, working_for

ANSWER = json.dumps(
    {
        "name": "Ann", "question": "round_0000", "id": "round_0000-1", "answer": {"labels": [0]},
        "seconds": 1, "nonce": "12345678",
    }
).encode()  # fmt: skip


def source() -> Source:
    inputs, targets = torch.zeros(9, 1, 4, 4, dtype=torch.uint8), torch.arange(9) % 2
    return make_source(Dataset("tiny", inputs, targets, ("no", "yes")), seed=0, kind="none")


def oracle_in(folder: Path, **settings: Any) -> PageOracle:
    return PageOracle(folder / "queries", ("no", "yes"), open_browser=False, **settings)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[PageOracle]:
    oracle = oracle_in(tmp_path)
    oracle.open(source())
    ticket = oracle.submit(Query(torch.tensor([1, 2]), torch.zeros(2)), 0)
    oracle.wait(ticket, 0)
    yield oracle
    oracle.close()


def test_the_token_is_exchanged_for_a_strict_cookie(page: PageOracle) -> None:
    client = Client(page.address)
    status, _, headers = client.entered
    assert (status, headers["Location"]) == (303, "/")
    assert headers["Referrer-Policy"] == "no-referrer"
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/api/state")[0] == 200


@pytest.mark.parametrize("path", ["/api/state", "/api/sample/round_0000-1", "/api/image/x"])
def test_nothing_of_the_run_is_told_without_the_cookie(page: PageOracle, path: str) -> None:
    client = Client(page.address)
    assert client.send("GET", path)[0] == 403
    assert client.send("GET", path, None, {"Cookie": client.cookie[:-1]})[0] == 403
    assert client.send("GET", path, None, {"Cookie": f"{client.cookie}x"})[0] == 403
    assert client.send("GET", "/?token=wrong")[0] == 403
    assert client.send("GET", "/?token=%C3%A9")[0] == 403


def test_the_shell_tells_nothing_and_every_answer_forbids_what_it_can(page: PageOracle) -> None:
    client = Client(page.address)
    for path in ("/", "/api/state", "/static/none.js"):
        _, content, headers = client.send("GET", path)
        assert page.address.rpartition("=")[2].encode() not in content
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] in ("no-store", "no-cache")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[evil]", "10.1.1.1"]
)
def test_other_names_of_this_machine_are_refused(page: PageOracle, host: str) -> None:
    client = Client(page.address)
    headers = {"Host": host, "Cookie": client.cookie}
    assert client.send("GET", "/api/state", None, headers)[0] in (400, 403)
    assert client.send("GET", "/", None, headers)[0] in (400, 403)


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:9000", "[::1]:9000", "localhost"])
def test_a_tunnel_may_have_another_port(page: PageOracle, host: str) -> None:
    client = Client(page.address)
    headers = {"Host": host, "Cookie": client.cookie, "Origin": f"http://{host}"}
    headers["Content-Type"] = "application/json"
    assert client.send("POST", "/api/answer", ANSWER, headers)[0] == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Cookie": ""}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_only_the_page_itself_may_change_anything(
    page: PageOracle, change: dict[str, str], status: int
) -> None:
    client = Client(page.address)
    good = {"Cookie": client.cookie, "Origin": client.base, "Content-Type": "application/json"}
    assert client.send("POST", "/api/answer", ANSWER, good | change)[0] == status
    assert client.state()["answered"] == 0
    assert client.send("POST", "/api/answer", ANSWER, good)[0] == 200


def test_no_other_method_and_no_get_changes_anything(page: PageOracle) -> None:
    client = Client(page.address)
    good = {"Cookie": client.cookie, "Origin": client.base, "Content-Type": "application/json"}
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/api/answer", "/api/hand_in"):
            assert client.send(method, path, ANSWER, good)[0] in (404, 405)
    assert client.state()["answered"] == 0


def test_what_is_too_long_or_no_json_is_refused(page: PageOracle) -> None:
    client = Client(page.address)
    good = {"Cookie": client.cookie, "Origin": client.base, "Content-Type": "application/json"}
    assert client.send("POST", "/api/answer", b"x" * 2**17, good)[0] == 413
    for body in (b"", b"{", b"[]", b"\xff", b"[" * 50_000, b'{"name": NaN}'):
        assert client.send("POST", "/api/answer", body, good)[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "/static/../oracle.py", "/static/%2e%2e/oracle.py", "/static//etc/passwd", "/static/",
        "/static/..", "/static/index.html/", "/static/.hidden.js", "/../oracle.py", "/queries",
    ],
)  # fmt: skip
def test_no_other_file_can_be_read(page: PageOracle, path: str) -> None:
    client = Client(page.address)
    assert client.send("GET", path, None, {"Cookie": client.cookie})[0] in (403, 404)


@pytest.mark.parametrize("item", ["round_0000-3", "3", "-1", "round_0000-1/../2", "%2e%2e"])
def test_only_samples_that_are_asked_about_can_be_seen(page: PageOracle, item: str) -> None:
    client = Client(page.address)
    assert client.get(f"/api/sample/{item}")[0] == 404
    assert client.get(f"/api/image/{item}")[0] == 404


def test_the_secret_stands_in_no_file_that_others_can_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = oracle_in(tmp_path)
    with caplog.at_level(logging.INFO), log_to_file(tmp_path / "train.log"):
        oracle.open(source())
    token = oracle.address.rpartition("=")[2]
    assert caplog.text.count(token) == 1
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and token in path.read_text()]
    assert [path.name for path in holding] == [".page.json"]
    assert stat.S_IMODE(holding[0].stat().st_mode) == 0o600
    oracle.close()
    holding[0].chmod(0o644)  # others may have read it
    again = oracle_in(tmp_path)
    again.open(source())
    assert again.address.rpartition("=")[2] != token
    again.close()


def test_a_taken_port_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is taken.*oracle.port"):
            oracle_in(tmp_path, port=port).open(source())


def test_the_port_of_before_is_taken_if_it_is_free(tmp_path: Path) -> None:
    first = oracle_in(tmp_path)
    first.open(source())
    first.close()
    again = oracle_in(tmp_path)
    again.open(source())
    assert again.address == first.address
    again.close()
    with socket.create_server(("127.0.0.1", int(first.address.split(":")[2].split("/")[0]))):
        third = oracle_in(tmp_path)
        third.open(source())
    assert third.address != first.address
    third.close()


def test_other_machines_are_let_in_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = oracle_in(tmp_path, host="0.0.0.0")
    oracle.open(source())
    assert "not encrypted" in caplog.text
    port = oracle.address.split(":")[2].split("/")[0]
    token = oracle.address.rpartition("=")[2]
    client = Client(f"http://127.0.0.1:{port}/?token={token}")
    assert client.send("GET", "/", None, {"Host": f"10.1.1.1:{port}"})[0] == 200
    assert client.send("GET", "/", None, {"Host": f"evil.example:{port}"})[0] == 403
    oracle.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("order", "random"), ("annotators_per_sample", 0), ("enough", 0.0), ("enough", 1.5),
     ("port", -1), ("port", 70000)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"oracle.{setting}={value}"):
        oracle_in(tmp_path, **{setting: value})


def test_several_runs_in_one_process_are_refused(tmp_path: Path) -> None:
    with working_for("margin s0"), pytest.raises(ValueError, match="one run"):
        oracle_in(tmp_path).open(source())
