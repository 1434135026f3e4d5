"""What a pass says of the access: in force, waiting for the user, ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from access_svc.collaborator.decide import LONGEST_ROLE, Ended, InForce, StillShown, Withdraw, is_new_end
from codecommon.api.access import Collaborator
from codecommon.api.meta import Condition
from codecommon.api.origin import Origin
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import NotReady, Ready
from codecommon.api.times import rfc3339
from codecommon.controller.conditions import condition
from codecommon.controller.context import ReconcileContext
from codecommon.controller.target import Target
from codecommon.githost.protocol import Invitation

_PENDING: Final = condition(
    ConditionType.INVITATION_PENDING, "True", Reason.AWAITING_ACCEPTANCE, "the user has to accept the invitation"
)
_SHOWN_AGAIN_AFTER: Final = timedelta(minutes=1)
_NO_INVITATION: Final[dict[str, Any]] = {"invitationID": None, "invitations": None, "invitedAt": None}


def in_force(ctx: ReconcileContext[Collaborator], target: Target, access: InForce) -> Ready:
    role, login, now = access.grant.role, ctx.object.spec.username, access.grant.username
    status = _status(ctx.object, target, access.origin) | _NO_INVITATION
    status |= {"userID": access.grant.user_id, "widerRole": role[:LONGEST_ROLE] if access.wider else None}
    conditions: tuple[Condition, ...] = ()
    if access.differs:
        text = f"left as found on the host: permission ({role}; edit spec.permission to change it)"
        conditions = (condition(ConditionType.SETTINGS_DIFFER, "True", Reason.LEFT_AS_FOUND, text),)
    elif access.wider:
        text = f"the user has {role} through a team, the organisation or its base permission"
        conditions = (condition(ConditionType.WIDER_ACCESS, "True", Reason.NOT_OURS, text),)
    renamed = f"the user {login} is called {now} on the host now" if login.lower() != now.lower() else ""
    return Ready(status, conditions, message=renamed, requeue_after=_time_left(ctx))


def pending(
    ctx: ReconcileContext[Collaborator], target: Target, invitation: Invitation, origin: Origin, sent: int
) -> NotReady:
    """``sent``: how many invitations were sent so far, this one included."""
    status = _status(ctx.object, target, origin) | {
        "userID": invitation.user_id,
        "invitationID": invitation.id,
        "invitations": sent,
        "invitedAt": rfc3339(invitation.created_at),
    }
    return NotReady(
        Reason.INVITATION_PENDING,
        f"{invitation.username} has not yet accepted the invitation of {invitation.created_at:%Y-%m-%d}",
        requeue_after=_time_left(ctx),
        conditions=(_PENDING,),
        status=status,
    )


def ended(obj: Collaborator, target: Target, decision: Ended | Withdraw) -> Ready:
    assert obj.spec.expires_at is not None, "only an access with an end ends by itself"
    text = f"the access ended at {rfc3339(obj.spec.expires_at)}"
    status = _status(obj, target, decision.origin) | _NO_INVITATION | {"widerRole": None}
    return Ready(status, (condition(ConditionType.ACCESS_ENDED, "True", Reason.EXPIRED, text),), message=text)


def still_shown(ctx: ReconcileContext[Collaborator], target: Target, decision: StillShown) -> Ready:
    """Looked at again after a minute, while the host may be late. Access that comes from elsewhere is left to the resync."""
    text = (
        f"the host still shows {decision.grant.role}, though its list leaves it out; a team, the organisation or its base "
        "permission may give it"
    )
    status = _status(ctx.object, target, decision.origin) | _NO_INVITATION | {"widerRole": None}
    told = condition(ConditionType.ACCESS_ENDED, "False", Reason.STILL_SHOWN, text)
    again = _SHOWN_AGAIN_AFTER if is_new_end(ctx.object, ctx.now) else None
    return Ready(status, (told,), message=text, requeue_after=again)


def _status(obj: Collaborator, target: Target, origin: Origin | None) -> dict[str, Any]:
    """Status fields by wire name."""
    return {"origin": origin, "host": target.host.host, "baselineGeneration": obj.status.baseline_generation}


def _time_left(ctx: ReconcileContext[Collaborator]) -> timedelta | None:
    """The time until ``expiresAt``, when the object must be looked at again: no event tells that it has come."""
    end = ctx.object.spec.expires_at
    return end - ctx.now if end is not None else None
