"""The handling of a deleted Repository object: wait for its children, clean up on the host, let the finalizer be removed."""

from __future__ import annotations

import logging

from codecommon.api.kinds import children_of
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Released, Retryable
from codecommon.controller.cleanup import carried_out, may_give_up
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.create_claim import stored_claim
from codecommon.controller.owner_record import Standing, repository
from codecommon.controller.ownership import require_undisputed
from codecommon.githost.protocol import GitBackend, HostRepository, RepositoryChanges
from repository_svc.deletion_policy import OnHost, asks_who_made_it, decide_after_look, decide_on_host
from repository_svc.identity import claim_key, names_other_owner, require_host, require_owner
from repository_svc.rivals import find_rivals, require_no_rival

_log = logging.getLogger(__name__)


async def finalize(ctx: ReconcileContext[Repository], connections: Connections) -> Released:
    """Clean up on the host as the policies say. Raises while the object must stay, with what a person can do about it."""
    leaving = await ctx.is_leaving()
    await _require_no_children(ctx, leaving=leaving)
    if ctx.object.status.repo_id is None:
        await ctx.load_claim()
    action = decide_on_host(ctx.object, leaving=leaving)
    if action is OnHost.LEAVE:
        if leaving:
            _log.info("the workspace gives up the API: the finalizer is removed, the repository stays on the host")
        await _forget(ctx)
        return Released()
    ctx.require_policy_shown()
    # Keys and collaborators whose objects were deleted with this one are in it still.
    thing = "the repository with the keys and access in it"
    await carried_out(ctx, _clean_up(ctx, connections, action), thing, leaving=leaving)
    await _forget(ctx)
    return Released()


async def _forget(ctx: ReconcileContext[Repository]) -> None:
    """Nobody else may count as the repository's maker while our record is there, nor need to wait for it."""
    status = ctx.object.status
    if status.repo_id is not None and status.host:
        await ctx.ownership.forget(repository(status.host, status.repo_id), ctx.object)


async def _require_no_children(ctx: ReconcileContext[Repository], *, leaving: bool) -> None:
    """Raises while children hold the object.

    While leaving, only children that say Delete hold it, and no longer than clean-up may take: no event tells when they go.
    """
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


async def _clean_up(ctx: ReconcileContext[Repository], connections: Connections, action: OnHost) -> None:
    spec, repo_id = ctx.object.spec, ctx.object.status.repo_id
    opened = await connections.for_object(
        ctx.objects, spec.connection_ref, ctx.versions, owner=spec.owner or "", live=True
    )
    owner = spec.owner or opened.connection.spec.owner
    require_host(ctx.object, opened.backend.host)
    if repo_id is not None and names_other_owner(ctx.object, owner):
        require_owner(ctx.object, await opened.backend.get_repository(repo_id), owner)
    if action is OnHost.LOOK:
        action, repo_id = await _look(ctx, opened.backend, owner)
    if action is OnHost.LEAVE or repo_id is None:
        return
    made = repository(opened.backend.host, repo_id)
    if asks_who_made_it(ctx.object):
        standing = await ctx.ownership.require_standing(made, ctx.object, stored_claim(ctx.object))
        require_undisputed(standing, "the repository")
        if standing is not Standing.OURS:
            _log.warning("a record says that another object made the repository: it stays on the host")
            return
    await ctx.confirm_deleting()
    if action is OnHost.DELETE:
        await opened.backend.delete_repository(repo_id, public=_is_public(ctx.object))
    elif await opened.backend.get_repository(repo_id) is not None:
        await opened.backend.update_repository(repo_id, RepositoryChanges(archived=True))
    await ctx.ownership.forget(made, ctx.object)


async def _look(ctx: ReconcileContext[Repository], host: GitBackend, owner: str) -> tuple[OnHost, str | None]:
    """What to do about what the host shows, and the id of that."""
    repo_id = ctx.object.status.repo_id
    key = claim_key(host.host, owner, ctx.object.spec.name)
    if repo_id is not None:
        found = await host.get_repository(repo_id)
    else:
        await ctx.load_claim(key)
        found = await host.find_repository(owner, ctx.object.spec.name)
    action = decide_after_look(ctx.object, found, ctx.now)
    if not isinstance(found, HostRepository) or action is OnHost.LEAVE:
        return OnHost.LEAVE, None
    if repo_id is None and await _is_bound_elsewhere(ctx, found, host.host, key):
        return OnHost.LEAVE, None
    return action, found.id


async def _is_bound_elsewhere(ctx: ReconcileContext[Repository], found: HostRepository, host: str, key: str) -> bool:
    """Whether another object of the workspace is bound to it. Then it is not ours, however well our create claim fits.

    Raises ``Retryable`` (``DuplicateRepository``) while another one that stays may have made it, and not recorded it yet.
    """
    rivals = await find_rivals(ctx, found, key)
    # Two that are both deleted would wait for each other for ever.
    staying = [rival for rival in rivals if not rival.deleting]
    await require_no_rival(ctx, staying, repository(host, found.id))
    return bool(await ctx.others(lambda other: other.status.repo_id == found.id or None, most=1))


def _is_public(repo: Repository) -> bool:
    """Whether everybody can see it: spec says so, and the host's setting was not left as found."""
    return repo.spec.visibility == "public" and "visibility" not in repo.status.unmanaged_settings
