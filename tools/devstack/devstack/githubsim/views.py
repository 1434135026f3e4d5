"""Repositories in GitHub's JSON."""

from __future__ import annotations

from typing import Any

from devstack.githubsim.access import RANK, role_of
from devstack.githubsim.calls import Call
from devstack.githubsim.records import Organization, Repository
from devstack.githubsim.views_account import account_stub, timestamp
from devstack.githubsim.views_git import api_url, commit_item

_REPOSITORY_URLS = (
    ("url", ""),
    ("forks_url", "/forks"),
    ("keys_url", "/keys{/key_id}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("teams_url", "/teams"),
    ("hooks_url", "/hooks"),
    ("issue_events_url", "/issues/events{/number}"),
    ("events_url", "/events"),
    ("assignees_url", "/assignees{/user}"),
    ("branches_url", "/branches{/branch}"),
    ("tags_url", "/tags"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("trees_url", "/git/trees{/sha}"),
    ("statuses_url", "/statuses/{sha}"),
    ("languages_url", "/languages"),
    ("stargazers_url", "/stargazers"),
    ("contributors_url", "/contributors"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("commits_url", "/commits{/sha}"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("comments_url", "/comments{/number}"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("contents_url", "/contents/{+path}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("merges_url", "/merges"),
    ("archive_url", "/{archive_format}{/ref}"),
    ("downloads_url", "/downloads"),
    ("issues_url", "/issues{/number}"),
    ("pulls_url", "/pulls{/number}"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("labels_url", "/labels{/name}"),
    ("releases_url", "/releases{/id}"),
    ("deployments_url", "/deployments"),
)

_MERGE_SETTINGS = (
    "allow_squash_merge",
    "allow_merge_commit",
    "allow_rebase_merge",
    "allow_auto_merge",
    "delete_branch_on_merge",
    "allow_update_branch",
)

# Of a repository that nobody stars, forks or writes into through this simulator.
_UNUSED_COUNTS = {
    "forks_count": 0,
    "forks": 0,
    "stargazers_count": 0,
    "watchers_count": 0,
    "watchers": 0,
    "open_issues_count": 0,
    "open_issues": 0,
}


def repository_stub(call: Call, repository: Repository) -> dict[str, Any]:
    """The short form of a repository that stands inside other objects."""
    owner = call.world.owner(repository)
    full_name = f"{owner.login}/{repository.name}"
    url, html_url = f"{call.urls.api}/repos/{full_name}", f"{call.urls.web}/{full_name}"
    return {
        "id": repository.id,
        "node_id": repository.node_id,
        "name": repository.name,
        "full_name": full_name,
        "private": repository.visibility != "public",
        "owner": account_stub(call.urls, owner),
        "html_url": html_url,
        "description": repository.description,
        "fork": False,
        **{name: url + suffix for name, suffix in _REPOSITORY_URLS},
    }


def repository_item(call: Call, repository: Repository) -> dict[str, Any]:
    """A repository as lists show it."""
    full_name = f"{call.world.owner(repository).login}/{repository.name}"
    html_url = f"{call.urls.web}/{full_name}"
    body = repository_stub(call, repository) | {
        "created_at": timestamp(repository.created_at),
        "updated_at": timestamp(repository.updated_at),
        "pushed_at": timestamp(repository.pushed_at),
        "git_url": f"git://{call.urls.host}/{full_name}.git",
        "ssh_url": f"git@{call.urls.host}:{full_name}.git",
        "clone_url": f"{html_url}.git",
        "svn_url": html_url,
        "homepage": repository.homepage,
        "size": 0,
        **_UNUSED_COUNTS,
        "language": None,
        "has_pages": False,
        "mirror_url": None,
        "archived": repository.archived,
        "disabled": False,
        "license": None,
        "topics": [],
        "visibility": repository.visibility,
        "default_branch": repository.default_branch,
        **{name: value for name, value in repository.toggles.items() if name not in _MERGE_SETTINGS},
    }
    if call.before_2026:
        body["has_downloads"] = True
    if call.caller.user is not None:
        body["permissions"] = _permissions(call, repository)
    return body


def full_repository(call: Call, repository: Repository) -> dict[str, Any]:
    """A repository on its own. Who cannot write contents is not told the merge settings: absent is not false."""
    body = repository_item(call, repository)
    body |= {"network_count": 0, "subscribers_count": 0}
    owner = call.world.owner(repository)
    if isinstance(owner, Organization):
        body["organization"] = account_stub(call.urls, owner)
    if call.caller.user is not None:
        body["temp_clone_token"] = ""
    if _writes_contents(call, repository):
        body |= {name: repository.toggles[name] for name in _MERGE_SETTINGS}
        if call.before_2026:
            body["use_squash_pr_title_as_default"] = False
    return body


def branch_item(call: Call, repository: Repository, name: str) -> dict[str, Any]:
    """A branch as lists show it."""
    sha = repository.branches[name]
    return {
        "name": name,
        "commit": {"sha": sha, "url": f"{api_url(call, repository)}/commits/{sha}"},
        "protected": False,
    }


def branch(call: Call, repository: Repository, name: str) -> dict[str, Any]:
    """A branch on its own, with its head commit."""
    url = api_url(call, repository)
    html_url = f"{call.urls.web}/{call.world.owner(repository).login}/{repository.name}"
    head = call.world.git.commit(repository.id, repository.branches[name])
    assert head is not None
    return {
        "name": name,
        "commit": commit_item(call, repository, head),
        "_links": {"self": f"{url}/branches/{name}", "html": f"{html_url}/tree/{name}"},
        "protected": False,
        "protection": {
            "enabled": False,
            "required_status_checks": {"enforcement_level": "off", "contexts": [], "checks": []},
        },
        "protection_url": f"{url}/branches/{name}/protection",
    }


def _permissions(call: Call, repository: Repository) -> dict[str, bool]:
    role = role_of(call.world, call.caller.user, repository)
    return permissions_of_rank(RANK[role or "read"])


def permissions_of_rank(rank: int) -> dict[str, bool]:
    return {
        "admin": rank >= RANK["admin"],
        "maintain": rank >= RANK["maintain"],
        "push": rank >= RANK["write"],
        "triage": rank >= RANK["triage"],
        "pull": rank >= RANK["read"],
    }


def _writes_contents(call: Call, repository: Repository) -> bool:
    role, token = role_of(call.world, call.caller.user, repository), call.caller.token
    if token is None or role is None or RANK[role] < RANK["write"]:
        return False
    return not token.by_permissions or token.permissions.get("contents") == "write"
