"""DeployKey: observe the keys of the repository, store the pair, register it, report."""

from __future__ import annotations

from datetime import datetime, timedelta

from access_svc.deploykey import end, material
from access_svc.deploykey.decide import decide, left_as_found, never_exchanged, origin_of, status_of, taking_over
from access_svc.deploykey.exchange import Exchange, Material, require_enabled
from access_svc.deploykey.pair import Pairs
from access_svc.deploykey.rotation import due, rotation
from access_svc.duplicates import find_elder
from access_svc.target import open_target, repository_missing, with_repository
from codecommon.api.access import DeployKey
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Outcome, Ready, Terminal
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import HostKey, Listed


class DeployKeyReconciler:
    """Make one deploy key on the host match one DeployKey object."""

    def __init__(self, connections: Connections, pairs: Pairs) -> None:
        self._connections = connections
        self._pairs = pairs

    async def reconcile(self, ctx: ReconcileContext[DeployKey]) -> Outcome:
        if ctx.object.deleting:
            return await end.release(ctx, self._connections, self._pairs)
        try:
            return await with_repository(ctx, self._connections, self._apply)
        except Interruption as interruption:
            raise interruption.learned(taking_over(ctx.object)) from None

    async def _apply(self, ctx: ReconcileContext[DeployKey], repository: Repository) -> Ready:
        given = material.normalised(ctx.object.spec.public_key) if ctx.object.spec.public_key else None
        every = rotation(ctx.object)
        target = await open_target(ctx, self._connections, repository)
        if given is not None:
            elder = await find_elder(ctx, lambda other: material.given_by(other.spec.public_key) == given)
            if elder is not None:
                raise Terminal(Reason.DUPLICATE_DEPLOY_KEY, f"DeployKey {elder!r} has this key; delete one of the two")
        listed = await target.host.list_deploy_keys(target.repo_id)
        if listed is None:
            raise repository_missing(repository)
        left = never_exchanged(ctx.object, given, listed.items)
        if left is not None:
            await ctx.ensure_finalizer()
            status = status_of(ctx.object, left, origin_of(ctx.object, left, generated=False), target.host.host)
            require_enabled(left, status)
            return Ready(status, (left_as_found("publicKey"),))
        now = ctx.now
        wanted = Material(given, None) if given is not None else await self._generated(ctx, every, listed, now)
        plan = decide(ctx.object, wanted.public, listed.items, generated=wanted.pair is not None)
        return await Exchange(ctx, self._pairs, target, listed, now).carry_out(plan, wanted, every)

    async def _generated(
        self, ctx: ReconcileContext[DeployKey], every: timedelta | None, listed: Listed[HostKey], now: datetime
    ) -> Material:
        """The stored pair, or a new one: there is none yet, or it works and is old enough to be replaced."""
        stored = await self._pairs.read(ctx.objects, ctx.object)
        if stored is not None and stored.public:
            # Recorded too: a rotation would displace the id in status, and with it all knowledge of this key.
            works = not stored.pending and any(
                seen.key == stored.public and seen.id == ctx.object.status.key_id for seen in listed.items
            )
            if not (works and due(ctx.object, every, now)):
                return Material(stored.public, stored)
        await ctx.ensure_finalizer()
        stored = await self._pairs.store_next(ctx.objects, ctx.object, stored)
        return Material(stored.public, stored)
