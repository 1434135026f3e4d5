"""Repositories: create, read, change, transfer, delete."""

from __future__ import annotations

from typing import Any

from devstack.githubsim import bodies, views
from devstack.githubsim.access import (
    requested_repository,
    require_admin,
    require_create,
    require_writable,
    visible_account,
    visible_organization,
)
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, invalid
from devstack.githubsim.records import DEFAULT_BRANCH, Account, Organization, Repository, Visibility
from devstack.githubsim.world import NameTaken

_CREATION_FAILED = "Repository creation failed."


def get_repository(call: Call) -> Answer:
    return Answer(body=views.full_repository(call, requested_repository(call)))


def create_for_user(call: Call) -> Answer:
    """In the caller's own account. `visibility` is not a parameter of this operation; only `private` counts."""
    body = bodies.repository_body(call, required="name")
    visibility: Visibility = "private" if body.get("private") else "public"
    return _create(call, call.user, body, visibility)


def create_for_organization(call: Call) -> Answer:
    org = visible_organization(call, call.params["org"])
    body = bodies.repository_body(call, required="name")
    return _create(call, org, body, bodies.requested_visibility(body, org) or "public")


def _create(call: Call, owner: Account, body: dict[str, Any], visibility: Visibility) -> Answer:
    """`default_branch` is ignored; without `auto_init` the repository has no branch."""
    require_create(call, owner, visibility)
    name = bodies.requested_name(body["name"], summary=_CREATION_FAILED)
    description = bodies.requested_description(body.get("description"))
    try:
        repository = call.world.new_repository(owner, name, visibility)
    except NameTaken:
        raise bodies.name_taken(summary=_CREATION_FAILED) from None
    repository.visible_from = call.now + call.switches.visibility_delay
    repository.description = description
    repository.homepage = body.get("homepage")
    repository.toggles |= bodies.requested_toggles(body)
    if isinstance(owner, Organization) and not call.user.is_bot:
        repository.grants[call.user.id] = "admin"
    if body.get("auto_init"):
        call.world.push(repository, DEFAULT_BRANCH)
    created = views.full_repository(call, repository)
    return Answer(201, created, {"Location": created["url"]})


def update_repository(call: Call) -> Answer:
    """Every field is checked before the first one is changed."""
    repository = requested_repository(call)
    require_admin(call, repository)
    body = bodies.repository_body(call)
    if body.get("archived") is not False:
        require_writable(repository)
    name = bodies.requested_name(body["name"]) if "name" in body else repository.name
    description = bodies.requested_description(body.get("description"))
    visibility = bodies.requested_visibility(body, call.world.owner(repository))
    if visibility is not None and visibility == repository.visibility and "visibility" in body:
        raise ApiError(422, f"Visibility is already {visibility}.", errors=[])
    if "default_branch" in body:
        _require_branch(repository, body["default_branch"])
    if name != repository.name:
        _rename(call, repository, name)
    if "description" in body:
        repository.description = description
    if "homepage" in body:
        repository.homepage = body["homepage"]
    repository.visibility = visibility or repository.visibility
    repository.default_branch = body.get("default_branch", repository.default_branch)
    repository.archived = body.get("archived", repository.archived)
    repository.toggles |= bodies.requested_toggles(body)
    repository.updated_at = call.now
    return Answer(body=views.full_repository(call, repository))


def _require_branch(repository: Repository, branch: str) -> None:
    if branch == repository.default_branch or branch in repository.branches:
        return
    message = (
        f"The branch {branch} was not found. Please push that ref first or create it via the Git Data API."
        if repository.branches
        else "Cannot update default branch for an empty repository. Please init the repository and push first."
    )
    raise invalid("default_branch", message, code="invalid")


def _rename(call: Call, repository: Repository, name: str) -> None:
    try:
        call.world.move(repository, name=name)
    except NameTaken:
        raise bodies.name_taken() from None


def delete_repository(call: Call) -> Answer:
    """An archived repository can be deleted."""
    repository = requested_repository(call)
    require_admin(call, repository, classic_scope="delete_repo")
    owner = call.world.owner(repository)
    if isinstance(owner, Organization) and not owner.may_delete_repositories(call.user):
        raise ApiError(403, "Organization members cannot delete repositories.")
    call.world.delete(repository)
    return Answer(204)


def transfer_repository(call: Call) -> Answer:
    """At once, without the acceptance that GitHub asks of a new owner that is a user."""
    repository = requested_repository(call)
    require_admin(call, repository)
    require_writable(repository)
    body = bodies.repository_body(call, required="new_owner")
    new_owner = visible_account(call, body["new_owner"])
    if isinstance(new_owner, Organization):
        require_create(call, new_owner, repository.visibility)
    name = bodies.requested_name(body["new_name"]) if "new_name" in body else repository.name
    try:
        call.world.move(repository, owner=new_owner, name=name)
    except NameTaken:
        raise bodies.name_taken() from None
    repository.updated_at = call.now
    return Answer(202, views.repository_item(call, repository))


OPERATIONS = (
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}",
        handler=get_repository,
        docs="repos/repos#get-a-repository",
        scopes="repo",
        anonymous=True,
    ),
    Operation(
        method="POST",
        path="/user/repos",
        handler=create_for_user,
        docs="repos/repos#create-a-repository-for-the-authenticated-user",
        scopes="public_repo, repo",
        permissions="administration=write",
        for_users=True,
    ),
    Operation(
        method="POST",
        path="/orgs/{org}/repos",
        handler=create_for_organization,
        docs="repos/repos#create-an-organization-repository",
        scopes="public_repo, repo",
        permissions="administration=write",
    ),
    Operation(
        method="PATCH",
        path="/repos/{owner}/{repo}",
        handler=update_repository,
        docs="repos/repos#update-a-repository",
        permissions="administration=write",
    ),
    Operation(
        method="DELETE",
        path="/repos/{owner}/{repo}",
        handler=delete_repository,
        docs="repos/repos#delete-a-repository",
        scopes="delete_repo",
        permissions="administration=write",
    ),
    Operation(
        method="POST",
        path="/repos/{owner}/{repo}/transfer",
        handler=transfer_repository,
        docs="repos/repos#transfer-a-repository",
        scopes="repo",
        permissions="administration=write",
    ),
)
