"""DeployKey: observe the keys of the repository, store the pair, register it, report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from access_svc.deploykey import end, material
from access_svc.deploykey.decide import Plan, decide, status_of, taking_over, unrecorded
from access_svc.deploykey.pair import Pairs, StoredPair
from access_svc.deploykey.register import register
from access_svc.deploykey.rotation import appointment, due, overlapping, rfc3339, rotation
from access_svc.target import Target, open_target, repository_missing, with_repository
from access_svc.twins import find_elder
from codecommon.api.access import DeployKey
from codecommon.api.repository import Repository
from codecommon.errors import Interruption, Retryable, Terminal
from codecommon.githost.backend import HostKey, Listed
from codecommon.outcome import Outcome, Ready
from codecommon.passes import Pass, Superseded
from codecommon.sessions import Sessions


@dataclass(frozen=True, slots=True)
class _Material:
    """What is to be registered: ``pair`` None where spec gives the public key."""

    public: str
    pair: StoredPair | None


class DeployKeyReconciler:
    """Make one deploy key on the host match one DeployKey object."""

    def __init__(self, sessions: Sessions, pairs: Pairs) -> None:
        self._sessions = sessions
        self._pairs = pairs

    async def reconcile(self, run: Pass[DeployKey]) -> Outcome:
        if run.object.deleting:
            return await end.release(run, self._sessions, self._pairs)
        try:
            return await with_repository(run, self._sessions, self._apply)
        except Interruption as interruption:
            interruption.status = {**taking_over(run.object), **interruption.status}
            raise

    async def _apply(self, run: Pass[DeployKey], repository: Repository) -> Ready:
        given = material.normalised(run.object.spec.public_key) if run.object.spec.public_key else None
        every = rotation(run.object)
        target = await open_target(run, self._sessions, repository)
        if given is not None:
            elder = await find_elder(run, lambda other: material.is_same(other.spec.public_key, given))
            if elder is not None:
                raise Terminal("DuplicateDeployKey", f"DeployKey {elder!r} has this key; delete one of the two")
        listed = await target.host.list_deploy_keys(target.repo_id)
        if listed is None:
            raise repository_missing(repository)
        now = datetime.now(UTC)
        wanted = _Material(given, None) if given is not None else await self._generated(run, every, listed, now)
        plan = decide(run.object, wanted.public, listed.items, generated=wanted.pair is not None)
        return await self._settle(run, target, listed, wanted, plan, every, now)

    async def _generated(
        self, run: Pass[DeployKey], every: timedelta | None, listed: Listed[HostKey], now: datetime
    ) -> _Material:
        """The stored pair, or a new one: there is none yet, or it works and is old enough to be replaced."""
        stored = await self._pairs.read(run.objects, run.object)
        if stored is not None and stored.public:
            # Recorded too: a rotation would displace the id in status, and with it all knowledge of this key.
            works = not stored.pending and any(
                seen.key == stored.public and seen.id == run.object.status.key_id for seen in listed.items
            )
            if not (works and due(run.object, every, now)):
                return _Material(stored.public, stored)
        await run.hold()
        stored = await self._pairs.store_next(run.objects, run.object, stored)
        return _Material(stored.public, stored)

    async def _settle(
        self,
        run: Pass[DeployKey],
        target: Target,
        listed: Listed[HostKey],
        wanted: _Material,
        plan: Plan,
        every: timedelta | None,
        now: datetime,
    ) -> Ready:
        """New in, then old out. What is still to go is in ``previousKeyID`` before the id of the new one displaces it."""
        status: dict[str, Any] = {}
        before = run.object.status.previous_key_id
        if plan.keep is not None and plan.keep.id == before:
            # Wanted again before it was removed.
            before = None
        try:
            lost = unrecorded(run.object, wanted.public, listed.items)
            if lost is not None:
                await _remove(run, target, listed, lost.id)
            if before is not None and plan.superseded is not None:
                # Status has room for one.
                await _remove(run, target, listed, before)
                status["previousKeyID"] = before = None
            seen = plan.keep or await register(
                run, target, listed.at, wanted.public, plan, generated=wanted.pair is not None
            )
            await run.hold()
            old = plan.superseded.id if plan.superseded is not None else before
            status |= {**status_of(run.object, seen, plan.origin, target.host.host), "previousKeyID": old}
            pending = wanted.pair is not None and wanted.pair.pending
            replaced = pending or plan.superseded is not None
            since = now if replaced else run.object.status.rotated_at or seen.created_at
            if pending:
                status["rotatedAt"] = rfc3339(since)
            if plan.superseded is not None:
                # After a crash and an edit nothing else would tell that the new key is ours.
                await run.record(status)
            status |= await self._put_in_force(run, wanted, since)
            if old is not None and not overlapping(status, every, now):
                await _remove(run, target, listed, old)
                status["previousKeyID"] = None
        except Interruption as interruption:
            interruption.status = {**status, **interruption.status}
            raise
        except Superseded:
            if not status:
                raise
            raise Retryable("Conflict", "the object was changed meanwhile; deciding again", status=status) from None
        return Ready(status, plan.conditions, again=appointment(status, every, now))

    async def _put_in_force(self, run: Pass[DeployKey], wanted: _Material, since: datetime) -> dict[str, Any]:
        """Let consumers have the private half, now that the host knows the public one."""
        if wanted.pair is None:
            if run.object.status.secret_ref is not None:
                await self._pairs.delete(run.objects, run.object)
            return {"secretRef": None, "rotatedAt": None}
        if wanted.pair.pending:
            await self._pairs.promote(run.objects, wanted.pair)
        else:
            await self._pairs.claim(run.objects, run.object, wanted.pair)
        return {"secretRef": self._pairs.reference(run.object), "rotatedAt": rfc3339(since)}


async def _remove(run: Pass[DeployKey], target: Target, listed: Listed[HostKey], key_id: str) -> None:
    """Remove a key of this object that is no longer its key."""
    if any(seen.id == key_id for seen in listed.items):
        await run.confirm_wanted()
        await target.host.delete_deploy_key(target.repo_id, key_id)
