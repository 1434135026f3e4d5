"""Takes messages while there are free slots, keeps them alive while they are worked on, and ends in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from codecommon.controller.backlog import Backlog
from codecommon.controller.delivery import Delivery
from codecommon.controller.ownership import Ownership
from codecommon.controller.reconciler import Controller
from codecommon.controller.worker import Worker, WorkerTiming
from codecommon.kcp.client import ProviderKcp
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus, raise_if_cancelled
from codecommon.messaging.events import Lane
from codecommon.messaging.locks import RENEW_SECONDS
from codecommon.messaging.poison_messages import PoisonMessages
from codecommon.messaging.records import BucketRecords
from codecommon.process.backoff import Backoff

_LANES: Final[tuple[Lane, ...]] = ("events", "resync")


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. ``fetch``: how long one request for a message waits. ``renew``: how often messages and locks are
    kept alive. ``report``: how often the gauges of the backlog are set.
    """

    fetch: float = 2.0
    renew: float = RENEW_SECONDS
    worker: WorkerTiming = field(default_factory=WorkerTiming)
    report: float = 5.0


class Works(Protocol):
    async def work(self, delivery: Delivery) -> None:
        """Work on a message and settle it."""
        ...


class Intake:
    """Takes the messages of one service. ``max_in_flight``: how many are worked on at once. Drift gets a quarter of them."""

    def __init__(self, service: str, *, bus: Bus, max_in_flight: int, timing: Timing | None = None) -> None:
        self._service = service
        self._bus = bus
        self._timing = timing or Timing()
        self._limits: dict[Lane, int] = {"events": max_in_flight, "resync": max(1, max_in_flight // 4)}
        self._in_flight: dict[Lane, set[Delivery]] = {lane: set() for lane in _LANES}
        self._slot_freed = asyncio.Event()
        self._backlogs: dict[Lane, Backlog] = {lane: Backlog(bus_module.durable_name(service, lane)) for lane in _LANES}

    @property
    def in_flight(self) -> int:
        """How many messages are being worked on."""
        return sum(len(deliveries) for deliveries in self._in_flight.values())

    async def take(self, worker: Works, stopping: asyncio.Event) -> None:
        """Hand messages to ``worker`` until ``stopping`` is set, then finish what is in flight."""
        async with asyncio.TaskGroup() as working:
            heartbeat = working.create_task(self._keep_alive(), name="heartbeat")
            report = working.create_task(self._report(), name="backlog")
            async with asyncio.TaskGroup() as taking:
                for lane in _LANES:
                    subscription = await self._bus.subscribe(self._service, lane)
                    taking.create_task(
                        self._take_lane(lane, subscription, worker, working, stopping), name=f"{lane}-lane"
                    )
            while self.in_flight:
                await self._until_a_slot_is_freed()
            heartbeat.cancel()
            report.cancel()

    async def _take_lane(
        self,
        lane: Lane,
        subscription: JetStreamContext.PullSubscription,
        worker: Works,
        working: asyncio.TaskGroup,
        stopping: asyncio.Event,
    ) -> None:
        """Take the messages of one lane, one by one, while there is room for them."""
        while not stopping.is_set():
            raise_if_cancelled()
            if not self._has_room(lane):
                await self._until_a_slot_is_freed()
                continue
            if lane == "resync" and await self._bus.has_waiting_events(self._service):
                await asyncio.sleep(self._timing.fetch)
                continue
            msg = await bus_module.fetch_one(subscription, self._timing.fetch)
            if msg is None:
                continue
            if stopping.is_set() or not self._has_room(lane):
                # Nobody has looked at it, so it goes back at once.
                with suppress(NatsError, TimeoutError):
                    await msg.nak()
                continue
            self._start(Delivery(msg, lane), worker, working)

    def _has_room(self, lane: Lane) -> bool:
        """Drift gets a quarter of the slots at most. One slot always stays free of it, so that an event can be fetched."""
        limit = self._limits["events"]
        if lane == "resync":
            return self.in_flight < max(1, limit - 1) and len(self._in_flight[lane]) < self._limits[lane]
        return self.in_flight < limit

    def _start(self, delivery: Delivery, worker: Works, working: asyncio.TaskGroup) -> None:
        deliveries, backlog = self._in_flight[delivery.lane], self._backlogs[delivery.lane]
        deliveries.add(delivery)
        sequence = delivery.msg.metadata.sequence.stream
        backlog.taken(sequence)

        def done(_: asyncio.Task[None]) -> None:
            deliveries.discard(delivery)
            if (back := delivery.put_back) is not None:
                backlog.put_back(sequence, back.after, helps=back.helps)
            self._slot_freed.set()

        working.create_task(worker.work(delivery)).add_done_callback(done)

    async def _until_a_slot_is_freed(self) -> None:
        self._slot_freed.clear()
        await self._slot_freed.wait()

    async def _report(self) -> None:
        while True:
            for lane, backlog in self._backlogs.items():
                state = await self._bus.consumer_state(self._service, lane)
                raise_if_cancelled()
                backlog.report(state, len(self._in_flight[lane]))
            await asyncio.sleep(self._timing.report)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._timing.renew)
            # All at once: while NATS does not answer, none may wait for the others' timeouts to learn that its lock is
            # lost.
            within = self._timing.renew / 2
            await asyncio.gather(*(d.keep_alive(within) for lane in self._in_flight.values() for d in lane))


class Engine(Intake):
    """Runs the controllers of one service.

    ``max_in_flight``: as of ``Intake``, of which ``max_per_workspace`` of one workspace. ``resync``: how often the resync
    brings each object.
    """

    def __init__(
        self,
        service: str,
        controllers: tuple[Controller[Any], ...],
        *,
        bus: Bus,
        kcp: ProviderKcp,
        max_in_flight: int,
        max_per_workspace: int,
        resync: timedelta = timedelta(0),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timing: Timing | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(service, bus=bus, max_in_flight=max_in_flight, timing=timing)
        self._controllers = controllers
        self._kcp = kcp
        self._max_per_workspace = max_per_workspace
        self._resync = resync
        self._now = now
        self._backoff = backoff or Backoff()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set, then finish what is in flight."""
        await self.take(await self._make_worker(), stopping)

    async def _make_worker(self) -> Worker:
        return Worker(
            self._service,
            self._controllers,
            bus=self._bus,
            kcp=self._kcp,
            locks=await self._bus.bucket(bus_module.LOCKS),
            poison=PoisonMessages(await self._bus.bucket(bus_module.POISON_MESSAGES)),
            ownership=Ownership(
                await BucketRecords.open(self._bus, bus_module.OWNERS),
                await BucketRecords.open(self._bus, bus_module.CREATE_CLAIMS),
                self._kcp,
                self._now,
            ),
            max_per_workspace=self._max_per_workspace,
            resync=self._resync,
            now=self._now,
            timing=self._timing.worker,
            backoff=self._backoff,
        )
