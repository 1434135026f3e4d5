"""Repository: observe the host, claim, act, report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Outcome, Ready, Retryable, Terminal
from codecommon.controller.connections import Connections, OpenConnection, require_validated
from codecommon.controller.context import ReconcileContext
from codecommon.controller.create_claim import claiming
from codecommon.githost.protocol import AlreadyExists, GitBackend, RepositoryChanges
from repository_svc import decide, drift, identity
from repository_svc.cleanup import release


class RepositoryReconciler:
    """Make one repository on the host match one Repository object."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def reconcile(self, ctx: ReconcileContext[Repository]) -> Outcome:
        work = partial(release, ctx, self._connections) if ctx.object.deleting else partial(self._apply, ctx)
        return await self._connections.with_fresh_credential(ctx.objects, ctx.object.spec.connection_ref, work)

    async def _apply(self, ctx: ReconcileContext[Repository]) -> Outcome:
        repo = ctx.object
        opened = await self._connections.for_object(
            ctx.objects, repo.spec.connection_ref, ctx.versions, owner=repo.spec.owner or ""
        )
        require_validated(opened.connection)
        owner = _owner(repo, opened)
        identity.require_identity(repo, opened.host.host, owner)
        keep = await self._bound(ctx, opened.host, owner) if repo.status.repo_id else None
        if keep is None:
            keep = await self._unbound(ctx, opened, owner)
        return await self._settle(ctx, opened.host, owner, keep)

    async def _bound(self, ctx: ReconcileContext[Repository], host: GitBackend, owner: str) -> decide.Keep | None:
        assert ctx.object.status.repo_id is not None
        seen = await host.get_repository(ctx.object.status.repo_id)
        keep = decide.decide_bound(ctx.object, seen, ctx.now)
        if keep is None and await host.get_owner_kind(owner) is None:
            raise Terminal(
                Reason.HOST_OBJECT_MISSING,
                f"the repository is gone, and so is its owner {owner!r}, or it cannot be seen",
            )
        return keep

    async def _unbound(self, ctx: ReconcileContext[Repository], opened: OpenConnection, owner: str) -> decide.Keep:
        repo, host = ctx.object, opened.host
        seen = await host.find_repository(owner, repo.spec.name)
        if ctx.possible_duplicates:
            same_name = await self._repositories(ctx, f"spec.name={repo.spec.name}")
            identity.require_eldest(repo, identity.namesakes(repo, same_name, owner, opened.connection.spec.owner))
        decision = decide.decide_unbound(repo, seen)
        if isinstance(decision, decide.Keep):
            identity.require_unclaimed(repo, decision.seen, host.host, await self._repositories(ctx, ""))
            return decision
        request = decide.creation(repo, owner, await host.get_owner_kind(owner))
        try:
            async with claiming(ctx, host, decision.claim):
                return decide.Keep(await host.ensure_repository(request), "Created")
        except AlreadyExists:
            taken = f"the host says that {owner}/{repo.spec.name} exists, but does not show it to this credential"
            raise Retryable(Reason.NAME_TAKEN, taken) from None

    async def _repositories(self, ctx: ReconcileContext[Repository], field_selector: str) -> list[Repository]:
        raw = await ctx.objects.list(
            ctx.kind.resource, field_selector=field_selector, not_older=ctx.object.metadata.resource_version
        )
        return [Repository.parse(r, ctx.objects.workspace) for r in raw]

    async def _settle(
        self, ctx: ReconcileContext[Repository], host: GitBackend, owner: str, keep: decide.Keep
    ) -> Ready:
        """Bring the settings in line and report what the host shows."""
        repo = await ctx.ensure_finalizer()
        seen = keep.seen
        baseline = drift.baseline_after(repo, seen)
        settings = drift.decide_settings(repo, seen, keep.origin, baseline)
        changes, conditions = settings.changes, list(settings.conditions)
        try:
            if settings.wants_branch is not None:
                if await host.has_branch(seen, settings.wants_branch):
                    changes = replace(changes, default_branch=settings.wants_branch)
                else:
                    conditions.append(drift.branch_pending(settings.wants_branch))
            if changes != RepositoryChanges():
                seen = await host.update_repository(seen.id, changes)
        except Interruption as interruption:
            # What is known of the repository is kept; an edit of its visibility was not sent and stays one.
            known = decide.status_of(repo, seen, keep.origin, host.host, owner, baseline)
            if settings.changes.visibility is not None:
                known["visibility"] = repo.status.visibility
            raise interruption.learned(known) from None
        if seen.archived:
            conditions.append(decide.ARCHIVED)
        return Ready(decide.status_of(repo, seen, keep.origin, host.host, owner, baseline), tuple(conditions))


def _owner(repo: Repository, opened: OpenConnection) -> str:
    return repo.spec.owner or opened.connection.spec.owner
