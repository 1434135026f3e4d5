from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.conditional import ETagLayer
from codecommon.githost.http.sender import Sender, attach
from codecommon.githost.http.trust import WELL_KNOWN
from codecommon.testing.clock import Clock

ENDPOINT = GithubProvider(["ghe.example"]).address("https://ghe.example")
# Between requests: fifty of them take an hour.
SECONDS = 74
ALICE, BOB = ("cluster", "alice", "1"), ("cluster", "bob", "1")
# No layer under test looks at it.


@dataclass
class Host:
    """Answers with the ETag of ``body``, and with 304 to whoever names it."""

    body: object = "as it was"
    etag: Callable[[str], str] = lambda text: f'"{hash(text)}"'
    seen: list[httpx.Request] = field(default_factory=list)
    fails: httpx.Response | None = None
    remaining: int = 100

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        self.remaining -= 1
        if self.fails is not None:
            return self.fails
        text = json.dumps(self.body)
        headers = {"ETag": self.etag(text), "X-RateLimit-Remaining": str(self.remaining), "X-OAuth-Scopes": "repo"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return httpx.Response(304, headers=headers)
        return httpx.Response(
            200,
            headers=headers | {"Content-Type": "application/json", "Link": "<x>"},
            stream=httpx.ByteStream(text.encode()),
        )

    @property
    def asked_with(self) -> list[str | None]:
        return [request.headers.get("if-none-match") for request in self.seen]


@dataclass
class Bed:
    host: Host
    clock: Clock
    layer: ETagLayer

    async def get(
        self,
        path: str = "/repos/acme/web",
        *,
        as_: tuple[str, str, str] = ALICE,
        method: str = "GET",
        accept: str = "json",
    ) -> httpx.Response:
        request = httpx.Request(method, ENDPOINT.api_base + path, headers={"Accept": accept})
        attach(request, Sender(ENDPOINT, as_, WELL_KNOWN))
        response = await self.layer.handle_async_request(request)
        await response.aread()
        return response


def bed(**limits: int) -> Bed:
    host, clock = Host(), Clock()
    return Bed(host, clock, ETagLayer(httpx.MockTransport(host.answer), clock=clock, **limits))


async def test_what_has_not_changed_is_answered_from_memory_with_the_quota_of_now() -> None:
    b = bed()
    first = await b.get()
    second = await b.get()
    assert (second.status_code, second.json()) == (200, "as it was")
    assert b.host.asked_with == [None, first.headers["etag"]]
    assert second.headers["x-ratelimit-remaining"] == "98"
    assert second.headers["content-type"] == "application/json"
    assert second.headers["link"] == "<x>"


async def test_what_has_changed_is_seen_and_is_what_is_kept_from_then_on() -> None:
    b = bed()
    await b.get()
    b.host.body = "vandalised"
    assert (await b.get()).json() == "vandalised"
    assert (await b.get()).json() == "vandalised"
    assert b.host.asked_with[2] == b.host.etag('"vandalised"')


async def test_a_weak_etag_is_good_enough() -> None:
    b = bed()
    b.host.etag = lambda text: f'W/"{len(text)}"'
    await b.get()
    assert (await b.get()).json() == "as it was"
    assert b.host.asked_with[1] == 'W/"11"'


@pytest.mark.parametrize(
    "other",
    [
        {"as_": BOB},
        {"as_": ("cluster", "alice", "2")},
        {"path": "/repos/acme/web?page=2"},
        {"accept": "another"},
    ],
)
async def test_nothing_is_shared_between_credentials_addresses_or_media_types(other: dict[str, Any]) -> None:
    b = bed()
    await b.get()
    await b.get(**other)
    assert b.host.asked_with == [None, None]


async def test_a_write_is_never_conditional() -> None:
    b = bed()
    await b.get()
    assert (await b.get(method="PATCH")).status_code == 200
    assert b.host.asked_with == [None, None]


async def test_an_error_is_passed_on_and_what_is_gone_is_not_kept() -> None:
    b = bed()
    await b.get()
    b.host.fails = httpx.Response(503)
    assert (await b.get()).status_code == 503
    b.host.fails = httpx.Response(404)
    assert (await b.get()).status_code == 404
    assert b.host.asked_with[1:] == [b.host.etag('"as it was"')] * 2
    b.host.fails = None
    assert (await b.get()).status_code == 200
    assert b.host.asked_with[3] is None


def cut(body: bytes, **headers: str) -> httpx.Response:
    """A 200 with the ETag of what the host has, and another body."""
    fields = {"ETag": Host().etag('"as it was"'), "Content-Type": "application/json"}
    return httpx.Response(200, headers=fields | headers, stream=httpx.ByteStream(body))


ZIPPED = {"Content-Encoding": "gzip"}
BROKEN: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty": (b"", {}),
    "cut": (b'"as it', {}),
    "cut and zipped": (gzip.compress(b'"as it was"')[:20], ZIPPED),
    "not zipped": (b'"as it was"', ZIPPED),
}


@pytest.mark.parametrize("before", [False, True], ids=["first read", "later read"])
@pytest.mark.parametrize("broken", BROKEN)
async def test_a_body_that_cannot_be_read_is_not_kept_and_neither_is_what_was_kept_before(
    broken: str, before: bool
) -> None:
    body, headers = BROKEN[broken]
    b = bed()
    if before:
        b.host.body = "before"
        await b.get()
        b.host.body = "as it was"
    b.host.fails = cut(body, **headers)
    with contextlib.suppress(httpx.DecodingError):
        assert (await b.get()).content != b'"as it was"'
    b.host.fails = None
    assert (await b.get()).json() == "as it was"
    assert b.host.asked_with[-1] is None


async def test_an_encoded_body_is_kept_as_it_was_sent() -> None:
    b = bed()
    b.host.fails = cut(gzip.compress(b'"as it was"'), **ZIPPED)
    await b.get()
    b.host.fails = None
    assert (await b.get()).json() == "as it was"
    assert b.host.asked_with[-1] == b.host.etag('"as it was"')


async def test_memory_is_bounded_and_keeps_what_was_used_last() -> None:
    b = bed(most_bytes=6 * 5000)
    for path in ("/1", "/2", "/3", "/1", "/4"):
        await b.get(path)
    b.host.seen.clear()
    for path in ("/1", "/4", "/2"):
        await b.get(path)
    assert [etag is not None for etag in b.host.asked_with] == [True, True, False]


async def test_no_workspace_pushes_out_what_is_kept_for_another() -> None:
    b = bed(most_bytes=6 * 5000)
    other = ("other", "carol", "1")
    await b.get("/1", as_=other)
    for number in range(20):
        await b.get(f"/{number}")
    b.host.seen.clear()
    await b.get("/1", as_=other)
    assert b.host.asked_with != [None]


async def test_a_very_long_answer_is_not_kept() -> None:
    b = bed()
    b.host.body = "x" * (1024 * 1024)
    await b.get()
    assert len((await b.get()).json()) == 1024 * 1024
    assert b.host.asked_with == [None, None]


async def test_a_principal_that_gains_nothing_is_left_alone_for_an_hour() -> None:
    b = bed()
    for number in range(51):
        b.host.body = number
        b.clock.advance(SECONDS)
        await b.get()
    await b.get(as_=BOB)
    b.host.seen.clear()
    await b.get()
    b.clock.advance(3599)
    await b.get()
    assert b.host.asked_with == [None, None]
    # Others are not concerned.
    await b.get(as_=BOB)
    assert b.host.asked_with[2] is not None
    b.clock.advance(1)
    await b.get()
    await b.get()
    assert b.host.asked_with[3] is None
    assert b.host.asked_with[4] is not None


async def test_a_principal_with_one_hit_in_ten_goes_on() -> None:
    b = bed()
    for number in range(201):
        if number % 10:
            b.host.body = number
        b.clock.advance(SECONDS)
        await b.get()
    assert None not in b.host.asked_with[1:]


async def test_a_renewed_token_whose_etags_are_all_new_goes_on() -> None:
    b = bed()
    for token in range(3):
        # An installation's token is renewed at 80 % of its hour; drift looks at all repositories every twelve minutes.
        b.host.etag = lambda text, token=token: f'"{token}-{hash(text)}"'
        for _ in range(4):
            for number in range(100):
                await b.get(f"/repos/acme/{number}")
            b.clock.advance(720)
    assert None not in b.host.asked_with[100:]


async def test_the_share_of_304_can_be_read() -> None:
    def count(result: str) -> float:
        labels = {"result": result, "host": ENDPOINT.host}
        return REGISTRY.get_sample_value("code_host_conditional_requests_total", labels) or 0

    results = ("cold", "hit", "miss")
    before = [count(result) for result in results]
    b = bed()
    await b.get()
    await b.get()
    await b.get()
    b.host.body = "new"
    await b.get()
    assert [count(result) - was for result, was in zip(results, before, strict=True)] == [1, 2, 1]


async def test_a_long_body_is_kept_compressed_and_comes_back_as_it_was() -> None:
    b = bed(most_bytes=200_000)
    rows = [{"name": f"package-{number}", "url": f"https://ghe.example/packages/{number}"} for number in range(2_000)]
    b.host.body = rows
    # Three of them have 400 kB, of which a workspace may keep 100.
    paths = [f"/users/acme/packages?page={page}" for page in range(3)]
    for path in paths:
        await b.get(path)
    for path in paths:
        answer = await b.get(path)
        assert answer.json() == rows
    assert all(b.host.asked_with[3:])
