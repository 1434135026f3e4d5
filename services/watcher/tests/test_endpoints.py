"""Following the endpoint slice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
from aiohttp import web

from codecommon.kcp.client import Kcp
from codecommon.kcp.endpoints import EXPORT_NAME
from watcher.endpoints import Endpoints


class WatchedEndpoints:
    """Records which endpoints are watched."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.started: list[str] = []
        self.dies_at: set[str] = set()

    async def watch(self, url: str) -> NoReturn:
        self.running.add(url)
        self.started.append(url)
        try:
            if url in self.dies_at:
                raise ZeroDivisionError
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            self.running.discard(url)

    async def become(self, *urls: str) -> None:
        async with asyncio.timeout(10):
            while self.running != set(urls):
                await asyncio.sleep(0.005)


def event(kind: str, version: int, urls: Iterable[str] | None = ()) -> bytes:
    endpoint_slice: dict[str, Any] = {"metadata": {"name": EXPORT_NAME, "resourceVersion": str(version)}}
    if urls is not None:
        endpoint_slice["status"] = {"endpoints": [{"url": url} for url in urls]}
    return json.dumps({"type": kind, "object": endpoint_slice}).encode() + b"\n"


END = (
    json.dumps(
        {
            "type": "BOOKMARK",
            "object": {"metadata": {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}},
        }
    ).encode()
    + b"\n"
)


class Slice:
    """Answers the watch of the slice with what is put into ``lines``. None ends a connection."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while (line := await self.lines.get()) is not None:
            await response.write(line)
        return response

    def say(self, *lines: bytes | None) -> None:
        for line in lines:
            self.lines.put_nowait(line)


@pytest.fixture
def endpoint_slice(scripted: Any) -> Slice:
    answer = Slice()
    scripted.answers = [answer]
    return answer


@asynccontextmanager
async def following(kcp: Kcp, watched: WatchedEndpoints) -> AsyncIterator[asyncio.Task[NoReturn]]:
    task = asyncio.create_task(Endpoints(watched.watch).run(kcp))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_endpoints_are_started_as_they_appear_and_stopped_as_they_vanish(
    kcp: Kcp, scripted: Any, endpoint_slice: Slice
) -> None:
    watched = WatchedEndpoints()
    async with following(kcp, watched):
        endpoint_slice.say(event("ADDED", 3, ["https://a/", "https://b"]), END)
        await watched.become("https://a", "https://b")
        endpoint_slice.say(event("MODIFIED", 6, ["https://b", "https://c"]))
        await watched.become("https://b", "https://c")
        assert sorted(watched.started) == ["https://a", "https://b", "https://c"]
        endpoint_slice.say(event("DELETED", 7, ["https://b", "https://c"]))
        await watched.become()
    assert scripted.requests[0]["fieldSelector"] == f"metadata.name={EXPORT_NAME}"


async def test_a_slice_that_is_not_there_yet_or_has_no_endpoints_is_waited_for(kcp: Kcp, endpoint_slice: Slice) -> None:
    watched = WatchedEndpoints()
    async with following(kcp, watched):
        endpoint_slice.say(END, event("ADDED", 6, None), event("MODIFIED", 7), event("MODIFIED", 8, ["https://a"]))
        await watched.become("https://a")


async def test_a_lost_connection_stops_no_endpoint(kcp: Kcp, scripted: Any, endpoint_slice: Slice) -> None:
    watched = WatchedEndpoints()
    async with following(kcp, watched):
        endpoint_slice.say(event("ADDED", 3, ["https://a"]), END)
        await watched.become("https://a")
        endpoint_slice.say(None, event("MODIFIED", 9, ["https://a", "https://b"]))
        await watched.become("https://a", "https://b")
        assert watched.started == ["https://a", "https://b"]


async def test_a_slice_that_a_new_list_does_not_name_is_gone(kcp: Kcp, scripted: Any, endpoint_slice: Slice) -> None:
    watched = WatchedEndpoints()
    async with following(kcp, watched):
        endpoint_slice.say(event("ADDED", 3, ["https://a"]), END)
        await watched.become("https://a")
        expired = json.dumps({"type": "ERROR", "object": {"code": 410}}).encode() + b"\n"
        endpoint_slice.say(expired, None, END)
        await watched.become()


async def test_a_defect_in_one_endpoint_ends_the_process(kcp: Kcp, endpoint_slice: Slice) -> None:
    watched = WatchedEndpoints()
    watched.dies_at.add("https://a")
    async with following(kcp, watched) as task:
        endpoint_slice.say(event("ADDED", 3, ["https://a"]), END)
        async with asyncio.timeout(10):
            with pytest.raises(ExceptionGroup) as caught:
                await task
    assert caught.group_contains(ZeroDivisionError)
