"""DeployKey: observe the keys of the repository, store the pair, register it, report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from access_svc.deploykey import end, material
from access_svc.deploykey.decide import decide, left_as_found, never_exchanged, origin_of, status_of, taking_over
from access_svc.deploykey.exchange import Exchange, Material, require_enabled
from access_svc.deploykey.pair import Pairs
from access_svc.deploykey.rotation import due, rotation
from access_svc.target import open_target, repository_missing, with_repository
from access_svc.twins import find_elder
from codecommon.api.access import DeployKey
from codecommon.api.repository import Repository
from codecommon.errors import Interruption, Terminal
from codecommon.githost.backend import HostKey, Listed
from codecommon.outcome import Outcome, Ready
from codecommon.passes import Pass
from codecommon.sessions import Sessions


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
            elder = await find_elder(run, lambda other: material.given_by(other.spec.public_key) == given)
            if elder is not None:
                raise Terminal("DuplicateDeployKey", f"DeployKey {elder!r} has this key; delete one of the two")
        listed = await target.host.list_deploy_keys(target.repo_id)
        if listed is None:
            raise repository_missing(repository)
        left = never_exchanged(run.object, given, listed.items)
        if left is not None:
            await run.hold()
            status = status_of(run.object, left, origin_of(run.object, left, generated=False), target.host.host)
            require_enabled(left, status)
            return Ready(status, (left_as_found("publicKey"),))
        now = datetime.now(UTC)
        wanted = Material(given, None) if given is not None else await self._generated(run, every, listed, now)
        plan = decide(run.object, wanted.public, listed.items, generated=wanted.pair is not None)
        return await Exchange(run, self._pairs, target, listed, now).carry_out(plan, wanted, every)

    async def _generated(
        self, run: Pass[DeployKey], every: timedelta | None, listed: Listed[HostKey], now: datetime
    ) -> Material:
        """The stored pair, or a new one: there is none yet, or it works and is old enough to be replaced."""
        stored = await self._pairs.read(run.objects, run.object)
        if stored is not None and stored.public:
            # Recorded too: a rotation would displace the id in status, and with it all knowledge of this key.
            works = not stored.pending and any(
                seen.key == stored.public and seen.id == run.object.status.key_id for seen in listed.items
            )
            if not (works and due(run.object, every, now)):
                return Material(stored.public, stored)
        await run.hold()
        stored = await self._pairs.store_next(run.objects, run.object, stored)
        return Material(stored.public, stored)
