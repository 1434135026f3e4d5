"""NATS JetStream: the streams, durables and buckets of the provider, and how events get in and out of them.

Everything is declared from the tables here by whichever process starts first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, BadRequestError
from nats.js.errors import NotFoundError as JetStreamNotFoundError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from codecommon.api.kinds import KINDS
from codecommon.messaging.events import CONTENT_TYPE, CRAWLS, Lane, ObjectEvent, UndecodableEvent
from codecommon.process import telemetry
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings

_log = logging.getLogger(__name__)

EVENTS_STREAM: Final = "CODE_EVENTS"
DEAD_STREAM: Final = "CODE_DEAD"
LOCKS: Final = "CODE_LOCKS"
LEASES: Final = "CODE_LEASES"
POISON_MESSAGES: Final = "CODE_POISON_MESSAGES"
BUDGETS: Final = "CODE_BUDGETS"
ACCOUNTS: Final = "CODE_ACCOUNTS"
OWNERS: Final = "CODE_OWNERS"
CREATE_CLAIMS: Final = "CODE_CREATE_CLAIMS"
OAUTH_FLOWS: Final = "CODE_OAUTH_FLOWS"
CRAWL_STATES: Final = "CODE_CRAWL_STATES"
BUNDLES: Final = "CODE_BUNDLES"
"""The object store of the bundles; see ``codecommon.messaging.bundles``."""

CRAWLER: Final = "package-crawler"
"""The service that takes the crawls, which are no kind."""

ACK_WAIT_SECONDS: Final = 15.0
"""A message of a process that died is delivered again after this; a living handler sends heartbeats well below it."""

_PUBLISH_TIMEOUT_SECONDS: Final = 5.0
_DEAD_MAX_AGE_SECONDS: Final = 7 * 24 * 3600
_STREAM_NAME_IN_USE: Final = 10058
_WRONG_LAST_SEQUENCE: Final = 10071
_DUPLICATE_WINDOW_SECONDS: Final = 120


# On disk like the streams: a bucket in memory would be gone, not just empty, after a restart of the server.
_BUCKET_TTL_SECONDS: Final = {
    LOCKS: 15.0,
    LEASES: 15.0,
    POISON_MESSAGES: 3600.0,
    # Longer than any window of a limit and any pause that we keep.
    BUDGETS: 2 * 3600.0,
    # Stored anew every hour while it is in use.
    ACCOUNTS: 24 * 3600.0,
    # A record is kept for as long as its object.
    OWNERS: 0.0,
    # A create that was never finished is found out within days at most.
    CREATE_CLAIMS: 30 * 24 * 3600.0,
    # As long as the cookie of a flow, and as GitHub's code.
    OAUTH_FLOWS: 600.0,
    # Stored anew with every look at an owner.
    CRAWL_STATES: 7 * 24 * 3600.0,
}

BUNDLE_TTL_SECONDS: Final = 6 * 3600.0
"""A commit is made within seconds, but it waits out the host's limits and outages. What is left by then was forgotten."""

_MOST_BUNDLE_BYTES: Final = 2 * 1024**3
"""Of all workspaces, on disk, where the server sets so much aside. Each workspace has a bound of its own besides."""


class BusUnavailable(Exception):
    """NATS did not take the message in time; nothing is known of whether it is stored."""


def durable_name(service: str, lane: Lane) -> str:
    return service if lane == "events" else f"{service}-resync"


def _durables() -> dict[str, list[str]]:
    """Durable name → filter subjects, for every service that reconciles a kind, and for the crawler."""
    lanes: tuple[Lane, ...] = ("events", "resync")
    durables = {durable_name(CRAWLER, lane): [f"code.{lane}.{CRAWLS}.>"] for lane in lanes}
    for kind in KINDS.values():
        if kind.service is not None:
            for lane in lanes:
                durables.setdefault(durable_name(kind.service, lane), []).append(f"code.{lane}.{kind.resource}.>")
    return durables


def _durable_filters() -> list[str]:
    return [subjects for filters in _durables().values() for subjects in filters]


class Bus:
    """One connection to NATS. Use ``async with Bus.connect(settings) as bus``."""

    def __init__(self, nc: Client, replicas: int, given_up: asyncio.Event) -> None:
        self.nc = nc
        self._given_up = given_up
        self.js: JetStreamContext = nc.jetstream(timeout=_PUBLISH_TIMEOUT_SECONDS)
        self._replicas = replicas

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: NatsSettings, name: str = "") -> AsyncIterator[Bus]:
        """Connect, waiting for the server for as long as it takes; says once what it waits for."""
        nc = Client()

        async def failed(error: Exception) -> None:
            # Two a second while the server is away: what was said is not said again.
            level = logging.DEBUG if type(error) in said else logging.WARNING
            said.add(type(error))
            _log.log(level, "NATS: %s", type(error).__name__)

        async def reconnected() -> None:
            said.clear()
            _log.info("reconnected to NATS")

        async def disconnected() -> None:
            if not nc.is_closed and not closing:
                _log.warning("disconnected from NATS")

        async def closed() -> None:
            if not closing:
                given_up.set()

        said: set[type[Exception]] = set()
        closing = False
        given_up = asyncio.Event()
        options: dict[str, Any] = {
            "servers": list(settings.url),
            "name": name,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.5,
            "allow_reconnect": True,
            "error_cb": failed,
            "disconnected_cb": disconnected,
            "reconnected_cb": reconnected,
            "closed_cb": closed,
        }
        if settings.creds is not None:
            options["user_credentials"] = str(settings.creds)
        if settings.user is not None and settings.password is not None:
            options |= {"user": settings.user, "password": settings.password.reveal()}
        if settings.ca is not None:
            options["tls"] = nats_tls(str(settings.ca))
        _log.info("connecting to NATS")
        await nc.connect(**options)
        try:
            yield cls(nc, settings.replicas, given_up)
        finally:
            closing = True
            # drain() waits for subscriptions that are idle by now; what matters is that the last acks are out.
            await _flush_and_close(nc)

    async def ping(self) -> None:
        """Raises when there is no connection, or it does not answer within two seconds."""
        if not self.nc.is_connected:
            # Without a connection flush() returns at once, and says nothing.
            raise BusUnavailable("not connected")
        await self.nc.flush(timeout=2)

    async def keep_open(self) -> NoReturn:
        """Run for as long as there is a connection, or one is tried for. Raises ``CannotRun``.

        The client gives up after certain errors of the server, such as that a credential has expired.
        """
        await self._given_up.wait()
        raise CannotRun("NATS has closed the connection for good; the line before says why")

    async def declare(self) -> None:
        """Create or update the streams, durables and buckets. Idempotent, and safe from several processes at once."""
        await self._stream(
            api.StreamConfig(
                name=EVENTS_STREAM,
                subjects=["code.events.>", "code.resync.>"],
                retention=api.RetentionPolicy.WORK_QUEUE,
                discard=api.DiscardPolicy.OLD,
                max_msgs_per_subject=1,
                storage=api.StorageType.FILE,
                num_replicas=self._replicas,
                duplicate_window=_DUPLICATE_WINDOW_SECONDS,
            )
        )
        await self._stream(
            api.StreamConfig(
                name=DEAD_STREAM,
                subjects=["code.dead.>"],
                retention=api.RetentionPolicy.LIMITS,
                max_age=_DEAD_MAX_AGE_SECONDS,
                storage=api.StorageType.FILE,
                num_replicas=self._replicas,
            )
        )
        for durable, subjects in _durables().items():
            await self.js.add_consumer(
                EVENTS_STREAM,
                api.ConsumerConfig(
                    durable_name=durable,
                    filter_subjects=subjects,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=ACK_WAIT_SECONDS,
                    max_deliver=-1,
                    # A parked message keeps its slot: any bound would let one tenant stop all.
                    max_ack_pending=-1,
                ),
            )
        for name, ttl in _BUCKET_TTL_SECONDS.items():
            await self._bucket(name, ttl)
        await self._object_store(BUNDLES, BUNDLE_TTL_SECONDS, _MOST_BUNDLE_BYTES)

    async def bucket(self, name: str) -> KeyValue:
        return await self.js.key_value(name)

    async def object_store(self, name: str) -> ObjectStore:
        return await self.js.object_store(name)

    async def publish(self, event: ObjectEvent) -> None:
        """Store one event; returns after the server's acknowledgement. Raises ``BusUnavailable``."""
        with _or_unavailable():
            await self._store(event, {})

    async def publish_if_none(self, event: ObjectEvent) -> bool:
        """Store the event unless its subject has a message, also one that was put back. Raises ``BusUnavailable``."""
        with _or_unavailable():
            try:
                await self._store(event, {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: "0"})
            except APIError as error:
                if error.err_code != _WRONG_LAST_SEQUENCE:
                    raise
                return False
        return True

    async def _store(self, event: ObjectEvent, headers: dict[str, str]) -> None:
        headers["Content-Type"] = CONTENT_TYPE
        if event.message_id is not None:
            headers[api.Header.MSG_ID.value] = event.message_id
        telemetry.inject(headers)
        body = event.encode(datetime.now(UTC).isoformat())
        await self.js.publish(event.subject, body, timeout=_PUBLISH_TIMEOUT_SECONDS, headers=headers)

    async def clusters_with_messages(self) -> dict[str, str]:
        """Every cluster that has a message, and the subject of one. Raises ``BusUnavailable``.

        Of each kind and lane it sees 100,000 subjects, which is what the server tells at once.
        """
        clusters: dict[str, str] = {}
        for subjects in _durable_filters():
            with _or_unavailable():
                state = (await self.js.stream_info(EVENTS_STREAM, subjects_filter=subjects)).state
            clusters.update((subject.split(".")[3], subject) for subject in state.subjects or {})
        return clusters

    async def endpoint_of(self, subject: str) -> str | None:
        """The endpoint that the message of ``subject`` names. None: there is no event any more. Raises ``BusUnavailable``."""
        with _or_unavailable():
            try:
                stored = await self.js.get_last_msg(EVENTS_STREAM, subject)
                return ObjectEvent.decode(stored.data or b"").endpoint
            except (JetStreamNotFoundError, UndecodableEvent):
                return None

    async def last_sequence(self) -> int:
        """The sequence of the newest message that was ever stored. Raises ``BusUnavailable``."""
        with _or_unavailable():
            return (await self.js.stream_info(EVENTS_STREAM)).state.last_seq

    async def purge(self, cluster: str, until: int) -> None:
        """Remove the cluster's messages up to the sequence ``until``, parked ones included. Raises ``BusUnavailable``.

        It purges what each durable is about. After a purge of a wider subject, the durables would go on counting the
        messages that were put back.
        """
        for subjects in _durable_filters():
            with _or_unavailable():
                await self.js.purge_stream(
                    EVENTS_STREAM, seq=until + 1, subject=f"{subjects.removesuffix('>')}{cluster}.>"
                )

    async def is_stored(self, msg: Msg) -> bool:
        """Whether the stream still has the message; also when the server cannot be asked now.

        A message that was delivered is gone once it was purged, or once a newer event has replaced it.
        """
        try:
            await self.js.get_msg(EVENTS_STREAM, msg.metadata.sequence.stream)
        except JetStreamNotFoundError:
            return False
        except (NatsError, TimeoutError):
            pass
        return True

    async def bury(self, msg: Msg, why: str) -> None:
        """Keep a message that cannot be decoded in ``CODE_DEAD`` and take it off the queue."""
        _log.error("a message on %s cannot be decoded and is set aside in %s: %s", msg.subject, DEAD_STREAM, why)
        await self.js.publish(f"code.dead.{msg.subject}", msg.data, timeout=_PUBLISH_TIMEOUT_SECONDS)
        await msg.term()

    async def subscribe(self, service: str, lane: Lane) -> JetStreamContext.PullSubscription:
        """The pull subscription of a service's durable; ``declare`` has made it."""
        return await self.js.pull_subscribe_bind(durable_name(service, lane), EVENTS_STREAM)

    async def has_waiting_events(self, service: str) -> bool:
        """Whether there are events of a service that nobody has fetched; also when the server cannot be asked now."""
        try:
            info = await self.js.consumer_info(EVENTS_STREAM, durable_name(service, "events"))
        except JetStreamNotFoundError:
            raise
        except (NatsError, TimeoutError):
            return True
        return bool(info.num_pending)

    async def _bucket(self, name: str, ttl: float) -> None:
        config = api.KeyValueConfig(
            bucket=name, ttl=ttl, storage=api.StorageType.FILE, replicas=self._replicas, history=1
        )
        try:
            await self.js.create_key_value(config)
        except BadRequestError as error:
            if error.err_code != _STREAM_NAME_IN_USE:
                raise
            # There with other settings: nats-py has no update of a bucket, but its stream has one.
            stored = (await self.js.stream_info(f"KV_{name}")).config
            stored.num_replicas, stored.max_age = self._replicas, ttl
            await self.js.update_stream(stored)

    async def _object_store(self, name: str, ttl: float, most_bytes: int) -> None:
        config = api.ObjectStoreConfig(
            ttl=ttl, max_bytes=most_bytes, storage=api.StorageType.FILE, replicas=self._replicas
        )
        try:
            await self.js.create_object_store(name, config)
        except BadRequestError as error:
            if error.err_code != _STREAM_NAME_IN_USE:
                raise
            stored = (await self.js.stream_info(f"OBJ_{name}")).config
            stored.num_replicas, stored.max_age, stored.max_bytes = self._replicas, ttl, most_bytes
            await self.js.update_stream(stored)

    async def _stream(self, config: api.StreamConfig) -> None:
        try:
            await self.js.add_stream(config)
        except BadRequestError as error:
            if error.err_code != _STREAM_NAME_IN_USE:
                raise
            await self.js.update_stream(config)


async def fetch_one(subscription: JetStreamContext.PullSubscription, timeout: float) -> Msg | None:
    """The next message, or None when there is none within ``timeout`` seconds or the server cannot be asked now."""
    try:
        return (await subscription.fetch(1, timeout=timeout))[0]
    except (NatsTimeoutError, TimeoutError):
        return None
    except JetStreamNotFoundError:
        raise
    except (APIError, NatsError) as error:
        # A server that restarts answers so for a moment; the client reconnects by itself.
        _log.warning("cannot fetch from NATS now: %s", type(error).__name__)
        await asyncio.sleep(1)
        return None


def raise_if_cancelled() -> None:
    """Raise ``CancelledError`` if this task was cancelled but the cancellation was lost.

    nats-py waits with ``asyncio.wait_for``. Before Python 3.12 that drops a cancellation which arrives together with the awaited
    answer or error. A loop that would otherwise run for ever calls this after such a wait.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def _or_unavailable() -> Iterator[None]:
    try:
        yield
    except (NatsError, TimeoutError) as error:
        raise BusUnavailable(type(error).__name__) from None


def nats_tls(ca: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=ca)


async def _flush_and_close(nc: Client) -> None:
    try:
        await nc.flush(timeout=2)
    except (NatsError, TimeoutError):
        _log.warning("NATS did not confirm the last messages before this process closed its connection")
    # A connection that broke a moment ago says so once more.
    with suppress(OSError):
        await nc.close()
