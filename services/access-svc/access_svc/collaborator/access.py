"""One user's access on the host: seeing it, and taking it away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from access_svc.target import Target, repository_missing
from codecommon.api.access import Collaborator
from codecommon.githost.backend import Grant, Invitation, Listed

SeenT = TypeVar("SeenT", Grant, Invitation)


async def observe(
    target: Target, obj: Collaborator, *, missing_is_empty: bool = False
) -> tuple[Grant | None, Invitation | None, datetime]:
    """The user's grant, else the invitation, and the host's time of the look.

    Raises ``NotReady`` when the host does not show the repository, unless ``missing_is_empty``.
    """
    grants = await target.host.list_collaborators(target.repo_id)
    if grants is None:
        if missing_is_empty:
            return None, None, datetime.now(UTC)
        raise repository_missing(target.repository)
    grant = _of(obj, grants)
    if grant is not None:
        return grant, None, grants.at
    invitation = _of(obj, await target.host.list_invitations(target.repo_id))
    if invitation is None and obj.status.invitation_id is not None:
        # Accepted between the two lists, it is in neither.
        grant = _of(obj, await target.host.list_collaborators(target.repo_id))
    return grant, invitation, grants.at


async def withdraw(target: Target, obj: Collaborator, invitation: Invitation | None) -> None:
    """Take the access away, which is a grant by now if the user has just accepted ``invitation``."""
    if invitation is not None:
        await target.host.cancel_invitation(target.repo_id, invitation.id)
    await target.host.remove_collaborator(target.repo_id, obj.spec.username)


def _of(obj: Collaborator, listed: Listed[SeenT] | None) -> SeenT | None:
    user = obj.spec.username.lower()
    return next((seen for seen in listed.items if seen.username.lower() == user), None) if listed is not None else None
