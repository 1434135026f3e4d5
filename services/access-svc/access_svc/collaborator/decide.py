"""What to do about one user's access. Pure: what the host shows in, a decision out.

A login is no identity: users rename themselves, and somebody else may take the old login. Once status has the user's id, only
the id counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from codecommon.api import go_provider
from codecommon.api.access import Collaborator
from codecommon.api.meta import Condition
from codecommon.api.origin import UNRECORDED, Origin, is_recorded
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.controller.conditions import condition
from codecommon.controller.create_claim import CLAIM_WINDOW, is_under_claim
from codecommon.githost.protocol import Grant, Invitation, Listed, OwnerKind

CONDITIONS: Final = frozenset(
    {
        ConditionType.INVITATION_PENDING,
        ConditionType.SETTINGS_DIFFER,
        ConditionType.ACCESS_ENDED,
        ConditionType.WIDER_ACCESS,
    }
)
LONGEST_ROLE: Final = 100
"""What ``status.widerRole`` has room for. The host may show a longer name."""
MOST_INVITATIONS: Final = 3
"""An expired invitation is sent anew until this many were sent. By then the user does not want it, or never saw it."""

_INVITATION_LIFE: Final = timedelta(days=7)

_NOT_PENDING: Final = condition(ConditionType.INVITATION_PENDING, "False", Reason.NOT_ACCEPTED, "no invitation is open")
_DECLINED: Final = condition(
    ConditionType.INVITATION_PENDING, "False", Reason.DECLINED, "the invitation was declined or withdrawn"
)


# ---- what the host shows of the user


@dataclass(frozen=True, slots=True)
class Seen:
    """The user's grant, else their invitation. ``at``: the host's time when it was asked.

    ``taken``: neither is there, and somebody else has the login that the object names. ``unlisted``: the host's lists leave the
    grant out, and it was asked for the user alone.
    """

    grant: Grant | None
    invitation: Invitation | None
    at: datetime
    taken: bool = False
    unlisted: bool = False

    @property
    def user_id(self) -> str | None:
        shown = self.grant or self.invitation
        return shown.user_id if shown is not None else None

    def login(self, obj: Collaborator) -> str:
        """The user's login now, as far as the host shows it."""
        shown = self.grant or self.invitation
        return shown.username if shown is not None else obj.spec.username


_ShownT = TypeVar("_ShownT", Grant, Invitation)


def find_grant(obj: Collaborator, listed: Listed[Grant]) -> Grant | None:
    return _of_user(obj, listed)


def find_invitation(obj: Collaborator, listed: Listed[Invitation]) -> Invitation | None:
    """The user's invitation. Where the user's id is not known, the invitation in status counts before the login."""
    if obj.status.user_id is None and obj.status.invitation_id is not None:
        sent = next((seen for seen in listed.items if seen.id == obj.status.invitation_id), None)
        if sent is not None:
            return sent
    return _of_user(obj, listed)


def was_given(obj: Collaborator) -> bool:
    """Whether access was given or offered, and nobody has asked for it anew since. The lists may leave it out all the same."""
    return is_recorded(obj.status.origin) and not _asked_anew(obj)


def find_unlisted(obj: Collaborator, shown: Grant | None, roles: tuple[str, ...]) -> Grant | None:
    """The access of a user whom the host's lists leave out, such as an owner of the organisation.

    ``shown``: what the host says of the user alone. ``roles``: as of ``decide``. None: it is somebody else's, or narrower than in
    spec.
    """
    wanted, known = obj.spec.permission, obj.status.user_id
    if shown is None or (known is not None and shown.user_id != known):
        return None
    covers = shown.role in (wanted, roles[-1]) or (
        shown.role in roles and wanted in roles and roles.index(shown.role) > roles.index(wanted)
    )
    return shown if covers else None


def is_taken(obj: Collaborator, listed: Listed[Grant] | Listed[Invitation]) -> bool:
    """Whether the list shows somebody else under the login that the object names."""
    known, login = obj.status.user_id, obj.spec.username.lower()
    return known is not None and any(s.username.lower() == login and s.user_id != known for s in listed.items)


def _of_user(obj: Collaborator, listed: Listed[_ShownT]) -> _ShownT | None:
    known, login = obj.status.user_id, obj.spec.username.lower()
    for seen in listed.items:
        if (seen.user_id == known) if known is not None else (seen.username.lower() == login):
            return seen
    return None


def is_about(obj: Collaborator, user_id: str | None, login: str) -> bool:
    """Whether the object is about the user with this id, who has this login now."""
    if user_id is not None and obj.status.user_id is not None:
        return obj.status.user_id == user_id
    return obj.spec.username.lower() == login.lower()


# ---- who gave the access


def origin_of(obj: Collaborator, invitation: Invitation | None) -> Origin:
    """Who gave the access: what status records, else what the create claim says."""
    origin = obj.status.origin
    if origin is not None:
        created = obj.metadata.creation_timestamp
        return go_provider.resolve_origin(origin, object_created_at=created, made_at=None)
    if invitation is not None:
        return "Created" if is_under_claim(obj, invitation.created_at) else "Adopted"
    # A grant has no time. The create claim is withdrawn after a clear no, so what it stands for was sent.
    return "Created" if obj.claim is not None else "Adopted"


def not_ours(obj: Collaborator) -> Collaborator:
    """The object as it is to be decided on when a record says that another object gave the access."""
    adopted = obj.status.model_copy(update={"origin": "Adopted"}) if obj.status.bound else obj.status
    return obj.model_copy(update={"status": adopted, "claim": None})


def on_record(obj: Collaborator) -> dict[str, Any]:
    """What an interruption records of an object that the Go provider left, because it replaces the condition that origin and
    baseline were inferred from. Of any other object it must record nothing: a later write may know more."""
    if obj.status.origin != UNRECORDED:
        return {}
    return {"origin": origin_of(obj, None), "baselineGeneration": obj.status.baseline_generation}


# ---- decisions


@dataclass(frozen=True, slots=True)
class Ended:
    """The access has ended and nothing of it is left on the host. ``origin`` None: there never was any."""

    origin: Origin | None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The access has ended and is to be withdrawn."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class StillShown:
    """The access is to have ended, and the host's lists leave it out. Asked for the user alone, the host shows ``grant``."""

    grant: Grant
    origin: Origin


@dataclass(frozen=True, slots=True)
class InForce:
    """The user has access. ``differs``: with another role than in spec, which is left as found.

    ``wider``: with a wider role than in spec, which does not come from this object.
    """

    grant: Grant
    origin: Origin
    differs: bool = False
    wider: bool = False


@dataclass(frozen=True, slots=True)
class ChangeRole:
    """The user has access with another role than in spec."""

    grant: Grant
    origin: Origin


@dataclass(frozen=True, slots=True)
class Wait:
    """The invitation is open. ``change``: it offers another role than in spec, which is to be set."""

    invitation: Invitation
    origin: Origin
    change: bool = False


@dataclass(frozen=True, slots=True)
class Invite:
    """Grant or invite. ``sent``: how many invitations were sent before. ``instead_of``: one to be cancelled first."""

    sent: int
    instead_of: Invitation | None = None


Decision = Ended | Withdraw | StillShown | InForce | ChangeRole | Wait | Invite


def lost_sight(obj: Collaborator, seen: Seen) -> bool:
    """Whether the host does not show the invitation in status, nor what became of it."""
    return obj.status.invitation_id is not None and seen.grant is None and seen.invitation is None


def decide(
    obj: Collaborator,
    seen: Seen,
    now: datetime,
    *,
    roles: tuple[str, ...],
    repository_made_at: datetime | None = None,
) -> Decision:
    """What to do about the user's access.

    ``roles``: the host's standard roles, from the narrowest to the widest. ``repository_made_at``: when we created the
    repository, if we did. An older invitation was to one that is gone.

    Raises ``Terminal`` (``InvitationDeclined``), ``Retryable`` (``HostNotYetVisible``).
    """
    grant, invitation = seen.grant, seen.invitation
    if has_ended(obj, now):
        return _at_the_end(obj, seen)
    wanted = obj.spec.permission
    as_found = obj.status.baseline_generation == obj.metadata.generation
    if grant is not None:
        origin = origin_of(obj, None)
        if grant.role == wanted:
            return InForce(grant, origin)
        if as_found:
            return InForce(grant, origin, differs=True)
        if _is_wider(grant.role, wanted, roles) and (seen.unlisted or _stayed_wider(obj, grant)):
            return InForce(grant, origin, wider=True)
        return ChangeRole(grant, origin)
    if invitation is None:
        return _without_any(obj, now, repository_made_at)
    if invitation.expired:
        return Invite(_sent_with(obj, 1), instead_of=invitation)
    # The host names no custom role in an invitation, so only standard roles can be compared.
    change = invitation.role != wanted and wanted in roles and not as_found
    return Wait(invitation, origin_of(obj, invitation), change)


def decide_after_change(
    obj: Collaborator, shown: Grant, origin: Origin, now: datetime, *, roles: tuple[str, ...]
) -> InForce:
    """What holds once the role was set and the host shows the grant ``shown``. ``roles``: as of ``decide``.

    Raises for a narrower role: ``Retryable`` (``HostNotYetVisible``), or ``Terminal`` (``PermissionUnsupported``) once it has
    been narrower for too long to be a list that lags behind.
    """
    wanted = obj.spec.permission
    wider = _is_wider(shown.role, wanted, roles)
    if shown.role != wanted and not wider:
        if _lags_too_long(obj, now):
            raise Terminal(
                Reason.PERMISSION_UNSUPPORTED,
                f"the host takes {wanted} for {shown.username} and shows {shown.role}; choose a permission that it gives here",
            )
        raise Retryable(
            Reason.HOST_NOT_YET_VISIBLE, f"{shown.username} was given {wanted}; the host still shows {shown.role}"
        )
    return InForce(shown, origin, wider=wider)


def has_ended(obj: Collaborator, now: datetime) -> bool:
    return obj.spec.expires_at is not None and obj.spec.expires_at <= now


def due(obj: Collaborator, now: datetime) -> bool:
    """Whether the access is to end now: its time has come, and status does not say yet what came of that."""
    return has_ended(obj, now) and _told_of_the_end(obj) is None


def is_new_end(obj: Collaborator, now: datetime) -> bool:
    """Whether the host may still show access that was taken away a moment ago."""
    told = _told_of_the_end(obj)
    return told is None or now - datetime.fromisoformat(told.last_transition_time) < CLAIM_WINDOW


def _at_the_end(obj: Collaborator, seen: Seen) -> Ended | Withdraw | StillShown:
    """An object whose time had come before it gave anything takes nothing away that others gave."""
    origin = origin_of(obj, seen.invitation)
    if obj.status.origin is None and origin == "Adopted":
        return Ended(None)
    if seen.invitation is not None or (seen.grant is not None and not seen.unlisted):
        return Withdraw(origin)
    told = _told_of_the_end(obj)
    # After an edit the host is not asked for the user alone, so a list that leaves the grant out would hide it.
    if told is None and origin == "Created" and (seen.grant is not None or _asked_anew(obj)):
        return Withdraw(origin)
    # Once only: what the lists leave out may be no grant, and cannot be taken away then.
    if seen.grant is not None and (told is None or told.status != "True"):
        return StillShown(seen.grant, origin)
    return Ended(origin)


def _told_of_the_end(obj: Collaborator) -> Condition | None:
    told = obj.status.condition(ConditionType.ACCESS_ENDED)
    return told if told is not None and told.observed_generation == obj.metadata.generation else None


def _without_any(obj: Collaborator, now: datetime, repository_made_at: datetime | None) -> Invite:
    """Neither grant nor invitation: the user is invited, unless they have said no."""
    # Where nobody recorded the origin, an edit may be older than the invitation, and asks for nothing.
    asked = _asked_anew(obj) and obj.status.origin != UNRECORDED
    if obj.status.invitation_id is None or asked:
        return Invite(0)
    if _was_declined(obj):
        raise _declined(obj)
    invited_at = obj.status.invited_at
    if invited_at is not None and repository_made_at is not None and invited_at < repository_made_at:
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
        conditions=(_DECLINED,),
    )


def _was_declined(obj: Collaborator) -> bool:
    """Whether an earlier pass found that. A later one cannot tell: by its age the invitation may as well have expired."""
    told = obj.status.condition(ConditionType.INVITATION_PENDING)
    return told is not None and told.reason == Reason.DECLINED.value


def _sent_with(obj: Collaborator, least: int) -> int:
    return 0 if _asked_anew(obj) else max(obj.status.invitations or 0, least)


def _asked_anew(obj: Collaborator) -> bool:
    """Whether a person edited the object, or requested a reconcile, since it was last looked at."""
    requested = obj.reconcile_requested_at
    return obj.status.observed_generation != obj.metadata.generation or (
        requested is not None and requested != obj.status.last_handled_reconcile_at
    )


def _is_wider(role: str, wanted: str, roles: tuple[str, ...]) -> bool:
    """Whether ``role`` is wider than ``wanted``, or may be: the width of a custom role is not known."""
    if role in roles and wanted in roles:
        return roles.index(role) > roles.index(wanted)
    return role != wanted


def _stayed_wider(obj: Collaborator, grant: Grant) -> bool:
    """Whether the role in spec was set at this generation, and the host showed the grant's role all the same."""
    told = obj.status.condition(ConditionType.WIDER_ACCESS)
    return (
        told is not None
        and told.observed_generation == obj.metadata.generation
        and obj.status.wider_role == grant.role[:LONGEST_ROLE]
    )


def _lags_too_long(obj: Collaborator, now: datetime) -> bool:
    told = obj.status.condition(ConditionType.RECONCILING)
    if (
        told is None
        or told.reason != Reason.HOST_NOT_YET_VISIBLE.value
        or told.observed_generation != obj.metadata.generation
    ):
        return False
    return now - datetime.fromisoformat(told.last_transition_time) >= CLAIM_WINDOW


# ---- what must hold before the host is written to


def require_within_bounds(obj: Collaborator, decision: Invite) -> None:
    """Raises ``Terminal`` (``InvitationExpired``) when enough invitations have expired."""
    if decision.sent >= MOST_INVITATIONS:
        raise Terminal(
            Reason.INVITATION_EXPIRED,
            f"{obj.spec.username} let {decision.sent} invitations expire; ask them, then set the annotation "
            "code.kedge.faros.sh/reconcile-requested-at to a new value to invite again, or delete this object",
            conditions=(_NOT_PENDING,),
        )


def require_possible(
    obj: Collaborator, login: str, owner: str, kind: OwnerKind | None, roles_of_users: tuple[str, ...]
) -> None:
    """Raises ``Terminal`` (``PermissionUnsupported``) for what a host refuses on a user's own repositories.

    ``kind``: of the owner. ``roles_of_users``: the roles that a repository of a user has.
    """
    if kind != "User":
        return
    if login.lower() == owner.lower():
        raise Terminal(
            Reason.PERMISSION_UNSUPPORTED, f"{owner} owns the repository and has every permission; delete this object"
        )
    if obj.spec.permission not in roles_of_users:
        raise Terminal(
            Reason.PERMISSION_UNSUPPORTED,
            f"the repository belongs to the user {owner}, where a collaborator can have "
            f"{', '.join(roles_of_users[:-1])} or {roles_of_users[-1]}, not "
            f"{obj.spec.permission}; change spec.permission, or move the repository to an organisation",
        )


def require_same_user(obj: Collaborator, found: str | None) -> None:
    """Before the user whose id is known is invited again. ``found``: the id of the user who has the login now.

    Raises ``Terminal``: ``UserChanged`` for somebody else, ``UserNotFound`` for nobody.
    """
    login, known = obj.spec.username, obj.status.user_id
    conditions = (_NOT_PENDING,) if obj.status.invitation_id is not None else ()
    if found is None:
        raise Terminal(
            Reason.USER_NOT_FOUND,
            f"the host has no user {login} any more; if they have another username now, delete this object and create one "
            "with it",
            conditions=conditions,
        )
    if found != known:
        raise Terminal(
            Reason.USER_CHANGED,
            f"{login} is now another user on the host (id {found}) than the one that this object is for (id {known}), and is not "
            "invited; delete this object, which takes away the access that it gave, under whatever username that user has "
            "now, and create one with the username of whom you mean",
            conditions=conditions,
        )
