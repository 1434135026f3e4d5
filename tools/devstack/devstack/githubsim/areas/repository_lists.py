"""Lists of repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from devstack.githubsim import views
from devstack.githubsim.access import lacks_sso, role_of, sees, visible_organization
from devstack.githubsim.calls import Answer, ApiError, Call, Operation
from devstack.githubsim.paging import page
from devstack.githubsim.records import Organization, Repository

_SORT_KEYS: dict[str, Callable[[Repository], Any]] = {
    "created": lambda repository: repository.created_at,
    "updated": lambda repository: repository.updated_at,
    "pushed": lambda repository: repository.pushed_at,
}

_USER_TYPES = {
    "all": {"owner", "collaborator", "organization_member"},
    "owner": {"owner"},
    "member": {"collaborator", "organization_member"},
}


def list_for_user(call: Call) -> Answer:
    """What the caller owns, or has a role in through an organisation or a grant."""
    kind, affiliation = call.query.get("type"), call.query.get("affiliation")
    if kind is not None and (affiliation is not None or "visibility" in call.query):
        raise ApiError(422, "If you specify visibility or affiliation, you cannot specify type.")
    wanted = set(affiliation.split(",")) if affiliation else _USER_TYPES.get(kind or "all", _USER_TYPES["all"])
    visibility = kind if kind in ("public", "private") else call.query.get("visibility", "all")
    found = [
        repository
        for repository in call.world.repositories.values()
        if _affiliation(call, repository) in wanted and visibility in ("all", _public_or_private(repository))
    ]
    listed = _list(call, found, default_sort="full_name")
    hidden = {owner.id for owner in map(call.world.owner, found) if lacks_sso(call.caller, owner)}
    if not hidden:
        return listed
    organizations = ",".join(map(str, sorted(hidden)))
    return replace(
        listed, headers={**listed.headers, "X-GitHub-SSO": f"partial-results; organizations={organizations}"}
    )


def list_for_organization(call: Call) -> Answer:
    """What the caller sees of an organisation."""
    org = visible_organization(call, call.params["org"])
    kind = call.query.get("type", "all")
    found = [
        repository
        for repository in call.world.owned_by(org)
        if kind in ("all", "sources", "member", _public_or_private(repository))
    ]
    return _list(call, found, default_sort="created")


def _affiliation(call: Call, repository: Repository) -> str | None:
    owner = call.world.owner(repository)
    if owner.id == call.user.id:
        return "owner"
    if role_of(call.world, call.user, repository) is None:
        return None
    if isinstance(owner, Organization) and call.user.id in owner.members:
        return "organization_member"
    return "collaborator"


def _public_or_private(repository: Repository) -> str:
    return "public" if repository.visibility == "public" else "private"


def _list(call: Call, found: Iterable[Repository], default_sort: str) -> Answer:
    sort = call.query.get("sort", default_sort)
    key = _SORT_KEYS.get(sort, lambda repository: _full_name(call, repository))
    newest_first = call.query.get("direction", "desc" if sort in _SORT_KEYS else "asc") == "desc"
    visible = [repository for repository in found if sees(call, repository) and call.now >= repository.visible_from]
    visible.sort(key=key, reverse=newest_first)
    items, headers = page(call, visible)
    return Answer(body=[views.repository_item(call, repository) for repository in items], headers=headers)


def _full_name(call: Call, repository: Repository) -> str:
    return f"{call.world.owner(repository).login}/{repository.name}".lower()


OPERATIONS = (
    Operation(
        method="GET",
        path="/user/repos",
        handler=list_for_user,
        docs="repos/repos#list-repositories-for-the-authenticated-user",
        for_users=True,
    ),
    Operation(
        method="GET",
        path="/orgs/{org}/repos",
        handler=list_for_organization,
        docs="repos/repos#list-organization-repositories",
        scopes="admin:org, read:org, repo, user, write:org",
        anonymous=True,
    ),
)
