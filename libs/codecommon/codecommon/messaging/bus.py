"""NATS JetStream: how events get in and out of the streams that ``topology`` lists.

``code-provider init`` declares them. Every other process only checks what it needs, and says what is missing.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, Self

import nkeys
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, BadRequestError, BucketNotFoundError
from nats.js.errors import NotFoundError as JetStreamNotFoundError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from codecommon.messaging.events import CONTENT_TYPE, Lane, ObjectEvent, UndecodableEvent
from codecommon.messaging.permissions import inbox_prefix, stored_streams
from codecommon.messaging.topology import ACCOUNTS as ACCOUNTS
from codecommon.messaging.topology import BUCKETS, DURABLES, OBJECT_STORES, STREAMS, USERS, User
from codecommon.messaging.topology import BUDGETS as BUDGETS
from codecommon.messaging.topology import BUNDLE_TTL_SECONDS as BUNDLE_TTL_SECONDS
from codecommon.messaging.topology import BUNDLES as BUNDLES
from codecommon.messaging.topology import CRAWL_STATES as CRAWL_STATES
from codecommon.messaging.topology import CRAWLER as CRAWLER
from codecommon.messaging.topology import CREATE_CLAIMS as CREATE_CLAIMS
from codecommon.messaging.topology import DEAD_STREAM as DEAD_STREAM
from codecommon.messaging.topology import EVENTS_STREAM as EVENTS_STREAM
from codecommon.messaging.topology import LEASES as LEASES
from codecommon.messaging.topology import LOCKS as LOCKS
from codecommon.messaging.topology import OAUTH_FLOWS as OAUTH_FLOWS
from codecommon.messaging.topology import OWNERS as OWNERS
from codecommon.messaging.topology import POISON_MESSAGES as POISON_MESSAGES
from codecommon.messaging.topology import ObjectStore as DeclaredStore
from codecommon.messaging.topology import durable_name as durable_name
from codecommon.process import telemetry
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings

_log = logging.getLogger(__name__)

_CREDENTIALS: Final = "NATS_NKEY, NATS_CREDS, or NATS_USER and NATS_PASSWORD"
_MEND_RIGHTS: Final = "write its users with code-provider nats-auth, and reload the nats-server"
_MEND_STORE: Final = "run code-provider init"
_PARTS_OF_CREDS: Final = (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED")
_REFUSAL: Final = re.compile(
    r'permissions violation for (?:publish|subscription) to "(?P<subject>[^"]*)"', re.IGNORECASE
)

_PUBLISH_TIMEOUT_SECONDS: Final = 5.0
_STREAM_NAME_IN_USE: Final = 10058
_WRONG_LAST_SEQUENCE: Final = 10071
_NO_STREAM: Final = 10059
_CHECK_EVERY_SECONDS: Final = 2.0
# A replica of the stream may answer that lags behind. Two that lag for as long as this are no accident.
_ASK_AGAIN_SECONDS: Final = 0.2
_MOST_REFUSALS: Final = 100
_CANCEL_AGAIN_SECONDS: Final = 0.1


class BusUnavailable(Exception):
    """NATS did not take the message in time; nothing is known of whether it is stored."""


class NotDeclared(NatsError):
    """NATS lacks something that ``code-provider init`` declares. The text is one line for the operator."""

    def __init__(self, what: str) -> None:
        super().__init__(f"NATS has no {what}; run code-provider init")


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """``pending``: messages that nobody has been given yet. ``has_idle_reader``: a request for a message is open."""

    pending: int
    has_idle_reader: bool


def _durable_filters() -> list[str]:
    return [subjects for durable in DURABLES.values() for subjects in durable.filters]


class Bus:
    """One connection to NATS. Use ``async with Bus.connect(settings) as bus``."""

    def __init__(self, nc: Client, replicas: int, given_up: asyncio.Event, refused: Collection[str] = ()) -> None:
        self.nc = nc
        self._refused = refused
        self._given_up = given_up
        self.js: JetStreamContext = nc.jetstream(timeout=_PUBLISH_TIMEOUT_SECONDS)
        self._replicas = replicas
        self.complaint: str | None = None
        """What NATS lacks, while ``require`` waits for it."""

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: NatsSettings, name: str = "") -> AsyncIterator[Self]:
        """Connect as the user ``name`` of the table, waiting for the server for as long as it takes; says once what for.

        Raises ``CannotRun`` where the server refuses the credentials, and where they cannot be read.
        """
        nc = Client()

        async def failed(error: Exception) -> None:
            if not nc.is_connected and (
                isinstance(error, AuthorizationError) or "authorization violation" in str(error).lower()
            ):
                unauthorised.set()
                return
            if (refusal := _REFUSAL.search(str(error))) is not None:
                if refusal["subject"] not in refused and len(refused) < _MOST_REFUSALS:
                    refused.add(refusal["subject"])
                    _log.error("NATS does not let %s use %s; %s", name or "this user", refusal["subject"], _MEND_RIGHTS)
                return
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
        refused: set[str] = set()
        unauthorised = asyncio.Event()
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
        if name in USERS:
            options["inbox_prefix"] = inbox_prefix(name)
        _log.info("connecting to NATS")
        options |= _credentials(settings, name)
        await _connect(nc, options, unauthorised)
        try:
            yield cls(nc, settings.replicas, given_up, refused)
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
        """Create or update the streams, durables and buckets. Idempotent, and safe from several processes at once.

        Raises NATS's errors, and ``CannotRun`` if the server does not let this user do it.
        """
        try:
            await self._declare()
        except TimeoutError:
            self._raise_if_refused()
            raise

    async def _declare(self) -> None:
        for config in STREAMS.values():
            await self._stream(config.evolve(num_replicas=self._replicas))
        for durable in DURABLES.values():
            await self.js.add_consumer(durable.stream, durable.config)
        for name, bucket in BUCKETS.items():
            await self._bucket(name, bucket.ttl)
        for name, store in OBJECT_STORES.items():
            await self._object_store(name, store)

    async def require(self, user: str) -> None:
        """Wait until NATS has everything that this user of the table works with; says what is missing.

        Raises ``CannotRun`` if the server does not let the user ask.
        """
        said = ""
        while True:
            try:
                lacking = await self.lacks(USERS[user])
            except (NatsError, TimeoutError) as error:
                self._raise_if_refused()
                self.complaint = f"NATS does not answer ({type(error).__name__})"
            else:
                if not lacking:
                    self.complaint = None
                    return
                self.complaint = str(NotDeclared(", no ".join(lacking)))
            if self.complaint != said:
                _log.error("%s", self.complaint)
                said = self.complaint
            await asyncio.sleep(_CHECK_EVERY_SECONDS)

    async def lacks(self, user: User) -> list[str]:
        """What the user works with and NATS does not have, such as ``stream CODE_EVENTS``. Raises NATS's errors."""
        streams = dict.fromkeys((*user.purges, *(stored_streams() if user.inspects else ())))
        streams |= dict.fromkeys((*(f"KV_{name}" for name in user.buckets), *(f"OBJ_{n}" for n in user.object_stores)))
        durables = DURABLES if user.inspects else {name: DURABLES[name] for name in user.durables}
        lacking: list[str] = []
        for stream in streams:
            try:
                await self.js.stream_info(stream)
            except JetStreamNotFoundError:
                lacking.append(_called(stream))
        for durable in durables.values():
            try:
                await self.js.consumer_info(durable.stream, durable.name)
            except JetStreamNotFoundError as error:
                missing = durable.stream if error.err_code == _NO_STREAM else durable.name
                what = _called(durable.stream) if missing == durable.stream else f"durable {durable.name}"
                if what not in lacking:
                    lacking.append(what)
        return lacking

    def refuses(self, subject: str) -> bool:
        """Whether the server has refused this user the subject, as far as its answers are in."""
        return subject.lower() in {refused.lower() for refused in self._refused}

    def _raise_if_refused(self) -> None:
        if self._refused:
            raise CannotRun(f"NATS does not let this user use {sorted(self._refused)[0]}; {_MEND_RIGHTS}")

    async def bucket(self, name: str) -> KeyValue:
        """Raises ``NotDeclared``."""
        try:
            return await self.js.key_value(name)
        except BucketNotFoundError:
            raise NotDeclared(f"bucket {name}") from None

    async def object_store(self, name: str) -> ObjectStore:
        """Raises ``NotDeclared``."""
        try:
            return await self.js.object_store(name)
        except BucketNotFoundError:
            raise NotDeclared(f"object store {name}") from None

    async def publish(self, event: ObjectEvent) -> None:
        """Store one event; returns after the server's acknowledgement. Raises ``BusUnavailable``."""
        with or_unavailable():
            await self._store(event, {})

    async def publish_if_none(self, event: ObjectEvent) -> bool:
        """Store the event unless its subject has a message, also one that was put back. Raises ``BusUnavailable``."""
        with or_unavailable():
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
            with or_unavailable():
                state = (await self.js.stream_info(EVENTS_STREAM, subjects_filter=subjects)).state
            clusters.update((subject.split(".")[3], subject) for subject in state.subjects or {})
        return clusters

    async def endpoint_of(self, subject: str) -> str | None:
        """The endpoint that the message of ``subject`` names. None: there is no event any more. Raises ``BusUnavailable``."""
        with or_unavailable():
            try:
                stored = await self.js.get_last_msg(EVENTS_STREAM, subject)
                return ObjectEvent.decode(stored.data or b"").endpoint
            except (JetStreamNotFoundError, UndecodableEvent):
                return None

    async def last_sequence(self) -> int:
        """The sequence of the newest message that was ever stored. Raises ``BusUnavailable``."""
        with or_unavailable():
            return (await self.js.stream_info(EVENTS_STREAM)).state.last_seq

    async def purge(self, cluster: str, until: int) -> None:
        """Remove the cluster's messages up to the sequence ``until``, parked ones included. Raises ``BusUnavailable``.

        It purges what each durable is about. After a purge of a wider subject, the durables would go on counting the
        messages that were put back.
        """
        for subjects in _durable_filters():
            with or_unavailable():
                await self.js.purge_stream(
                    EVENTS_STREAM, seq=until + 1, subject=f"{subjects.removesuffix('>')}{cluster}.>"
                )

    async def is_stored(self, msg: Msg) -> bool:
        """Whether the stream still has the message; also when the server cannot be asked now.

        A message that was delivered is gone once it was purged, or once a newer event has replaced it.
        """
        if await self._is_newest(msg):
            return True
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
        return await self._is_newest(msg)

    async def _is_newest(self, msg: Msg) -> bool:
        """Whether the message is the one of its subject. It asks by subject: a service may read its own alone."""
        try:
            stored = await self.js.get_last_msg(EVENTS_STREAM, msg.subject, direct=True)
        except JetStreamNotFoundError:
            return False
        except (NatsError, TimeoutError):
            return True
        return stored.seq == msg.metadata.sequence.stream

    async def bury(self, msg: Msg, why: str) -> None:
        """Keep a message that cannot be decoded in ``CODE_DEAD`` and take it off the queue."""
        _log.error("a message on %s cannot be decoded and is set aside in %s: %s", msg.subject, DEAD_STREAM, why)
        await self.js.publish(f"code.dead.{msg.subject}", msg.data, timeout=_PUBLISH_TIMEOUT_SECONDS)
        await msg.term()

    async def subscribe(self, service: str, lane: Lane) -> JetStreamContext.PullSubscription:
        """The pull subscription of a service's durable; ``declare`` has made it."""
        return await self.js.pull_subscribe_bind(durable_name(service, lane), EVENTS_STREAM)

    async def consumer_state(self, service: str, lane: Lane) -> ConsumerState | None:
        """What NATS says of a service's durable. None: it does not answer."""
        try:
            info = await self.js.consumer_info(EVENTS_STREAM, durable_name(service, lane))
        except (NatsError, TimeoutError):
            return None
        return ConsumerState(info.num_pending or 0, bool(info.num_waiting))

    async def has_waiting_events(self, service: str) -> bool:
        """Whether there are events of a service that nobody has fetched; also when the server cannot be asked now."""
        try:
            info = await self.js.consumer_info(EVENTS_STREAM, durable_name(service, "events"))
        except JetStreamNotFoundError:
            raise CannotRun(f"NATS has no durable {durable_name(service, 'events')} any more; {_MEND_STORE}") from None
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

    async def _object_store(self, name: str, store: DeclaredStore) -> None:
        config = api.ObjectStoreConfig(
            ttl=int(store.ttl), max_bytes=store.most_bytes, storage=api.StorageType.FILE, replicas=self._replicas
        )
        try:
            await self.js.create_object_store(name, config)
        except BadRequestError as error:
            if error.err_code != _STREAM_NAME_IN_USE:
                raise
            stored = (await self.js.stream_info(f"OBJ_{name}")).config
            stored.num_replicas, stored.max_age, stored.max_bytes = self._replicas, store.ttl, store.most_bytes
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
        raise CannotRun(f"NATS has no durable any more that this process reads; {_MEND_STORE}") from None
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
def or_unavailable() -> Iterator[None]:
    """Raises ``BusUnavailable`` for what NATS raises within."""
    try:
        yield
    except (NatsError, TimeoutError) as error:
        raise BusUnavailable(type(error).__name__) from None


def _called(stream: str) -> str:
    """What a stream is to a person: ``bucket X`` for ``KV_X``."""
    for prefix, what in (("KV_", "bucket"), ("OBJ_", "object store")):
        if stream.startswith(prefix):
            return f"{what} {stream.removeprefix(prefix)}"
    return f"stream {stream}"


async def _connect(nc: Client, options: dict[str, Any], unauthorised: asyncio.Event) -> None:
    """Connect, which the client tries for ever, unless the server knows the credentials not to be good."""
    connecting = asyncio.create_task(nc.connect(**options))
    refused = asyncio.create_task(unauthorised.wait())
    try:
        await asyncio.wait({connecting, refused}, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            try:
                await connecting
            except Exception as error:  # noqa: BLE001 - it tries for ever, so this is a file that it cannot use, whose text it may quote
                why = type(error).__name__
                raise CannotRun(f"the credentials for NATS cannot be used ({_CREDENTIALS}): {why}") from None
        else:
            raise CannotRun(f"NATS refuses the credentials ({_CREDENTIALS}); {_MEND_RIGHTS}")
    finally:
        left = {connecting, refused}
        while left:
            for task in left:
                task.cancel()
            # As of `raise_if_cancelled`: the cancellation of an attempt that fails at that moment is lost.
            _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)


def _credentials(settings: NatsSettings, name: str) -> dict[str, Any]:
    """The client's options. Raises ``CannotRun`` for a file that holds something else."""
    options: dict[str, Any] = {}
    if settings.nkey is not None:
        seed = settings.nkey / f"{name}.nk" if settings.nkey.is_dir() else settings.nkey
        try:
            nkeys.from_seed(bytearray(seed.read_bytes().strip())).wipe()
        except OSError as error:
            raise CannotRun(f"NATS_NKEY: cannot read {seed}: {error.strerror}") from None
        except Exception:  # noqa: BLE001 - the library names no errors, and their texts may hold a part of the seed
            raise CannotRun(f"NATS_NKEY: {seed} holds no seed of an nkey; code-provider nats-auth makes one") from None
        options["nkeys_seed"] = str(seed)
    if settings.creds is not None:
        try:
            content = settings.creds.read_bytes()
        except OSError as error:
            raise CannotRun(f"NATS_CREDS: cannot read {settings.creds}: {error.strerror}") from None
        if not all(part in content for part in _PARTS_OF_CREDS):
            raise CannotRun(f"NATS_CREDS: {settings.creds} holds no user's JWT and seed")
        options["user_credentials"] = str(settings.creds)
    if settings.user is not None and settings.password is not None:
        options |= {"user": settings.user, "password": settings.password.reveal()}
    if settings.ca is not None or settings.cert is not None:
        options["tls"] = nats_tls(settings)
    return options


def nats_tls(settings: NatsSettings) -> ssl.SSLContext:
    """Raises ``CannotRun`` for a file that is not PEM, or a certificate whose key is another one."""
    variable = "NATS_CA"
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert is not None and settings.key is not None:
            variable = "NATS_CERT and NATS_KEY"
            context.load_cert_chain(settings.cert, settings.key, password=_no_password)
    except OSError as error:
        raise CannotRun(f"{variable}: cannot be used: {getattr(error, 'reason', None) or error.strerror}") from None
    return context


def _no_password() -> str:
    """For an encrypted key, for which OpenSSL would ask on the terminal."""
    return ""


async def _flush_and_close(nc: Client) -> None:
    try:
        await nc.flush(timeout=2)
    except (NatsError, TimeoutError):
        _log.warning("NATS did not confirm the last messages before this process closed its connection")
    # A connection that broke a moment ago says so once more.
    with suppress(OSError):
        await nc.close()
