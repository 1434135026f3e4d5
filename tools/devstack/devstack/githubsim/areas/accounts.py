"""Users and organisations."""

from __future__ import annotations

from devstack.githubsim import views_account as views
from devstack.githubsim.access import visible_account, visible_organization
from devstack.githubsim.calls import Answer, Call, Operation

_PROFILE_SCOPES = {"user", "read:user"}


def get_authenticated_user(call: Call) -> Answer:
    """The token's user; with a scope for it, also what only the user sees of themselves."""
    token = call.caller.token
    if token is not None and _PROFILE_SCOPES & set(token.scopes):
        return Answer(body=views.private_user(call, call.user))
    return Answer(body=views.public_account(call, call.user))


def get_account(call: Call) -> Answer:
    """A user or an organisation; `type` tells which."""
    return Answer(body=views.public_account(call, visible_account(call, call.params["username"])))


def get_organization(call: Call) -> Answer:
    return Answer(body=views.organization(call, visible_organization(call, call.params["org"])))


OPERATIONS = (
    Operation(
        method="GET",
        path="/user",
        handler=get_authenticated_user,
        docs="users/users#get-the-authenticated-user",
        permissions="allows_permissionless_access=true",
        for_users=True,
    ),
    Operation(
        method="GET",
        path="/users/{username}",
        handler=get_account,
        docs="users/users#get-a-user",
        permissions="allows_permissionless_access=true",
        anonymous=True,
    ),
    Operation(
        method="GET",
        path="/orgs/{org}",
        handler=get_organization,
        docs="orgs/orgs#get-an-organization",
        scopes="admin:org, read:org, repo, user, write:org",
        permissions="allows_permissionless_access=true",
        anonymous=True,
    ),
)
