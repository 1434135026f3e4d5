"""GitHub Apps: what an App asks with its JWT."""

from __future__ import annotations

from typing import Any

from devstack.githubsim import views_account as views
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, not_found
from devstack.githubsim.records import App, Installation, Organization, User


def get_app(call: Call) -> Answer:
    return Answer(body=_app(call, call.app))


def get_installation(call: Call) -> Answer:
    return Answer(body=_installation(call, _own(call)))


def get_of_organization(call: Call) -> Answer:
    return _of_account(call, call.params["org"], Organization)


def get_of_user(call: Call) -> Answer:
    return _of_account(call, call.params["username"], User)


def create_token(call: Call) -> Answer:
    installation = _own(call)
    if installation.suspended_at is not None:
        raise ApiError(403, "This installation has been suspended")
    token = call.world.new_installation_token(installation)
    assert token.expires_at is not None
    body = {
        "token": token.value,
        "expires_at": views.timestamp(token.expires_at),
        "permissions": token.permissions,
        "repository_selection": "all",
    }
    return Answer(201, body)


def _of_account(call: Call, login: str, kind: type[User] | type[Organization]) -> Answer:
    account = call.world.account(login)
    installation = call.world.installed(call.app.id, account) if isinstance(account, kind) else None
    if installation is None:
        raise not_found()
    return Answer(body=_installation(call, installation))


def _own(call: Call) -> Installation:
    installation = call.world.installations.get(int(call.params["installation_id"]))
    if installation is None or installation.app_id != call.app.id:
        raise not_found()
    return installation


def _app(call: Call, app: App) -> dict[str, Any]:
    return {
        "id": app.id,
        "slug": app.slug,
        "node_id": f"A_{app.id}",
        "owner": views.account_stub(call.urls, call.world.user(app.user_id)),
        "name": app.slug,
        "description": None,
        "external_url": call.urls.web,
        "html_url": f"{call.urls.web}/apps/{app.slug}",
        "created_at": views.timestamp(app.created_at),
        "updated_at": views.timestamp(app.created_at),
        "permissions": {},
        "events": [],
    }


def _installation(call: Call, installation: Installation) -> dict[str, Any]:
    account, app = call.world.accounts[installation.account_id], call.world.apps[installation.app_id]
    base = f"{call.urls.api}/app/installations/{installation.id}"
    suspended = installation.suspended_at
    return {
        "id": installation.id,
        "account": views.account_stub(call.urls, account),
        "access_tokens_url": f"{base}/access_tokens",
        "repositories_url": f"{call.urls.api}/installation/repositories",
        "html_url": f"{call.urls.web}/settings/installations/{installation.id}",
        "app_id": app.id,
        "app_slug": app.slug,
        "target_id": account.id,
        "target_type": "Organization" if isinstance(account, Organization) else "User",
        "permissions": installation.permissions,
        "events": [],
        "single_file_name": None,
        "repository_selection": "all",
        "created_at": views.timestamp(installation.created_at),
        "updated_at": views.timestamp(installation.created_at),
        "suspended_by": None if suspended is None else views.account_stub(call.urls, account),
        "suspended_at": None if suspended is None else views.timestamp(suspended),
    }


OPERATIONS = (
    Operation(
        method="GET",
        path="/app",
        handler=get_app,
        docs="apps/apps#get-the-authenticated-app",
        for_apps=True,
    ),
    Operation(
        method="GET",
        path=r"/app/installations/{installation_id:\d+}",
        handler=get_installation,
        docs="apps/apps#get-an-installation-for-the-authenticated-app",
        for_apps=True,
    ),
    Operation(
        method="POST",
        path=r"/app/installations/{installation_id:\d+}/access_tokens",
        handler=create_token,
        docs="apps/apps#create-an-installation-access-token-for-an-app",
        for_apps=True,
    ),
    Operation(
        method="GET",
        path="/orgs/{org}/installation",
        handler=get_of_organization,
        docs="apps/apps#get-an-organization-installation-for-the-authenticated-app",
        for_apps=True,
    ),
    Operation(
        method="GET",
        path="/users/{username}/installation",
        handler=get_of_user,
        docs="apps/apps#get-a-user-installation-for-the-authenticated-app",
        for_apps=True,
    ),
)
