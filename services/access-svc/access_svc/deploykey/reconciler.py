"""DeployKey: observe the keys of the repository, decide, exchange the key, report."""

from __future__ import annotations

from datetime import datetime, timedelta

from access_svc.deploykey import decide, material
from access_svc.deploykey.exchange import Exchange, Material, require_enabled
from access_svc.deploykey.finalize import finalize
from access_svc.deploykey.pair import Pairs
from access_svc.deploykey.rotation import due, rotation
from access_svc.duplicates import find_elder
from access_svc.target import repository_missing
from codecommon.api.access import DeployKey
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Outcome, Ready, Terminal
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.owner_record import deploy_key
from codecommon.controller.target import Target, open_target, require_repository, require_staying
from codecommon.githost.protocol import HostKey, Listed


class DeployKeyReconciler:
    """Make one deploy key on the host match one DeployKey object."""

    def __init__(self, connections: Connections, pairs: Pairs) -> None:
        self._connections = connections
        self._pairs = pairs

    async def reconcile(self, ctx: ReconcileContext[DeployKey]) -> Outcome:
        if ctx.object.deleting:
            return await finalize(ctx, self._connections, self._pairs)
        try:
            repository = await require_repository(ctx)
            require_staying(repository)

            async def work() -> Outcome:
                return await self._ensure(ctx, repository)

            return await self._connections.with_fresh_credential(ctx.objects, repository.spec.connection_ref, work)
        except Interruption as interruption:
            raise interruption.learned(decide.on_record(ctx.object)) from None

    async def _ensure(self, ctx: ReconcileContext[DeployKey], repository: Repository) -> Ready:
        given = material.normalised(ctx.object.spec.public_key) if ctx.object.spec.public_key else None
        every = rotation(ctx.object)
        target = await open_target(ctx, self._connections, repository, pinned=ctx.object.status.host)
        await _require_eldest(ctx, given)
        await ctx.load_claim()
        listed = await target.host.list_deploy_keys(target.repo_id)
        if listed is None:
            raise repository_missing(repository)
        listed = await _with_recorded(ctx.object, target, listed)
        other = decide.find_other_material(ctx.object, given, listed.items)
        if other is not None:
            return await self._leave_as_found(ctx, target, other)
        now = ctx.now
        wanted = Material(given, None) if given is not None else await self._generated(ctx, listed, every, now)
        plan = decide.decide(ctx.object, wanted.public, listed.items, generated=wanted.pair is not None)
        in_the_way = plan.in_the_way
        if in_the_way is not None and await ctx.ownership.is_contradicted(
            deploy_key(target.host.host, target.repo_id, in_the_way.id), ctx.object
        ):
            plan = decide.leave_anothers(plan)
        return await Exchange(ctx, self._pairs, target, listed, now).carry_out(plan, wanted, every)

    async def _leave_as_found(self, ctx: ReconcileContext[DeployKey], target: Target, seen: HostKey) -> Ready:
        await ctx.ensure_finalizer()
        origin = decide.origin_of(ctx.object, seen, generated=False)
        made = deploy_key(target.host.host, target.repo_id, seen.id)
        if origin == "Created" and not await ctx.ownership.confirm(made, ctx.object):
            origin = "Adopted"
        status = decide.status_of(ctx.object, seen, origin, target.host.host)
        require_enabled(seen, status)
        return Ready(status, (decide.left_as_found("publicKey"),))

    async def _generated(
        self, ctx: ReconcileContext[DeployKey], listed: Listed[HostKey], every: timedelta | None, now: datetime
    ) -> Material:
        """The stored pair, or a new one where there is none, or where the stored one works and is due to be replaced."""
        stored = await self._pairs.read(ctx.objects, ctx.object)
        if stored is not None and stored.public:
            # It must be recorded too: a rotation replaces the id in status, and with it all knowledge of the key.
            works = not stored.pending and any(
                seen.key == stored.public and seen.id == ctx.object.status.key_id for seen in listed.items
            )
            if not (works and due(ctx.object, every, now)):
                return Material(stored.public, stored)
        await ctx.ensure_finalizer()
        await ctx.confirm_current()
        stored = await self._pairs.store_next(ctx.objects, ctx.object, stored)
        return Material(stored.public, stored)


async def _with_recorded(key: DeployKey, target: Target, listed: Listed[HostKey]) -> Listed[HostKey]:
    """The list with the key that status names, which the list may not show yet: the host is asked for it by its id."""
    key_id = key.status.key_id
    if key_id is None or any(seen.id == key_id for seen in listed.items):
        return listed
    recorded = await target.host.get_deploy_key(target.repo_id, key_id)
    return listed if recorded is None else Listed((*listed.items, recorded), listed.at)


async def _require_eldest(ctx: ReconcileContext[DeployKey], given: str | None) -> None:
    """Raises ``Terminal`` (``DuplicateDeployKey``) when an older object gives the same key."""
    if given is None:
        return
    elder = await find_elder(ctx, lambda other: material.given_by(other.spec.public_key) == given)
    if elder is not None:
        raise Terminal(Reason.DUPLICATE_DEPLOY_KEY, f"DeployKey {elder!r} has this key; delete one of the two")
