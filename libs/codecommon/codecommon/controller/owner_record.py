"""What is recorded of who made a thing on a git host. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Final, Self

from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS, REPOSITORIES
from codecommon.api.meta import Resource

MOST_HOLDERS: Final = 8
"""Of one record. Who comes later is not listed, and the thing is disputed for everybody."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing on a host that an object may have made. ``resource``: the plural of the kind. ``ids``: the host's own."""

    host: str
    resource: str
    ids: tuple[str, ...]

    @property
    def is_told_by_the_host(self) -> bool:
        """Whether the host's answer shows that a request made it. It answers the same if a user has the access already."""
        return self.resource != COLLABORATORS.resource

    @property
    def key(self) -> str:
        """The key of its record. A digest, because what a host or a tenant writes may not be a key."""
        digest = hashlib.sha256("\0".join((self.host.lower(), *self.ids)).encode()).hexdigest()
        return f"{self.resource}.{digest}"


def repository(host: str, repo_id: str) -> Thing:
    return Thing(host, REPOSITORIES.resource, (repo_id,))


def deploy_key(host: str, repo_id: str, key_id: str) -> Thing:
    return Thing(host, DEPLOY_KEYS.resource, (repo_id, key_id))


def access(host: str, repo_id: str, user_id: str | None, login: str) -> Thing:
    """The access of a user to a repository. ``login`` counts only where the host does not tell the user's id."""
    return Thing(host, COLLABORATORS.resource, (repo_id, user_id or f"@{login.lower()}"))


@dataclass(frozen=True, slots=True)
class Holder:
    """The object that made the thing. Its uid decides; where it is helps people."""

    uid: str
    cluster: str
    name: str

    @classmethod
    def of(cls, obj: Resource[Any, Any]) -> Holder:
        return cls(obj.metadata.uid, obj.workspace.cluster, obj.name)


class Standing(Enum):
    OURS = "the object made it"
    ANOTHERS = "another object made it"
    DISPUTED = "several objects say that they made it"


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """``holders``: one; several where their statuses contradict each other.

    ``at``: the host's time before the thing was made, or the time of the record where that is not known. ``made_at``: the
    former, if it is known. ``from_status``: written by a rebuild, from a status that its tenant can write. ``from_claim``:
    concluded from a create claim and a time.
    """

    holders: tuple[Holder, ...]
    at: datetime
    made_at: datetime | None = None
    from_status: bool = False
    from_claim: bool = False

    def standing(self, uid: str) -> Standing:
        if all(holder.uid != uid for holder in self.holders):
            # Where more claimed it than are listed, the one that made it may be among the rest.
            return Standing.DISPUTED if len(self.holders) >= MOST_HOLDERS else Standing.ANOTHERS
        return Standing.OURS if len(self.holders) == 1 else Standing.DISPUTED

    def joined_by(self, holder: Holder) -> OwnerRecord:
        """The record once another status claims the thing too."""
        if self.standing(holder.uid) is not Standing.ANOTHERS:
            return self
        return replace(self, holders=(*self.holders, holder))

    def left_by(self, uid: str) -> OwnerRecord | None:
        """The record once the object with that uid is gone. None: nothing is left of it."""
        rest = tuple(holder for holder in self.holders if holder.uid != uid)
        return replace(self, holders=rest) if rest else None

    def encode(self) -> bytes:
        stored = {
            "holders": [[holder.uid, holder.cluster, holder.name] for holder in self.holders],
            "at": self.at.isoformat(),
            "madeAt": self.made_at.isoformat() if self.made_at is not None else None,
            "fromStatus": self.from_status,
            "fromClaim": self.from_claim,
        }
        return json.dumps(stored).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what no version of us wrote."""
        stored = json.loads(data)
        made_at = stored["madeAt"]
        return cls(
            tuple(Holder(uid, cluster, name) for uid, cluster, name in stored["holders"]),
            datetime.fromisoformat(stored["at"]),
            datetime.fromisoformat(made_at) if made_at else None,
            bool(stored["fromStatus"]),
            bool(stored.get("fromClaim")),
        )
