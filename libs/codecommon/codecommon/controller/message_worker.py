"""One message, from its event to its settlement, whatever the handling is.

    decode → share of the workspace → lock, of this process and of all replicas → handle → settle

What ends the process again and again is set aside. What kcp or NATS refuses becomes a settlement, and so does a defect.
"""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from codecommon.controller.delivery import Ack, Delivery, PutBack, Settlement
from codecommon.controller.fairness import Shares
from codecommon.controller.metrics import MESSAGES_SET_ASIDE
from codecommon.controller.reconcile import ANNOUNCE_AFTER_SECONDS, KCP_UNAVAILABLE, UNFORESEEN_AFTER
from codecommon.kcp.client import KcpError, ProviderKcp
from codecommon.kcp.endpoints import KnownEndpoints, UnknownEndpoint
from codecommon.messaging import tracing
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.messaging.events import ObjectEvent, UndecodableEvent
from codecommon.messaging.locks import LOST_AFTER_SECONDS, LockLost, LockTaken
from codecommon.messaging.poison_messages import Attempt, PoisonMessages
from codecommon.process import logs
from codecommon.process.backoff import Backoff
from codecommon.process.mutex import KeyedMutex

P = TypeVar("P")

_log = logging.getLogger(__name__)

_FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True)
class WorkerTiming:
    """In seconds. ``announce_after``: an object that takes longer says so in status. ``lost_after``: when a lock
    that could not be renewed counts as lost. ``set_aside``: how long a poison message rests. ``warn_from``: the pause
    from which on kcp's 403 is worth a warning. The watcher purges the messages of a workspace that is gone before that.
    """

    announce_after: float = ANNOUNCE_AFTER_SECONDS
    lost_after: float = LOST_AFTER_SECONDS
    set_aside: float = 600.0
    warn_from: float = 16.0


class MessageWorker(ABC, Generic[P]):
    """Works on the deliveries of one service. A subclass says what is prepared (``P``) and how a message is handled.

    ``locks``: the bucket with the locks. ``keep``: a message of the resync lane that has no turn or fails is kept, too.
    Otherwise the next resync brings it again.
    """

    def __init__(
        self,
        service: str,
        *,
        bus: Bus,
        kcp: ProviderKcp,
        locks: KeyValue,
        poison: PoisonMessages,
        max_per_workspace: int,
        timing: WorkerTiming,
        backoff: Backoff,
        keep: bool,
    ) -> None:
        self._service = service
        for why in ("undecodable", "poison"):
            # At 0 from the start. Of a series that begins with the first message, Prometheus sees no increase.
            MESSAGES_SET_ASIDE.labels(service, why)
        self._bus = bus
        self._kcp = kcp
        self._endpoints = KnownEndpoints(kcp)
        self._locks = locks
        self._poison = poison
        self._shares = Shares(max_per_workspace)
        self._mutex = KeyedMutex()
        self._replica = uuid.uuid4().hex
        self._timing = timing
        self._backoff = backoff
        self._lock_backoff = Backoff(0.25, 5.0)
        self._keep = keep
        self._warnings = logs.Repeated(_log)

    # ---- what a subclass says

    @abstractmethod
    def _kind_of(self, event: ObjectEvent) -> str:
        """The kind of the object that the message is about. Raises ``UndecodableEvent`` for an event of another service."""

    @abstractmethod
    def _lock_key(self, event: ObjectEvent) -> str:
        """What no two handlers work on at the same time."""

    @abstractmethod
    def _identity(self, event: ObjectEvent) -> str:
        """What the back-off and the deaths are counted by."""

    @abstractmethod
    def _prepared(self, delivery: Delivery, event: ObjectEvent, attempt: Attempt) -> AbstractAsyncContextManager[P]:
        """What is begun while the lock is on its way. It is left once the message is handled or the lock was not to be had."""

    async def _is_spared(self, event: ObjectEvent, prepared: P) -> bool:
        """Whether a poison message is handled all the same."""
        return False

    @abstractmethod
    async def _handle(self, delivery: Delivery, event: ObjectEvent, prepared: P) -> Settlement:
        """Handle the message. ``work`` makes a settlement of any error."""

    # ---- the frame

    async def work(self, delivery: Delivery) -> None:
        """Work on the message and settle it. A message that could not be settled is delivered again, which is safe."""
        try:
            decoded = await self._decode(delivery)
            if decoded is None:
                return
            event, kind = decoded
            over_share = self._shares.delay(event.cluster)
            if over_share is not None:
                await delivery.settle(self._put_back(over_share, helps=True))
                return
            with (
                self._shares.running(event.cluster),
                logs.bind(kind=kind, cluster=event.cluster, name=event.name),
                tracing.consume(delivery.msg, event),
            ):
                await delivery.settle(await self._exclusively(delivery, event))
        except (NatsError, TimeoutError) as error:
            cause = type(error).__name__
            self._warnings.warning(f"NATS {cause}", "NATS does not answer: %s", cause)

    async def _decode(self, delivery: Delivery) -> tuple[ObjectEvent, str] | None:
        """The event and its kind; None: it is none of ours, and people find it in ``CODE_DEAD``."""
        try:
            event = ObjectEvent.decode(delivery.msg.data)
            if event.subject != delivery.msg.subject:
                raise UndecodableEvent("its subject is that of another object")
            return event, self._kind_of(event)
        except UndecodableEvent as error:
            await self._bus.bury(delivery.msg, str(error))
            MESSAGES_SET_ASIDE.labels(self._service, "undecodable").inc()
            return None

    async def _exclusively(self, delivery: Delivery, event: ObjectEvent) -> Settlement:
        """Handle the message while nobody else has its lock, in this process or in another replica."""
        key, identity = self._lock_key(event), self._identity(event)
        async with self._mutex.hold(key):
            attempt = self._poison.attempt(delivery.msg, event, self._replica, key=identity)
            async with self._prepared(delivery, event, attempt) as prepared:
                try:
                    async with delivery.locked(self._locks, key, self._replica, self._timing.lost_after):
                        self._lock_backoff.succeeded(key)
                        if await attempt.begin() and not await self._is_spared(event, prepared):
                            settlement: Settlement = self._set_aside(attempt)
                        else:
                            settlement = await self._handled(delivery, event, prepared)
                        # Before the lock is free: the next replica that gets it would take our note for a death.
                        await attempt.over()
                        return settlement
                except LockTaken:
                    return self._put_back(self._lock_backoff.failed(key))
                except (LockLost, NatsError, TimeoutError):
                    await attempt.over()
                    return self._put_back(self._backoff.failed(identity))

    def _set_aside(self, attempt: Attempt) -> PutBack:
        rest = self._timing.set_aside
        _log.error(
            "handling this object ended its process at least %d times; it is set aside for %d s", attempt.deaths, rest
        )
        MESSAGES_SET_ASIDE.labels(self._service, "poison").inc()
        return self._put_back(rest)

    async def _handled(self, delivery: Delivery, event: ObjectEvent, prepared: P) -> Settlement:
        """What comes of handling the message. Never raises an error: whatever goes wrong becomes a settlement."""
        identity = self._identity(event)
        try:
            settlement = await self._handle(delivery, event, prepared)
        except UnknownEndpoint:
            # The shard is gone. Whoever watches the object now publishes it with an endpoint that is there.
            _log.warning("the event names an endpoint that is not in the endpoint slice; it is dropped")
            return Ack()
        except (BusUnavailable, *KCP_UNAVAILABLE) as error:
            cause = type(error).__name__
            self._warnings.warning(f"unavailable {cause}", "kcp or NATS cannot be reached now: %s", cause)
            return self._put_back(self._backoff.failed(identity))
        except KcpError as error:
            if error.status == _FORBIDDEN:
                return await self._when_forbidden(delivery, event, error)
            # The message names the object.
            self._warnings.warning(f"kcp {error.status} {error.reason}", "kcp refused: %s", error)
            return self._put_back(max(self._backoff.failed(identity), error.retry_after or 0))
        except Exception:  # noqa: BLE001 - the top-level handler of a message: what we do not understand must not end the process
            _log.exception("handling failed")
            return self._put_back(self._backoff.jitter(UNFORESEEN_AFTER.total_seconds()))
        self._backoff.succeeded(_forbidden(identity))
        return settlement

    async def _when_forbidden(self, delivery: Delivery, event: ObjectEvent, error: KcpError) -> Settlement:
        """kcp forbids what it would allow in a bound workspace, or the workspace is gone. It says the same in both cases.

        The watcher knows which workspaces are gone, and purges their messages. What is not purged soon is for a person to see.
        With the last workspace of a shard kcp takes back the endpoint. Then there is nobody to purge them.
        """
        key = _forbidden(self._identity(event))
        if not await self._bus.is_stored(delivery.msg) or not await self._is_listed(event.endpoint):
            _log.debug("the workspace is gone, or a newer event has replaced this one: %s", error)
            self._backoff.succeeded(key)
            return Ack()
        delay = self._backoff.failed(key)
        if delay >= self._timing.warn_from:
            self._warnings.warning(f"kcp {error.status} {error.reason}", "kcp refused: %s", error)
        else:
            _log.info("kcp refused: %s", error)
        return self._put_back(max(delay, error.retry_after or 0))

    async def _is_listed(self, endpoint: str) -> bool:
        """Whether kcp lists the endpoint now; also when it cannot say so."""
        try:
            await self._endpoints.require(endpoint, live=True)
        except UnknownEndpoint:
            return False
        except (KcpError, *KCP_UNAVAILABLE):
            pass
        return True

    def _put_back(self, after: float, *, helps: bool = False) -> PutBack:
        return PutBack(after, keep=self._keep, helps=helps)


def _forbidden(identity: str) -> str:
    """The key of the back-off after a 403. What failed before must not hide how long kcp has forbidden it."""
    return f"{identity} forbidden"
