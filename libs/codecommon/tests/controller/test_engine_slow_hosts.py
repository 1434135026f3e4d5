"""The engine with a real nats-server and the real HTTP stack, against hosts on loopback that answer when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import pytest

from codecommon.api.repository import Repository
from codecommon.api.results import Outcome
from codecommon.controller.context import ReconcileContext
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.shares import HostShares
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import HostTarget
from codecommon.githost.provider import Registry
from codecommon.githost.registry import open_registry
from codecommon.messaging.bus import Bus
from codecommon.process.secrets import SecretValue
from codecommon.testing.builders import event_for
from codecommon.testing.engine import Calls, is_fine, put, until, working
from codecommon.testing.objects import InMemoryKcp

pytestmark = [pytest.mark.nats, pytest.mark.slow]

SLOTS = 64
NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b'Content-Length: 23\r\n\r\n{"message":"Not Found"}'
)


@pytest.fixture(autouse=True)
def no_request_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """So whatever gets a slot while hosts do not answer gets it because of the shares, however slow the machine is."""
    monkeypatch.setattr("codecommon.githost.http.sessions._TIMEOUT", aiohttp.ClientTimeout(total=None))
    monkeypatch.setattr("codecommon.githost.registry.HostTransport", partial(HostTransport, deadline=3600.0))


class PatientShares(HostShares):
    """No request counts as late before the test loses patience."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._patient = True
        self._overdue: list[tuple[Any, Any, Any]] = []

    def _is_late(self, host: Any, asking: Any, limit: Any) -> None:
        if self._patient:
            self._overdue.append((host, asking, limit))
        else:
            super()._is_late(host, asking, limit)

    def _in_time(self, host: Any, asking: Any) -> None:
        self._overdue = [overdue for overdue in self._overdue if overdue[1] is not asking]
        super()._in_time(host, asking)

    def lose_patience(self) -> None:
        self._patient = False
        for overdue in self._overdue:
            super()._is_late(*overdue)


@dataclass
class LoopbackHost:
    """Answers while ``answering`` is set. ``asked``: requests that wait for their answer; ``most_asked`` at once."""

    url: str = ""
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    most_asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                self.most_asked = max(self.asked, self.most_asked)
                gone = asyncio.ensure_future(reader.read(1))
                answering = asyncio.ensure_future(self.answering.wait())
                try:
                    await asyncio.wait({gone, answering}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self.asked -= 1
                    answering.cancel()
                    gone.cancel()
                    await asyncio.gather(gone, answering, return_exceptions=True)
                if not self.answering.is_set():
                    return
                writer.write(NOT_FOUND)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def loopback_host() -> AsyncIterator[LoopbackHost]:
    host = LoopbackHost()
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(host.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield host
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


@dataclass
class World:
    """``slow``: hosts that the test lets answer. ``fast`` always does. ``done``: the objects that are reconciled."""

    bus: Bus
    kcp: InMemoryKcp
    registry: Registry
    fast: LoopbackHost
    slow: list[LoopbackHost]
    done: set[str] = field(default_factory=set[str])

    async def reconcile(self, ctx: ReconcileContext[Repository]) -> Outcome:
        obj = ctx.object
        which = obj.name.partition("-")[0]
        url = self.fast.url if which == "fast" else self.slow[int(which)].url
        credential_key = (obj.workspace.cluster, "uid", "1")
        backend = self.registry.open("github", HostTarget(url, TokenSecret(SecretValue("t")), None, credential_key))
        await backend.find_repository("acme", obj.name)
        self.done.add(f"{obj.workspace.cluster}/{obj.name}")
        return await is_fine(ctx)

    async def declare(self, *names: str, cluster: str) -> None:
        for name in names:
            await self.bus.publish(event_for(put(self.kcp, name, cluster), cluster=cluster))

    async def declare_crowd(self, each: int = 12) -> None:
        """As many objects as there are slots and more, at the slow hosts in turn, in six workspaces."""
        for tenant in range(6):
            names = [f"{n % len(self.slow)}-{n}" for n in range(each)]
            await self.declare(*names, cluster=f"crowd{tenant}")

    @property
    def asked(self) -> int:
        return sum(host.asked for host in self.slow)


@asynccontextmanager
async def world(bus: Bus, kcp: InMemoryKcp, *, slow: int, shares: HostShares | None = None) -> AsyncIterator[World]:
    async with AsyncExitStack() as opened:
        fast = await opened.enter_async_context(loopback_host())
        fast.answering.set()
        hosts = [await opened.enter_async_context(loopback_host()) for _ in range(slow)]
        allowed = [host.url for host in (fast, *hosts)]
        registry = await opened.enter_async_context(
            open_registry(allowed, bus, {}, ProxyRules(), shares or HostShares(SLOTS))
        )
        made = World(bus, kcp, registry, fast, hosts)
        await opened.enter_async_context(working(bus, kcp, Calls(made.reconcile), max_in_flight=SLOTS))
        yield made
        for host in hosts:
            host.answering.set()


async def test_a_host_that_does_not_answer_leaves_slots_to_others_and_its_objects_are_all_done_once_it_does(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    async with world(bus, kcp, slow=1) as w:
        (slow,) = w.slow
        await w.declare_crowd()
        await until(lambda: slow.asked == 16)
        await w.declare("fast-one", cluster="other")
        await until(lambda: "other/fast-one" in w.done)
        assert w.done == {"other/fast-one"}
        assert slow.most_asked == 16
        slow.answering.set()
        await until(lambda: len(w.done) == 73)


async def test_one_host_that_answers_may_have_all_slots_until_it_stops_answering(bus: Bus, kcp: InMemoryKcp) -> None:
    shares = PatientShares(SLOTS)
    async with world(bus, kcp, slow=1, shares=shares) as w:
        (host,) = w.slow
        host.answering.set()
        await w.declare("0-first", cluster="crowd0")
        await until(lambda: len(w.done) == 1)
        host.answering.clear()
        await w.declare_crowd()
        await until(lambda: host.asked == SLOTS)
        shares.lose_patience()
        await w.declare("fast-one", cluster="other")
        await until(lambda: "other/fast-one" in w.done)
        await until(lambda: host.asked <= 16)


async def test_many_slow_hosts_together_leave_half_of_the_slots(bus: Bus, kcp: InMemoryKcp) -> None:
    shares = HostShares(SLOTS)
    async with world(bus, kcp, slow=5, shares=shares) as w:
        # As long as nothing is known of them they may have a quarter more.
        await w.declare(*(f"{n}-first" for n in range(5)), cluster="first")
        await until(lambda: sum(host.is_slow for host in shares._hosts.values()) == 5)
        await w.declare_crowd(40)
        await until(lambda: w.asked == SLOTS // 2)
        await w.declare("fast-one", cluster="other")
        await until(lambda: "other/fast-one" in w.done)
        assert w.asked == SLOTS // 2
        assert w.done == {"other/fast-one"}
