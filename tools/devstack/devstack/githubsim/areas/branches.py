"""Branches, read only."""

from __future__ import annotations

from devstack.githubsim import views
from devstack.githubsim.access import requested_repository, require_contents
from devstack.githubsim.calls import Answer, ApiError, Call, Operation
from devstack.githubsim.paging import page


def list_branches(call: Call) -> Answer:
    repository = requested_repository(call)
    require_contents(call, repository)
    names, headers = page(call, sorted(repository.branches))
    return Answer(body=[views.branch_item(call, repository, name) for name in names], headers=headers)


def get_branch(call: Call) -> Answer:
    repository = requested_repository(call)
    require_contents(call, repository)
    name = call.params["branch"]
    if name not in repository.branches:
        raise ApiError(404, "Branch not found")
    return Answer(body=views.branch(call, repository, name))


OPERATIONS = (
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/branches",
        handler=list_branches,
        docs="branches/branches#list-branches",
        permissions="contents=read",
        anonymous=True,
    ),
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/branches/{branch:.+}",
        handler=get_branch,
        docs="branches/branches#get-a-branch",
        permissions="contents=read",
        anonymous=True,
    ),
)
