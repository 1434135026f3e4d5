"""One user's access on the host: to see it, and to take it away."""

from __future__ import annotations

from access_svc.collaborator.decide import Seen, find_grant, find_invitation, find_unlisted, is_taken, was_given
from access_svc.target import repository_missing
from codecommon.api.access import Collaborator
from codecommon.controller.target import Target


async def observe(target: Target, obj: Collaborator) -> Seen | None:
    """What the host shows of the user. None: it does not show the repository."""
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
        # One that was accepted between the two requests is in neither list.
        grants = await target.host.list_collaborators(target.repo_id)
        if grants is None:
            return None
        grant = find_grant(obj, grants)
    if grant is None and invitation is None and was_given(obj) and not obj.deleting:
        shown = await target.host.get_grant(target.repo_id, obj.spec.username)
        unlisted = find_unlisted(obj, shown, target.host.roles("Organization"))
        if unlisted is not None:
            return Seen(unlisted, None, grants.at, unlisted=True)
    taken = grant is None and invitation is None and (is_taken(obj, grants) or is_taken(obj, invitations))
    return Seen(grant, invitation, grants.at, taken)


async def require_seen(target: Target, obj: Collaborator) -> Seen:
    """As ``observe``. Raises ``NotReady`` (``RepositoryNotReady``) when the host does not show the repository."""
    seen = await observe(target, obj)
    if seen is None:
        raise repository_missing(target.repository)
    return seen


async def withdraw(target: Target, obj: Collaborator, seen: Seen) -> None:
    """Take the access away. It is a grant by now if the user has just accepted the invitation."""
    if seen.invitation is not None:
        await target.host.cancel_invitation(target.repo_id, seen.invitation.id)
    if not seen.taken:
        # Also where the host shows nothing: a grant may be too new for the list.
        await target.host.remove_collaborator(target.repo_id, seen.login(obj))
