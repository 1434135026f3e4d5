"""The end of a DeployKey or Collaborator: what is done on the host, and when the finalizer may leave."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from access_svc.release import leaves_host_alone
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
    """Remove what the object made on the host, as the policies say; ``remove`` does it, ``thing`` is what people call it.

    Returns whether it stays on the host. Raises while the object must stay, with what a person can do about it.
    """
    leaving = await ctx.is_leaving()
    repository = await find_repository(ctx, live=True)
    if leaves_host_alone(ctx.object, repository, leaving=leaving) or repository is None:
        if leaving:
            _log.info("the workspace gives up the API: released, %s stays on the host", thing)
        return leaving or ctx.object.spec.deletion_policy == "Orphan" or ctx.object.status.origin == "Adopted"
    if repository.status.repo_id is None:
        return False
    removal = _removal(ctx, connections, remove)
    work = connections.with_fresh_credential(ctx.objects, repository.spec.connection_ref, removal)
    return not await carried_out(ctx, work, thing, leaving=leaving)


def require_given_up(repository: Repository) -> None:
    """Where the host shows no such repository: that leaves nothing to remove if the Repository object goes too.

    Raises ``Terminal`` (``HostObjectMissing``) else: a credential that has lost sight of the repository is told the same, and
    what was made there would stay behind.
    """
    if not repository.deleting:
        raise Terminal(
            Reason.HOST_OBJECT_MISSING,
            f"the host does not show the repository of {repository.name!r} (id {repository.status.repo_id}): it was deleted "
            f"there, or this credential may not see it any more; if it was deleted, delete Repository {repository.name!r} too",
        )


def _removal(
    ctx: ReconcileContext[AccessT], connections: Connections, remove: Callable[[Target], Awaitable[None]]
) -> Callable[[], Awaitable[Released]]:
    async def work() -> Released:
        repository = await find_repository(ctx, live=True)
        if repository is not None:
            target = await open_target(ctx, connections, repository, live=True)
            await ctx.confirm_deleting()
            await remove(target)
        return Released()

    return work
