"""Collaborators: who has a role in a repository, and giving one."""

from __future__ import annotations

from devstack.githubsim import views_access as views
from devstack.githubsim.access import (
    RANK,
    base_role,
    requested_repository,
    require_push,
    require_settings,
    role_of,
    team_roles,
)
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, invalid, not_found
from devstack.githubsim.paging import page
from devstack.githubsim.records import Organization, Repository, User

_SPEC_ROLES = {"pull": "read", "triage": "triage", "push": "write", "maintain": "maintain", "admin": "admin"}
_ROLES_OF_USERS = ("read", "write", "admin")
_MOST_INVITATIONS = 50


def list_collaborators(call: Call) -> Answer:
    """`affiliation` is direct (who has a grant of one's own), outside (the same, of non-members) or all.

    Whichever it is, the role shown is the widest from all sources.
    """
    repository = requested_repository(call)
    require_push(call, repository, "repository collaborators")
    users, headers = page(call, _affiliated(call, repository, call.query.get("affiliation", "all")))
    return Answer(body=[views.collaborator(call, repository, *entry) for entry in users], headers=headers)


def check_collaborator(call: Call) -> Answer:
    """204 for who has a role from any source, else 404, also for who is only invited."""
    repository = requested_repository(call)
    require_push(call, repository, "repository collaborators")
    if _shown_role(call, repository, _requested_user(call)) is None:
        raise not_found()
    return Answer(204)


def get_permission(call: Call) -> Answer:
    """The widest role that the user has, wherever it is from; an App's bot has none, not even what the public has."""
    repository = requested_repository(call)
    require_push(call, repository, "collaborator permission")
    user = _requested_user(call)
    shown = _shown_role(call, repository, user)
    if shown is None:
        shown = "read" if repository.visibility == "public" and not user.is_bot else "none"
    role = shown if shown == "none" else base_role(call.world.owner(repository), shown)
    # The older word has no maintain and no triage.
    older = {"maintain": "write", "triage": "read"}.get(role, role)
    return Answer(
        body={
            "permission": older,
            "role_name": shown,
            "user": views.collaborator(call, repository, user, shown),
        }
    )


def put_collaborator(call: Call) -> Answer:
    """204 sets the role of who is a collaborator, or a member of the owning organisation; 201 invites the others.

    An invitation that is there already is answered as it is with the new role, also if it has expired.
    """
    repository = requested_repository(call)
    require_settings(call, repository, write=True)
    user, owner = _requested_user(call), call.world.owner(repository)
    if user.is_bot:
        raise not_found()
    if user.id == owner.id:
        raise invalid("user", "Repository owner cannot be a collaborator")
    role = _requested_role(call, repository)
    member = isinstance(owner, Organization) and user.id in owner.members
    if isinstance(owner, Organization) and member:
        _require_base_permission(owner, user, role)
    if user.id in repository.grants or member:
        repository.grants[user.id] = role
        return Answer(204)
    if isinstance(owner, Organization) and not owner.outside_collaborators_allowed:
        raise ApiError(403, "Outside collaborators cannot be invited to repositories of this organization.")
    invitation = call.world.invitation_for(repository, user)
    if invitation is not None:
        invitation.role = role
    else:
        _require_invitations_left(call, repository)
        invitation = call.world.invite(repository, user, call.user, role)
        invitation.visible_from = call.now + call.switches.visibility_delay
        repository.invited_at.append(call.now)
    return Answer(201, views.invitation(call, repository, invitation))


def delete_collaborator(call: Call) -> Answer:
    """204 also for a user without a grant, who may be the caller. An invitation stays."""
    repository, user = requested_repository(call), _requested_user(call)
    require_settings(call, repository, write=True, of=user)
    repository.grants.pop(user.id, None)
    return Answer(204)


def _affiliated(call: Call, repository: Repository, affiliation: str) -> list[tuple[User, str]]:
    """Users in the order of their ids, each with its role."""
    world, owner = call.world, call.world.owner(repository)
    users = [account for _, account in sorted(world.accounts.items()) if isinstance(account, User)]
    if affiliation in ("direct", "outside"):
        users = [user for user in users if user.id in repository.grants or user is owner]
    if affiliation == "outside" and isinstance(owner, Organization):
        users = [user for user in users if user.id not in owner.members]
    return [(user, role) for user in users if (role := _shown_role(call, repository, user)) is not None]


def _shown_role(call: Call, repository: Repository, user: User) -> str | None:
    """The name of the widest role, which may be a custom one; None for who is no collaborator."""
    widest = None if user.is_bot else role_of(call.world, user, repository)
    owner = call.world.owner(repository)
    if widest is None or not isinstance(owner, Organization):
        return widest
    own = [repository.grants[user.id]] if user.id in repository.grants else []
    custom = [role for role in own + team_roles(owner, user, repository) if role not in RANK]
    return next((role for role in custom if base_role(owner, role) == widest), widest)


def _requested_user(call: Call) -> User:
    account = call.world.account(call.params["username"])
    if not isinstance(account, User):
        raise not_found()
    return account


def _requested_role(call: Call, repository: Repository) -> str:
    """The role that `permission` names (push if it is left out). Raises ApiError 422."""
    owner, permission = call.world.owner(repository), call.json().get("permission", "push")
    role = _SPEC_ROLES.get(permission) if isinstance(permission, str) else None
    if isinstance(owner, Organization):
        if permission in owner.custom_roles:
            return permission
        if role is not None:
            return role
    elif role in _ROLES_OF_USERS:
        return role
    raise invalid("permission", f"permission {permission} is not available for this repository", code="invalid")


def _require_base_permission(org: Organization, member: User, role: str) -> None:
    """Members are given no less than they have anyway. The sentence is that of GitHub's documentation, the field a guess."""
    base = org.default_repository_permission
    if base != "none" and RANK[base_role(org, role)] < RANK[base]:
        raise invalid("permission", f"Cannot assign {member.login} permission of {role}")


def _require_invitations_left(call: Call, repository: Repository) -> None:
    day = call.switches.invitation_day
    repository.invited_at = [at for at in repository.invited_at if call.now - at < day]
    if len(repository.invited_at) >= _MOST_INVITATIONS:
        raise ApiError(
            403, f"You have exceeded the limit of {_MOST_INVITATIONS} invitations per repository in 24 hours."
        )


OPERATIONS = (
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/collaborators",
        handler=list_collaborators,
        docs="collaborators/collaborators#list-repository-collaborators",
        scopes="public_repo, repo",
    ),
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/collaborators/{username}",
        handler=check_collaborator,
        docs="collaborators/collaborators#check-if-a-user-is-a-repository-collaborator",
        scopes="public_repo, repo",
    ),
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/collaborators/{username}/permission",
        handler=get_permission,
        docs="collaborators/collaborators#get-repository-permissions-for-a-user",
        scopes="public_repo, repo",
    ),
    Operation(
        method="PUT",
        path="/repos/{owner}/{repo}/collaborators/{username}",
        handler=put_collaborator,
        docs="collaborators/collaborators#add-a-repository-collaborator",
        scopes="public_repo, repo",
        permissions="administration=write",
    ),
    Operation(
        method="DELETE",
        path="/repos/{owner}/{repo}/collaborators/{username}",
        handler=delete_collaborator,
        docs="collaborators/collaborators#remove-a-repository-collaborator",
        scopes="public_repo, repo",
        permissions="administration=write",
    ),
)
