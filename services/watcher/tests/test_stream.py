"""A watch stream against a server that misbehaves in every way that was observed."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from codecommon.kcp.client import Kcp
from codecommon.process.backoff import Backoff
from watcher import decode
from watcher.index import SecretEntry
from watcher.stream import METADATA_ONLY, Source, WatchStream

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
MARKER = "ghp_MARKEDmarkedMARKEDmarkedMARKEDmarked00"


def line(kind: str, name: str, version: int | str, **annotations: str) -> bytes:
    metadata = {
        "name": name,
        "namespace": "default",
        "resourceVersion": str(version),
        "annotations": {"kcp.io/cluster": "c1", **annotations},
    }
    return json.dumps({"type": kind, "object": {"metadata": metadata}}).encode() + b"\n"


def bookmark(version: int, *, end: bool = False) -> bytes:
    return line("BOOKMARK", "", version, **({"k8s.io/initial-events-end": "true"} if end else {}))


def error(code: int, reason: str = "Expired") -> bytes:
    status = {"kind": "Status", "code": code, "reason": reason, "message": f"about {MARKER}"}
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


async def for_ever(response: web.StreamResponse) -> web.StreamResponse:
    await asyncio.Event().wait()
    return response


async def closes(response: web.StreamResponse) -> web.StreamResponse:
    return response


def sends(
    *chunks: bytes, then: Callable[[web.StreamResponse], Awaitable[web.StreamResponse]] = for_ever, status: int = 200
) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return await then(response)

    return answer


def cut(*chunks: bytes) -> Answer:
    """Sends ``chunks``, then drops the connection in the middle of the body."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def refuses(status: int, text: str = "", content_type: str = "text/html", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type, headers=headers)

    return answer


def status_json(code: int) -> str:
    return json.dumps({"kind": "Status", "code": code, "reason": "Because", "message": f"about {MARKER}"})


class Recorder:
    """A sink that records every call."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._changed = asyncio.Condition()

    def list_began(self) -> None:
        self._record("began")

    def put(self, item: SecretEntry) -> None:
        self._record(f"put {item.key.name}@{item.version}")

    def delete(self, item: SecretEntry) -> None:
        self._record(f"delete {item.key.name}@{item.version}")

    def list_ended(self) -> None:
        self._record("ended")

    def _record(self, what: str) -> None:
        self.seen.append(what)

    async def has(self, what: str) -> None:
        async with asyncio.timeout(10):
            while what not in self.seen:
                await asyncio.sleep(0.005)


class QuickBackoff(Backoff):
    """Back-off without pauses. ``delays``: how long the pauses would have been."""

    def __init__(self) -> None:
        super().__init__(0.1, 5.0)
        self.delays: list[float] = []

    def failed(self, key: str) -> float:
        self.delays.append(super().failed(key))
        return 0.0


@asynccontextmanager
async def streaming(
    kcp: Kcp,
    scripted: Any,
    *answers: Answer,
    silence: float = 30,
    list_silence: float = 10,
    backoff: Backoff | None = None,
) -> AsyncIterator[Recorder]:
    scripted.answers = list(answers)
    recorder = Recorder()

    async def locate() -> str:
        return scripted.url

    source = Source("secrets", locate, decode.secret, METADATA_ONLY)
    stream = WatchStream(
        kcp, source, recorder, backoff=backoff or QuickBackoff(), silence=silence, list_silence=list_silence
    )
    task = asyncio.create_task(stream.run())
    try:
        yield recorder
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


LISTED = (line("ADDED", "a", 7), line("ADDED", "b", 3), bookmark(10, end=True))
LIST_SEEN = ["began", "put a@7", "put b@3", "ended"]


async def test_a_streaming_list_ends_with_its_bookmark_and_the_same_stream_goes_on(kcp: Kcp, scripted: Any) -> None:
    async with streaming(kcp, scripted, sends(*LISTED, line("MODIFIED", "a", 11), line("DELETED", "b", 12))) as sink:
        await sink.has("delete b@12")
        assert sink.seen == [*LIST_SEEN, "put a@11", "delete b@12"]
    assert scripted.requests == [
        {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
        }
    ]
    assert scripted.headers[0]["Accept"] == METADATA_ONLY
    assert scripted.headers[0]["Authorization"] == "Bearer of-the-provider"


@pytest.mark.parametrize(
    ("events", "resumed"),
    [
        pytest.param([], "10", id="at the end of the list"),
        pytest.param([line("MODIFIED", "a", 11)], "11", id="at the last object"),
        pytest.param([line("MODIFIED", "a", 11), bookmark(15)], "15", id="at the last bookmark"),
    ],
)
async def test_a_closed_stream_is_resumed_where_it_was(
    kcp: Kcp, scripted: Any, events: list[bytes], resumed: str
) -> None:
    answers = (sends(*LISTED, *events, then=closes), sends(line("MODIFIED", "z", 20)))
    async with streaming(kcp, scripted, *answers) as sink:
        await sink.has("put z@20")
        assert sink.seen.count("began") == 1
    assert scripted.requests[1] == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": resumed}


async def test_a_list_that_is_cut_is_begun_anew(kcp: Kcp, scripted: Any) -> None:
    async with streaming(kcp, scripted, cut(LISTED[0]), sends(*LISTED)) as sink:
        await sink.has("ended")
        assert sink.seen == ["began", "put a@7", *LIST_SEEN]
    assert "resourceVersion" not in scripted.requests[1]


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(sends(error(410)), id="ERROR event 410"),
        pytest.param(sends(error(504, "Timeout")), id="ERROR event: too large a resourceVersion"),
        pytest.param(refuses(410, status_json(410), "application/json"), id="HTTP 410"),
        pytest.param(refuses(410), id="HTTP 410 without a body"),
        pytest.param(refuses(400, status_json(400), "application/json"), id="HTTP 400"),
        pytest.param(refuses(404), id="HTTP 404"),
        pytest.param(sends(bookmark(4)), id="a bookmark of the past"),
    ],
)
async def test_a_resource_version_that_kcp_does_not_know_any_more_means_a_new_list(
    kcp: Kcp, scripted: Any, failure: Answer
) -> None:
    async with streaming(kcp, scripted, sends(*LISTED, then=closes), failure, sends(*LISTED)) as sink:
        await scripted.seen(3)
        await sink.has("ended")
        async with asyncio.timeout(5):
            while sink.seen.count("ended") < 2:
                await asyncio.sleep(0.005)
    assert scripted.requests[1]["resourceVersion"] == "10"
    assert scripted.requests[2]["sendInitialEvents"] == "true"


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(refuses(429, status_json(429), "application/json"), id="429"),
        pytest.param(refuses(500, status_json(500), "application/json"), id="500"),
        pytest.param(refuses(502, f"<html>{MARKER}</html>"), id="502 with HTML"),
        pytest.param(refuses(503), id="503 without a body"),
        pytest.param(refuses(403, status_json(403), "application/json"), id="403"),
        pytest.param(refuses(401, status_json(401), "application/json"), id="401"),
        pytest.param(refuses(200, f"<html>\n{MARKER}</html>\n"), id="200 with HTML"),
        pytest.param(sends(error(429, "TooManyRequests")), id="ERROR event 429"),
        pytest.param(cut(line("MODIFIED", "a", 11)[:40]), id="cut within a line"),
        pytest.param(sends(line("MODIFIED", "a", 11)[:40], then=closes), id="closed within a line"),
        pytest.param(sends(b'{"type":"MODIFIED"}\n'), id="event without object"),
        pytest.param(sends(b'{"type":"MODIFIED","object":{}}\n'), id="object without metadata"),
        pytest.param(sends(b'{"type":"SURPRISE","object":{}}\n'), id="event of unknown type"),
        pytest.param(sends(b"[1]\n"), id="JSON that is no object"),
    ],
)
async def test_a_failure_that_says_nothing_of_our_place_is_followed_by_a_resume(
    kcp: Kcp, scripted: Any, failure: Answer
) -> None:
    answers = (sends(*LISTED, then=closes), failure, sends(line("MODIFIED", "z", 20)))
    async with streaming(kcp, scripted, *answers) as sink:
        await sink.has("put z@20")
        assert sink.seen.count("began") == 1
    assert scripted.requests[2]["resourceVersion"] == "10"


async def test_a_broken_line_is_reported_by_its_length(
    kcp: Kcp, scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken = line("MODIFIED", "a", 11)[:40]
    async with streaming(kcp, scripted, sends(*LISTED, broken, then=closes), sends(line("MODIFIED", "z", 20))) as sink:
        await sink.has("put z@20")
    assert "MalformedLine: a body that ends within a line of 40 bytes" in caplog.text


async def test_retry_after_is_honoured(kcp: Kcp, scripted: Any) -> None:
    answers = (refuses(429, status_json(429), "application/json", **{"Retry-After": "1"}), sends(*LISTED))
    began = time.monotonic()
    async with streaming(kcp, scripted, *answers) as sink:
        await sink.has("ended")
    assert time.monotonic() - began >= 1


async def test_a_silent_stream_is_left(kcp: Kcp, scripted: Any) -> None:
    answers = (sends(*LISTED), sends(line("MODIFIED", "z", 20)))
    async with streaming(kcp, scripted, *answers, silence=0.3) as sink:
        await sink.has("put z@20")
    assert scripted.requests[1]["resourceVersion"] == "10"


async def test_a_list_that_does_not_begin_is_left_soon_and_then_less_soon(kcp: Kcp, scripted: Any) -> None:
    """kcp accepts a streaming list of a resource that nobody has bound yet, and never answers it."""
    async with streaming(kcp, scripted, sends(), sends(), sends(*LISTED), list_silence=0.2) as sink:
        began = time.monotonic()
        await sink.has("ended")
        assert time.monotonic() - began >= 0.6
        assert sink.seen == ["began", "began", *LIST_SEEN]


async def test_a_server_that_does_not_answer_is_left(kcp: Kcp, scripted: Any) -> None:
    async def hangs(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with streaming(kcp, scripted, hangs, sends(*LISTED), silence=0.3) as sink:
        await sink.has("ended")


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(sends(then=closes), id="closes at once"),
        pytest.param(refuses(503), id="503"),
        pytest.param(sends(line("ADDED", "a", 7), error(410)), id="one event, then 410"),
        pytest.param(sends(*LISTED, error(410)), id="a list, then 410"),
        pytest.param(sends(*LISTED, line("MODIFIED", "a", 11), error(410)), id="a list, an event, then 410"),
    ],
)
async def test_a_server_that_always_fails_is_asked_less_and_less_often(
    kcp: Kcp, scripted: Any, failure: Answer
) -> None:
    backoff = QuickBackoff()
    async with streaming(kcp, scripted, failure, backoff=backoff):
        await scripted.seen(9)
    assert backoff.delays[:6] == sorted(backoff.delays[:6])
    assert backoff.delays[7] >= 5.0


async def test_progress_makes_the_next_pause_short_again(kcp: Kcp, scripted: Any) -> None:
    backoff = QuickBackoff()
    answers = (
        sends(*LISTED, then=closes),
        refuses(503),
        refuses(503),
        sends(line("MODIFIED", "a", 11), then=closes),
        sends(line("MODIFIED", "z", 20)),
    )
    async with streaming(kcp, scripted, *answers, backoff=backoff) as sink:
        await sink.has("put z@20")
    assert backoff.delays[2] >= 0.4
    assert backoff.delays[3] < 0.2


async def test_lines_of_several_megabytes_arrive(kcp: Kcp, scripted: Any) -> None:
    big = line("MODIFIED", "big", 11, filler="x" * (6 << 20))
    chunks = [big[i : i + 100_000] for i in range(0, len(big), 100_000)]
    async with streaming(kcp, scripted, sends(*LISTED, *chunks)) as sink:
        await sink.has("put big@11")


async def test_an_object_without_a_cluster_is_left_out_and_the_stream_goes_on(kcp: Kcp, scripted: Any) -> None:
    odd = b'{"type":"MODIFIED","object":{"metadata":{"name":"odd","resourceVersion":"11"}}}\n'
    async with streaming(kcp, scripted, sends(*LISTED, odd, line("MODIFIED", "a", 12))) as sink:
        await sink.has("put a@12")
        assert not any("odd" in what for what in sink.seen)


async def test_a_rotated_kubeconfig_is_used_by_the_next_connection(
    kcp: Kcp, scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codecommon.kcp.identity._CHECK_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("codecommon.kcp.identity._GRACE_SECONDS", 0.0)
    file = tmp_path / "kubeconfig"
    async with streaming(kcp, scripted, sends(*LISTED), refuses(200, "{}"), sends(line("MODIFIED", "z", 20))) as sink:
        await sink.has("ended")
        file.write_text(file.read_text().replace("of-the-provider", "rotated-since"))
        # The next request notices the rotation, and closes every connection that was made with the old kubeconfig.
        await kcp.request("GET", "/version")
        await sink.has("put z@20")
    assert scripted.requests[2]["resourceVersion"] == "10"
    assert scripted.headers[2]["Authorization"] == "Bearer rotated-since"


LEAKY = line(
    "MODIFIED",
    "token",
    11,
    **{"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"stringData": {"token": MARKER}})},
)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(sends(*LISTED, LEAKY), id="whole"),
        pytest.param(sends(*LISTED, LEAKY[:-30], then=closes), id="truncated"),
        pytest.param(sends(*LISTED, LEAKY[:-30] + b"\n"), id="truncated at a line's end"),
        pytest.param(sends(*LISTED, LEAKY[20:]), id="without its beginning"),
        pytest.param(sends(*LISTED, LEAKY.replace(b'"metadata"', b'metadata"')), id="corrupted"),
        pytest.param(sends(*LISTED, LEAKY.replace(b'"c1"', b'["c1"]')), id="of another shape"),
        pytest.param(sends(*LISTED, LEAKY.replace(b'"11"', f'"{MARKER}"'.encode())), id="as its resourceVersion"),
        pytest.param(
            sends(*LISTED, LEAKY.replace(b'"name": "token"', f'"name": "{MARKER}"'.encode())), id="as its name"
        ),
        pytest.param(sends(*LISTED, LEAKY.replace(b"MODIFIED", MARKER.encode())), id="as its type"),
        pytest.param(cut(*LISTED, LEAKY[:-30]), id="cut"),
        pytest.param(refuses(200, f"<html>{MARKER}\n</html>\n"), id="HTML"),
        pytest.param(refuses(500, f"{MARKER}"), id="body of an error"),
        pytest.param(refuses(403, status_json(403), "application/json"), id="message of a Status"),
        pytest.param(sends(error(500)), id="message of an ERROR event"),
    ],
)
async def test_a_token_in_a_line_never_leaves_the_stream(
    kcp: Kcp, scripted: Any, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    caplog.set_level(logging.DEBUG, logger="watcher")
    async with streaming(kcp, scripted, answer, sends(*LISTED), silence=0.3) as sink:
        await scripted.seen(2)
        assert not any(MARKER in what for what in sink.seen)
    assert MARKER not in caplog.text
    for record in caplog.records:
        assert record.exc_info is None
        assert MARKER not in str(record.args)


async def test_a_corrupted_chunk_header_does_not_show_its_text(
    kcp: Kcp, scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + MARKER.encode() + b"\r\n\r\n"
        )
        await asyncio.Event().wait()
        raise AssertionError

    async with streaming(kcp, scripted, broken, sends(*LISTED)) as sink:
        await sink.has("ended")
    assert MARKER not in caplog.text
