"""The handling of a deleted DeployKey or Collaborator: what both kinds share of cleaning up on the host."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from access_svc.deletion_policy import leaves_host_alone
from access_svc.target import AccessT
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Released, Terminal
from codecommon.controller.cleanup import carried_out
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.owner_record import Standing, Thing
from codecommon.controller.owner_record import repository as repository_thing
from codecommon.controller.ownership import require_undisputed
from codecommon.controller.target import Target, find_repository, open_target

_log = logging.getLogger(__name__)


async def clean_up(
    ctx: ReconcileContext[AccessT],
    connections: Connections,
    remove: Callable[[Target], Awaitable[None]],
    thing: str,
    made: Callable[[AccessT, str, str], Iterable[Thing]],
) -> bool:
    """Remove what the object made on the host, as the policies say. ``thing``: what people call it. ``made``: what status
    says that the object made, at a host and in the repository of that id.

    ``remove`` asks ``may_remove`` before it removes anything.
    Returns whether the thing stays on the host. Raises while the object must stay, with what a person can do about it.
    """
    leaving = await ctx.is_leaving()
    repository = await _as_recorded(ctx, await find_repository(ctx, live=True))
    await ctx.load_claim()
    stays = await _clean_up(ctx, connections, remove, thing, repository, leaving=leaving)
    if repository is not None and repository.status.repo_id is not None and repository.status.host:
        for gone in made(ctx.object, repository.status.host, repository.status.repo_id):
            await ctx.ownership.forget(gone, ctx.object)
    return stays


async def _as_recorded(ctx: ReconcileContext[AccessT], repository: Repository | None) -> Repository | None:
    """The Repository as its deletion will find it. Where that leaves it on the host, what is in it does not go by itself."""
    if repository is None or not repository.deleting or repository.status.origin != "Created":
        return repository
    host, repo_id = repository.status.host, repository.status.repo_id
    if not host or repo_id is None:
        return repository
    if not await ctx.ownership.is_contradicted(repository_thing(host, repo_id), repository):
        return repository
    return repository.model_copy(update={"status": repository.status.model_copy(update={"origin": "Adopted"})})


async def _clean_up(
    ctx: ReconcileContext[AccessT],
    connections: Connections,
    remove: Callable[[Target], Awaitable[None]],
    thing: str,
    repository: Repository | None,
    *,
    leaving: bool,
) -> bool:
    if repository is None or leaves_host_alone(ctx.object, repository, leaving=leaving):
        if leaving:
            _log.info("the workspace gives up the API: the finalizer is removed, %s stays on the host", thing)
        return leaving or ctx.object.spec.deletion_policy == "Orphan" or ctx.object.status.origin == "Adopted"
    if repository.status.repo_id is None:
        return False
    ctx.require_policy_shown()

    async def work() -> Released:
        current = await find_repository(ctx, live=True)
        if current is not None:
            target = await open_target(ctx, connections, current, pinned=ctx.object.status.host, live=True)
            await remove(target)
        return Released()

    removal = connections.with_fresh_credential(ctx.objects, repository.spec.connection_ref, work)
    return not await carried_out(ctx, removal, thing, leaving=leaving)


async def may_remove(ctx: ReconcileContext[AccessT], made: Thing, thing: str, *, whoever_made_it: bool) -> bool:
    """Right before ``made`` is removed on the host. ``thing``: what people call it. ``whoever_made_it``: its policy says so.

    Raises ``OwnershipDisputed``, and as ``ReconcileContext.confirm_deleting``.
    """
    if not whoever_made_it:
        standing = await ctx.ownership.require_standing(made, ctx.object)
        require_undisputed(standing, thing)
        if standing is not Standing.OURS:
            _log.warning("a record says that another object made %s: it stays on the host", thing)
            return False
    # After the records, which may have to be rebuilt first.
    await ctx.confirm_deleting()
    return True


def require_deleted_too(repository: Repository) -> None:
    """Called where the host does not show the repository. Nothing is left to remove if the Repository object is deleted too.

    Raises ``Terminal`` (``HostObjectMissing``) otherwise. The host gives the same answer to a credential that has lost access
    to the repository, and what was made there would stay behind.
    """
    if not repository.deleting:
        raise Terminal(
            Reason.HOST_OBJECT_MISSING,
            f"the host does not show the repository of {repository.name!r} (id {repository.status.repo_id}): it was deleted "
            "there, or this credential may not see it any more; if it was deleted, set spec.deletionPolicy of Repository "
            f"{repository.name!r} to Orphan and delete that, too",
        )
