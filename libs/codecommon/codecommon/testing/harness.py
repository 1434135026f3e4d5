"""A workspace, a git host and a reconciler in one place: state in, one pass, state out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from codecommon.api.claim import Claim
from codecommon.api.kinds import KINDS
from codecommon.api.meta import Resource
from codecommon.api.results import Interruption, Outcome
from codecommon.controller.connections import Connections
from codecommon.controller.context import Hints, ReconcileContext, utc_now
from codecommon.controller.ownership import Ownership
from codecommon.controller.ownership_rebuild import REBUILT
from codecommon.controller.reconcile import Skipped, reconcile
from codecommon.controller.reconciler import Controller
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import HostTarget
from codecommon.githost.provider import Registry
from codecommon.kcp.client import JsonObject
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent, Versions
from codecommon.messaging.records import Record
from codecommon.testing.clock import Clock
from codecommon.testing.git_host import StubBackend, StubProvider
from codecommon.testing.objects import InMemoryKcp, workspace
from codecommon.testing.records import InMemoryRecords

T = TypeVar("T", bound=Resource[Any, Any])

NAMESPACE: Final = "default"


class RecordedEvents:
    """Stands where a ``Bus`` is only published to."""

    def __init__(self) -> None:
        self.published: list[ObjectEvent] = []

    async def publish(self, event: ObjectEvent) -> None:
        self.published.append(event)

    async def publish_if_none(self, event: ObjectEvent) -> bool:
        if any(event.subject == there.subject for there in self.published):
            return False
        self.published.append(event)
        return True


class World:
    """One workspace with its git host. ``connections`` is the real one, over them; ``opened``: what it has opened.

    ``owners`` and ``claims``: what NATS keeps of who made what. ``beside``: a world whose kcp, git host and NATS this
    workspace shares.
    """

    def __init__(self, host: StubBackend | None = None, cluster: str = "c1", beside: World | None = None) -> None:
        self.cluster = cluster
        self.kcp = beside.kcp if beside else InMemoryKcp()
        self.host = beside.host if beside else host or StubBackend()
        self.owners = beside.owners if beside else InMemoryRecords()
        self.claims = beside.claims if beside else InMemoryRecords()
        # As in an installation that has run for a while. ``owners.lose()`` takes it away.
        self.owners.stored.setdefault(REBUILT, Record(b"", 0))
        self.ownership = Ownership(self.owners, self.claims, self.kcp)
        self.opened: list[HostTarget] = []
        self.bus = RecordedEvents()
        self.clock = Clock()
        self.now: Callable[[], datetime] = utc_now
        self.objects = self.kcp.objects(workspace(cluster))
        self.connections = Connections(
            Registry([StubProvider(self._open)], HostTransport()),
            bus=cast(Bus, self.bus),
            credentials_namespace=NAMESPACE,
            clock=self.clock,
        )

    def _open(self, target: HostTarget) -> StubBackend:
        self.opened.append(target)
        return self.host.open(target)

    def add(self, *objects: JsonObject) -> JsonObject:
        """Put objects into the workspace; returns the last as stored."""
        stored: JsonObject = {}
        for raw in objects:
            stored = self.kcp.add(raw, self.cluster)
        return stored

    async def claim(self, resource: str, name: str, at: datetime, key: str | None = None) -> None:
        """Let the object have a create claim of that time, and our finalizer, as after a crash."""
        kind = KINDS[resource]
        raw = self.stored(resource, name)
        finalizers = {*raw["metadata"].get("finalizers", ()), kind.finalizer}
        raw = self.kcp.edit(resource, name, {"metadata": {"finalizers": sorted(finalizers)}}, self.cluster)
        await self.ownership.store_claim(kind.model.parse(raw, self.objects.workspace), Claim(at, key))

    async def claim_of(self, resource: str, name: str) -> Claim | None:
        """The object's create claim as NATS has it."""
        return await self.ownership.claim_of(self.stored(resource, name)["metadata"]["uid"])

    def stored(self, resource: str, name: str, namespace: str | None = None) -> JsonObject:
        """The object as it is now. Fails when there is none."""
        raw = self.kcp.stored(resource, name, self.cluster, namespace)
        assert raw is not None, f"there is no {resource}/{name}"
        return raw

    def start(
        self,
        controller: Controller[T],
        name: str,
        versions: Versions | None = None,
        event_time: datetime | None = None,
        copy: JsonObject | None = None,
    ) -> ReconcileContext[T]:
        """The context of an object that was read as it is now, or came as ``copy`` with its event. ``event_time`` None:
        a moment ago.
        """
        return ReconcileContext(
            controller.kind,
            controller.owned,
            self.objects,
            copy or self.stored(controller.kind.resource, name),
            Hints(versions or Versions(), event_time=event_time or self.now()),
            clock=self.now,
            ownership=self.ownership,
            is_copy=copy is not None,
        )

    async def reconcile(
        self, controller: Controller[T], name: str, ctx: ReconcileContext[T] | None = None
    ) -> Outcome | Interruption | Skipped | None:
        """Reconcile as the engine does after a change. None: the object is gone."""
        return (await reconcile(controller, ctx or self.start(controller, name))).result


def conditions(raw: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Type → (status, reason) of a stored object's conditions."""
    return {c["type"]: (c["status"], c["reason"]) for c in (raw.get("status") or {}).get("conditions", ())}


def message(raw: Mapping[str, Any], type_: str = "Ready") -> str:
    return next(c["message"] for c in raw["status"]["conditions"] if c["type"] == type_)
