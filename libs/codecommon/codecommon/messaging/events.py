"""Object events: CloudEvents 1.0 in JSON that say *which* object to look at, never what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args
from zlib import crc32

import orjson

from codecommon.api.kinds import GROUP, KINDS

EventReason = Literal["changed", "dependency", "unsettled", "resync", "revalidate"]
Lane = Literal["events", "resync"]

EVENT_TYPE: Final = f"{GROUP}.object.changed"
CONTENT_TYPE: Final = "application/cloudevents+json"


class UndecodableEvent(ValueError):
    """A message that is not one of our events; it goes to ``CODE_DEAD``."""


@dataclass(frozen=True, slots=True)
class Versions:
    """resourceVersions of the object's dependencies as the watcher knew them; None: it knew of none."""

    repository: str | None = None
    connection: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """A hint that ``name`` in ``cluster`` is worth a look. ``endpoint`` is the virtual workspace it was seen at.

    ``possible_duplicates``: another object of the workspace may stand for the same thing on the host. True also where nobody
    knows. Of two such objects the younger one always gets True. Where a list brings the younger one first, its event is
    published again once the list has brought the other. ``time``: when it was published; None before.
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

    @property
    def lane(self) -> Lane:
        return "resync" if self.reason == "resync" else "events"

    @property
    def subject(self) -> str:
        return subject(self.lane, self.resource, self.cluster, self.name)

    @property
    def message_id(self) -> str | None:
        """Deduplication id; None for what must never be taken for a repetition."""
        if self.reason in ("resync", "revalidate"):
            return None
        v = self.versions
        seen = f"{v.repository or ''}.{v.connection or ''}.{v.secret or ''}"
        # Told again with a twin that was not known before, or through another endpoint, it is no repetition.
        where = crc32(self.endpoint.encode())
        return f"{self.uid}/{self.resource_version}/{seen}/{where:08x}{'+' if self.possible_duplicates else ''}"

    def encode(self, time: str) -> bytes:
        """The CloudEvent; ``time`` is RFC 3339."""
        v = self.versions
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
                    "versions": {"repository": v.repository, "connection": v.connection, "secret": v.secret},
                    "possibleDuplicates": self.possible_duplicates,
                },
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> ObjectEvent:
        """Read a CloudEvent; raises ``UndecodableEvent`` on anything else."""
        try:
            envelope: dict[str, Any] = orjson.loads(body)
            if envelope["specversion"] != "1.0" or envelope["type"] != EVENT_TYPE:
                raise UndecodableEvent(f"not a {EVENT_TYPE} event")
            data: dict[str, Any] = envelope["data"]
            if data["resource"] not in KINDS or data["reason"] not in get_args(EventReason):
                raise UndecodableEvent("unknown resource or reason")
            return cls(
                resource=data["resource"],
                cluster=str(data["cluster"]),
                name=str(data["name"]),
                uid=str(data["uid"]),
                generation=int(data["generation"]),
                resource_version=str(data["resourceVersion"]),
                deleting=bool(data["deleting"]),
                reason=data["reason"],
                endpoint=str(envelope["source"]),
                versions=Versions(**data["versions"]),
                possible_duplicates=bool(data.get("possibleDuplicates", True)),
                time=datetime.fromisoformat(envelope["time"]),
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, UndecodableEvent):
                raise
            raise UndecodableEvent(f"not an object event ({type(error).__name__}, {len(body)} bytes)") from None


def subject(lane: Lane, resource: str, cluster: str, name: str) -> str:
    """The stream subject of one object. An object name may hold dots but no underscore, so the token is reversible."""
    return f"code.{lane}.{resource}.{cluster}.{name.replace('.', '_')}"
