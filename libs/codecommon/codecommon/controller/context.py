"""One pass over one object: its reads, its guarded writes, and what it leaves in status.

Every write carries the uid and resourceVersion that this pass has seen last. Metadata and status never go in one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from codecommon.api.kinds import KindSpec, children_of
from codecommon.api.meta import BaseStatus, Resource, Wire
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, NotReady, Ready, Retryable
from codecommon.api.times import rfc3339
from codecommon.controller import conditions
from codecommon.controller.bindings import FRESH_SECONDS, Staying
from codecommon.kcp.client import Conflict, Invalid, JsonObject, NotFound, ProviderObjects
from codecommon.kcp.endpoints import EXPORT_NAME
from codecommon.messaging.events import Versions

T = TypeVar("T", bound=Resource[Any, Any])

_STATUS_ATTEMPTS: Final = 3
_SHOWN_REFERRERS: Final = 10
_FRESH: Final = timedelta(seconds=FRESH_SECONDS)
_KEPT_WITHOUT_SUMMARY: Final = frozenset({conditions.READY, conditions.RECONCILING, conditions.STALLED})


class Gone(Exception):
    """The object is no more, or its name belongs to another uid: there is nothing left to do."""


class Superseded(Exception):
    """Somebody wrote the object during this pass: read it again and decide anew."""


class ReconcileContext(Generic[T]):
    """``object`` is the newest state this pass knows; ``versions``, ``twins`` and ``told`` (its time) are those of the event.

    ``staying``: what all passes of a process know of their workspaces.
    """

    def __init__(
        self,
        kind: KindSpec,
        parse: type[T],
        owned: frozenset[str],
        objects: ProviderObjects,
        raw: JsonObject,
        versions: Versions,
        possible_duplicates: bool = True,
        event_time: datetime | None = None,
        staying: Staying | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.kind = kind
        self.objects = objects
        self.versions = versions
        self.possible_duplicates = possible_duplicates
        self._event_time = event_time
        self._clock = clock
        self._staying = staying or Staying()
        self._parse = parse
        self._owned = owned | _KEPT_WITHOUT_SUMMARY
        self._raw = raw
        self._writing = asyncio.Lock()
        self.half_done = False
        self.object: T = parse.parse(raw, objects.workspace)

    @property
    def now(self) -> datetime:
        """The time of day, UTC. Reconcilers ask here and nowhere else, so that a test can set it."""
        return self._clock()

    # ---- metadata

    @property
    def has_finalizer(self) -> bool:
        return self.kind.finalizer in self.object.metadata.finalizers

    async def ensure_finalizer(self, annotations: Mapping[str, str | None] | None = None) -> T:
        """Make sure that our finalizer (and ``annotations``; None removes one) is on the object; one write at most.

        Raises ``Superseded`` when the object was changed or is being deleted by now, ``Gone`` when it is gone.
        """
        wanted = dict(annotations or {})
        present = self.object.metadata.annotations
        changed = {k: v for k, v in wanted.items() if present.get(k) != v}
        metadata: JsonObject = {}
        if not self.has_finalizer:
            metadata["finalizers"] = [*self.object.metadata.finalizers, self.kind.finalizer]
        if changed:
            metadata["annotations"] = changed
        if metadata:
            await self._write({"metadata": metadata})
        return self.object

    async def remove_finalizer(self) -> None:
        """Take our finalizer off; raises as ``ensure_finalizer``. An object that is gone already counts as released."""
        if not self.has_finalizer:
            return
        rest = [f for f in self.object.metadata.finalizers if f != self.kind.finalizer]
        try:
            await self._write({"metadata": {"finalizers": rest}})
        except Gone:
            return

    async def confirm_not_leaving(self) -> None:
        """The guard against creating for a workspace that is giving up the API, whose objects are only released.

        The watcher tells nothing else of such a workspace, so only what was told long ago is looked at again. Raises
        ``Superseded``: the object is being deleted by now, or will be in a moment.
        """
        if self._event_time is not None and self.now - self._event_time <= _FRESH:
            return
        if not await self._staying.confirm(self.objects.workspace, self.is_leaving):
            raise Superseded

    async def confirm_not_deleting(self) -> None:
        """The guard before a create on the host that no write of this pass guards; raises as ``confirm_deleting``."""
        await self._confirm(deleting=False)

    async def confirm_deleting(self) -> None:
        """A live read that shows this uid with a deletionTimestamp: the guard before anything is deleted on the host.

        Raises ``Superseded`` when that is so no more, or anybody wrote the object meanwhile, ``Gone`` when it is gone.
        """
        await self._confirm(deleting=True)

    async def _confirm(self, *, deleting: bool) -> None:
        decided_on = self.object.metadata.resource_version
        await self.reload()
        if self.object.deleting is not deleting or self.object.metadata.resource_version != decided_on:
            raise Superseded

    async def reload(self) -> None:
        """Read the object live. Raises ``Gone``."""
        try:
            raw = await self.objects.get(self.kind.resource, self.object.name)
        except NotFound:
            raise Gone from None
        self._take(raw)

    # ---- the workspace

    async def is_leaving(self) -> bool:
        """Whether the workspace is giving up our export: all its bindings of it are being deleted. Live, uncached."""
        bindings = [
            binding
            for binding in await self.objects.list("apibindings")
            if binding["spec"]["reference"].get("export", {}).get("name") == EXPORT_NAME
        ]
        if not bindings:
            # kcp removes a binding only after our finalizers have left, so an empty answer is not yet the truth.
            raise Retryable(
                Reason.BINDING_NOT_VISIBLE, "kcp shows no APIBinding of this API in the workspace; looking again"
            )
        return all(binding["metadata"].get("deletionTimestamp") for binding in bindings)

    async def require_no_referrers(self, children: tuple[KindSpec, ...], *, policy: str | None = None) -> None:
        """Raises ``NotReady`` (``DeletionBlocked``) while an object with our finalizer refers to this one.

        Directly, or through one without our finalizer, which may have been taken off by others. ``policy``: only those with
        this ``spec.deletionPolicy`` count.
        """
        found = await self._referrers(children, self.object.name, policy)
        if found:
            more = f" and {len(found) - _SHOWN_REFERRERS} more" if len(found) > _SHOWN_REFERRERS else ""
            shown = ", ".join(sorted(found)[:_SHOWN_REFERRERS])
            raise NotReady(Reason.DELETION_BLOCKED, f"kept until these are deleted: {shown}{more}")

    async def _referrers(self, kinds: tuple[KindSpec, ...], name: str, policy: str | None) -> list[str]:
        found: list[str] = []
        for kind in kinds:
            for raw in await self.objects.list(kind.resource, field_selector=f"spec.{kind.reference}={name}"):
                metadata = raw["metadata"]
                if kind.finalizer not in metadata.get("finalizers", ()):
                    found += await self._referrers(children_of(kind.resource), metadata["name"], policy)
                elif policy is None or raw["spec"].get("deletionPolicy") == policy:
                    found.append(f"{kind.kind}/{metadata['name']}")
        return found

    # ---- status

    def learns_from(self, result: Ready | Interruption) -> bool:
        """Whether ``result`` brings what is not stored yet: a status field, such as an id from the host, or a condition."""
        stored: JsonObject = self._raw.get("status") or {}
        shown = {(c.type, c.status, c.reason) for c in self.object.status.conditions}
        return any(stored.get(name) != value for name, value in result.status.items()) or any(
            (c.type, c.status, c.reason) not in shown for c in result.conditions
        )

    async def commit(self, result: Ready | Interruption) -> None:
        """Write what ``result`` says into status, if that changes anything.

        A conflict is answered by reading again and writing the same result: what the host told us is never dropped.
        Raises ``Gone``, or the last ``Superseded`` after three attempts.
        """
        generation, requested = self.object.metadata.generation, self.object.reconcile_requested_at
        for attempt in range(1, _STATUS_ATTEMPTS + 1):
            patch = self._status_patch(result, generation, requested)
            if not patch:
                return
            try:
                await self._write({"status": patch}, subresource="status")
            except Superseded:
                if attempt == _STATUS_ATTEMPTS:
                    raise
                await self.reload()
            else:
                return

    async def record_status(self, status: Mapping[str, Any]) -> None:
        """Write status fields now, by wire name: what a pass with more to do must not lose to a crash.

        Raises ``Superseded`` when the object was changed by now, ``Gone`` when it is gone.
        """
        await self._write({"status": dict(status)}, subresource="status")

    async def announce(self, reason: Reason, message: str) -> None:
        """Say that a long pass is under way (``Reconciling=True``), unless status names a reason; the pass goes on meanwhile."""
        status: BaseStatus = self.object.status
        said = status.condition(conditions.RECONCILING)
        if said is not None and said.status == "True":
            # A slow pass that ends as the one before would write it back: twice for nothing.
            return
        wanted = conditions.condition(conditions.RECONCILING, "True", reason, message)
        merged = conditions.merge(
            status.conditions,
            [wanted],
            owned=frozenset(),
            generation=self.object.metadata.generation,
            now=rfc3339(self.now),
        )
        try:
            await self._write({"status": {"conditions": _dump(merged)}}, subresource="status")
        except (Superseded, Gone):
            # The pass itself will meet the same and deal with it.
            return

    def _status_patch(self, result: Ready | Interruption, generation: int, requested: str | None) -> JsonObject:
        status: BaseStatus = self.object.status
        wanted: JsonObject = dict(result.status)
        if not isinstance(result, Retryable):
            wanted["observedGeneration"] = generation
            if requested is not None:
                wanted["lastHandledReconcileAt"] = requested
        # An interruption says nothing about the kind's other conditions unless it names them.
        owned = self._owned if isinstance(result, Ready) else _KEPT_WITHOUT_SUMMARY
        wanted["conditions"] = _dump(
            conditions.merge(
                status.conditions,
                conditions.from_result(status, result, generation),
                owned=owned,
                generation=generation,
                now=rfc3339(self.now),
            )
        )
        stored: JsonObject = self._raw.get("status") or {}
        return {k: v for k, v in wanted.items() if stored.get(k) != v}

    # ---- writing

    async def _write(self, body: JsonObject, subresource: str = "") -> None:
        async with self._writing:
            metadata = self.object.metadata
            guard = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
            patch = {**body, "metadata": {**body.get("metadata", {}), **guard}}
            try:
                raw = await self.objects.merge_patch(self.kind.resource, metadata.name, patch, subresource=subresource)
            except NotFound:
                raise Gone from None
            except Conflict:
                raise Superseded from None
            except Invalid:
                # Among what kcp refuses as invalid is a finalizer added to an object that is being deleted.
                if "metadata" in body and not self.object.deleting:
                    raise Superseded from None
                raise
            self._take(raw)

    def _take(self, raw: JsonObject) -> None:
        if raw["metadata"]["uid"] != self.object.metadata.uid:
            raise Gone
        self._raw = raw
        self.object = self._parse.parse(raw, self.objects.workspace)


def _dump(items: tuple[Wire, ...]) -> list[JsonObject]:
    return [item.model_dump(by_alias=True) for item in items]
