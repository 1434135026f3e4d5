"""A workspace, a git host and a reconciler in one place: state in, one pass, state out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from codecommon.api.meta import Resource
from codecommon.api.results import Interruption, Outcome, Released
from codecommon.controller.connections import Connections
from codecommon.controller.context import Gone, ReconcileContext, Superseded
from codecommon.controller.reconciler import Controller
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import HostTarget
from codecommon.githost.provider import Registry
from codecommon.kcp.client import JsonObject
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent, Versions
from codecommon.testing.clock import Clock
from codecommon.testing.git_host import StubBackend, StubProvider
from codecommon.testing.objects import InMemoryKcp, workspace

T = TypeVar("T", bound=Resource[Any, Any])

NAMESPACE: Final = "default"
_MOST_DECISIONS: Final = 3


class RecordedEvents:
    """Stands where a ``Bus`` is only published to."""

    def __init__(self) -> None:
        self.published: list[ObjectEvent] = []

    async def publish(self, event: ObjectEvent) -> None:
        self.published.append(event)


class World:
    """One workspace ``c1`` with its git host. ``sessions`` is the real one, over them; ``opened``: what it has opened."""

    def __init__(self, host: StubBackend | None = None) -> None:
        self.kcp = InMemoryKcp()
        self.host = host or StubBackend()
        self.opened: list[HostTarget] = []
        self.bus = RecordedEvents()
        self.clock = Clock()
        self.objects = self.kcp.objects(workspace())
        self.connections = Connections(
            Registry([StubProvider(self._open)], HostTransport()),
            kcp=self.kcp,
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
            stored = self.kcp.add(raw)
        return stored

    def start(
        self, controller: Controller[T], name: str, versions: Versions | None = None, event_time: datetime | None = None
    ) -> ReconcileContext[T]:
        """A pass that has read the object as it is now."""
        raw = self.kcp.stored(controller.kind.resource, name)
        assert raw is not None, f"there is no {controller.kind.resource}/{name}"
        return ReconcileContext(
            controller.kind,
            controller.parse,
            controller.owned,
            self.objects,
            raw,
            versions or Versions(),
            event_time=event_time or datetime.now(UTC),
        )

    async def settle(
        self, controller: Controller[T], name: str, ctx: ReconcileContext[T] | None = None
    ) -> Outcome | Interruption | None:
        """One pass with its commit, decided again after a conflict as the runtime does. None: the object is gone."""
        ctx = ctx or self.start(controller, name)
        try:
            for _ in range(_MOST_DECISIONS):
                try:
                    return await self._decide(controller, ctx)
                except Superseded:
                    await ctx.reload()
        except Gone:
            return None
        raise AssertionError(f"no decision about {name} in {_MOST_DECISIONS} attempts")

    async def _decide(self, controller: Controller[T], ctx: ReconcileContext[T]) -> Outcome | Interruption:
        result: Outcome | Interruption
        try:
            result = await controller.reconciler.reconcile(ctx)
        except Interruption as interruption:
            result = interruption
        if isinstance(result, Released):
            await ctx.remove_finalizer()
        else:
            await ctx.commit(result)
        return result


def conditions(raw: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Type → (status, reason) of a stored object's conditions."""
    return {c["type"]: (c["status"], c["reason"]) for c in (raw.get("status") or {}).get("conditions", ())}


def message(raw: Mapping[str, Any], type_: str = "Ready") -> str:
    return next(c["message"] for c in raw["status"]["conditions"] if c["type"] == type_)
