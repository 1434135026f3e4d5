"""Repository: observe the host, claim, act, report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from codecommon.api.repository import Repository
from codecommon.claiming import claiming
from codecommon.errors import Interruption, Retryable, Terminal
from codecommon.githost.backend import AlreadyExists, GitBackend, RepositoryChanges
from codecommon.outcome import Outcome, Ready
from codecommon.passes import Pass
from codecommon.sessions import Session, Sessions, require_validated
from repository_svc import decide, drift, identity
from repository_svc.cleanup import release


class RepositoryReconciler:
    """Make one repository on the host match one Repository object."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def reconcile(self, run: Pass[Repository]) -> Outcome:
        work = partial(release, run, self._sessions) if run.object.deleting else partial(self._apply, run)
        return await self._sessions.with_fresh_credential(run.objects, run.object.spec.connection_ref, work)

    async def _apply(self, run: Pass[Repository]) -> Outcome:
        repo = run.object
        session = await self._sessions.for_object(
            run.objects, repo.spec.connection_ref, run.versions, owner=repo.spec.owner or ""
        )
        require_validated(session.connection)
        owner = _owner(repo, session)
        identity.require_identity(repo, session.host.host, owner)
        keep = await self._bound(run, session.host, owner) if repo.status.repo_id else None
        if keep is None:
            keep = await self._unbound(run, session, owner)
        return await self._settle(run, session.host, owner, keep)

    async def _bound(self, run: Pass[Repository], host: GitBackend, owner: str) -> decide.Keep | None:
        assert run.object.status.repo_id is not None
        seen = await host.get_repository(run.object.status.repo_id)
        keep = decide.decide_bound(run.object, seen, datetime.now(UTC))
        if keep is None and await host.get_owner_kind(owner) is None:
            raise Terminal(
                "HostObjectMissing", f"the repository is gone, and so is its owner {owner!r}, or it cannot be seen"
            )
        return keep

    async def _unbound(self, run: Pass[Repository], session: Session, owner: str) -> decide.Keep:
        repo, host = run.object, session.host
        seen = await host.find_repository(owner, repo.spec.name)
        if run.twins:
            same_name = await self._repositories(run, f"spec.name={repo.spec.name}")
            identity.require_eldest(repo, identity.namesakes(repo, same_name, owner, session.connection.spec.owner))
        decision = decide.decide_unbound(repo, seen)
        if isinstance(decision, decide.Keep):
            identity.require_unclaimed(repo, decision.seen, host.host, await self._repositories(run, ""))
            return decision
        request = decide.creation(repo, owner, await host.get_owner_kind(owner))
        try:
            async with claiming(run, host, decision.claim):
                return decide.Keep(await host.ensure_repository(request), "Created")
        except AlreadyExists:
            taken = f"the host says that {owner}/{repo.spec.name} exists, but does not show it to this credential"
            raise Retryable("NameTaken", taken) from None

    async def _repositories(self, run: Pass[Repository], field_selector: str) -> list[Repository]:
        raw = await run.objects.list(
            run.kind.resource, field_selector=field_selector, not_older=run.object.metadata.resource_version
        )
        return [Repository.parse(r, run.objects.workspace) for r in raw]

    async def _settle(self, run: Pass[Repository], host: GitBackend, owner: str, keep: decide.Keep) -> Ready:
        """Bring the settings in line and report what the host shows."""
        repo = await run.hold()
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
            interruption.status = {**known, **interruption.status}
            raise
        if seen.archived:
            conditions.append(decide.ARCHIVED)
        return Ready(decide.status_of(repo, seen, keep.origin, host.host, owner, baseline), tuple(conditions))


def _owner(repo: Repository, session: Session) -> str:
    return repo.spec.owner or session.connection.spec.owner
