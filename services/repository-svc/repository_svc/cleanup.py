"""The end of a Repository object: what is done on the host, and when the finalizer may leave."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from codecommon.api.kinds import children_of
from codecommon.api.repository import Repository
from codecommon.errors import NotReady, Retryable
from codecommon.githost.backend import HostRepository, RepositoryChanges
from codecommon.letting_go import carried_out, may_give_up
from codecommon.outcome import Released
from codecommon.passes import Pass
from codecommon.sessions import Sessions
from repository_svc.identity import require_identity
from repository_svc.release import Release, decide_found, decide_release

_log = logging.getLogger(__name__)


async def release(run: Pass[Repository], sessions: Sessions) -> Released:
    """Clean up as the policies say. Raises while the object must stay, with what a person can do about it."""
    leaving = await run.leaving()
    await _require_no_children(run, leaving=leaving)
    plan = decide_release(run.object, leaving=leaving)
    if plan is Release.LEAVE:
        if leaving:
            _log.info("the workspace gives up the API: released, the repository stays on the host")
        return Released()
    # Keys and collaborators whose objects were deleted with this one are in it still.
    thing = "the repository with the keys and access in it"
    await carried_out(run.object, _clean_up(run, sessions, plan), thing, leaving=leaving)
    return Released()


async def _require_no_children(run: Pass[Repository], *, leaving: bool) -> None:
    """While leaving, only those are waited for that say Delete, and no longer than for clean-up: nobody tells when they go."""
    children = children_of(run.kind.resource)
    if not leaving:
        await run.require_no_referrers(children)
        return
    try:
        await run.require_no_referrers(children, policy="Delete")
    except NotReady as blocked:
        waiting = Retryable(blocked.reason, blocked.message)
        if not may_give_up(run.object, waiting, datetime.now(UTC)):
            raise waiting from None


async def _clean_up(run: Pass[Repository], sessions: Sessions, plan: Release) -> None:
    spec = run.object.spec
    session = await sessions.for_object(
        run.objects, spec.connection_ref, run.versions, owner=spec.owner or "", live=True
    )
    owner = spec.owner or session.connection.spec.owner
    require_identity(run.object, session.host.host, owner)
    repo_id = run.object.status.repo_id
    if plan is Release.LOOK:
        seen = (
            await session.host.get_repository(repo_id)
            if repo_id is not None
            else await session.host.find_repository(owner, run.object.spec.name)
        )
        plan = decide_found(run.object, seen, datetime.now(UTC))
        if repo_id is None and isinstance(seen, HostRepository) and await _is_anothers(run, seen):
            plan = Release.LEAVE
        repo_id = seen.id if isinstance(seen, HostRepository) else None
    if plan is Release.LEAVE or repo_id is None:
        return
    await run.confirm_deleting()
    if plan is Release.ARCHIVE:
        if await session.host.get_repository(repo_id) is not None:
            await session.host.update_repository(repo_id, RepositoryChanges(archived=True))
    else:
        await session.host.delete_repository(repo_id, public=_is_public(run.object))


def _is_public(repo: Repository) -> bool:
    """Whether everybody can see it: spec says so, and nothing says that the host's setting was left as it was."""
    differs = repo.status.condition("SettingsDiffer")
    return repo.spec.visibility == "public" and not (differs is not None and "visibility" in differs.message)


async def _is_anothers(run: Pass[Repository], seen: HostRepository) -> bool:
    """Whether another object of the workspace is bound to it: then our claim, however well it fits, is not what made it."""
    others = [Repository.parse(raw, run.objects.workspace) for raw in await run.objects.list(run.kind.resource)]
    return any(o.metadata.uid != run.object.metadata.uid and o.status.repo_id == seen.id for o in others)
