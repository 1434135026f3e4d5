"""Collaborator: observe the user's access on the host, decide, act, report."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from access_svc.collaborator import decide, report
from access_svc.collaborator.access import require_seen, withdraw
from access_svc.collaborator.decide import ChangeRole, Ended, InForce, Invite, Seen, StillShown, Wait, Withdraw
from access_svc.collaborator.finalize import finalize
from access_svc.duplicates import find_elder
from access_svc.target import repository_made_at, repository_missing, require_writable
from codecommon.api.access import Collaborator
from codecommon.api.origin import Origin, is_recorded
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Outcome, Ready, Terminal
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.create_claim import claim_for, stored_claim, under_create_claim
from codecommon.controller.owner_record import Standing, access
from codecommon.controller.ownership import origin_by
from codecommon.controller.target import Target, open_target, require_repository, require_staying
from codecommon.githost.protocol import Grant

_BOT: Final = "[bot]"
"""How the login of an App ends."""


class CollaboratorReconciler:
    """Make one user's access on the host match one Collaborator object."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def reconcile(self, ctx: ReconcileContext[Collaborator]) -> Outcome:
        if ctx.object.deleting:
            return await finalize(ctx, self._connections)
        try:
            repository = await require_repository(ctx)
            require_staying(repository)

            async def work() -> Outcome:
                return await self._ensure(ctx, repository)

            return await self._connections.with_fresh_credential(ctx.objects, repository.spec.connection_ref, work)
        except Interruption as interruption:
            raise interruption.learned(decide.on_record(ctx.object)) from None

    async def _ensure(self, ctx: ReconcileContext[Collaborator], repository: Repository) -> Ready:
        target = await open_target(ctx, self._connections, repository, pinned=ctx.object.status.host)
        if not is_recorded(ctx.object.status.origin):
            await ctx.load_claim()
        _require_username(ctx.object, target)
        await _require_eldest_by_login(ctx)
        seen = await require_seen(target, ctx.object)
        await _require_eldest_by_id(ctx, seen)
        decision = decide.decide(
            await self._judged(ctx, target, seen),
            seen,
            ctx.now,
            roles=_standard_roles(target),
            repository_made_at=await repository_made_at(ctx, target) if decide.lost_sight(ctx.object, seen) else None,
        )
        match decision:
            case InForce():
                await ctx.ensure_finalizer()
                return report.in_force(ctx, target, decision)
            case ChangeRole():
                return await self._change_role(ctx, target, decision, seen.at)
            case Wait():
                return await self._wait(ctx, target, decision)
            case Invite():
                return await self._invite(ctx, target, decision, seen.at)
            case Ended() | Withdraw() | StillShown():
                return await self._end(ctx, target, decision, seen)

    async def _judged(self, ctx: ReconcileContext[Collaborator], target: Target, seen: Seen) -> Collaborator:
        """The object, or the object as ``decide.not_ours`` where another one gave the access that it says it gave."""
        obj = ctx.object
        shown = seen.grant or seen.invitation
        if shown is None or decide.origin_of(obj, None if seen.grant else seen.invitation) == "Adopted":
            return obj
        made = access(target.host.host, target.repo_id, obj.status.user_id or shown.user_id, obj.spec.username)
        if obj.status.bound:
            ours = await ctx.ownership.confirm(made, obj)
        else:
            ours = await ctx.ownership.require_standing(made, obj, stored_claim(obj)) is Standing.OURS
        return obj if ours else decide.not_ours(obj)

    async def _made(
        self,
        ctx: ReconcileContext[Collaborator],
        target: Target,
        user_id: str | None,
        absent_at: datetime,
        *,
        was_shown: bool = False,
    ) -> Origin:
        """Record that the object gave the access. ``absent_at``: the host's time when it listed none.

        ``was_shown``: the host showed access of the user all the same. It may be what another object gave, so its record stands.
        """
        made = access(target.host.host, target.repo_id, user_id, ctx.object.spec.username)
        record = ctx.ownership.require_standing if was_shown else ctx.ownership.record_made
        return origin_by(await record(made, ctx.object, absent_at))

    async def _change_role(
        self, ctx: ReconcileContext[Collaborator], target: Target, change: ChangeRole, at: datetime
    ) -> Ready:
        login = change.grant.username
        await _require_permitted(ctx, target, login)
        await ctx.ensure_finalizer()
        await ctx.confirm_current()
        invitation = await target.host.set_collaborator(target.repo_id, login, ctx.object.spec.permission)
        if invitation is not None:
            # The grant went away since it was seen.
            origin = await self._made(ctx, target, invitation.user_id, at)
            raise report.pending(ctx, target, invitation, origin, 1)
        # The host answers the same whether or not that changed anything.
        shown = (await require_seen(target, ctx.object)).grant or change.grant
        decided = decide.decide_after_change(ctx.object, shown, change.origin, ctx.now, roles=_standard_roles(target))
        return report.in_force(ctx, target, decided)

    async def _wait(self, ctx: ReconcileContext[Collaborator], target: Target, wait: Wait) -> Ready:
        await ctx.ensure_finalizer()
        if wait.change:
            await _require_permitted(ctx, target, wait.invitation.username)
            await ctx.confirm_current()
            await target.host.update_invitation(target.repo_id, wait.invitation.id, ctx.object.spec.permission)
        raise report.pending(ctx, target, wait.invitation, wait.origin, max(ctx.object.status.invitations or 0, 1))

    async def _invite(self, ctx: ReconcileContext[Collaborator], target: Target, invite: Invite, at: datetime) -> Ready:
        """``at``: the host's time when its lists left the user out."""
        obj, host = ctx.object, target.host
        decide.require_within_bounds(obj, invite)
        login = obj.spec.username
        if invite.instead_of is not None:
            login = invite.instead_of.username
        elif obj.status.user_id is not None:
            decide.require_same_user(obj, await host.get_user_id(login))
        await _require_permitted(ctx, target, login)
        # The lists may leave out a user who has access, and the answer to a grant does not tell whether it changed anything.
        shown = await host.get_grant(target.repo_id, login)
        claim = claim_for(obj, at, bound=is_recorded(obj.status.origin))
        async with under_create_claim(ctx, host, claim, timeless=True):
            if invite.instead_of is not None:
                await host.cancel_invitation(target.repo_id, invite.instead_of.id)
            invitation = await host.set_collaborator(target.repo_id, login, obj.spec.permission)
        if invitation is not None:
            origin = await self._made(ctx, target, invitation.user_id, at)
            raise report.pending(ctx, target, invitation, origin, invite.sent + 1)
        # The answer to a grant names nobody. Until the next look at the list the user could rename unnoticed.
        user_id = obj.status.user_id or (shown.user_id if shown else None) or await host.get_user_id(login)
        origin = await self._made(ctx, target, user_id, at, was_shown=shown is not None)
        return report.in_force(ctx, target, InForce(Grant(login, obj.spec.permission, user_id), origin))

    async def _end(
        self,
        ctx: ReconcileContext[Collaborator],
        target: Target,
        decision: Ended | Withdraw | StillShown,
        seen: Seen,
    ) -> Ready:
        """The access ends at ``spec.expiresAt``, and the object stays to say so."""
        await ctx.ensure_finalizer()
        if isinstance(decision, Withdraw):
            require_writable(target.repository)
            await ctx.confirm_not_deleting()
            await withdraw(target, ctx.object, seen)
            if seen.invitation is None and (seen.grant is None or seen.unlisted):
                shown = await target.host.get_grant(target.repo_id, seen.login(ctx.object))
                left = decide.find_unlisted(ctx.object, shown, _standard_roles(target))
                if left is not None:
                    return report.still_shown(ctx, target, StillShown(left, decision.origin))
        if isinstance(decision, StillShown):
            return report.still_shown(ctx, target, decision)
        return report.ended(ctx.object, target, decision)


# ---- what must hold before the user's access is touched


def _standard_roles(target: Target) -> tuple[str, ...]:
    """From the narrowest to the widest. Those of an organisation include those of a user."""
    return target.host.roles("Organization")


def _require_username(obj: Collaborator, target: Target) -> None:
    """Raises ``Terminal`` (``InvalidName``) for a username that nobody can have, and for that of an App."""
    username = obj.spec.username
    if username.endswith(_BOT):
        raise Terminal(
            Reason.INVALID_NAME,
            f"spec.username {username!r} is an App's; an App is no collaborator, it gets access by its installation: let its "
            f"installation on {target.owner} include the repository, and delete this object",
        )
    if not target.host.is_username(username):
        raise Terminal(
            Reason.INVALID_NAME,
            f"spec.username {username!r} is not a GitHub login; usernames cannot be changed, make a new object",
        )


async def _require_eldest_by_login(ctx: ReconcileContext[Collaborator]) -> None:
    """Raises ``Terminal`` (``DuplicateCollaborator``) when an older object has the same login."""
    login = ctx.object.spec.username.lower()
    _require_none(await find_elder(ctx, lambda other: other.spec.username.lower() == login))


async def _require_eldest_by_id(ctx: ReconcileContext[Collaborator], seen: Seen) -> None:
    """The same by the user's id, when the id is first seen: the watcher compares logins only."""
    if ctx.object.status.user_id is None and seen.user_id is not None:
        _require_none(await find_elder(ctx, lambda other: other.status.user_id == seen.user_id, hinted=False))


def _require_none(elder: str | None) -> None:
    if elder is not None:
        raise Terminal(Reason.DUPLICATE_COLLABORATOR, f"Collaborator {elder!r} is for this user; delete one of the two")


async def _require_permitted(ctx: ReconcileContext[Collaborator], target: Target, login: str) -> None:
    """Raises ``Terminal`` (``RepositoryArchived``, ``PermissionUnsupported``) for what the host would refuse."""
    require_writable(target.repository)
    # Status may name an owner from before a transfer or a new name of the account.
    shown = await target.host.get_repository(target.repo_id)
    if shown is None:
        raise repository_missing(target.repository)
    kind = await target.host.get_owner_kind(shown.owner)
    decide.require_possible(ctx.object, login, shown.owner, kind, target.host.roles("User"))
