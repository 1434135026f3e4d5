"""One user's access on the host: seeing it, and taking it away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from access_svc.collaborator.identity import find_grant, find_invitation, is_taken
from access_svc.target import Target, repository_missing
from codecommon.api.access import Collaborator
from codecommon.githost.protocol import Grant, Invitation


@dataclass(frozen=True, slots=True)
class Seen:
    """The user's grant, else the invitation; ``at``: the host's time of the look.

    ``taken``: neither is there, and somebody else shows under the login that the object names.
    """

    grant: Grant | None
    invitation: Invitation | None
    at: datetime
    taken: bool = False

    @property
    def user_id(self) -> str | None:
        shown = self.grant or self.invitation
        return shown.user_id if shown is not None else None

    def login(self, obj: Collaborator) -> str:
        """What the user is called now, as far as the host shows."""
        shown = self.grant or self.invitation
        return shown.username if shown is not None else obj.spec.username


async def observe(target: Target, obj: Collaborator) -> Seen | None:
    """What the host shows of the user; None: it does not show the repository."""
    grants = await target.host.list_collaborators(target.repo_id)
    if grants is None:
        return None
    grant = find_grant(obj, grants)
    if grant is not None:
        return Seen(grant, None, grants.at)
    invitations = await target.host.list_invitations(target.repo_id)
    if invitations is None:
        return None
    invitation = find_invitation(obj, invitations)
    if invitation is None and obj.status.invitation_id is not None:
        # Accepted between the two lists, it is in neither.
        grant = find_grant(obj, await target.host.list_collaborators(target.repo_id))
    taken = grant is None and invitation is None and (is_taken(obj, grants) or is_taken(obj, invitations))
    return Seen(grant, invitation, grants.at, taken)


async def require_seen(target: Target, obj: Collaborator) -> Seen:
    """As ``observe``; raises ``NotReady`` when the host does not show the repository."""
    seen = await observe(target, obj)
    if seen is None:
        raise repository_missing(target.repository)
    return seen


async def withdraw(target: Target, obj: Collaborator, seen: Seen) -> None:
    """Take the access away, which is a grant by now if the user has just accepted the invitation."""
    if seen.invitation is not None:
        await target.host.cancel_invitation(target.repo_id, seen.invitation.id)
    if not seen.taken:
        # Also where nothing shows: a grant may be too new for the list.
        await target.host.remove_collaborator(target.repo_id, seen.login(obj))
