"""Repository: observe the host, decide, create or adopt, apply settings, report."""

from __future__ import annotations

from dataclasses import replace

from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Outcome, Ready, Retryable, Terminal
from codecommon.controller.connections import Connections, OpenConnection, require_validated
from codecommon.controller.context import ReconcileContext
from codecommon.controller.create_claim import CLAIM_WINDOW, stored_claim, under_create_claim
from codecommon.controller.owner_record import repository
from codecommon.controller.ownership import origin_by
from codecommon.githost.protocol import AlreadyExists, GitBackend
from repository_svc import decide, identity
from repository_svc.finalize import finalize
from repository_svc.rivals import find_rivals, require_no_rival


class RepositoryReconciler:
    """Make one repository on the host match one Repository object."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def reconcile(self, ctx: ReconcileContext[Repository]) -> Outcome:
        async def work() -> Outcome:
            return await (finalize(ctx, self._connections) if ctx.object.deleting else self._ensure(ctx))

        return await self._connections.with_fresh_credential(ctx.objects, ctx.object.spec.connection_ref, work)

    async def _ensure(self, ctx: ReconcileContext[Repository]) -> Ready:
        spec = ctx.object.spec
        opened = await self._connections.for_object(
            ctx.objects, spec.connection_ref, ctx.versions, owner=spec.owner or ""
        )
        require_validated(opened.connection)
        owner = spec.owner or opened.connection.spec.owner
        identity.require_host(ctx.object, opened.backend.host)
        bound = await self._find_bound(ctx, opened.backend, owner)
        if bound is None:
            bound = await self._find_or_create(ctx, opened, owner)
        elif bound.origin == "Created":
            made = repository(opened.backend.host, bound.seen.id)
            if not await ctx.ownership.confirm(made, ctx.object):
                bound = replace(bound, origin="Adopted")
        await ctx.ensure_finalizer()
        return await self._apply_settings(ctx, opened.backend, owner, bound)

    async def _find_bound(self, ctx: ReconcileContext[Repository], host: GitBackend, owner: str) -> decide.Bind | None:
        """The repository that status names. None: there is none, or it is missing and to be made again."""
        repo_id = ctx.object.status.repo_id
        if not repo_id:
            return None
        found = await host.get_repository(repo_id)
        identity.require_owner(ctx.object, found, owner)
        bound = decide.decide_bound(
            ctx.object, found or await host.find_repository(owner, ctx.object.spec.name), ctx.now
        )
        if bound is None and await host.get_owner_kind(owner) is None:
            raise Terminal(
                Reason.HOST_OBJECT_MISSING,
                f"the repository is missing, and so is its owner {owner!r}, or it cannot be seen",
            )
        return bound

    async def _find_or_create(
        self, ctx: ReconcileContext[Repository], opened: OpenConnection, owner: str
    ) -> decide.Bind:
        """The repository of the name in spec."""
        host = opened.backend
        key = identity.claim_key(host.host, owner, ctx.object.spec.name)
        await ctx.load_claim(key)
        repo = ctx.object
        found = await host.find_repository(owner, repo.spec.name)
        if ctx.possible_duplicates:
            elder = await ctx.find_elder(
                lambda other: identity.is_namesake(repo, other, owner, opened.connection.spec.owner),
                fields={"spec.name": repo.spec.name},
            )
            identity.require_eldest(elder)
        decision = decide.decide_unbound(repo, found, key)
        if isinstance(decision, decide.Bind):
            return await self._bind(ctx, decision, host.host, key)
        request = decide.creation(repo, owner, await host.get_owner_kind(owner))
        try:
            async with under_create_claim(ctx, host, decision.claim):
                seen = await host.create_repository(request)
        except AlreadyExists:
            taken = f"the host says that {owner}/{repo.spec.name} exists, but does not show it to this credential"
            raise Retryable(Reason.NAME_TAKEN, taken) from None
        standing = await ctx.ownership.record_made(repository(host.host, seen.id), ctx.object, decision.claim.at)
        if repo.status.repo_id is not None and repo.status.host:
            # It was made again in the place of one that is gone.
            await ctx.ownership.forget(repository(repo.status.host, repo.status.repo_id), ctx.object)
        return decide.bind(ctx.object, seen, origin_by(standing))

    async def _bind(self, ctx: ReconcileContext[Repository], found: decide.Bind, host: str, key: str) -> decide.Bind:
        """Bind the object to a repository that no other one of the workspace is bound to. ``key``: the ``claim_key`` of the name.

        Raises ``DuplicateRepository``: ``Terminal``, or ``Retryable`` where another one may have made it a moment ago.
        """
        repo, seen, origin = ctx.object, found.seen, found.origin
        others = await find_rivals(ctx, seen, key, lambda other: identity.require_other_repository(other, seen, host))
        made = repository(host, seen.id)
        if origin == "Created":
            # The host may still tell another one that its request made it. After that the record decides, so that no two wait for
            # each other for ever.
            await require_no_rival(ctx, [r for r in others if ctx.now - r.claimed_at < CLAIM_WINDOW], made)
            origin = origin_by(await ctx.ownership.require_standing(made, repo, stored_claim(repo)))
        if origin == "Adopted":
            await require_no_rival(ctx, others, made)
        return decide.bind(repo, seen, origin)

    async def _apply_settings(
        self, ctx: ReconcileContext[Repository], host: GitBackend, owner: str, bound: decide.Bind
    ) -> Ready:
        """Send the settings that differ and report what the host shows then."""
        repo, seen = ctx.object, bound.seen
        settings = decide.decide_settings(repo, bound)
        conditions, refused = list(settings.conditions), list[tuple[str, Interruption]]()
        for name, change in decide.one_by_one(settings, seen):
            branch = change.default_branch
            try:
                if branch is not None and not await host.has_branch(seen, branch):
                    conditions.append(decide.branch_pending(branch))
                else:
                    await ctx.confirm_current()
                    seen = await host.update_repository(seen.id, change)
            except Interruption as interruption:
                refused.append((name, interruption))
                if decide.ends_sending(interruption):
                    break
        if seen.archived:
            conditions.append(decide.ARCHIVED)
        status = decide.status_of(repo, replace(bound, seen=seen), host.host, owner)
        status["unmanagedSettings"] = list(settings.unmanaged) or None
        if not refused:
            return Ready(status, tuple(conditions))
        # What is known of the repository is recorded. An edit of its visibility that was not applied stays an edit.
        if settings.changes.visibility not in (None, seen.visibility):
            status["visibility"] = repo.status.visibility
        raise decide.refusal_of(refused).learned(status, *conditions)
