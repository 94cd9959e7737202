"""Requests to a Label Studio server: tokens, and what goes wrong on the way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from label_studio_server import PERSONAL, TOKEN, LabelStudio, serving

from dal.oracles.label_studio import client as module
from dal.oracles.label_studio.client import (
    Client,
    RefusedError,
    UnreachableError,
    checked_url,
    read_token,
)

HOME = "/api/projects/"


@pytest.fixture
def studio() -> Iterator[LabelStudio]:
    with serving() as found:
        yield found


def test_a_personal_token_is_exchanged_and_renewed_when_it_is_no_longer_taken(
    studio: LabelStudio,
) -> None:
    client = Client(studio.url, PERSONAL)
    assert client.get(HOME)["results"] == client.get(HOME)["results"] == []
    studio.access = "second.access.key"
    client.get(HOME)
    refreshed = [key for _, path, key in studio.seen if path == "/api/token/refresh/"]
    assert refreshed == [None, None]
    assert [key for _, path, key in studio.seen if path == HOME] == [
        "Bearer first.access.key",
        "Bearer first.access.key",
        "Bearer first.access.key",
        "Bearer second.access.key",
    ]


@pytest.mark.parametrize("token", ["f" * 40, "not.the.one"])
def test_a_wrong_token_is_one_clear_error_that_does_not_show_it(
    studio: LabelStudio, token: str
) -> None:
    with pytest.raises(RefusedError, match=r"refuses the token.*LABEL_STUDIO_API_KEY") as error:
        Client(studio.url, token).get(HOME)
    assert token not in str(error.value)


def test_no_redirection_is_followed_so_that_nobody_else_gets_the_token(
    studio: LabelStudio,
) -> None:
    with serving() as other:
        studio.before = lambda *_: (302, {}, {"Location": f"{other.url}/api/projects/"})
        with pytest.raises(RefusedError, match=f"redirects to {other.url}, which is not followed"):
            Client(studio.url, TOKEN).get(HOME)
        assert other.seen == []


@pytest.mark.parametrize("status", [500, 502, 429])
def test_a_server_that_fails_may_do_so_for_a_while(studio: LabelStudio, status: int) -> None:
    studio.before = lambda *_: (status, {"detail": "database is\nlocked \x1b[31m"})
    with pytest.raises(UnreachableError, match=rf"fails \({status}: database islocked"):
        Client(studio.url, TOKEN).get(HOME)


def test_a_reply_that_gets_lost_and_a_server_that_is_gone(studio: LabelStudio) -> None:
    def drop(method: str, path: str) -> None:
        raise OSError

    studio.after = drop
    with pytest.raises(UnreachableError, match="does not answer"):
        Client(studio.url, TOKEN).get(HOME)
    with pytest.raises(UnreachableError, match="does not answer"):
        Client("http://127.0.0.1:9", TOKEN).get(HOME)


def test_what_is_no_json_is_not_believed(studio: LabelStudio) -> None:
    studio.before = lambda *_: (200, b"<!doctype html>")
    with pytest.raises(UnreachableError, match="does not answer as Label Studio does"):
        Client(studio.url, TOKEN).get(HOME)
    studio.before = lambda *_: (200, b"[" * 100_000)
    with pytest.raises(UnreachableError, match="does not answer as Label Studio does"):
        Client(studio.url, TOKEN).get(HOME)


def test_replies_are_read_up_to_a_limit(
    studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 10)
    with pytest.raises(ValueError, match="sent more than"):
        Client(studio.url, TOKEN).get(HOME)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8080", "ftp://a.org", "http://", "http://a.org/?x=1", "http://a b.org",
     "http://a.org:port", "http://a.org/\n", "file:///etc/passwd"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="no address of a server"):
        checked_url(url)


def test_an_address_with_a_password_is_refused_and_plain_http_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ValueError, match="user name or password") as error:
        checked_url("https://me:secret@a.org")
    assert "secret" not in str(error.value)
    with caplog.at_level(logging.WARNING):
        assert checked_url("https://a.org/studio/") == "https://a.org/studio"
        assert checked_url("http://[::1]:8080") == "http://[::1]:8080"
        assert checked_url("http://localhost") == "http://localhost"
        assert caplog.messages == []
        checked_url("http://a.org")
    assert "unencrypted" in caplog.text


def test_tokens_come_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    with pytest.raises(ValueError, match="set LABEL_STUDIO_API_KEY"):
        read_token(None)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", f" {TOKEN}\n")
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{PERSONAL}\n")
    assert read_token(str(file)) == PERSONAL
    file.write_text("my token\n")
    with pytest.raises(ValueError, match="more than a token"):
        read_token(str(file))
    with pytest.raises(FileNotFoundError):
        read_token(str(tmp_path / "none"))
