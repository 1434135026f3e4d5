"""Text of a host or a tenant is cut before any pattern sees it, and no pattern takes longer than in proportion to its length."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import logging
import pkgutil
import re
import time
from collections.abc import Iterator
from types import ModuleType

import httpx
import pytest

import access_svc
import codecommon
import connection_svc
import gateway
import package_crawler
import repository_svc
import watcher
from codecommon.api.durations import parse_duration
from codecommon.api.results import Interruption
from codecommon.githost.github import classify as classify_module
from codecommon.githost.github.answer import Answer, token_expiry
from codecommon.githost.github.classify import OF_INVITATIONS, OF_KEYS, Attempt, classify
from codecommon.githost.host_names import host_name
from codecommon.kcp.client import NotFound, resource_path
from codecommon.process import logs
from codecommon.process import redact as redact_module
from codecommon.process.redact import Redactor, redact

LONG = 160 * 1024
# The pieces are what the patterns look for, without what ends it.
PIECES = (
    *("limit ", "invitations ", "too many limit exceed ", "cannot assign ", "permission of ", "rate limit ", "invit"),
    *("a", "a-", "a.", "-", ".", "/", "1", "1.", "1h", "://a", "url=https://", "/app/", "/orgs/", ".lock", "@", "\\"),
    *("ghp_", "ghp_aaaa-aaaaaaaa", "ghp_aaaa----------", "eyJaaaaaaaa.", "eyJaaaaaaaa-", "Z2hpX", "gh", "bearer "),
    *("token=", "token ", "'token': '", "authorization:", "authorization: bearer ", "-----BEGIN PRIVATE KEY-----"),
    *(" ", "\n", "\t", '"', "the user has ", "[1] ", "é"),
)
SEARCHES = ("search", "match", "fullmatch")
PACKAGES = (codecommon, access_svc, connection_svc, gateway, package_crawler, repository_svc, watcher)
# What it reads was accepted by another pattern, and its length is bounded: test_lengths_are_looked_at_first.
BOUNDED = {"codecommon.api.durations._TERM"}
MANY_KEYS = Attempt("register a key", write=True, creates=True, refusals=(*OF_KEYS, *OF_INVITATIONS))


def hostile(piece: str, length: int = LONG) -> str:
    return (piece * (length // len(piece) + 1))[:length]


def modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".testing" not in found.name and not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def patterns() -> Iterator[tuple[str, re.Pattern[str], str]]:
    """(name, pattern, method by which it is used) of every pattern that a module has."""
    for module in modules():
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern) and f"{module.__name__}.{name}" not in BOUNDED:
                for method in (*SEARCHES, "sub"):
                    if f"{name}.{method}(" in source:
                        yield f"{module.__name__}.{name}", value, "search" if method == "sub" else method
    for number, refusal in enumerate((*OF_KEYS, *OF_INVITATIONS)):
        yield f"refusal {number}", refusal.words, "search"


@pytest.mark.parametrize(("name", "pattern", "method"), [pytest.param(*found, id=found[0]) for found in patterns()])
def test_a_pattern_takes_time_in_proportion_to_the_text(name: str, pattern: re.Pattern[str], method: str) -> None:
    for piece in PIECES:
        text = f"{hostile(piece, LONG // 4)}!"
        started = time.process_time()
        getattr(pattern, method)(text)
        # A pattern that takes quadratic time would take 2 s for a text of the whole length.
        assert time.process_time() - started < 2 / 4**2, (name, piece)


def test_every_pattern_is_found() -> None:
    assert {"codecommon.process.redact._SHAPES", "codecommon.githost.github.classify._PRIMARY"} <= {
        name for name, *_ in patterns()
    }


class Counted:
    """A pattern or a scrubber that adds up the characters it is given."""

    def __init__(self, real: re.Pattern[str] | None = None) -> None:
        self.real = real
        self.seen = 0

    def __call__(self, text: str) -> str:
        self.seen += len(text)
        return text

    def search(self, text: str) -> re.Match[str] | None:
        self.seen += len(text)
        assert self.real is not None
        return self.real.search(text)

    def sub(self, replace: str, text: str) -> str:
        self.seen += len(text)
        assert self.real is not None
        return self.real.sub(replace, text)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 451, 500])
@pytest.mark.parametrize("length", [50_000, LONG, 2_000_000])
@pytest.mark.parametrize("where", ["message", "error", "errors"])
def test_what_a_host_says_is_cut_before_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, status: int, length: int, where: str
) -> None:
    text = hostile("limit invitations ", length)
    body: dict[str, object] = {"message": text if where == "message" else "no"}
    if where == "error":
        body["errors"] = [{"field": text, "message": text}]
    elif where == "errors":
        body["errors"] = ["limit"] * (length // 8)
    primary, scrub = Counted(classify_module._PRIMARY), Counted()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(classify_module, "_PRIMARY", primary)
    answer = Answer("git.example", status, httpx.Headers(), json.dumps(body).encode())
    found = classify(answer, MANY_KEYS, scrub)
    assert primary.seen <= 4096
    assert scrub.seen <= 3 * 4096
    assert isinstance(found, Interruption)
    assert len(found.message) < 2048


@pytest.mark.parametrize("body", [b"[" * 500_000, b'{"message":' * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000])
def test_a_body_that_is_nested_without_end_is_no_answer(body: bytes) -> None:
    assert Answer("git.example", 403, httpx.Headers(), body).message is None


def test_half_a_token_at_the_cut_is_not_shown() -> None:
    token = "ghp_" + "aB3" * 12
    unknown = "x9-" * 12
    scrub = Redactor(unknown)
    for secret in (token, unknown):
        for before in range(4050, 4096):
            body = {"message": f"{hostile('no ', before)} {secret} is refused"}
            answer = Answer("git.example", 403, httpx.Headers(), json.dumps(body).encode())
            assert secret[:6] not in scrub(answer.message or "")


def test_a_cut_that_redaction_has_moved_forward_shows_no_half_of_a_token() -> None:
    token = "ghp_" + "aB3" * 1000
    body = {"message": f"{token} {token} {token}"}
    answer = Answer("git.example", 403, httpx.Headers(), json.dumps(body).encode())
    found = classify(answer, Attempt("read"), redact)
    assert isinstance(found, Interruption)
    assert "aB3" not in found.message


def test_megabytes_are_not_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = Counted(redact_module._SHAPES)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(redact_module, "_SHAPES", shapes)
    text = hostile("token ", 15 * 1024 * 1024)
    assert len(redact(text)) <= 128 * 1024
    assert len(Redactor("correct-horse")(text)) <= 128 * 1024
    assert shapes.seen <= 2 * 128 * 1024


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_log_record_is_short_whatever_it_is_about(log_format: logs.LogFormat) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.setup("watcher", "info", log_format, stream)
    try:
        with logs.bind(name=hostile("token ", 2_000_000)):
            try:
                raise ValueError(hostile("token ", 2_000_000))
            except ValueError:
                logging.getLogger("x").exception("%s", hostile("token ", 2_000_000))
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert len(stream.getvalue()) < 64 * 1024


@pytest.mark.parametrize("piece", PIECES)
def test_lengths_are_looked_at_first(piece: str) -> None:
    text = hostile(piece)
    started = time.process_time()
    with pytest.raises(ValueError, match=r"^.{1,300}$"):
        parse_duration(text)
    with pytest.raises(ValueError, match="not a host name"):
        host_name(text)
    with pytest.raises(NotFound):
        resource_path("secrets", text)
    token_expiry(httpx.Headers({"github-authentication-token-expiration": text.encode("ascii", "ignore").decode()}))
    assert time.process_time() - started < 0.5


def test_an_expiry_at_the_end_of_the_calendar_is_none() -> None:
    assert token_expiry(httpx.Headers({"github-authentication-token-expiration": "9999-12-31 23:59:59 -2359"})) is None
