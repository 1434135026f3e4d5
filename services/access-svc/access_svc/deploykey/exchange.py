"""Exchanging the key on the host for the wanted one, and putting the pair where consumers look.

The new key is registered before the old one is removed. The id of the old one is in ``previousKeyID`` before the id of the
new one takes its place in ``keyID``, so that neither is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from access_svc.deploykey import material
from access_svc.deploykey.decide import REPLACING, Plan, claimed_key, find_unrecorded, status_of
from access_svc.deploykey.pair import Pairs, StoredPair
from access_svc.deploykey.rotation import overlapping, requeue_after
from access_svc.duplicates import find_staying
from access_svc.target import repository_made_at, require_writable
from codecommon.api.access import DeployKey
from codecommon.api.origin import Origin
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, NotReady, Ready, Retryable, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.context import ReconcileContext, Superseded
from codecommon.controller.create_claim import claim_for, stored_claim, under_create_claim
from codecommon.controller.owner_record import Standing, Thing, deploy_key
from codecommon.controller.ownership import origin_by
from codecommon.controller.target import Target
from codecommon.githost.protocol import HostKey, KeyInUse, Listed

_log = logging.getLogger(__name__)
_LOOK_AGAIN: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Material:
    """What is to be registered. ``pair`` None: spec gives the public key."""

    public: str
    pair: StoredPair | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """``listed``: the keys on the host. ``now``: when they were listed."""

    ctx: ReconcileContext[DeployKey]
    pairs: Pairs
    target: Target
    listed: Listed[HostKey]
    now: datetime

    async def carry_out(self, plan: Plan, wanted: Material, every: timedelta | None) -> Ready:
        """``every``: how often the pair is rotated. Raises with what status must not lose of the steps that were done."""
        status: dict[str, Any] = {}
        try:
            await self._exchange(plan, wanted, every, status)
        except Interruption as interruption:
            raise interruption.learned(status) from None
        except Superseded:
            if not status:
                raise
            raise Retryable(
                Reason.CONFLICT, "the object was changed meanwhile; deciding again", status=status
            ) from None
        return Ready(status, plan.conditions, requeue_after=requeue_after(status, every, self.now))

    async def _exchange(self, plan: Plan, wanted: Material, every: timedelta | None, status: dict[str, Any]) -> None:
        """The steps in their order. ``status`` gets what each of them found out, by wire name."""
        ctx = self.ctx
        previous = await self._make_room(plan, wanted, status)
        seen, origin = await self._registered(wanted.public, plan)
        await ctx.ensure_finalizer()
        old = plan.superseded or previous
        status |= {**status_of(ctx.object, seen, origin, self.target.host.host), "previousKeyID": old}
        pending = wanted.pair is not None and wanted.pair.pending
        replaced = pending or plan.superseded is not None
        since = self.now if replaced else ctx.object.status.rotated_at or seen.created_at
        if pending:
            status["rotatedAt"] = rfc3339(since)
        if plan.superseded is not None:
            # After a crash and an edit nothing else would tell that the new key is ours.
            await ctx.record_status(status)
        status |= await self._put_in_force(wanted, since)
        if old is not None and not overlapping(status, every, self.now):
            await self._remove(old)
            status["previousKeyID"] = None
        require_enabled(seen, status)

    async def _make_room(self, plan: Plan, wanted: Material, status: dict[str, Any]) -> str | None:
        """Remove the key that an unfinished pass left, and a previous key where another one is about to be superseded.

        Returns the id of the previous key, if it is still to be removed later.
        """
        lost = find_unrecorded(self.ctx.object, wanted.public, self.listed.items)
        if lost is not None:
            await self._remove(lost.id)
        previous = self.ctx.object.status.previous_key_id
        if plan.registered is not None and plan.registered.id == previous:
            # It is wanted again.
            return None
        if previous is not None and plan.superseded is not None:
            # Status has room for one previous key.
            await self._remove(previous)
            status["previousKeyID"] = previous = None
        return previous

    async def _registered(self, public: str, plan: Plan) -> tuple[HostKey, Origin]:
        """The key on the host, and who made it."""
        obj, seen, ownership = self.ctx.object, plan.registered, self.ctx.ownership
        if seen is None:
            # The claim that the registration was made under tells the host's time before it.
            seen = await self._register(public, plan)
            absent_at = stored_claim(self.ctx.object) or self.listed.at
            return seen, origin_by(await ownership.record_made(self._thing(seen.id), obj, absent_at))
        if plan.origin == "Adopted":
            return seen, plan.origin
        if seen.id == obj.status.key_id:
            return seen, "Created" if await ownership.confirm(self._thing(seen.id), obj) else "Adopted"
        return seen, origin_by(await ownership.require_standing(self._thing(seen.id), obj, stored_claim(obj)))

    def _thing(self, key_id: str) -> Thing:
        return deploy_key(self.target.host.host, self.target.repo_id, key_id)

    async def _register(self, public: str, plan: Plan) -> HostKey:
        """Put the public key on the host as ``plan`` wants it.

        While a key that was in the way is gone and the new one is not there, the object says ``KeyReplacing``. Raises
        ``Retryable`` (``HostNotYetVisible``) for a key whose registration a moment ago was never answered and that the list does
        not show yet. A key that was recorded and is not even shown by its id is in use elsewhere (``KeyInUse``).
        """
        ctx, target = self.ctx, self.target
        require_writable(target.repository)
        replacing = plan.in_the_way is not None or ctx.object.status.condition(ConditionType.KEY_REPLACING) is not None
        unseen = plan.in_the_way is None and claimed_key(ctx.object) == public
        # The claim of a registration that the list does not show yet stays, so that it grows old.
        bound = ctx.object.status.key_id is not None and not unseen
        claim = claim_for(ctx.object, self.listed.at, bound=bound, key=public)
        young = unseen and claim == ctx.object.claim and await self._claimed_here()
        async with under_create_claim(ctx, target.host, claim):
            try:
                if plan.in_the_way is not None:
                    await self._make_way(plan.in_the_way)
                wanted = plan.wanted
                return await target.host.create_deploy_key(target.repo_id, wanted.title, public, wanted.read_only)
            except Interruption as interruption:
                refused = interruption
                if young and isinstance(refused, KeyInUse):
                    refused = self._in_use_a_moment_after(refused)
                raise (refused.learned({}, REPLACING) if replacing else refused) from None

    def _in_use_a_moment_after(self, refused: KeyInUse) -> Interruption:
        """What a refusal means for a key that this object has just registered here, if the host answered that at all."""
        key_id = self.ctx.object.status.key_id
        if key_id is None or any(seen.id == key_id for seen in self.listed.items):
            return Retryable(Reason.HOST_NOT_YET_VISIBLE, "the host has the new deploy key and does not list it yet")
        # It was ours and is gone here. Should the host only lag behind, a later look finds it.
        return NotReady(refused.reason, refused.message, requeue_after=_LOOK_AGAIN)

    async def _claimed_here(self) -> bool:
        """Whether the last registration was in this repository. If it was made again since, the host has the key elsewhere."""
        claimed, made = stored_claim(self.ctx.object), await repository_made_at(self.ctx, self.target)
        return made is None or (claimed is not None and claimed >= made)

    async def _make_way(self, key: HostKey) -> None:
        status = self.ctx.object.status
        if (status.title, status.read_only) != (key.title, key.read_only):
            # What spec leaves out stays as it was. Once the key is removed, only status tells how it was.
            await self.ctx.record_status({"title": key.title, "readOnly": key.read_only})
        await self.target.host.delete_deploy_key(self.target.repo_id, key.id)
        await self.ctx.ownership.forget(self._thing(key.id), self.ctx.object)

    async def _put_in_force(self, wanted: Material, since: datetime) -> dict[str, Any]:
        """Let consumers have the private half, now that the host knows the public one."""
        ctx = self.ctx
        if wanted.pair is None:
            if ctx.object.status.secret_ref is not None:
                await ctx.confirm_current()
                await self.pairs.delete(ctx.objects, ctx.object)
            return {"secretRef": None, "rotatedAt": None}
        if wanted.pair.pending:
            await ctx.confirm_current()
            await self.pairs.promote(ctx.objects, ctx.object, wanted.pair)
        else:
            await self.pairs.mend(ctx.objects, ctx.object, wanted.pair)
        return {"secretRef": self.pairs.reference(ctx.object), "rotatedAt": rfc3339(since)}

    async def _remove(self, key_id: str) -> None:
        """Remove a key that this object no longer stands for. The list may not show it yet if it is new."""
        seen = next((key for key in self.listed.items if key.id == key_id), None)
        if (await others_keys(self.ctx)).have(key_id, seen):
            return
        standing = await self.ctx.ownership.require_standing(self._thing(key_id), self.ctx.object)
        if standing is not Standing.OURS:
            _log.warning("a key that status names is another object's, or may be: it stays on the host")
            return
        await self.ctx.confirm_not_deleting()
        await self.target.host.delete_deploy_key(self.target.repo_id, key_id)
        await self.ctx.ownership.forget(self._thing(key_id), self.ctx.object)


def require_enabled(seen: HostKey, status: Mapping[str, Any]) -> None:
    """Raises ``Terminal`` (``DeployKeysDisabled``) with the ``status`` that is known of the key."""
    if not seen.enabled:
        message = "the organisation has disabled deploy keys: the key is kept and opens nothing"
        raise Terminal(Reason.DEPLOY_KEYS_DISABLED, message, status=status)


@dataclass(frozen=True, slots=True)
class OthersKeys:
    """What other objects of the Repository stand for. ``ids``: of keys. ``materials``: public keys, as hosts compare them."""

    ids: frozenset[str | None]
    materials: frozenset[str | None]

    def have(self, key_id: str, seen: HostKey | None) -> bool:
        """Whether the key is another object's. ``seen`` None: the host does not list it."""
        return key_id in self.ids or (seen is not None and seen.key in self.materials)


async def others_keys(ctx: ReconcileContext[DeployKey]) -> OthersKeys:
    """The keys that stay when this object's keys are removed. Read live."""
    staying = await find_staying(ctx, lambda other: (other.status.key_id, material.given_by(other.spec.public_key)))
    return OthersKeys(
        frozenset(key_id for key_id, _ in staying), frozenset(given for _, given in staying if given is not None)
    )
