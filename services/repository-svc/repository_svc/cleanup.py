"""The end of a Repository object: what is done on the host, and when the finalizer may leave."""

from __future__ import annotations

import logging

from codecommon.api.kinds import children_of
from codecommon.api.reasons import ConditionType
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Released, Retryable
from codecommon.controller.cleanup import carried_out, may_give_up
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import HostRepository, RepositoryChanges
from repository_svc.identity import require_identity
from repository_svc.release import Release, decide_found, decide_release

_log = logging.getLogger(__name__)


async def release(ctx: ReconcileContext[Repository], connections: Connections) -> Released:
    """Clean up as the policies say. Raises while the object must stay, with what a person can do about it."""
    leaving = await ctx.is_leaving()
    await _require_no_children(ctx, leaving=leaving)
    plan = decide_release(ctx.object, leaving=leaving)
    if plan is Release.LEAVE:
        if leaving:
            _log.info("the workspace gives up the API: released, the repository stays on the host")
        return Released()
    # Keys and collaborators whose objects were deleted with this one are in it still.
    thing = "the repository with the keys and access in it"
    await carried_out(ctx, _clean_up(ctx, connections, plan), thing, leaving=leaving)
    return Released()


async def _require_no_children(ctx: ReconcileContext[Repository], *, leaving: bool) -> None:
    """While leaving, only those are waited for that say Delete, and no longer than for clean-up: nobody tells when they go."""
    children = children_of(ctx.kind.resource)
    if not leaving:
        await ctx.require_no_referrers(children)
        return
    try:
        await ctx.require_no_referrers(children, policy="Delete")
    except NotReady as blocked:
        waiting = Retryable(blocked.reason, blocked.message)
        if not may_give_up(ctx.object, waiting, ctx.now):
            raise waiting from None


async def _clean_up(ctx: ReconcileContext[Repository], connections: Connections, plan: Release) -> None:
    spec = ctx.object.spec
    opened = await connections.for_object(
        ctx.objects, spec.connection_ref, ctx.versions, owner=spec.owner or "", live=True
    )
    owner = spec.owner or opened.connection.spec.owner
    require_identity(ctx.object, opened.host.host, owner)
    repo_id = ctx.object.status.repo_id
    if plan is Release.LOOK:
        seen = (
            await opened.host.get_repository(repo_id)
            if repo_id is not None
            else await opened.host.find_repository(owner, ctx.object.spec.name)
        )
        plan = decide_found(ctx.object, seen, ctx.now)
        if repo_id is None and isinstance(seen, HostRepository) and await _is_anothers(ctx, seen):
            plan = Release.LEAVE
        repo_id = seen.id if isinstance(seen, HostRepository) else None
    if plan is Release.LEAVE or repo_id is None:
        return
    await ctx.confirm_deleting()
    if plan is Release.ARCHIVE:
        if await opened.host.get_repository(repo_id) is not None:
            await opened.host.update_repository(repo_id, RepositoryChanges(archived=True))
    else:
        await opened.host.delete_repository(repo_id, public=_is_public(ctx.object))


def _is_public(repo: Repository) -> bool:
    """Whether everybody can see it: spec says so, and nothing says that the host's setting was left as it was."""
    differs = repo.status.condition(ConditionType.SETTINGS_DIFFER)
    return repo.spec.visibility == "public" and not (differs is not None and "visibility" in differs.message)


async def _is_anothers(ctx: ReconcileContext[Repository], seen: HostRepository) -> bool:
    """Whether another object of the workspace is bound to it: then our claim, however well it fits, is not what made it."""
    others = [Repository.parse(raw, ctx.objects.workspace) for raw in await ctx.objects.list(ctx.kind.resource)]
    return any(o.metadata.uid != ctx.object.metadata.uid and o.status.repo_id == seen.id for o in others)
