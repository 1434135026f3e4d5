"""Collaborator: observe grant and invitation, act, report."""

from __future__ import annotations

from datetime import UTC, datetime

from access_svc.collaborator import decide, end, report
from access_svc.collaborator.access import Seen, require_seen, withdraw
from access_svc.collaborator.decisions import ChangeRole, Invite, Keep, Nothing, Wait, Withdraw
from access_svc.collaborator.guards import require_eldest, require_eldest_for, require_login, require_permitted
from access_svc.collaborator.identity import require_same_user
from access_svc.collaborator.origin import taking_over
from access_svc.target import Target, open_target, require_writable, with_repository
from codecommon.api.access import Collaborator
from codecommon.api.repository import Repository
from codecommon.claiming import claiming
from codecommon.claims import claim_for, stored_claim
from codecommon.errors import Interruption
from codecommon.githost.backend import Grant
from codecommon.outcome import Outcome, Ready
from codecommon.passes import Pass
from codecommon.sessions import Sessions


class CollaboratorReconciler:
    """Make one user's access on the host match one Collaborator object."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def reconcile(self, run: Pass[Collaborator]) -> Outcome:
        if run.object.deleting:
            return await end.release(run, self._sessions)
        try:
            require_login(run.object)
            return await with_repository(run, self._sessions, self._apply)
        except Interruption as interruption:
            interruption.status = {**taking_over(run.object), **interruption.status}
            raise

    async def _apply(self, run: Pass[Collaborator], repository: Repository) -> Ready:
        target = await open_target(run, self._sessions, repository)
        await require_eldest(run)
        seen = await require_seen(target, run.object)
        await require_eldest_for(run, seen)
        made_at = stored_claim(repository)
        decision = decide.decide(run.object, seen.grant, seen.invitation, datetime.now(UTC), made_at=made_at)
        match decision:
            case Nothing() | Withdraw():
                return await self._end(run, target, decision, seen)
            case Keep():
                await run.hold()
                return report.in_force(run.object, target, decision)
            case ChangeRole():
                return await self._change_role(run, target, decision)
            case Wait():
                return await self._wait(run, target, decision)
            case Invite():
                return await self._invite(run, target, decision, seen.at)

    async def _change_role(self, run: Pass[Collaborator], target: Target, change: ChangeRole) -> Ready:
        login = change.grant.username
        await require_permitted(run, target, login)
        await run.hold()
        invitation = await target.host.set_collaborator(target.repo_id, login, run.object.spec.permission)
        if invitation is not None:
            # The grant went away since it was seen.
            raise report.pending(run.object, target, invitation, "Created", 1)
        # The host answers the same whether or not that changed anything.
        shown = (await require_seen(target, run.object)).grant or change.grant
        return report.in_force(run.object, target, decide.once_set(run.object, shown, change.origin, datetime.now(UTC)))

    async def _wait(self, run: Pass[Collaborator], target: Target, wait: Wait) -> Ready:
        await run.hold()
        if wait.change:
            await require_permitted(run, target, wait.invitation.username)
            await target.host.update_invitation(target.repo_id, wait.invitation.id, run.object.spec.permission)
        raise report.pending(
            run.object, target, wait.invitation, wait.origin, max(run.object.status.invitations or 0, 1)
        )

    async def _invite(self, run: Pass[Collaborator], target: Target, invite: Invite, at: datetime) -> Ready:
        obj, host = run.object, target.host
        decide.require_within_bounds(obj, invite)
        login = obj.spec.username
        if invite.instead_of is not None:
            login = invite.instead_of.username
        elif obj.status.user_id is not None:
            require_same_user(obj, await host.get_user_id(login))
        await require_permitted(run, target, login)
        claim = claim_for(run.object, at, bound=obj.status.origin is not None)
        async with claiming(run, host, claim, timeless=True):
            if invite.instead_of is not None:
                await host.cancel_invitation(target.repo_id, invite.instead_of.id)
            invitation = await host.set_collaborator(target.repo_id, login, obj.spec.permission)
        if invitation is None:
            # The answer to a grant names nobody; until the next look at the list the user could rename unnoticed.
            user_id = obj.status.user_id or await host.get_user_id(login)
            granted = Keep(Grant(login, obj.spec.permission, user_id), "Created")
            return report.in_force(run.object, target, granted)
        raise report.pending(run.object, target, invitation, "Created", invite.sent + 1)

    async def _end(self, run: Pass[Collaborator], target: Target, decision: Nothing | Withdraw, seen: Seen) -> Ready:
        """The access ends by itself, and the object stays to say so."""
        obj = run.object
        await run.hold()
        if isinstance(decision, Withdraw):
            require_writable(target.repository)
            await run.confirm_wanted()
            await withdraw(target, obj, seen)
        return report.ended(obj, target, decision)
