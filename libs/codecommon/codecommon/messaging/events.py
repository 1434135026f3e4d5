"""Object events: CloudEvents 1.0 in JSON. An event names the object to reconcile and may carry a copy of it, but no secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Literal, get_args
from zlib import crc32

import orjson

from codecommon.api.connection import Connection
from codecommon.api.group import GROUP
from codecommon.api.kinds import KINDS
from codecommon.api.meta import Condition, is_cluster_id
from codecommon.api.reasons import ConditionType, Reason
from codecommon.messaging import object_copy

EventReason = Literal[
    "changed", "dependency", "unsettled", "resync", "revalidate", "found", "crawl", "crawl-resync", "crawl-request"
]
"""Why an object is to be reconciled, or what else is to be done with it.

``changed``: the object itself changed. ``dependency``: an object that it depends on, or that depended on it, changed.
``unsettled``: a list showed that the object may differ from what is wanted. ``resync``: its periodic comparison with the host is
due. ``revalidate``: a service asks for a Connection to be validated again. ``found``: a service has found out what another one
writes into the object's status; see ``ObjectEvent.finding``.

Those that begin with ``crawl`` are about the packages of a Connection. ``crawl``: look at them now. ``crawl-resync``: see to it
that they are looked at. ``crawl-request``: look at them often for a while.
"""

Lane = Literal["events", "resync"]
"""The first part of a subject. The two lanes have durables of their own, so that a resync cannot delay a change."""

EVENT_TYPE: Final = f"{GROUP}.object.changed"
CONTENT_TYPE: Final = "application/cloudevents+json"


CRAWLS: Final = "crawls"
"""Where the plural of a kind stands in other subjects."""

_NEVER_REPETITIONS: Final = frozenset({"resync", "revalidate", "found", "crawl", "crawl-resync", "crawl-request"})


class UndecodableEvent(ValueError):
    """The message is not one of our events. The consumer moves it to the stream ``CODE_DEAD``."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The resourceVersions of the object's dependencies that the watcher knew. None: it knew of no such object.

    There is one field for each kind that others refer to, named after the kind's singular, and one for the Secret.
    """

    repository: str | None = None
    connection: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """A hint that one object should be reconciled.

    The consumer reads the object. While the event is new, it may begin with the ``copy``, as a controller does with its cache.

    Attributes:
        resource: The plural of the kind.
        cluster: The ID of the logical cluster.
        name, uid, generation, resource_version: Of the object, as the watcher saw it.
        deleting: The object has a deletionTimestamp.
        endpoint: The URL of the virtual workspace that the object was seen at.
        versions: What the watcher knew of the object's dependencies. A consumer's cache must not be older.
        possible_duplicates: Another object of the workspace may stand for the same thing on the host. True if unknown.
            Of two such objects, the younger one's event has True. If a list yields the younger object first, that object's
            event is published again at the end of the list, unless it is Ready by then.
        time: When the event was published. None before that.
        cause: The resourceVersion of the change that led to the event, if neither ``resource_version`` nor ``versions``
            contain it: a child was deleted, or a binding started terminating. It is part of the message id only, so that
            the stream does not drop the second such event as a repetition of the first.
        copy: The object at ``resource_version`` as JSON; see ``object_copy``. Empty: the event carries none.
        seen_at: When the watcher saw what is in ``copy``.
        finding: What was found out, as a condition without times.
        owner: Of a crawl: whose packages. Empty: those of all owners of the Connection's Repositories.
    """

    resource: str
    cluster: str
    name: str
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    reason: EventReason
    endpoint: str
    versions: Versions = Versions()
    possible_duplicates: bool = True
    time: datetime | None = field(default=None, compare=False)
    cause: str = field(default="", compare=False)
    copy: bytes = field(default=b"", repr=False)
    seen_at: datetime | None = None
    finding: Condition | None = None
    owner: str = ""

    @property
    def lane(self) -> Lane:
        return "resync" if self.reason in ("resync", "crawl-resync") else "events"

    @property
    def subject(self) -> str:
        """One message per subject is kept, so an event has the subject of those that it may replace, and of no others."""
        match self.reason:
            case "found" | "revalidate":
                # Of its own, too, because others than the watcher publish it, and NATS grants rights by subject.
                return f"{subject(self.lane, self.resource, self.cluster, self.name)}.{self.reason}"
            case "crawl" if self.owner:
                # An owner may hold characters that a subject may not.
                whose = sha256(self.owner.lower().encode()).hexdigest()[:16]
                return f"{subject(self.lane, CRAWLS, self.cluster, self.name)}.{whose}"
            case "crawl-request":
                return f"{subject(self.lane, CRAWLS, self.cluster, self.name)}.requested"
            case "crawl" | "crawl-resync":
                return subject(self.lane, CRAWLS, self.cluster, self.name)
            case _:
                return subject(self.lane, self.resource, self.cluster, self.name)

    @property
    def is_crawl(self) -> bool:
        return self.reason.startswith("crawl")

    @property
    def message_id(self) -> str | None:
        """The ``Nats-Msg-Id``. JetStream drops an event whose id it has seen within the last two minutes.

        None: the event is never a repetition. An event with another ``endpoint`` or ``possible_duplicates`` corrects the
        one before, so both are part of the id.
        """
        if self.reason in _NEVER_REPETITIONS:
            return None
        seen = ".".join(version or "" for version in asdict(self.versions).values())
        where = crc32(self.endpoint.encode())
        duplicates = "+" if self.possible_duplicates else ""
        cause = f"/{self.cause}" if self.cause else ""
        return f"{self.uid}/{self.resource_version}/{seen}/{where:08x}{duplicates}{cause}"

    def encode(self, time: str) -> bytes:
        """The CloudEvent as JSON. ``time``: now, as an RFC 3339 string."""
        seen: dict[str, Any] = {}
        if self.copy and self.seen_at is not None:
            seen = {"object": orjson.Fragment(self.copy), "seenAt": self.seen_at.isoformat()}
        if self.finding is not None:
            seen["finding"] = self.finding.model_dump(by_alias=True)
        if self.owner:
            seen["owner"] = self.owner
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": self.message_id or f"{self.uid}/{self.resource_version}/{self.reason}/{time}",
                "source": self.endpoint,
                "type": EVENT_TYPE,
                "subject": f"{self.cluster}/{self.resource}/{self.name}",
                "time": time,
                "datacontenttype": "application/json",
                "data": {
                    "kind": KINDS[self.resource].kind,
                    "resource": self.resource,
                    "cluster": self.cluster,
                    "name": self.name,
                    "uid": self.uid,
                    "generation": self.generation,
                    "resourceVersion": self.resource_version,
                    "deleting": self.deleting,
                    "reason": self.reason,
                    "versions": asdict(self.versions),
                    "possibleDuplicates": self.possible_duplicates,
                    **seen,
                },
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> ObjectEvent:
        """Read a CloudEvent that ``encode`` wrote. Raises ``UndecodableEvent`` for anything else, without quoting it."""
        try:
            envelope: dict[str, Any] = orjson.loads(body)
            if envelope["specversion"] != "1.0" or envelope["type"] != EVENT_TYPE:
                raise UndecodableEvent(f"not a {EVENT_TYPE} event")
            data: dict[str, Any] = envelope["data"]
            if data["resource"] not in KINDS or data["reason"] not in get_args(EventReason):
                raise UndecodableEvent("unknown resource or reason")
            # It becomes part of a URL.
            if not is_cluster_id(data["cluster"]):
                raise UndecodableEvent("cluster is not the ID of a logical cluster")
            cluster, name, uid = data["cluster"], str(data["name"]), str(data["uid"])
            resource_version = str(data["resourceVersion"])
            seen_at, copy = _time(data.get("seenAt")), b""
            if seen_at is not None and not data["deleting"]:
                copy = object_copy.decode(
                    data.get("object"), cluster=cluster, name=name, uid=uid, resource_version=resource_version
                )
            finding = None if data.get("finding") is None else Condition.model_validate(data["finding"])
            if finding is not None:
                finding = finding.model_copy(
                    update={"type": ConditionType(finding.type), "reason": Reason(finding.reason)}
                )
            return cls(
                resource=data["resource"],
                cluster=cluster,
                name=name,
                uid=uid,
                generation=int(data["generation"]),
                resource_version=resource_version,
                deleting=bool(data["deleting"]),
                reason=data["reason"],
                endpoint=str(envelope["source"]),
                versions=Versions(**data["versions"]),
                possible_duplicates=bool(data.get("possibleDuplicates", True)),
                time=datetime.fromisoformat(envelope["time"]),
                copy=copy,
                seen_at=seen_at if copy else None,
                finding=finding,
                owner=str(data.get("owner", "")),
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, UndecodableEvent):
                raise
            raise UndecodableEvent(f"not an object event ({type(error).__name__}, {len(body)} bytes)") from None


def _time(text: object) -> datetime | None:
    """A time with its zone; None: ``text`` is none."""
    try:
        time = datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo is not None else None


def subject(lane: Lane, resource: str, cluster: str, name: str) -> str:
    """The subject of one object. Dots separate the tokens of a subject, so a dot in the name becomes an underscore.

    No object name contains an underscore, so two names never get the same subject.
    """
    return f"code.{lane}.{resource}.{cluster}.{name.replace('.', '_')}"


def crawl_request(connection: Connection) -> ObjectEvent:
    """Asks for a look at the packages of a Connection's owners every 30 s for ten minutes, as after a commit that is built."""
    return connection_event(connection, "crawl-request")


def connection_event(connection: Connection, reason: EventReason, finding: Condition | None = None) -> ObjectEvent:
    """What a service publishes about a Connection that it has read."""
    return ObjectEvent(
        resource="connections",
        cluster=connection.workspace.cluster,
        name=connection.name,
        uid=connection.metadata.uid,
        generation=connection.metadata.generation,
        resource_version=connection.metadata.resource_version,
        deleting=connection.deleting,
        reason=reason,
        endpoint=connection.workspace.endpoint,
        finding=finding,
    )
