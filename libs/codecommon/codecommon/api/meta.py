"""What every object has: identity, metadata, conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from codecommon.api.annotations import PAUSED, requested_at
from codecommon.api.claim import Claim
from codecommon.api.reasons import ConditionType

ConditionStatus = Literal["True", "False", "Unknown"]


class Wire(BaseModel):
    """Base of everything that crosses the wire to kcp: frozen, camelCase aliases, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore", alias_generator=to_camel)


class Condition(Wire):
    """``metav1.Condition``. Times are RFC 3339 strings, kept as they were read so that nothing is rewritten."""

    type: str
    status: ConditionStatus
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class OwnerReference(Wire):
    kind: str
    name: str
    uid: str


class ObjectMeta(Wire):
    name: str
    uid: str
    resource_version: str
    generation: int = 0
    creation_timestamp: datetime
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class BaseStatus(Wire):
    """Fields every kind's status has; a kind adds its own."""

    observed_generation: int | None = None
    last_handled_reconcile_at: str | None = None
    conditions: tuple[Condition, ...] = ()

    def condition(self, type_: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == type_), None)

    @property
    def bound(self) -> bool:
        """Whether it records something on the host."""
        return False


_CLUSTER_ID: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def is_cluster_id(text: str) -> bool:
    """Whether ``text`` has the form of a logical cluster's ID. A path (``root:…``) and the wildcard (``*``) have not."""
    return _CLUSTER_ID.fullmatch(text) is not None


SpecT = TypeVar("SpecT", bound=Wire)
StatusT = TypeVar("StatusT", bound=BaseStatus)


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where an object lives: one logical cluster behind one virtual-workspace endpoint.

    ``endpoint`` is a URL of the APIExportEndpointSlice (one per kcp shard), without ``/clusters/…``.
    """

    endpoint: str
    cluster: str


class Resource(Wire, Generic[SpecT, StatusT]):
    """One object of ours as read from kcp. ``workspace`` says where; it is not part of the wire form.

    ``claim``: its create claim, where that was looked up. It is kept apart from the object, which its tenant can write.
    """

    metadata: ObjectMeta
    spec: SpecT
    status: StatusT
    workspace: Workspace = Field(exclude=True)
    claim: Claim | None = Field(None, exclude=True)

    @classmethod
    def parse(cls, raw: dict[str, Any], workspace: Workspace) -> Self:
        """Read an object as kcp sends it; an object without status gets an empty one."""
        return cls.model_validate({**raw, "status": raw.get("status") or {}, "workspace": workspace, "claim": None})

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def paused(self) -> bool:
        return self.metadata.annotations.get(PAUSED) == "true"

    @property
    def reconcile_requested_at(self) -> str | None:
        return requested_at(self.metadata.annotations)

    @property
    def ready(self) -> bool:
        """Ready=True for the current generation."""
        condition = self.status.condition(ConditionType.READY)
        return (
            condition is not None
            and condition.status == "True"
            and self.status.observed_generation == self.metadata.generation
        )
