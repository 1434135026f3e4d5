"""The end of a DeployKey or Collaborator: what is done on the host, and when the finalizer may leave."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from access_svc.release import leaves_host_alone
from access_svc.target import AccessT, Target, find_repository, open_target
from codecommon.api.repository import Repository
from codecommon.errors import Terminal
from codecommon.letting_go import carried_out
from codecommon.outcome import Released
from codecommon.passes import Pass
from codecommon.sessions import Sessions

_log = logging.getLogger(__name__)


async def clean_up(
    run: Pass[AccessT], sessions: Sessions, remove: Callable[[Target], Awaitable[None]], thing: str
) -> bool:
    """Remove what the object made on the host, as the policies say; ``remove`` does it, ``thing`` is what people call it.

    Returns whether it stays on the host. Raises while the object must stay, with what a person can do about it.
    """
    leaving = await run.leaving()
    repository = await find_repository(run, live=True)
    if leaves_host_alone(run.object, repository, leaving=leaving) or repository is None:
        if leaving:
            _log.info("the workspace gives up the API: released, %s stays on the host", thing)
        return leaving or run.object.spec.deletion_policy == "Orphan" or run.object.status.origin == "Adopted"
    if repository.status.repo_id is None:
        return False
    removal = _removal(run, sessions, remove)
    work = sessions.with_fresh_credential(run.objects, repository.spec.connection_ref, removal)
    return not await carried_out(run.object, work, thing, leaving=leaving)


def require_given_up(repository: Repository) -> None:
    """Where the host shows no such repository: that leaves nothing to remove if the Repository object goes too.

    Raises ``Terminal`` (``HostObjectMissing``) else: a credential that has lost sight of the repository is told the same, and
    what was made there would stay behind.
    """
    if not repository.deleting:
        raise Terminal(
            "HostObjectMissing",
            f"the host does not show the repository of {repository.name!r} (id {repository.status.repo_id}): it was deleted "
            f"there, or this credential may not see it any more; if it was deleted, delete Repository {repository.name!r} too",
        )


def _removal(
    run: Pass[AccessT], sessions: Sessions, remove: Callable[[Target], Awaitable[None]]
) -> Callable[[], Awaitable[Released]]:
    async def work() -> Released:
        repository = await find_repository(run, live=True)
        if repository is not None:
            target = await open_target(run, sessions, repository, live=True)
            await run.confirm_deleting()
            await remove(target)
        return Released()

    return work
