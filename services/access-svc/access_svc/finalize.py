"""The handling of a deleted DeployKey or Collaborator: what both kinds share of cleaning up on the host."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from access_svc.deletion_policy import leaves_host_alone
from access_svc.target import AccessT, Target, find_repository, open_target
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Released, Terminal
from codecommon.controller.cleanup import carried_out
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext

_log = logging.getLogger(__name__)


async def clean_up(
    ctx: ReconcileContext[AccessT], connections: Connections, remove: Callable[[Target], Awaitable[None]], thing: str
) -> bool:
    """Remove what the object made on the host, as the policies say. ``thing``: what people call it.

    ``remove`` is awaited once the object was read live and is still being deleted.
    Returns whether the thing stays on the host. Raises while the object must stay, with what a person can do about it.
    """
    leaving = await ctx.is_leaving()
    repository = await find_repository(ctx, live=True)
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
            target = await open_target(ctx, connections, current, live=True)
            await ctx.confirm_deleting()
            await remove(target)
        return Released()

    removal = connections.with_fresh_credential(ctx.objects, repository.spec.connection_ref, work)
    return not await carried_out(ctx, removal, thing, leaving=leaving)


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
