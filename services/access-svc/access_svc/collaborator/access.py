"""One user's access on the host: seeing it, and taking it away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from access_svc.target import Target, repository_missing
from codecommon.api.access import Collaborator
from codecommon.githost.backend import Grant, Invitation, Listed

SeenT = TypeVar("SeenT", Grant, Invitation)


@dataclass(frozen=True, slots=True)
class Seen:
    """The user's grant, else the invitation; ``at``: the host's time of the look."""

    grant: Grant | None
    invitation: Invitation | None
    at: datetime


async def observe(target: Target, obj: Collaborator) -> Seen | None:
    """What the host shows of the user; None: it does not show the repository."""
    grants = await target.host.list_collaborators(target.repo_id)
    if grants is None:
        return None
    grant = _of(obj, grants)
    if grant is not None:
        return Seen(grant, None, grants.at)
    invitations = await target.host.list_invitations(target.repo_id)
    if invitations is None:
        return None
    invitation = _of(obj, invitations)
    if invitation is None and obj.status.invitation_id is not None:
        # Accepted between the two lists, it is in neither.
        grant = _of(obj, await target.host.list_collaborators(target.repo_id))
    return Seen(grant, invitation, grants.at)


async def require_seen(target: Target, obj: Collaborator) -> Seen:
    """As ``observe``; raises ``NotReady`` when the host does not show the repository."""
    seen = await observe(target, obj)
    if seen is None:
        raise repository_missing(target.repository)
    return seen


async def withdraw(target: Target, obj: Collaborator, invitation: Invitation | None) -> None:
    """Take the access away, which is a grant by now if the user has just accepted ``invitation``."""
    if invitation is not None:
        await target.host.cancel_invitation(target.repo_id, invitation.id)
    await target.host.remove_collaborator(target.repo_id, obj.spec.username)


def _of(obj: Collaborator, listed: Listed[SeenT] | None) -> SeenT | None:
    user = obj.spec.username.lower()
    return next((seen for seen in listed.items if seen.username.lower() == user), None) if listed is not None else None
