"""Invitations to a repository."""

from __future__ import annotations

from devstack.githubsim import views_access as views
from devstack.githubsim.access import requested_repository, require_settings
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, not_found
from devstack.githubsim.paging import page
from devstack.githubsim.records import Invitation, Repository

_PERMISSIONS = ("read", "write", "maintain", "triage", "admin")


def list_invitations(call: Call) -> Answer:
    """Open and expired ones."""
    repository = requested_repository(call)
    require_settings(call, repository, write=False)
    shown = [item for item in call.world.invitations_of(repository) if call.now >= item.visible_from]
    items, headers = page(call, shown)
    return Answer(body=[views.invitation(call, repository, item) for item in items], headers=headers)


def update_invitation(call: Call) -> Answer:
    repository = requested_repository(call)
    require_settings(call, repository, write=True)
    invitation, permission = _requested(call, repository), call.json().get("permissions")
    if permission is not None:
        if permission not in _PERMISSIONS:
            members = ", ".join(f'"{known}"' for known in _PERMISSIONS)
            raise ApiError(
                422, f"Invalid request.\n\nFor 'properties/permissions', {permission} is not a member of [{members}]."
            )
        invitation.role = permission
    return Answer(body=views.invitation(call, repository, invitation))


def delete_invitation(call: Call) -> Answer:
    repository = requested_repository(call)
    require_settings(call, repository, write=True)
    del call.world.invitations[_requested(call, repository).id]
    return Answer(204)


def _requested(call: Call, repository: Repository) -> Invitation:
    invitation = call.world.invitations.get(int(call.params["invitation_id"]))
    if invitation is None or invitation.repository_id != repository.id:
        raise not_found()
    return invitation


OPERATIONS = (
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/invitations",
        handler=list_invitations,
        docs="collaborators/invitations#list-repository-invitations",
        scopes="public_repo, repo",
        permissions="administration=read",
    ),
    Operation(
        method="PATCH",
        path=r"/repos/{owner}/{repo}/invitations/{invitation_id:\d+}",
        handler=update_invitation,
        docs="collaborators/invitations#update-a-repository-invitation",
        scopes="public_repo, repo",
        permissions="administration=write",
    ),
    Operation(
        method="DELETE",
        path=r"/repos/{owner}/{repo}/invitations/{invitation_id:\d+}",
        handler=delete_invitation,
        docs="collaborators/invitations#delete-a-repository-invitation",
        scopes="public_repo, repo",
        permissions="administration=write",
    ),
)
