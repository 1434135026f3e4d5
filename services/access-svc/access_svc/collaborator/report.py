"""What a pass says of the access: in force, waiting for the user, ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from access_svc.collaborator import decide
from access_svc.collaborator.decisions import Keep, Nothing, Withdraw
from access_svc.target import Target
from codecommon.api.access import Collaborator
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import NotReady, Ready
from codecommon.api.times import rfc3339
from codecommon.controller.conditions import condition
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import Invitation


def in_force(ctx: ReconcileContext[Collaborator], target: Target, keep: Keep) -> Ready:
    obj = ctx.object
    conditions = ()
    if keep.differs:
        text = f"left as found on the host: permission ({keep.grant.role}; edit spec.permission to change it)"
        conditions = (condition(ConditionType.SETTINGS_DIFFER, "True", Reason.LEFT_AS_FOUND, text),)
    elif keep.wider:
        text = f"the user has {keep.grant.role} through a team, the organisation or its base permission"
        conditions = (condition(ConditionType.WIDER_ACCESS, "True", Reason.NOT_OURS, text),)
    status = decide.status_of(obj, keep.origin, target.host.host) | decide.NO_INVITATION
    status["userID"] = keep.grant.user_id
    login, now = obj.spec.username, keep.grant.username
    text = f"the user {login} is called {now} on the host now" if login.lower() != now.lower() else ""
    return Ready(status, conditions, message=text, requeue_after=_end(ctx))


def pending(
    ctx: ReconcileContext[Collaborator], target: Target, invitation: Invitation, origin: Any, sent: int
) -> NotReady:
    """``sent``: how many invitations so far, this one included."""
    obj = ctx.object
    status = decide.status_of(obj, origin, target.host.host) | {
        "userID": invitation.user_id,
        "invitationID": invitation.id,
        "invitations": sent,
        "invitedAt": rfc3339(invitation.created_at),
    }
    return NotReady(
        Reason.INVITATION_PENDING,
        decide.pending(invitation),
        requeue_after=_end(ctx),
        conditions=(decide.PENDING,),
        status=status,
    )


def ended(obj: Collaborator, target: Target, decision: Nothing | Withdraw) -> Ready:
    assert obj.spec.expires_at is not None, "only an access with an end is over by itself"
    text = f"the access ended at {rfc3339(obj.spec.expires_at)}"
    status = decide.status_of(obj, decision.origin, target.host.host) | decide.NO_INVITATION
    return Ready(status, (condition(ConditionType.ACCESS_ENDED, "True", Reason.EXPIRED, text),), message=text)


def _end(ctx: ReconcileContext[Collaborator]) -> timedelta | None:
    """``expiresAt`` is an appointment: nobody tells that it has come."""
    end = ctx.object.spec.expires_at
    return end - ctx.now if end is not None else None
