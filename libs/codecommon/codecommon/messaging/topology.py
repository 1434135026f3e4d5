"""What the provider keeps in NATS JetStream, and which service may do what with it: one table.

``code-provider init`` declares what stands here. ``permissions`` turns a user's row into the rules of a nats-server. To add a
stream, a bucket or an object store, add it to ``STREAMS``, ``BUCKETS`` or ``OBJECT_STORES``, and name it in the rows of those
who use it. A new kind needs no change: its service's durables and subjects follow from ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nats.js import api

from codecommon.api.kinds import KINDS
from codecommon.messaging.events import CRAWLS, Lane

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

CRAWLER: Final = "package-crawler"
"""The service that takes the crawls, which are no kind."""

INIT: Final = "init"
DOCTOR: Final = "doctor"

ACK_WAIT_SECONDS: Final = 15.0
"""A message of a process that died is delivered again after this; a living handler sends heartbeats well below it."""

LANES: Final[tuple[Lane, ...]] = ("events", "resync")

_DEAD_MAX_AGE_SECONDS: Final = 7 * 24 * 3600
_DUPLICATE_WINDOW_SECONDS: Final = 120


# ---- what there is

STREAMS: Final[Mapping[str, api.StreamConfig]] = {
    EVENTS_STREAM: api.StreamConfig(
        name=EVENTS_STREAM,
        subjects=["code.events.>", "code.resync.>"],
        retention=api.RetentionPolicy.WORK_QUEUE,
        discard=api.DiscardPolicy.OLD,
        max_msgs_per_subject=1,
        storage=api.StorageType.FILE,
        duplicate_window=_DUPLICATE_WINDOW_SECONDS,
        # A direct request has the subject in its own subject, so a user may be allowed to read some subjects and no others.
        allow_direct=True,
    ),
    DEAD_STREAM: api.StreamConfig(
        name=DEAD_STREAM,
        subjects=["code.dead.>"],
        retention=api.RetentionPolicy.LIMITS,
        max_age=_DEAD_MAX_AGE_SECONDS,
        storage=api.StorageType.FILE,
    ),
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A KV bucket, on disk like the streams: in memory it would be gone, not just empty, after a restart of the server.

    ``ttl``: in seconds; 0: an entry stays until it is removed. ``removes``: entries are removed without a trace. ``heard``: the
    keys whose changes everybody who uses the bucket is told of at once.
    """

    ttl: float
    removes: bool = False
    heard: str | None = None


BUCKETS: Final[Mapping[str, Bucket]] = {
    LOCKS: Bucket(15.0),
    LEASES: Bucket(15.0),
    POISON_MESSAGES: Bucket(3600.0),
    # Longer than any window of a limit and any pause that we keep.
    # That a host has blocked an account must reach all processes before their next request.
    BUDGETS: Bucket(2 * 3600.0, heard="block.*"),
    # Stored anew every hour while it is in use.
    ACCOUNTS: Bucket(24 * 3600.0),
    # A record is kept for as long as its object.
    OWNERS: Bucket(0.0, removes=True),
    # A create that was never finished is found out within days at most.
    CREATE_CLAIMS: Bucket(30 * 24 * 3600.0, removes=True),
    # As long as the cookie of a flow, and as GitHub's code.
    OAUTH_FLOWS: Bucket(600.0),
    # Stored anew with every look at an owner.
    CRAWL_STATES: Bucket(7 * 24 * 3600.0),
}


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """Large values, cut into chunks, on disk.

    ``ttl``: in seconds; 0: an object stays until it is removed. ``most_bytes``: of all objects; the server sets so much aside.
    """

    ttl: float
    most_bytes: int


BUNDLE_TTL_SECONDS: Final = 6 * 3600.0
"""A commit is made within seconds, but it waits out the host's limits and outages. What is left by then was forgotten."""

OBJECT_STORES: Final[Mapping[str, ObjectStore]] = {
    # Each workspace has a bound of its own besides; see ``codecommon.messaging.bundles``.
    BUNDLES: ObjectStore(BUNDLE_TTL_SECONDS, 2 * 1024**3),
}


@dataclass(frozen=True, slots=True)
class Durable:
    """A durable consumer of a stream: what one service reads of one lane."""

    name: str
    stream: str
    filters: tuple[str, ...]

    @property
    def config(self) -> api.ConsumerConfig:
        return api.ConsumerConfig(
            durable_name=self.name,
            filter_subjects=list(self.filters),
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_deliver=-1,
            # A parked message keeps its slot: any bound would let one tenant stop all.
            max_ack_pending=-1,
        )


def durable_name(service: str, lane: Lane) -> str:
    return service if lane == "events" else f"{service}-resync"


def _durables() -> Iterator[Durable]:
    """One for each lane of every service that reconciles a kind, and of the crawler."""
    topics: dict[str, list[str]] = {CRAWLER: [CRAWLS]}
    for kind in KINDS.values():
        if kind.service is not None:
            topics.setdefault(kind.service, []).append(kind.resource)
    for service, resources in topics.items():
        for lane in LANES:
            filters = tuple(f"code.{lane}.{resource}.>" for resource in resources)
            yield Durable(durable_name(service, lane), EVENTS_STREAM, filters)


DURABLES: Final[Mapping[str, Durable]] = {durable.name: durable for durable in _durables()}


# ---- who may do what with it


@dataclass(frozen=True, slots=True)
class User:
    """One row of the table.

    Attributes:
        publishes: Subjects, with ``*`` for one token. They are stored in a stream of the table.
        durables: Those it reads, and so nothing else of their stream. What it cannot decode there, it moves to ``CODE_DEAD``.
        buckets, object_stores: Those it reads and writes.
        purges: Streams of which it reads any message and purges some.
        declares: It creates and updates everything in the tables, and deletes nothing.
        inspects: It may ask for the state of everything in the tables.
    """

    publishes: tuple[str, ...] = ()
    durables: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    object_stores: tuple[str, ...] = ()
    purges: tuple[str, ...] = ()
    declares: bool = False
    inspects: bool = False


def _lanes_of(service: str) -> tuple[str, ...]:
    return tuple(durable_name(service, lane) for lane in LANES)


# A service that reaches a git host asks for a Connection to be validated again when the host refuses its credential.
_REVALIDATE: Final = "code.events.connections.*.*.revalidate"
_WORKING: Final = (LOCKS, POISON_MESSAGES, BUDGETS, ACCOUNTS)
_RECONCILING: Final = (*_WORKING, OWNERS, CREATE_CLAIMS)

USERS: Final[Mapping[str, User]] = {
    "watcher": User(
        publishes=tuple(
            f"code.{lane}.{topic}.*.*"
            for lane in LANES
            for topic in (CRAWLS, *(kind.resource for kind in KINDS.values() if kind.service is not None))
        ),
        buckets=(LEASES,),
        # The bundles of a workspace that is gone.
        object_stores=(BUNDLES,),
        # The messages of a workspace that is gone.
        purges=(EVENTS_STREAM,),
    ),
    "connection-svc": User(publishes=(_REVALIDATE,), durables=_lanes_of("connection-svc"), buckets=_RECONCILING),
    "repository-svc": User(
        publishes=(_REVALIDATE, f"code.events.{CRAWLS}.*.*.requested"),
        durables=_lanes_of("repository-svc"),
        buckets=_RECONCILING,
        object_stores=(BUNDLES,),
    ),
    "access-svc": User(publishes=(_REVALIDATE,), durables=_lanes_of("access-svc"), buckets=_RECONCILING),
    CRAWLER: User(
        publishes=(
            _REVALIDATE,
            "code.events.repositories.*.*.found",
            "code.events.connections.*.*.found",
            # One job for each owner.
            f"code.events.{CRAWLS}.*.*.*",
        ),
        durables=_lanes_of(CRAWLER),
        buckets=(*_WORKING, CRAWL_STATES),
    ),
    "gateway": User(buckets=(OAUTH_FLOWS,), object_stores=(BUNDLES,)),
    INIT: User(declares=True, inspects=True),
    DOCTOR: User(inspects=True),
}
