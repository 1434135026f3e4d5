"""What a pass says of the access: in force, waiting for the user, ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from access_svc.collaborator import decide
from access_svc.collaborator.decisions import Keep, Nothing, Withdraw
from access_svc.target import Target
from codecommon.api.access import Collaborator
from codecommon.api.results import NotReady, Ready
from codecommon.api.times import rfc3339
from codecommon.controller.conditions import condition
from codecommon.githost.protocol import Invitation


def in_force(obj: Collaborator, target: Target, keep: Keep) -> Ready:
    conditions = ()
    if keep.differs:
        text = f"left as found on the host: permission ({keep.grant.role}; edit spec.permission to change it)"
        conditions = (condition("SettingsDiffer", "True", "LeftAsFound", text),)
    elif keep.wider:
        text = f"the user has {keep.grant.role} through a team, the organisation or its base permission"
        conditions = (condition("WiderAccess", "True", "NotOurs", text),)
    status = decide.status_of(obj, keep.origin, target.host.host) | decide.NO_INVITATION
    status["userID"] = keep.grant.user_id
    login, now = obj.spec.username, keep.grant.username
    text = f"the user {login} is called {now} on the host now" if login.lower() != now.lower() else ""
    return Ready(status, conditions, message=text, again=_end(obj))


def pending(obj: Collaborator, target: Target, invitation: Invitation, origin: Any, sent: int) -> NotReady:
    """``sent``: how many invitations so far, this one included."""
    status = decide.status_of(obj, origin, target.host.host) | {
        "userID": invitation.user_id,
        "invitationID": invitation.id,
        "invitations": sent,
        "invitedAt": rfc3339(invitation.created_at),
    }
    return NotReady(
        "InvitationPending",
        decide.pending(invitation),
        again=_end(obj),
        conditions=(decide.PENDING,),
        status=status,
    )


def ended(obj: Collaborator, target: Target, decision: Nothing | Withdraw) -> Ready:
    assert obj.spec.expires_at is not None, "only an access with an end is over by itself"
    text = f"the access ended at {rfc3339(obj.spec.expires_at)}"
    status = decide.status_of(obj, decision.origin, target.host.host) | decide.NO_INVITATION
    return Ready(status, (condition("AccessEnded", "True", "Expired", text),), message=text)


def _end(obj: Collaborator) -> timedelta | None:
    """``expiresAt`` is an appointment: nobody tells that it has come."""
    return obj.spec.expires_at - datetime.now(UTC) if obj.spec.expires_at is not None else None
