"""Users and organisations in GitHub's JSON, and what other views need too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from devstack.githubsim.calls import Call, Urls
from devstack.githubsim.records import Account, Organization, User

_ACCOUNT_URLS = (
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("organizations_url", "/orgs"),
    ("repos_url", "/repos"),
    ("events_url", "/events{/privacy}"),
    ("received_events_url", "/received_events"),
)

_ORGANIZATION_URLS = (
    ("repos_url", "/repos"),
    ("events_url", "/events"),
    ("hooks_url", "/hooks"),
    ("issues_url", "/issues"),
    ("members_url", "/members{/member}"),
    ("public_members_url", "/public_members{/member}"),
)


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def account_stub(urls: Urls, account: Account) -> dict[str, Any]:
    """The short form of a user or organisation that stands inside other objects."""
    # The brackets of a bot's login are not for URLs.
    login = quote(account.login)
    url = f"{urls.api}/users/{login}"
    return {
        "login": account.login,
        "id": account.id,
        "node_id": account.node_id,
        "avatar_url": f"{urls.web}/avatars/u/{account.id}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{urls.web}/{login}",
        **{name: url + suffix for name, suffix in _ACCOUNT_URLS},
        "type": _type(account),
        "user_view_type": "public",
        "site_admin": False,
    }


def _type(account: Account) -> str:
    if isinstance(account, Organization):
        return "Organization"
    return "Bot" if account.is_bot else "User"


def public_account(call: Call, account: Account) -> dict[str, Any]:
    """A user or organisation as `GET /users/{login}` tells it."""
    public = sum(repository.visibility == "public" for repository in call.world.owned_by(account))
    return account_stub(call.urls, account) | {
        "name": account.name,
        "company": None,
        "blog": "",
        "location": None,
        "email": None,
        "hireable": None,
        "bio": None,
        "twitter_username": None,
        "public_repos": public,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "created_at": timestamp(account.created_at),
        "updated_at": timestamp(account.created_at),
    }


def private_user(call: Call, user: User) -> dict[str, Any]:
    """A user as its own token with the `user` scope sees it."""
    private = sum(repository.visibility != "public" for repository in call.world.owned_by(user))
    return public_account(call, user) | {
        "user_view_type": "private",
        "private_gists": 0,
        "total_private_repos": private,
        "owned_private_repos": private,
        "disk_usage": 0,
        "collaborators": 0,
        "two_factor_authentication": True,
        "plan": {"name": "free", "space": 976562499, "collaborators": 0, "private_repos": 10000},
    }


def organization(call: Call, org: Organization) -> dict[str, Any]:
    """An organisation; its owners also see the settings."""
    url = f"{call.urls.api}/orgs/{org.login}"
    repositories = list(call.world.owned_by(org))
    public = sum(repository.visibility == "public" for repository in repositories)
    body = {
        "login": org.login,
        "id": org.id,
        "node_id": org.node_id,
        "url": url,
        **{name: url + suffix for name, suffix in _ORGANIZATION_URLS},
        "avatar_url": f"{call.urls.web}/avatars/u/{org.id}?v=4",
        "description": None,
        "is_verified": False,
        "has_organization_projects": True,
        "has_repository_projects": True,
        "public_repos": public,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "html_url": f"{call.urls.web}/{org.login}",
        "created_at": timestamp(org.created_at),
        "updated_at": timestamp(org.created_at),
        "archived_at": None,
        "type": "Organization",
    }
    if org.name is not None:
        body["name"] = org.name
    if call.caller.user is not None and org.members.get(call.caller.user.id) == "admin":
        body |= {
            "total_private_repos": len(repositories) - public,
            "owned_private_repos": len(repositories) - public,
            "default_repository_permission": org.default_repository_permission,
            "members_can_create_repositories": org.members_can_create_repositories,
            "members_can_create_public_repositories": org.members_can_create_repositories,
            "members_can_create_private_repositories": org.members_can_create_repositories,
            "members_can_create_internal_repositories": org.members_can_create_repositories and org.enterprise,
            "members_can_delete_repositories": org.members_can_delete_repositories,
            "two_factor_requirement_enabled": False,
        }
    return body
