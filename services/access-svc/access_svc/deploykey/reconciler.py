"""DeployKey: observe the keys of the repository, store the pair, register it, report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from access_svc.cleanup import clean_up
from access_svc.deploykey import material
from access_svc.deploykey.decide import (
    REPLACING,
    Plan,
    decide,
    due,
    in_force_since,
    origin_of,
    overlap,
    status_of,
)
from access_svc.deploykey.pair import Pairs, StoredPair
from access_svc.target import (
    Target,
    find_repository,
    open_target,
    repository_missing,
    require_repository,
    require_writable,
)
from access_svc.twins import require_eldest
from codecommon import durations
from codecommon.api.access import DeployKey
from codecommon.api.kinds import CREATE_CLAIM
from codecommon.api.repository import Repository
from codecommon.claims import claim_for
from codecommon.errors import Interruption, Terminal
from codecommon.githost.backend import HostKey, Listed
from codecommon.outcome import Outcome, Ready, Released
from codecommon.passes import Pass
from codecommon.sessions import Sessions

_SHORTEST_ROTATION: Final = timedelta(minutes=1)


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
            return await self._release(run)
        repository = require_repository(await find_repository(run), run.object.spec.repository_ref)
        return await self._sessions.with_fresh_credential(
            run.objects, repository.spec.connection_ref, partial(self._apply, run, repository)
        )

    async def _apply(self, run: Pass[DeployKey], repository: Repository) -> Ready:
        given = material.normalised(run.object.spec.public_key) if run.object.spec.public_key else None
        every = _rotation(run.object)
        target = await open_target(run, self._sessions, repository)
        if given is not None:
            await require_eldest(run, partial(_same_key, given), "DuplicateDeployKey")
        listed = await target.host.list_deploy_keys(target.repo_id)
        if listed is None:
            raise repository_missing(repository)
        now = datetime.now(UTC)
        wanted = _Material(given, None) if given is not None else await self._generated(run, every, listed, now)
        plan = decide(run.object, wanted.public, listed.items, generated=wanted.pair is not None)
        return await self._settle(run, target, listed, wanted, plan, every)

    async def _generated(
        self, run: Pass[DeployKey], every: timedelta | None, listed: Listed[HostKey], now: datetime
    ) -> _Material:
        """The stored pair, or a new one: there is none yet, or it is old enough to be replaced."""
        key = run.object
        stored = await self._pairs.read(run.objects, key)
        if (
            stored is None
            or not stored.public
            or (every is not None and not stored.pending and due(key, every, now) and _settled(key, stored, listed))
        ):
            await run.hold()
            stored = await self._pairs.store_next(run.objects, key, stored)
        return _Material(stored.public, stored)

    async def _settle(
        self,
        run: Pass[DeployKey],
        target: Target,
        listed: Listed[HostKey],
        wanted: _Material,
        plan: Plan,
        every: timedelta | None,
    ) -> Ready:
        seen, host = plan.keep, target.host
        status: dict[str, Any] = {}
        try:
            if seen is None:
                seen = await self._register(run, target, listed.at, wanted.public, plan)
            status = status_of(run.object, seen, plan.origin, host.host)
            await run.hold()
            status |= await self._put_in_force(run, wanted, seen)
            status |= await self._retire(run, target, listed, plan, every)
        except Interruption as interruption:
            interruption.status = {**status, **interruption.status}
            raise
        return Ready(status, plan.conditions, again=_appointment(run.object, status, every))

    async def _register(self, run: Pass[DeployKey], target: Target, at: datetime, public: str, plan: Plan) -> HostKey:
        require_writable(target.repository)
        await run.confirm_staying(datetime.now(UTC))
        claim = claim_for(run.object, at, bound=run.object.status.key_id is not None)
        claimed_before = run.object.metadata.annotations.get(CREATE_CLAIM) == claim
        if claimed_before:
            # Then no write guards what follows, and a live read must.
            await run.confirm_wanted()
        await run.hold({CREATE_CLAIM: claim})
        for key in plan.first:
            await target.host.delete_deploy_key(target.repo_id, key.id)
        try:
            return await target.host.create_deploy_key(target.repo_id, plan.wanted.title, public, plan.wanted.read_only)
        except Interruption as refused:
            if plan.first or run.object.status.condition("KeyReplacing") is not None:
                refused.conditions = (*refused.conditions, REPLACING)
            elif not claimed_before and refused.reason != "HostUnavailable":
                # After a clear no, what somebody registers by hand in the next two minutes must not count as ours.
                await run.hold({CREATE_CLAIM: None})
            raise

    async def _put_in_force(self, run: Pass[DeployKey], wanted: _Material, seen: HostKey) -> dict[str, Any]:
        """Let consumers have the private half, now that the host knows the public one."""
        if wanted.pair is None:
            if run.object.status.secret_ref is not None:
                await self._pairs.delete(run.objects, run.object)
            return {"secretRef": None, "rotatedAt": None}
        if wanted.pair.pending:
            await self._pairs.promote(run.objects, wanted.pair)
        else:
            await self._pairs.claim(run.objects, run.object, wanted.pair)
        since = seen.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"secretRef": self._pairs.reference(run.object), "rotatedAt": since}

    async def _retire(
        self, run: Pass[DeployKey], target: Target, listed: Listed[HostKey], plan: Plan, every: timedelta | None
    ) -> dict[str, Any]:
        """Remove keys of this object that are no longer its key: at once after an edit, with overlap after a rotation."""
        key = run.object
        before, superseded = key.status.previous_key_id, plan.superseded.id if plan.superseded is not None else None
        stays: str | None = None
        if every is not None:
            in_overlap = datetime.now(UTC) - in_force_since(key) < overlap(every)
            stays = superseded or (before if in_overlap else None)
        gone = [key_id for key_id in (superseded, before) if key_id is not None and key_id != stays]
        present = [k for k in gone if any(seen.id == k for seen in listed.items)]
        if present:
            await run.confirm_wanted()
            for key_id in present:
                await target.host.delete_deploy_key(target.repo_id, key_id)
        return {"previousKeyID": stays}

    # ---- the end

    async def _release(self, run: Pass[DeployKey]) -> Released:
        stays = await clean_up(run, self._sessions, partial(self._remove, run), "the deploy key")
        if stays:
            await self._pairs.let_go(run.objects, run.object)
        else:
            await self._pairs.delete(run.objects, run.object)
        return Released()

    async def _remove(self, run: Pass[DeployKey], target: Target) -> None:
        host = target.host
        listed = await host.list_deploy_keys(target.repo_id)
        if listed is None:
            return
        for seen in await self._own_keys(run, listed):
            await host.delete_deploy_key(target.repo_id, seen.id)

    async def _own_keys(self, run: Pass[DeployKey], listed: Listed[HostKey]) -> list[HostKey]:
        """The keys on the host that go with the object: those in status, and one that a crash kept out of it."""
        key = run.object
        publics: set[str] = set()
        if key.spec.public_key:
            try:
                publics = {material.normalised(key.spec.public_key)}
            except Terminal:
                publics = set()
        pair = await self._pairs.read(run.objects, key) if key.status.secret_ref or not key.spec.public_key else None
        own: list[HostKey] = []
        for seen in listed.items:
            generated = pair is not None and seen.key == pair.public
            recorded = seen.id in (key.status.key_id, key.status.previous_key_id)
            if not (recorded or generated or seen.key in publics):
                continue
            origin = "Created" if seen.id == key.status.previous_key_id else origin_of(key, seen, generated=generated)
            if origin == "Created" or (recorded and key.spec.deletion_policy == "Delete"):
                own.append(seen)
        return own


def _settled(key: DeployKey, stored: StoredPair, listed: Listed[HostKey]) -> bool:
    """Only a pair that works is replaced, and only when the one before it is not still in its overlap."""
    return key.status.previous_key_id is None and any(k.key == stored.public for k in listed.items)


def _rotation(key: DeployKey) -> timedelta | None:
    if key.spec.public_key or not key.spec.rotate_every:
        return None
    try:
        every = durations.parse_duration(key.spec.rotate_every)
    except ValueError:
        raise Terminal("ValidationFailed", "spec.rotateEvery is not a duration such as 2160h") from None
    if every < _SHORTEST_ROTATION:
        raise Terminal("ValidationFailed", f"spec.rotateEvery is shorter than {_SHORTEST_ROTATION}")
    return every


def _appointment(key: DeployKey, status: dict[str, Any], every: timedelta | None) -> timedelta | None:
    """When the next step of a rotation is due."""
    if every is None:
        return None
    wait = overlap(every) if status.get("previousKeyID") else every
    since = datetime.fromisoformat(status["rotatedAt"])
    return max(since + wait - datetime.now(UTC), timedelta(seconds=1))


def _same_key(material_: str, other: DeployKey) -> bool:
    if not other.spec.public_key:
        return False
    try:
        return material.normalised(other.spec.public_key) == material_
    except Terminal:
        return False
