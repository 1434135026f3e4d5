"""An engine at work on a real NATS, with a reconciler that does what the test says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from codecommon.api.kinds import REPOSITORIES
from codecommon.api.repository import Repository
from codecommon.api.results import Outcome, Ready
from codecommon.controller.context import ReconcileContext
from codecommon.controller.engine import Engine, Timing
from codecommon.controller.reconciler import Controller
from codecommon.kcp.client import JsonObject
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus
from codecommon.process.backoff import Backoff
from codecommon.testing.builders import repository_object
from codecommon.testing.objects import InMemoryKcp

SERVICE: Final = "repository-svc"
QUICK: Final = Timing(fetch=0.1, renew=0.1)
BOUND_SECONDS: Final = 60.0

Handler = Callable[[ReconcileContext[Repository]], Awaitable[Outcome]]


@dataclass
class Calls:
    """A reconciler that does what the test says and notes what happened."""

    handler: Handler
    names: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)

    async def reconcile(self, ctx: ReconcileContext[Repository]) -> Outcome:
        key = f"{ctx.object.workspace.cluster}/{ctx.object.name}"
        self.names.append(key)
        self.times.append(time.monotonic())
        self.running[key] = self.running.get(key, 0) + 1
        self.most_at_once[key] = max(self.most_at_once.get(key, 0), self.running[key])
        try:
            return await self.handler(ctx)
        finally:
            self.running[key] -= 1

    @property
    def at_once(self) -> int:
        return sum(self.running.values())


async def is_fine(ctx: ReconcileContext[Repository]) -> Outcome:
    return Ready({"repoID": "7"})


def raising(*errors: Exception) -> Handler:
    """Raises ``errors``, one per pass, and is fine after that."""
    left = list(errors)

    async def handler(ctx: ReconcileContext[Repository]) -> Outcome:
        if left:
            raise left.pop(0)
        return await is_fine(ctx)

    return handler


@dataclass
class Gate:
    """Holds handlers until it is opened."""

    entered: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, ctx: ReconcileContext[Repository]) -> Outcome:
        self.entered.release()
        await self.opened.wait()
        return await is_fine(ctx)


class AdminBus(Bus):
    """A connection with which a test sees and does everything; the engine works on ``of_service``."""

    of_service: Bus


def make_engine(bus: Bus, kcp: InMemoryKcp, calls: Calls, *, always_due: bool = False, **options: Any) -> Engine:
    """``always_due``: every object says that a time which it set has come."""
    defaults: dict[str, Any] = {"max_in_flight": 64, "max_per_workspace": 16, "timing": QUICK}
    defaults["backoff"] = Backoff(0.05, 1.0, random.Random(1))
    controller = Controller(REPOSITORIES, calls, is_due=lambda _, __: always_due)
    at_work = bus.of_service if isinstance(bus, AdminBus) else bus
    return Engine(SERVICE, (controller,), bus=at_work, kcp=kcp, **(defaults | options))


@asynccontextmanager
async def working(bus: Bus, kcp: InMemoryKcp, calls: Calls, **options: Any) -> AsyncIterator[Engine]:
    """A engine at work; leaving the block stops it in an orderly way."""
    engine, stopping = make_engine(bus, kcp, calls, **options), asyncio.Event()
    task = asyncio.create_task(engine.run(stopping))
    try:
        yield engine
        stopping.set()
        async with asyncio.timeout(BOUND_SECONDS):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool | Awaitable[bool]], *, seconds: float = BOUND_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


async def queued(bus: Bus, stream: str = bus_module.EVENTS_STREAM) -> int:
    return (await bus.js.stream_info(stream)).state.messages


async def parked(bus: Bus) -> bool:
    """Whether the one message was delivered and put back."""
    info = await bus.js.consumer_info(bus_module.EVENTS_STREAM, SERVICE)
    return info.num_ack_pending == 1 and info.delivered is not None and await queued(bus) == 1


async def deliver_again_after(bus: Bus, seconds: float) -> None:
    """How long the server waits for a sign of life of who has a message."""
    config = (await bus.js.consumer_info(bus_module.EVENTS_STREAM, SERVICE)).config
    await bus.js.add_consumer(bus_module.EVENTS_STREAM, config.evolve(ack_wait=seconds))


async def delivered(bus: Bus, consumer: str = SERVICE) -> int:
    """How many deliveries there were, repeated ones included."""
    info = await bus.js.consumer_info(bus_module.EVENTS_STREAM, consumer)
    return info.delivered.consumer_seq if info.delivered is not None else 0


async def drift_is_asked_for(bus: Bus) -> bool:
    return (await bus.js.consumer_info(bus_module.EVENTS_STREAM, f"{SERVICE}-resync")).num_waiting == 1


async def only_one_is_queued(bus: Bus) -> bool:
    return await queued(bus) == 1


async def acked(bus: Bus) -> bool:
    return await queued(bus) == 0


def put(kcp: InMemoryKcp, name: str = "site", cluster: str = "c1", **given: Any) -> JsonObject:
    return kcp.add(repository_object(name, **given), cluster)


def stored(kcp: InMemoryKcp, name: str = "site", cluster: str = "c1") -> JsonObject:
    raw = kcp.stored("repositories", name, cluster)
    assert raw is not None
    return raw
