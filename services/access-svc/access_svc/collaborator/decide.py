"""What to do about one user's access. Pure: observations in, a decision out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from access_svc.collaborator.decisions import ChangeRole, Decision, Invite, Keep, Nothing, Wait, Withdraw
from access_svc.collaborator.origin import baseline_after, origin_of, taken_over
from codecommon.api.access import Collaborator
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Origin
from codecommon.api.results import Retryable, Terminal
from codecommon.controller.conditions import condition
from codecommon.controller.create_claim import CLAIM_WINDOW
from codecommon.githost.protocol import Grant, Invitation, OwnerKind

CONDITIONS: Final = frozenset(
    {
        ConditionType.INVITATION_PENDING,
        ConditionType.SETTINGS_DIFFER,
        ConditionType.ACCESS_ENDED,
        ConditionType.WIDER_ACCESS,
    }
)
STANDARD_ROLES: Final = ("pull", "triage", "push", "maintain", "admin")
"""From the narrowest to the widest."""
MOST_INVITATIONS: Final = 3
"""An invitation that expires is sent anew until this many were sent: then the user does not want it, or never saw it."""

_OF_USERS: Final = frozenset({"pull", "push", "admin"})
_INVITATION_LIFE: Final = timedelta(days=7)


def decide(
    obj: Collaborator,
    grant: Grant | None,
    invitation: Invitation | None,
    now: datetime,
    *,
    made_at: datetime | None = None,
) -> Decision:
    """``made_at``: when the repository was made, if we made it: an invitation from before was to one that is no more."""
    if ended(obj, now):
        return _at_the_end(obj, grant, invitation)
    wanted = obj.spec.permission
    as_found = baseline_after(obj) == obj.metadata.generation
    if grant is not None:
        origin = origin_of(obj, None)
        if grant.role == wanted:
            return Keep(grant, origin)
        if as_found:
            return Keep(grant, origin, differs=True)
        if _is_wider(grant.role, wanted) and _was_wider(obj, grant):
            return Keep(grant, origin, wider=True)
        return ChangeRole(grant, origin)
    if invitation is None:
        return _without_any(obj, now, made_at)
    if invitation.expired:
        return Invite(_sent_with(obj, 1), instead_of=invitation)
    # The host names no custom role in an invitation, so only standard ones can be compared.
    change = invitation.role != wanted and wanted in STANDARD_ROLES and not as_found
    return Wait(invitation, origin_of(obj, invitation), change)


def once_set(obj: Collaborator, shown: Grant, origin: Origin, now: datetime) -> Keep:
    """What to say of the grant that shows once its role was set.

    Raises ``Retryable`` (``HostNotYetVisible``) for a narrower one, ``Terminal`` (``PermissionUnsupported``) once it has been
    narrower for too long to be a list that lags behind.
    """
    wanted = obj.spec.permission
    wider = _is_wider(shown.role, wanted)
    if shown.role != wanted and not wider:
        if _lags_too_long(obj, now):
            raise Terminal(
                Reason.PERMISSION_UNSUPPORTED,
                f"the host takes {wanted} for {shown.username} and shows {shown.role}; choose a permission that it gives here",
            )
        raise Retryable(
            Reason.HOST_NOT_YET_VISIBLE, f"{shown.username} was given {wanted}; the host still shows {shown.role}"
        )
    return Keep(shown, origin, wider=wider)


def _at_the_end(obj: Collaborator, grant: Grant | None, invitation: Invitation | None) -> Nothing | Withdraw:
    """Whoever is too late from the start has given nothing, and takes nothing away that others gave."""
    origin = origin_of(obj, invitation)
    if obj.status.origin is None and origin == "Adopted":
        return Nothing(None)
    return Nothing(origin) if grant is None and invitation is None else Withdraw(origin)


def require_within_bounds(obj: Collaborator, decision: Invite) -> None:
    """Raises ``Terminal`` (``InvitationExpired``) when enough invitations have expired."""
    if decision.sent >= MOST_INVITATIONS:
        raise Terminal(
            Reason.INVITATION_EXPIRED,
            f"{obj.spec.username} let {decision.sent} invitations expire; ask them, then set the annotation "
            "code.kedge.faros.sh/reconcile-requested-at to a new value to invite again, or delete this object",
            conditions=(NOT_PENDING,),
        )


def require_possible(obj: Collaborator, login: str, owner: str, kind: OwnerKind | None) -> None:
    """Raises ``Terminal`` (``PermissionUnsupported``) for what GitHub refuses on a user's own repositories."""
    if kind != "User":
        return
    if login.lower() == owner.lower():
        raise Terminal(
            Reason.PERMISSION_UNSUPPORTED, f"{owner} owns the repository and has every permission; delete this object"
        )
    if obj.spec.permission not in _OF_USERS:
        raise Terminal(
            Reason.PERMISSION_UNSUPPORTED,
            f"the repository belongs to the user {owner}, where a collaborator can have pull, push or admin, not "
            f"{obj.spec.permission}; change spec.permission, or move the repository to an organisation",
        )


def ended(obj: Collaborator, now: datetime) -> bool:
    return obj.spec.expires_at is not None and obj.spec.expires_at <= now


def due(obj: Collaborator, now: datetime) -> bool:
    """Whether the access is to end now: it is over, and status does not say yet that it was ended."""
    told = obj.status.condition(ConditionType.ACCESS_ENDED)
    return ended(obj, now) and (told is None or told.observed_generation != obj.metadata.generation)


def status_of(obj: Collaborator, origin: Origin | None, host: str) -> dict[str, Any]:
    return {"origin": origin, "host": host, "baselineGeneration": baseline_after(obj)}


NO_INVITATION: Final[dict[str, Any]] = {"invitationID": None, "invitations": None, "invitedAt": None}
"""Status fields once the access is in force, or has ended."""


def pending(invitation: Invitation) -> str:
    return f"{invitation.username} has not yet accepted the invitation of {invitation.created_at:%Y-%m-%d}"


NOT_PENDING: Final = condition(ConditionType.INVITATION_PENDING, "False", Reason.NOT_ACCEPTED, "no invitation is open")
DECLINED: Final = condition(
    ConditionType.INVITATION_PENDING, "False", Reason.DECLINED, "the invitation was declined or withdrawn"
)
PENDING: Final = condition(
    ConditionType.INVITATION_PENDING, "True", Reason.AWAITING_ACCEPTANCE, "the user has to accept the invitation"
)


def _without_any(obj: Collaborator, now: datetime, made_at: datetime | None) -> Invite:
    """Neither grant nor invitation: to be invited, unless the user has said no."""
    if obj.status.invitation_id is None or (_asked_anew(obj) and not taken_over(obj)):
        return Invite(0)
    if _was_declined(obj):
        raise _declined(obj)
    invited_at = obj.status.invited_at
    if invited_at is not None and made_at is not None and invited_at < made_at:
        return Invite(0)
    if invited_at is not None and now - invited_at < CLAIM_WINDOW:
        raise Retryable(Reason.HOST_NOT_YET_VISIBLE, "the host does not show the new invitation yet")
    if invited_at is not None and now - invited_at >= _INVITATION_LIFE:
        return Invite(_sent_with(obj, 1))
    raise _declined(obj)


def _declined(obj: Collaborator) -> Terminal:
    return Terminal(
        Reason.INVITATION_DECLINED,
        f"{obj.spec.username} declined the invitation, or somebody withdrew it on the host; to invite again, set the annotation "
        "code.kedge.faros.sh/reconcile-requested-at to a new value",
        conditions=(DECLINED,),
    )


def _was_declined(obj: Collaborator) -> bool:
    """As an earlier pass found. A later look cannot tell: by its age the invitation may as well have expired."""
    told = obj.status.condition(ConditionType.INVITATION_PENDING)
    return told is not None and told.reason == DECLINED.reason


def _sent_with(obj: Collaborator, least: int) -> int:
    return 0 if _asked_anew(obj) else max(obj.status.invitations or 0, least)


def _asked_anew(obj: Collaborator) -> bool:
    """Whether a person edited the object, or asked for a reconcile, since it was last looked at."""
    requested = obj.reconcile_requested_at
    return obj.status.observed_generation != obj.metadata.generation or (
        requested is not None and requested != obj.status.last_handled_reconcile_at
    )


def _is_wider(role: str, wanted: str) -> bool:
    """Whether ``role`` is wider than ``wanted``, or may be: how wide a custom role is, is not known."""
    if role in STANDARD_ROLES and wanted in STANDARD_ROLES:
        return STANDARD_ROLES.index(role) > STANDARD_ROLES.index(wanted)
    return role != wanted


def _lags_too_long(obj: Collaborator, now: datetime) -> bool:
    told = obj.status.condition(ConditionType.RECONCILING)
    if (
        told is None
        or told.reason != Reason.HOST_NOT_YET_VISIBLE.value
        or told.observed_generation != obj.metadata.generation
    ):
        return False
    return now - datetime.fromisoformat(told.last_transition_time) >= CLAIM_WINDOW


def _was_wider(obj: Collaborator, grant: Grant) -> bool:
    """Whether the role was set at this generation and the host showed another one all the same."""
    told = obj.status.condition(ConditionType.WIDER_ACCESS)
    return (
        told is not None and told.observed_generation == obj.metadata.generation and f" {grant.role} " in told.message
    )
