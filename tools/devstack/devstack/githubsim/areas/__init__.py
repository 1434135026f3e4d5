"""The areas of the API, one module each with a route table. A new area is one more module and one more line here."""

from __future__ import annotations

from devstack.githubsim.areas import (
    accounts,
    actions,
    apps,
    branches,
    collaborators,
    contents,
    git_data,
    invitations,
    keys,
    meta,
    packages,
    repositories,
    repository_lists,
)
from devstack.githubsim.calls import Operation

OPERATIONS: tuple[Operation, ...] = (
    *meta.OPERATIONS,
    *accounts.OPERATIONS,
    *apps.OPERATIONS,
    *repository_lists.OPERATIONS,
    *repositories.OPERATIONS,
    *branches.OPERATIONS,
    *git_data.OPERATIONS,
    *contents.OPERATIONS,
    *actions.OPERATIONS,
    *keys.OPERATIONS,
    *collaborators.OPERATIONS,
    *invitations.OPERATIONS,
    *packages.OPERATIONS,
)
