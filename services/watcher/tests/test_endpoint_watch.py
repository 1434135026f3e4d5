"""One endpoint from stream to message, with a real nats-server and a scripted kcp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from codecommon.api.kinds import CONNECTIONS, KINDS, REPOSITORIES
from codecommon.kcp.client import Kcp
from codecommon.messaging.bundles import DirectoryBundles
from codecommon.messaging.bus import LEASES, Bus
from codecommon.messaging.events import ObjectEvent
from codecommon.messaging.lease import Lease, LeaseTiming
from codecommon.process.settings import NatsSettings
from devstack.nats import NatsServer
from watcher.endpoint_watch import Dependencies, watch_endpoint

pytestmark = pytest.mark.nats

QUICK = LeaseTiming(renew=0.2, lost_after=3.0, retry=0.1, release=5.0)


class Tables:
    """Serves lists and watches of every resource. ``put`` and ``bind`` reach every open watch."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[str, Any]] = {}
        self.watchers: dict[str, list[asyncio.Queue[bytes]]] = {}
        self.lists = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        resource = request.path.rpartition("/")[2]
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        if "sendInitialEvents" in request.query:
            self.lists += 1
            for raw in self.objects.get(resource, {}).values():
                queue.put_nowait(_event("ADDED", raw))
            end = {
                "resourceVersion": str(self.version),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }
            queue.put_nowait(_event("BOOKMARK", {"metadata": end}))
        self.watchers.setdefault(resource, []).append(queue)
        try:
            while True:
                await response.write(await queue.get())
        finally:
            self.watchers[resource].remove(queue)

    def put(self, resource: str, name: str, *, spec: Any = None, status: Any = None, **metadata: Any) -> None:
        self.version += 1
        raw = {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": str(self.version),
                "annotations": {"kcp.io/cluster": "c1"},
                "generation": 1,
                **metadata,
            },
            "spec": spec,
            "status": status,
        }
        known = self.objects.setdefault(resource, {})
        kind = "MODIFIED" if name in known else "ADDED"
        known[name] = raw
        for queue in self.watchers.get(resource, ()):
            queue.put_nowait(_event(kind, raw))

    def delete(self, resource: str, name: str) -> None:
        self.version += 1
        raw = self.objects[resource].pop(name)
        raw["metadata"]["resourceVersion"] = str(self.version)
        for queue in self.watchers.get(resource, ()):
            queue.put_nowait(_event("DELETED", raw))

    def bind(self) -> None:
        self.put("apibindings", "code", status={"phase": "Bound"})

    def connection(self, *, secret: str, ready: bool = True, generation: int = 1, **metadata: Any) -> None:
        status = {
            "observedGeneration": 1,
            "observedSecretVersion": secret,
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }
        spec = {"secretRef": {"name": "token"}}
        metadata = {"finalizers": [CONNECTIONS.finalizer], **metadata}
        self.put("connections", "conn", spec=spec, status=status, generation=generation, **metadata)

    def repository(self, name: str, *, ready: bool = True, generation: int = 1) -> None:
        status = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": str(ready)}]}
        self.put(
            "repositories",
            name,
            spec={"connectionRef": "conn"},
            status=status,
            generation=generation,
            finalizers=[REPOSITORIES.finalizer],
        )


def _event(kind: str, raw: Any) -> bytes:
    return json.dumps({"type": kind, "object": raw}).encode() + b"\n"


@pytest.fixture
def tables(scripted: Any) -> Tables:
    made = Tables()
    scripted.answers = [made]
    made.bind()
    made.put("secrets", "token", namespace="default")
    return made


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with Bus.connect(NatsSettings(url=(nats_server.url,))) as connected:
        await connected.declare()
        yield connected


class Watcher:
    def __init__(self, kcp: Kcp, bus: Bus, url: str, holder: str) -> None:
        async def leases() -> KeyValue:
            await bus.declare()
            return await bus.bucket(LEASES)

        deps = Dependencies(
            kcp,
            bus,
            DirectoryBundles(Path("/nowhere")),
            lambda name: Lease(leases, name, holder, QUICK),
            timedelta(seconds=3600),
            "default",
        )
        self.task = asyncio.create_task(watch_endpoint(url, deps))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Published:
    """The events that arrive on the lane of changes."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def next(self, timeout: float = 10) -> tuple[str, str]:
        event = await self.event(timeout)
        return event.name, event.reason

    async def event(self, timeout: float = 10) -> ObjectEvent:
        return ObjectEvent.decode((await self.message(timeout)).data)

    async def message(self, timeout: float = 10) -> Msg:
        return await self._subscription.next_msg(timeout=timeout)

    async def until(self, holds: Callable[[ObjectEvent], bool]) -> ObjectEvent:
        while not holds(event := await self.event()):
            pass
        return event

    async def nothing(self, seconds: float = 0.3) -> None:
        with pytest.raises(TimeoutError):
            await self.event(seconds)


Start = Callable[[str], Awaitable[Watcher]]


@pytest.fixture
async def start(kcp: Kcp, bus: Bus, scripted: Any) -> AsyncIterator[Start]:
    running: list[Watcher] = []

    async def begin(holder: str) -> Watcher:
        running.append(Watcher(kcp, bus, _endpoint(scripted), holder))
        return running[-1]

    yield begin
    for watcher in running:
        await watcher.stop()


@pytest.fixture
async def published(bus: Bus) -> Published:
    # A core subscription receives every message, whatever the stream does with it.
    subscription = await bus.nc.subscribe("code.events.>")
    await bus.nc.flush()
    return Published(subscription)


async def test_a_start_publishes_the_unsettled_and_then_changes(
    tables: Tables, start: Start, published: Published
) -> None:
    tables.connection(secret="102")
    tables.repository("settled")
    tables.repository("waiting", ready=False)
    await start("first")
    assert await published.next() == ("waiting", "unsettled")
    tables.repository("settled", generation=2)
    event = await published.event()
    assert (event.name, event.reason, event.versions.connection, event.versions.secret) == (
        "settled",
        "changed",
        "103",
        "102",
    )
    await published.nothing()


async def test_kinds_are_watched_once_somebody_has_bound_the_export(
    scripted: Any, start: Start, published: Published
) -> None:
    tables = Tables()
    scripted.answers = [tables]
    tables.put("apibindings", "code", status={"phase": "Binding"})
    await start("first")
    await scripted.seen(1)
    await published.nothing()
    assert tables.lists == 1
    tables.bind()
    await scripted.seen(len(KINDS) + 2)
    tables.repository("new", ready=False)
    assert (await published.next())[0] == "new"


async def test_a_standby_takes_over_when_the_active_replica_stops(
    tables: Tables, start: Start, published: Published
) -> None:
    tables.connection(secret="102")
    tables.repository("waiting", ready=False)
    first = await start("first")
    assert await published.next() == ("waiting", "unsettled"), "the start is over"
    await start("second")
    tables.connection(secret="102", generation=2)
    assert await published.next() == ("conn", "changed")
    await published.nothing()
    assert tables.lists == len(KINDS) + 2, "the standby does not watch"
    await first.stop()
    assert {await published.next(), await published.next()} == {("conn", "unsettled"), ("waiting", "unsettled")}
    assert tables.lists == 2 * (len(KINDS) + 2)
    await published.nothing()


async def test_no_secret_that_somebody_left_in_an_object_reaches_nats(
    tables: Tables, start: Start, bus: Bus, published: Published
) -> None:
    marker = "ghp_MARKEDmarkedMARKEDmarkedMARKEDmarked00"
    pem = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{marker[4:]}\n-----END OPENSSH PRIVATE KEY-----\n"
    applied = {"kcp.io/cluster": "c1", "kubectl.kubernetes.io/last-applied-configuration": f'{{"token":"{marker}"}}'}
    await start("first")
    tables.put("secrets", "token", namespace="default", annotations=applied)
    spec = {"connectionRef": "conn", "name": "site"}
    tables.put("connections", "conn", spec={"secretRef": {"name": "token"}}, annotations=applied)
    tables.put("repositories", "applied", spec=spec, annotations=applied)
    tables.put("repositories", "described", spec={**spec, "description": f"push with {marker}"})
    tables.put("deploykeys", "pasted", spec={"repositoryRef": "applied", "publicKey": pem})
    copied: dict[str, bool] = {}
    while copied.keys() != {"conn", "applied", "described", "pasted"}:
        message = await published.message()
        assert marker[4:].encode() not in message.data
        assert b"last-applied" not in message.data
        event = ObjectEvent.decode(message.data)
        copied[event.name] = bool(event.copy) or copied.get(event.name, False)
    assert (copied["described"], copied["pasted"]) == (False, False)
    # Of a list an object has no copy. What comes after it has one.
    tables.put("repositories", "applied", spec={**spec, "autoInit": True}, annotations=applied, generation=2)
    event = await published.until(lambda event: event.name == "applied" and event.generation == 2)
    assert b"autoInit" in event.copy
    assert b"last-applied" not in event.copy


@pytest.mark.slow
async def test_an_outage_of_nats_longer_than_the_lease_loses_nothing(
    tables: Tables, start: Start, bus: Bus, nats_server: NatsServer
) -> None:
    tables.connection(secret="102")
    tables.repository("before")
    tables.repository("during")
    await start("only")
    async with asyncio.timeout(10):
        while tables.lists < len(KINDS) + 2:
            await asyncio.sleep(0.005)
    tables.repository("first", ready=False)
    async with asyncio.timeout(10):
        while not await _messages(bus):
            await asyncio.sleep(0.02)
    await nats_server.kill()
    # Given to the publisher while the lease is held, then lost with it.
    tables.put("repositories", "before", spec={"connectionRef": "conn"}, labels={"a": "b"}, status=_ready(), **_held())
    async with asyncio.timeout(10):
        while tables.watchers["repositories"]:
            await asyncio.sleep(0.02)
    # Changed while nobody watches: settled objects that a start alone would not publish.
    tables.put("repositories", "during", spec={"connectionRef": "conn"}, labels={"a": "b"}, status=_ready(), **_held())
    await nats_server.start()
    async with asyncio.timeout(30):
        while not {"before", "during", "first"} <= await _messages(bus):
            await asyncio.sleep(0.05)


async def test_a_workspace_that_is_gone_leaves_no_message_and_one_that_binds_again_has_its_own(
    scripted: Any, tables: Tables, start: Start, published: Published, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.departed.GRACE_SECONDS", 0.0)
    monkeypatch.setattr("watcher.departed._TICK_SECONDS", 0.01)
    tables.connection(secret="102")
    tables.repository("waiting", ready=False)
    await bus.publish(_of_a_workspace_that_is_gone("gone-before", _endpoint(scripted)))
    assert await published.next() == ("gone-before", "changed")
    await start("only")
    assert await published.next() == ("waiting", "unsettled")
    await _until_messages_are(bus, {"waiting"})
    tables.delete("apibindings", "code")
    await _until_messages_are(bus, set())
    tables.bind()
    tables.repository("new", ready=False)
    assert await published.next() == ("new", "changed")
    await published.nothing()
    assert await _messages(bus) == {"new"}


def _endpoint(scripted: Any) -> str:
    return f"http://127.0.0.1:{scripted.port}/services/apiexport/p/e"


def _of_a_workspace_that_is_gone(name: str, endpoint: str) -> ObjectEvent:
    return ObjectEvent(
        "repositories", "c9", name, f"uid-{name}", 1, "1", deleting=False, reason="changed", endpoint=endpoint
    )


async def _until_messages_are(bus: Bus, wanted: set[str]) -> None:
    async with asyncio.timeout(10):
        while await _messages(bus) != wanted:
            await asyncio.sleep(0.005)


def _ready() -> dict[str, Any]:
    return {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}


def _held() -> dict[str, Any]:
    return {"finalizers": [REPOSITORIES.finalizer]}


async def _messages(bus: Bus) -> set[str]:
    """Names of the repositories with a message in the stream."""
    try:
        info = await bus.js.stream_info("CODE_EVENTS", subjects_filter="code.events.repositories.>")
    except NatsError:
        return set()
    return {subject.rpartition(".")[2] for subject in info.state.subjects or {}}
