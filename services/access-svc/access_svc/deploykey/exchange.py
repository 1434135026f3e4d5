"""The key on the host exchanged for the wanted one, and the pair put where consumers look.

New in, then old out. What is still to go is in ``previousKeyID`` before the id of the new one displaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from access_svc.deploykey.decide import Plan, status_of, unrecorded
from access_svc.deploykey.others import others_keys
from access_svc.deploykey.pair import Pairs, StoredPair
from access_svc.deploykey.register import register
from access_svc.deploykey.rotation import appointment, overlapping
from access_svc.target import Target
from codecommon.api.access import DeployKey
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, Ready, Retryable, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.context import ReconcileContext, Superseded
from codecommon.githost.protocol import HostKey, Listed


@dataclass(frozen=True, slots=True)
class Material:
    """What is to be registered: ``pair`` None where spec gives the public key."""

    public: str
    pair: StoredPair | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """``listed``: the keys on the host as of ``now``."""

    ctx: ReconcileContext[DeployKey]
    pairs: Pairs
    target: Target
    listed: Listed[HostKey]
    now: datetime

    async def carry_out(self, plan: Plan, wanted: Material, every: timedelta | None) -> Ready:
        """Returns what status says of it; ``every``: how often the pair is rotated."""
        ctx, target, listed, now = self.ctx, self.target, self.listed, self.now
        status: dict[str, Any] = {}
        before = ctx.object.status.previous_key_id
        if plan.keep is not None and plan.keep.id == before:
            # Wanted again before it was removed.
            before = None
        try:
            lost = unrecorded(ctx.object, wanted.public, listed.items)
            if lost is not None:
                await self._remove(lost.id)
            if before is not None and plan.superseded is not None:
                # Status has room for one.
                await self._remove(before)
                status["previousKeyID"] = before = None
            seen = plan.keep or await register(ctx, target, listed, wanted.public, plan)
            await ctx.ensure_finalizer()
            old = plan.superseded or before
            status |= {**status_of(ctx.object, seen, plan.origin, target.host.host), "previousKeyID": old}
            pending = wanted.pair is not None and wanted.pair.pending
            replaced = pending or plan.superseded is not None
            since = now if replaced else ctx.object.status.rotated_at or seen.created_at
            if pending:
                status["rotatedAt"] = rfc3339(since)
            if plan.superseded is not None:
                # After a crash and an edit nothing else would tell that the new key is ours.
                await ctx.record_status(status)
            status |= await self._put_in_force(wanted, since)
            if old is not None and not overlapping(status, every, now):
                await self._remove(old)
                status["previousKeyID"] = None
            require_enabled(seen, status)
        except Interruption as interruption:
            raise interruption.learned(status) from None
        except Superseded:
            if not status:
                raise
            raise Retryable(
                Reason.CONFLICT, "the object was changed meanwhile; deciding again", status=status
            ) from None
        return Ready(status, plan.conditions, requeue_after=appointment(status, every, now))

    async def _put_in_force(self, wanted: Material, since: datetime) -> dict[str, Any]:
        """Let consumers have the private half, now that the host knows the public one."""
        ctx = self.ctx
        if wanted.pair is None:
            if ctx.object.status.secret_ref is not None:
                await self.pairs.delete(ctx.objects, ctx.object)
            return {"secretRef": None, "rotatedAt": None}
        if wanted.pair.pending:
            await self.pairs.promote(ctx.objects, ctx.object, wanted.pair)
        else:
            await self.pairs.mend(ctx.objects, ctx.object, wanted.pair)
        return {"secretRef": self.pairs.reference(ctx.object), "rotatedAt": rfc3339(since)}

    async def _remove(self, key_id: str) -> None:
        """Remove a key of this object that is no longer its key, listed or not: a new one may not be shown yet."""
        seen = next((key for key in self.listed.items if key.id == key_id), None)
        if not (await others_keys(self.ctx)).have(key_id, seen):
            await self.ctx.confirm_not_deleting()
            await self.target.host.delete_deploy_key(self.target.repo_id, key_id)


def require_enabled(seen: HostKey, status: Mapping[str, Any]) -> None:
    """Raises ``Terminal`` (``DeployKeysDisabled``) with the ``status`` that is known of the key."""
    if not seen.enabled:
        message = "the organisation has disabled deploy keys: the key is kept and opens nothing"
        raise Terminal(Reason.DEPLOY_KEYS_DISABLED, message, status=status)
