"""The API about itself: its root, the host's properties, the caller's rate limit."""

from __future__ import annotations

from typing import Any

from devstack.githubsim.calls import Answer, ApiError, Call, Operation
from devstack.githubsim.limits import RateFigures

ENTERPRISE_VERSION = "3.19.0"
"""What `/meta` and `X-GitHub-Enterprise-Version` say under `/api/v3`."""

_ROOT_URLS = {
    "current_user_url": "/user",
    "code_search_url": "/search/code?q={query}{&page,per_page,sort,order}",
    "commit_search_url": "/search/commits?q={query}{&page,per_page,sort,order}",
    "emails_url": "/user/emails",
    "emojis_url": "/emojis",
    "events_url": "/events",
    "feeds_url": "/feeds",
    "followers_url": "/user/followers",
    "following_url": "/user/following{/target}",
    "gists_url": "/gists{/gist_id}",
    "issue_search_url": "/search/issues?q={query}{&page,per_page,sort,order}",
    "issues_url": "/issues",
    "keys_url": "/user/keys",
    "label_search_url": "/search/labels?q={query}&repository_id={repository_id}{&page,per_page}",
    "notifications_url": "/notifications",
    "organization_url": "/orgs/{org}",
    "organization_repositories_url": "/orgs/{org}/repos{?type,page,per_page,sort}",
    "organization_teams_url": "/orgs/{org}/teams",
    "public_gists_url": "/gists/public",
    "rate_limit_url": "/rate_limit",
    "repository_url": "/repos/{owner}/{repo}",
    "repository_search_url": "/search/repositories?q={query}{&page,per_page,sort,order}",
    "current_user_repositories_url": "/user/repos{?type,page,per_page,sort}",
    "starred_url": "/user/starred{/owner}{/repo}",
    "starred_gists_url": "/gists/starred",
    "topic_search_url": "/search/topics?q={query}{&page,per_page}",
    "user_url": "/users/{user}",
    "user_organizations_url": "/user/orgs",
    "user_repositories_url": "/users/{user}/repos{?type,page,per_page,sort}",
    "user_search_url": "/search/users?q={query}{&page,per_page,sort,order}",
}

# Resources that this simulator has no operations in: their limits on the public host, never used.
_IDLE_RESOURCES = {"search": 30, "graphql": 5000, "integration_manifest": 5000, "code_search": 10}


def get_root(call: Call) -> Answer:
    body = {name: call.urls.api + path for name, path in _ROOT_URLS.items()}
    body["current_user_authorizations_html_url"] = f"{call.urls.web}/settings/connections/applications{{/client_id}}"
    if call.before_2026:
        body |= {"authorizations_url": f"{call.urls.api}/authorizations", "hub_url": f"{call.urls.api}/hub"}
    return Answer(body=body)


def get_meta(call: Call) -> Answer:
    body: dict[str, Any] = {"verifiable_password_authentication": False}
    if call.urls.api != call.urls.web:
        body["installed_version"] = ENTERPRISE_VERSION
    return Answer(body=body)


def get_rate_limit(call: Call) -> Answer:
    """404 where rate limiting is not enabled, as on an Enterprise Server by default."""
    if call.rate is None:
        raise ApiError(404, "Rate limiting is not enabled.")
    core = call.rate.as_json("core")
    idle = {name: RateFigures(limit, 0, call.rate.reset).as_json(name) for name, limit in _IDLE_RESOURCES.items()}
    body: dict[str, Any] = {"resources": {"core": core} | idle}
    if call.before_2026:
        body["rate"] = core
    return Answer(body=body)


OPERATIONS = (
    Operation(method="GET", path="/", handler=get_root, docs="meta/meta#github-api-root", anonymous=True),
    Operation(
        method="GET", path="/meta", handler=get_meta, docs="meta/meta#get-apiname-meta-information", anonymous=True
    ),
    Operation(
        method="GET",
        path="/rate_limit",
        handler=get_rate_limit,
        docs="rate-limit/rate-limit#get-rate-limit-status-for-the-authenticated-user",
        anonymous=True,
        counted=False,
    ),
)
