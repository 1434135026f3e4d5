"""Collaborator: observe grant and invitation, act, report."""

from __future__ import annotations

from datetime import datetime

from access_svc.collaborator import decide, end, report
from access_svc.collaborator.access import Seen, require_seen, withdraw
from access_svc.collaborator.decisions import ChangeRole, Invite, Keep, Nothing, Wait, Withdraw
from access_svc.collaborator.guards import require_eldest, require_eldest_for, require_login, require_permitted
from access_svc.collaborator.identity import require_same_user
from access_svc.collaborator.origin import taking_over
from access_svc.target import Target, open_target, require_writable, with_repository
from codecommon.api.access import Collaborator
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Outcome, Ready
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.create_claim import claim_for, claiming, stored_claim
from codecommon.githost.protocol import Grant


class CollaboratorReconciler:
    """Make one user's access on the host match one Collaborator object."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def reconcile(self, ctx: ReconcileContext[Collaborator]) -> Outcome:
        if ctx.object.deleting:
            return await end.release(ctx, self._connections)
        try:
            require_login(ctx.object)
            return await with_repository(ctx, self._connections, self._apply)
        except Interruption as interruption:
            raise interruption.learned(taking_over(ctx.object)) from None

    async def _apply(self, ctx: ReconcileContext[Collaborator], repository: Repository) -> Ready:
        target = await open_target(ctx, self._connections, repository)
        await require_eldest(ctx)
        seen = await require_seen(target, ctx.object)
        await require_eldest_for(ctx, seen)
        made_at = stored_claim(repository)
        decision = decide.decide(ctx.object, seen.grant, seen.invitation, ctx.now, made_at=made_at)
        match decision:
            case Nothing() | Withdraw():
                return await self._end(ctx, target, decision, seen)
            case Keep():
                await ctx.ensure_finalizer()
                return report.in_force(ctx, target, decision)
            case ChangeRole():
                return await self._change_role(ctx, target, decision)
            case Wait():
                return await self._wait(ctx, target, decision)
            case Invite():
                return await self._invite(ctx, target, decision, seen.at)

    async def _change_role(self, ctx: ReconcileContext[Collaborator], target: Target, change: ChangeRole) -> Ready:
        login = change.grant.username
        await require_permitted(ctx, target, login)
        await ctx.ensure_finalizer()
        invitation = await target.host.set_collaborator(target.repo_id, login, ctx.object.spec.permission)
        if invitation is not None:
            # The grant went away since it was seen.
            raise report.pending(ctx, target, invitation, "Created", 1)
        # The host answers the same whether or not that changed anything.
        shown = (await require_seen(target, ctx.object)).grant or change.grant
        return report.in_force(ctx, target, decide.once_set(ctx.object, shown, change.origin, ctx.now))

    async def _wait(self, ctx: ReconcileContext[Collaborator], target: Target, wait: Wait) -> Ready:
        await ctx.ensure_finalizer()
        if wait.change:
            await require_permitted(ctx, target, wait.invitation.username)
            await target.host.update_invitation(target.repo_id, wait.invitation.id, ctx.object.spec.permission)
        raise report.pending(ctx, target, wait.invitation, wait.origin, max(ctx.object.status.invitations or 0, 1))

    async def _invite(self, ctx: ReconcileContext[Collaborator], target: Target, invite: Invite, at: datetime) -> Ready:
        obj, host = ctx.object, target.host
        decide.require_within_bounds(obj, invite)
        login = obj.spec.username
        if invite.instead_of is not None:
            login = invite.instead_of.username
        elif obj.status.user_id is not None:
            require_same_user(obj, await host.get_user_id(login))
        await require_permitted(ctx, target, login)
        claim = claim_for(ctx.object, at, bound=obj.status.origin is not None)
        async with claiming(ctx, host, claim, timeless=True):
            if invite.instead_of is not None:
                await host.cancel_invitation(target.repo_id, invite.instead_of.id)
            invitation = await host.set_collaborator(target.repo_id, login, obj.spec.permission)
        if invitation is None:
            # The answer to a grant names nobody; until the next look at the list the user could rename unnoticed.
            user_id = obj.status.user_id or await host.get_user_id(login)
            granted = Keep(Grant(login, obj.spec.permission, user_id), "Created")
            return report.in_force(ctx, target, granted)
        raise report.pending(ctx, target, invitation, "Created", invite.sent + 1)

    async def _end(
        self, ctx: ReconcileContext[Collaborator], target: Target, decision: Nothing | Withdraw, seen: Seen
    ) -> Ready:
        """The access ends by itself, and the object stays to say so."""
        obj = ctx.object
        await ctx.ensure_finalizer()
        if isinstance(decision, Withdraw):
            require_writable(target.repository)
            await ctx.confirm_not_deleting()
            await withdraw(target, obj, seen)
        return report.ended(obj, target, decision)
