"""What a reconciler reads and writes its object with.

Every write names the uid and the resourceVersion that were seen last, so a write on top of somebody else's is refused.
Metadata and status never go in one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar

from codecommon.api.claim import Claim
from codecommon.api.kinds import KindSpec, children_of
from codecommon.api.meta import BaseStatus, Resource, Wire
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, NotReady, Ready, Retryable
from codecommon.api.times import rfc3339
from codecommon.controller import bindings, conditions
from codecommon.controller.bindings import FRESH_SECONDS, BoundWorkspaces
from codecommon.controller.ownership import Ownership
from codecommon.kcp.client import Conflict, Invalid, JsonObject, NotFound, ProviderObjects
from codecommon.messaging.events import Versions

T = TypeVar("T", bound=Resource[Any, Any])
R = TypeVar("R")

_STATUS_ATTEMPTS: Final = 3
_SHOWN_REFERRERS: Final = 10
_FRESH: Final = timedelta(seconds=FRESH_SECONDS)
_SUMMARY: Final = frozenset({conditions.READY, conditions.RECONCILING, conditions.STALLED})


class Gone(Exception):
    """The object is no more, or its name belongs to another uid. There is nothing left to do."""


class Superseded(Exception):
    """Somebody else wrote the object meanwhile. It has to be read again, and what to do decided anew."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What the event says besides which object it is about. The defaults say that nothing is known.

    ``versions``: of the object's dependencies. ``possible_duplicates``: another object may stand for the same thing on
    the host. ``event_time``: when the event was published.
    """

    versions: Versions = field(default_factory=Versions)
    possible_duplicates: bool = True
    event_time: datetime | None = None


def utc_now() -> datetime:
    return datetime.now(UTC)


class ReconcileContext(Generic[T]):
    """One object while it is reconciled. ``object`` is its newest state that we know.

    ``kind``, ``owned``: as of ``Controller``. ``raw``: the object as kcp sent it. ``is_copy``: ``raw`` came with the
    event, so the object may have changed since. ``parsed``: what the model makes of ``raw``, where that is known already.
    ``bound``: what the process knows of workspaces. ``ownership``: who made what.
    """

    def __init__(
        self,
        kind: KindSpec[T],
        owned: frozenset[str],
        objects: ProviderObjects,
        raw: JsonObject,
        hints: Hints | None = None,
        bound: BoundWorkspaces | None = None,
        clock: Callable[[], datetime] = utc_now,
        *,
        is_copy: bool = False,
        parsed: T | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self.kind = kind
        self.objects = objects
        self._hints = hints or Hints()
        self._bound = bound or BoundWorkspaces()
        self._clock = clock
        self._ownership = ownership
        self._owned = owned | _SUMMARY
        self._raw = raw
        self._is_copy = is_copy
        """Until kcp has answered for the first time, which shows the object as it is."""
        self._writing = asyncio.Lock()
        self.object: T = parsed if parsed is not None else kind.model.parse(raw, objects.workspace)

    @property
    def versions(self) -> Versions:
        """resourceVersions of the object's dependencies, as the watcher knew them."""
        return self._hints.versions

    @property
    def possible_duplicates(self) -> bool:
        """Whether another object of the workspace may stand for the same thing on the host."""
        return self._hints.possible_duplicates

    @property
    def now(self) -> datetime:
        """The time of day, UTC. Reconcilers ask here and nowhere else, so that a test can set it."""
        return self._clock()

    # ---- whose it is

    @property
    def ownership(self) -> Ownership:
        """Who made what on the hosts, across workspaces."""
        assert self._ownership is not None, "whoever makes things on a host is given the records of who made what"
        return self._ownership

    async def load_claim(self, key: str | None = None) -> None:
        """Look up the object's create claim, which is in ``object.claim`` from then on.

        ``key``: what the object would make now. A claim of something else is none.
        """
        # Our finalizer comes before the create. Without it nothing was made.
        claim = await self.ownership.claim_of(self.object.metadata.uid) if self.has_finalizer else None
        if claim is not None and key is not None and claim.key not in (None, key):
            claim = None
        self.object = self.object.model_copy(update={"claim": claim})

    async def store_claim(self, claim: Claim | None) -> None:
        """Store the object's create claim. None withdraws it."""
        if claim is None:
            await self.ownership.withdraw_claim(self.object)
        else:
            await self.ownership.store_claim(self.object, claim)
        self.object = self.object.model_copy(update={"claim": claim})

    # ---- metadata

    @property
    def has_finalizer(self) -> bool:
        return self.kind.finalizer in self.object.metadata.finalizers

    async def ensure_finalizer(self) -> T:
        """Make sure that our finalizer is on the object, with one write at most.

        Raises ``Superseded`` when the object has been changed or is being deleted, ``Gone`` when it is gone.
        """
        if not self.has_finalizer:
            await self._write({"metadata": {"finalizers": [*self.object.metadata.finalizers, self.kind.finalizer]}})
        return self.object

    async def remove_finalizer(self) -> None:
        """Take our finalizer off. An object that is gone counts as done. Raises ``Superseded`` when it has been
        changed.
        """
        if not self.has_finalizer:
            return
        rest = [f for f in self.object.metadata.finalizers if f != self.kind.finalizer]
        try:
            await self._write({"metadata": {"finalizers": rest}})
        except Gone:
            return

    async def confirm_not_leaving(self) -> None:
        """The guard before something is made on the host: the workspace must not be giving up the API.

        The watcher publishes nothing but deletions of such a workspace, so an event of a moment ago is proof enough.
        Raises ``Superseded``: the object is being deleted, or will be in a moment.
        """
        published = self._hints.event_time
        if published is not None and self.now - published <= _FRESH:
            return
        if not await self._bound.confirm(self.objects):
            raise Superseded

    async def confirm_current(self) -> None:
        """The guard before a change on the host or of a Secret that no write of the object guards.

        What was decided on the event's copy is read live. Raises as ``confirm_deleting``.
        """
        if self._is_copy:
            await self._confirm(deleting=False)

    async def confirm_not_deleting(self) -> None:
        """The guard before a create on the host that no write of ours guards. Raises as ``confirm_deleting``."""
        await self._confirm(deleting=False)

    async def confirm_deleting(self) -> None:
        """The guard before anything is deleted on the host: a live read shows this uid with a deletionTimestamp.

        Raises ``Superseded`` when it does not, or when anybody wrote the object meanwhile, and ``Gone`` when it is
        gone.
        """
        await self._confirm(deleting=True)

    def require_policy_shown(self) -> None:
        """Raises ``NotReady`` (``DeletionBlocked``) when ``spec.deletionPolicy`` was set and is not there.

        A schema that lacks the field hides it, and every write then drops it. That somebody owns the field stays on
        record. Without its policy, what the object said to keep would be deleted on the host.
        """
        owned = (
            (entry.get("fieldsV1") or {}).get("f:spec") or {}
            for entry in self._raw["metadata"].get("managedFields") or ()
        )
        if "deletionPolicy" not in self._raw["spec"] and any("f:deletionPolicy" in fields for fields in owned):
            raise NotReady(
                Reason.DELETION_BLOCKED,
                "kept, because spec.deletionPolicy was lost while the API was served with schemas that do not have it; "
                "set it again",
            )

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
        """Whether the workspace is giving up our API. Read live."""
        return await bindings.is_leaving(self.objects)

    async def require_no_referrers(self, children: tuple[KindSpec[Any], ...], *, policy: str | None = None) -> None:
        """Raises ``NotReady`` (``DeletionBlocked``) while an object with our finalizer refers to this one.

        Somebody may have taken our finalizer off an object in between, so references through such an object count too.
        ``policy``: only objects with this ``spec.deletionPolicy`` count.
        """
        found = await self._referrers(children, self.object.name, policy)
        if found:
            more = f" and {len(found) - _SHOWN_REFERRERS} more" if len(found) > _SHOWN_REFERRERS else ""
            shown = ", ".join(sorted(found)[:_SHOWN_REFERRERS])
            raise NotReady(Reason.DELETION_BLOCKED, f"kept until these are deleted: {shown}{more}")

    async def _referrers(self, kinds: tuple[KindSpec[Any], ...], name: str, policy: str | None) -> list[str]:
        found: list[str] = []
        for kind in kinds:
            # All are listed before the next list begins, because a workspace has one list at a time.
            for child, ours, its_policy in await self.objects.list(
                kind.resource, fields={f"spec.{kind.reference}": name}, keep=partial(_referrer, kind.finalizer)
            ):
                if not ours:
                    found += await self._referrers(children_of(kind.resource), child, policy)
                elif policy is None or its_policy == policy:
                    found.append(f"{kind.kind}/{child}")
        return found

    async def others(
        self, keep: Callable[[T], R | None], *, fields: Mapping[str, str] | None = None, most: int | None = None
    ) -> list[R]:
        """What ``keep`` returns for the other objects of the kind in the workspace. Arguments as of ``Objects.list``."""

        def keep_other(raw: JsonObject) -> R | None:
            if raw["metadata"]["uid"] == self.object.metadata.uid:
                return None
            return keep(self.kind.model.parse(raw, self.objects.workspace))

        return await self.objects.list(self.kind.resource, keep=keep_other, fields=fields, most=most)

    async def find_elder(self, same: Callable[[T], bool], *, fields: Mapping[str, str]) -> str | None:
        """The name of the eldest object that is older than this one and stands for the ``same``. None: there is none."""
        mine = _age(self.object)

        def keep(other: T) -> tuple[tuple[datetime, str], str] | None:
            return (_age(other), other.name) if _age(other) < mine and same(other) else None

        elders = await self.others(keep, fields=fields)
        return min(elders)[1] if elders else None

    # ---- status

    def learns_from(self, result: Ready | Interruption) -> bool:
        """Whether ``result`` says something that status does not: a field, such as an id from the host, or a
        condition.
        """
        stored: JsonObject = self._raw.get("status") or {}
        shown = {(c.type, c.status, c.reason) for c in self.object.status.conditions}
        return any(stored.get(name) != value for name, value in result.status.items()) or any(
            (c.type, c.status, c.reason) not in shown for c in result.conditions
        )

    async def commit(self, result: Ready | Interruption) -> None:
        """Write what ``result`` says into status, if that changes anything.

        After a conflict the object is read again and the same result written: what the host told us is never dropped.
        What was decided on the event's copy has changed nothing yet, so that is decided anew instead. Raises ``Gone``,
        or ``Superseded`` then and after the third conflict.
        """
        generation, requested = self.object.metadata.generation, self.object.reconcile_requested_at
        for attempt in range(1, _STATUS_ATTEMPTS + 1):
            patch = self._status_patch(result, generation, requested)
            if not patch:
                return
            try:
                await self._write({"status": patch}, subresource="status")
            except Superseded:
                if self._is_copy or attempt == _STATUS_ATTEMPTS:
                    raise
                await self.reload()
            else:
                return

    async def record_status(self, status: Mapping[str, Any]) -> None:
        """Write status fields (wire names) now, because there is more to do and a crash must not lose them.

        Raises ``Superseded`` when the object has been changed, ``Gone`` when it is gone.
        """
        await self._write({"status": dict(status)}, subresource="status")

    async def learn(self, learnt: Callable[[T], Ready]) -> None:
        """Write the status fields and conditions that ``learnt`` says of the object, if that changes anything, and nothing else.

        Raises ``Gone``, or ``Superseded`` after the third conflict.
        """
        for attempt in range(1, _STATUS_ATTEMPTS + 1):
            said, status = learnt(self.object), self.object.status
            merged = conditions.merge(
                status.conditions,
                said.conditions,
                owned=frozenset(),
                generation=self.object.metadata.generation,
                now=rfc3339(self.now),
            )
            stored: JsonObject = self._raw.get("status") or {}
            wanted = {**said.status, "conditions": _dump(merged)}
            patch = {name: value for name, value in wanted.items() if stored.get(name) != value}
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

    async def announce(self, reason: Reason, message: str) -> None:
        """Say in status that the object is being worked on (``Reconciling=True``), unless status gives another
        reason for it.
        """
        status: BaseStatus = self.object.status
        said = status.condition(conditions.RECONCILING)
        if said is not None and said.status == "True":
            # If this ends as it did before, the reason would be written back: two writes for nothing.
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
            # The reconciler will meet the same and deal with it.
            return

    def _status_patch(self, result: Ready | Interruption, generation: int, requested: str | None) -> JsonObject:
        status: BaseStatus = self.object.status
        wanted: JsonObject = dict(result.status)
        if not isinstance(result, Retryable):
            wanted["observedGeneration"] = generation
            if requested is not None:
                wanted["lastHandledReconcileAt"] = requested
        # An interruption says nothing about the kind's other conditions unless it names them.
        owned = self._owned if isinstance(result, Ready) else _SUMMARY
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
                # kcp refuses a finalizer on an object that is being deleted, among other things.
                if "metadata" in body and not self.object.deleting:
                    raise Superseded from None
                raise
            self._take(raw)

    def _take(self, raw: JsonObject) -> None:
        if raw["metadata"]["uid"] != self.object.metadata.uid:
            raise Gone
        self._raw, self._is_copy = raw, False
        claim = self.object.claim
        self.object = self.kind.model.parse(raw, self.objects.workspace).model_copy(update={"claim": claim})


def _referrer(finalizer: str, raw: JsonObject) -> tuple[str, bool, str | None]:
    """Its name, whether it has our finalizer, and its deletion policy."""
    metadata = raw["metadata"]
    return metadata["name"], finalizer in metadata.get("finalizers", ()), raw["spec"].get("deletionPolicy")


def _age(obj: Resource[Any, Any]) -> tuple[datetime, str]:
    """Smaller is older. The watcher compares the same."""
    return obj.metadata.creation_timestamp, obj.metadata.uid


def _dump(items: tuple[Wire, ...]) -> list[JsonObject]:
    return [item.model_dump(by_alias=True) for item in items]
