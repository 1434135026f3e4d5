"""Who sees what, and who may change it: the caller's rights joined with those of its token."""

from __future__ import annotations

from typing import cast

from devstack.githubsim.calls import ApiError, Call, Caller, Moved, not_found
from devstack.githubsim.records import Account, Organization, Repository, Role, Token, User, Visibility
from devstack.githubsim.world import World

RANK: dict[Role, int] = {"read": 1, "triage": 2, "write": 3, "maintain": 4, "admin": 5}

_NO_ADMIN = "Must have admin rights to Repository."
_OUT_OF_REACH = "Resource not accessible by personal access token"
_NOT_FOR_APPS = "Resource not accessible by integration"


def sees_account(caller: Caller, account: Account) -> bool:
    """Users are visible to all; an organisation not to a token it is hidden from, nor hidden ones to outsiders."""
    if isinstance(account, User):
        return True
    if caller.token is not None and account.id in caller.token.hidden_orgs:
        return False
    return not account.hidden or (caller.user is not None and caller.user.id in account.members)


def visible_account(call: Call, login: str) -> Account:
    """Raises ApiError 404 for an account that does not exist or is not visible."""
    account = call.world.account(login)
    if account is None or not sees_account(call.caller, account):
        raise not_found()
    return account


def lacks_sso(caller: Caller, account: Account) -> bool:
    """Whether the account is an organisation whose single sign-on this personal token was not authorised for."""
    token = caller.token
    if token is None or token.kind == "installation" or not isinstance(account, Organization):
        return False
    return account.saml and account.id not in token.sso_orgs


def require_sso(call: Call, account: Account) -> None:
    """Raises ApiError 403 with the address to authorise the token at."""
    if not lacks_sso(call.caller, account):
        return
    url = f"{call.urls.web}/orgs/{account.login}/sso?authorization_request=A{account.id}"
    raise ApiError(
        403,
        "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this "
        "organization.",
        headers={"X-GitHub-SSO": f"required; url={url}"},
    )


def visible_organization(call: Call, login: str) -> Organization:
    """Raises ApiError 404, also for a user's login."""
    account = visible_account(call, login)
    if not isinstance(account, Organization):
        raise not_found()
    require_sso(call, account)
    return account


def base_role(owner: Account, role: str) -> Role:
    """The standard role that a role has the rights of, in repositories of `owner`."""
    if role not in RANK and isinstance(owner, Organization):
        return owner.custom_roles[role]
    return cast(Role, role)


def role_of(world: World, user: User | None, repository: Repository) -> Role | None:
    """The user's role in the repository, whatever token it uses and wherever it is from. None: no more than the public has."""
    if user is None:
        return None
    owner = world.owner(repository)
    app = next((app for app in world.apps.values() if app.user_id == user.id), None)
    if app is not None:
        # What an installation may do is a matter of its permissions alone.
        return "admin" if world.installed(app.id, owner) else None
    roles: list[Role] = []
    if user.id in repository.grants:
        roles.append(base_role(owner, repository.grants[user.id]))
    if isinstance(owner, Organization):
        roles.extend(base_role(owner, role) for role in team_roles(owner, user, repository))
        membership = owner.members.get(user.id)
        if membership == "admin":
            return "admin"
        if membership == "member":
            if owner.default_repository_permission != "none":
                roles.append(owner.default_repository_permission)
            elif repository.visibility == "internal":
                roles.append("read")
    elif owner.id == user.id:
        return "admin"
    return max(roles, key=RANK.__getitem__, default=None)


def team_roles(owner: Organization, user: User, repository: Repository) -> list[str]:
    """What the user's teams give it in the repository."""
    teams = [team for team in owner.teams.values() if user.id in team.members]
    return [team.repositories[repository.id] for team in teams if repository.id in team.repositories]


def sees(call: Call, repository: Repository) -> bool:
    """Whether this caller with this token can read the repository at all."""
    owner = call.world.owner(repository)
    if not sees_account(call.caller, owner) or lacks_sso(call.caller, owner):
        return False
    if repository.visibility == "public":
        return True
    token = call.caller.token
    if token is None or role_of(call.world, call.caller.user, repository) is None:
        return False
    if token.by_permissions:
        return token.resource_owner_id == owner.id
    return "repo" in token.scopes


def requested_repository(call: Call) -> Repository:
    """The repository that the path names, by owner and name or by id.

    Raises Moved for a former name, and ApiError 404 for one that does not exist, is not visible to the
    caller, or (GET only) has not yet become visible after its creation.
    """
    if "repository_id" in call.params:
        repository = call.world.repositories.get(int(call.params["repository_id"]))
        if repository is not None:
            require_sso(call, call.world.owner(repository))
    else:
        owner = call.world.account(call.params["owner"])
        if owner is not None:
            require_sso(call, owner)
        repository = call.world.find(owner, call.params["repo"]) if owner else None
        if owner and repository is None:
            moved = call.world.find_moved(owner, call.params["repo"])
            if moved is not None and sees(call, moved):
                raise Moved(f"{call.urls.api}/repositories/{moved.id}{call.tail}")
    if repository is None or not sees(call, repository):
        raise not_found()
    if call.method == "GET" and call.now < repository.visible_from:
        raise not_found()
    return repository


def require_admin(call: Call, repository: Repository, *, classic_scope: str | None = None) -> None:
    """Let only administrators of the repository pass, with a token that may administer it.

    `classic_scope` is what a classic or OAuth token needs besides reading rights; without it the usual
    write scopes do. Raises ApiError 403 or 404.
    """
    _require_administration(call.caller.token, call.world.owner(repository))
    token = call.caller.token
    if token is not None and not token.by_permissions:
        if classic_scope is not None and classic_scope not in token.scopes:
            raise ApiError(403, _NO_ADMIN)
        if classic_scope is None and not _may_write(token, repository.visibility):
            raise not_found()
    if role_of(call.world, call.caller.user, repository) != "admin":
        raise ApiError(403, _NO_ADMIN)


def require_settings(call: Call, repository: Repository, *, write: bool, of: User | None = None) -> None:
    """Let only administrators see or change what is in the repository's settings, and `of` what is about that user. Others get
    404, as if there were no such page; a token that goes by permissions and lacks `administration` 403. Raises ApiError."""
    token = call.caller.token
    if token is not None and token.by_permissions:
        held = token.permissions.get("administration")
        if held != "write" and (write or held != "read"):
            raise out_of_reach(token)
    else:
        _require_write_scope(token, repository)
    oneself = of is not None and of.id == call.user.id
    if not oneself and role_of(call.world, call.caller.user, repository) != "admin":
        raise not_found()
    if write:
        require_writable(repository)


def require_push(call: Call, repository: Repository, viewed: str) -> None:
    """Let only who may push view what `viewed` names; a token that goes by permissions needs none, as all may read the metadata.

    Raises ApiError 403, or 404 for a classic or OAuth token without a write scope.
    """
    token = call.caller.token
    if token is None or not token.by_permissions:
        _require_write_scope(token, repository)
    role = role_of(call.world, call.caller.user, repository)
    if role is None or RANK[role] < RANK["write"]:
        raise ApiError(403, f"Must have push access to view {viewed}.")


def require_contents(call: Call, repository: Repository) -> None:
    """Of a repository that is not public, a fine-grained token reads the contents only with that permission."""
    token = call.caller.token
    if token is None or not token.by_permissions or repository.visibility == "public":
        return
    if "contents" not in token.permissions:
        raise out_of_reach(token)


def require_contents_write(call: Call, repository: Repository, *, permission: str = "contents") -> None:
    """Let only who may push pass, with a token that may write what `permission` names. Raises ApiError 403 or 404."""
    token = call.caller.token
    if token is not None and token.by_permissions:
        if token.permissions.get(permission) != "write":
            raise out_of_reach(token)
    else:
        _require_write_scope(token, repository)
    role = role_of(call.world, call.caller.user, repository)
    if role is None or RANK[role] < RANK["write"]:
        # Who may only read is told no more than who may not see it.
        raise not_found() if role is None else ApiError(403, "Must have push access to Repository.")


def require_workflows(call: Call) -> None:
    """Let only tokens pass that may change workflow files. A classic or OAuth one is told 404. Raises ApiError."""
    token = call.caller.token
    assert token is not None
    if token.by_permissions:
        if token.permissions.get("workflows") != "write":
            raise out_of_reach(token)
    elif "workflow" not in token.scopes:
        raise not_found()


def require_unprotected(repository: Repository, branch: str) -> None:
    """Raises ApiError 422 for a branch that a rule protects."""
    if branch in repository.protected:
        raise ApiError(422, "Repository rule violations found\n\nChanges must be made through a pull request.\n\n")


def require_writable(repository: Repository) -> None:
    """Raises ApiError 403 for an archived repository."""
    if repository.archived:
        raise ApiError(403, "Repository was archived so is read-only.")


def require_create(call: Call, owner: Account, visibility: Visibility) -> None:
    """Let pass who may create a repository of this visibility there. Raises ApiError 403 or 404."""
    token = call.caller.token
    _require_administration(token, owner)
    if token is not None and not token.by_permissions and not _may_write(token, visibility):
        raise not_found()
    if token is not None and token.kind == "installation":
        return
    if isinstance(owner, Organization):
        membership = owner.members.get(call.user.id)
        if membership != "admin" and not (membership and owner.members_can_create_repositories):
            raise ApiError(403, "You need admin access to the organization before adding a repository to it.")
    elif owner.id != call.user.id:
        raise not_found()


def _require_administration(token: Token | None, owner: Account) -> None:
    if token is not None and token.by_permissions:
        allowed = token.permissions.get("administration") == "write" and token.resource_owner_id == owner.id
        if not allowed:
            raise out_of_reach(token)


def out_of_reach(token: Token) -> ApiError:
    """What a token that goes by permissions is told without the one it needs."""
    return ApiError(403, _NOT_FOR_APPS if token.kind == "installation" else _OUT_OF_REACH)


def _require_write_scope(token: Token | None, repository: Repository) -> None:
    if token is not None and not _may_write(token, repository.visibility):
        raise not_found()


def _may_write(token: Token, visibility: Visibility) -> bool:
    return "repo" in token.scopes or (visibility == "public" and "public_repo" in token.scopes)
