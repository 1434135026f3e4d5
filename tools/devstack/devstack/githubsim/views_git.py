"""Git's objects in GitHub's JSON."""

from __future__ import annotations

from typing import Any

from devstack.githubsim.calls import Call
from devstack.githubsim.gitstore import Commit, TreeEntry
from devstack.githubsim.identifiers import node_id
from devstack.githubsim.records import Repository
from devstack.githubsim.views_account import timestamp

_UNSIGNED = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}


def api_url(call: Call, repository: Repository) -> str:
    return f"{call.urls.api}/repos/{call.world.owner(repository).login}/{repository.name}"


def web_url(call: Call, repository: Repository) -> str:
    return f"{call.urls.web}/{call.world.owner(repository).login}/{repository.name}"


def ref(call: Call, repository: Repository, branch: str, sha: str) -> dict[str, Any]:
    url = api_url(call, repository)
    return {
        "ref": f"refs/heads/{branch}",
        "node_id": f"REF_{sha[:12]}",
        "url": f"{url}/git/refs/heads/{branch}",
        "object": {"sha": sha, "type": "commit", "url": f"{url}/git/commits/{sha}"},
    }


def tree(call: Call, repository: Repository, sha: str, entries: list[TreeEntry], *, truncated: bool) -> dict[str, Any]:
    url = api_url(call, repository)
    return {
        "sha": sha,
        "url": f"{url}/git/trees/{sha}",
        "tree": [_entry(url, entry) for entry in entries],
        "truncated": truncated,
    }


def _entry(url: str, entry: TreeEntry) -> dict[str, Any]:
    shown: dict[str, Any] = {"path": entry.path, "mode": entry.mode, "type": entry.kind, "sha": entry.sha}
    if entry.size is not None:
        shown["size"] = entry.size
    if entry.kind != "commit":
        shown["url"] = f"{url}/git/{entry.kind}s/{entry.sha}"
    return shown


def git_commit(call: Call, repository: Repository, commit: Commit) -> dict[str, Any]:
    """A commit as the Git database shows it."""
    url, html = api_url(call, repository), web_url(call, repository)
    return {
        "sha": commit.sha,
        "node_id": _commit_node(repository, commit),
        "url": f"{url}/git/commits/{commit.sha}",
        "html_url": f"{html}/commit/{commit.sha}",
        "author": _person(commit.author),
        "committer": _person(commit.committer),
        "tree": {"sha": commit.tree, "url": f"{url}/git/trees/{commit.tree}"},
        "message": commit.message,
        "parents": [
            {"sha": parent, "url": f"{url}/git/commits/{parent}", "html_url": f"{html}/commit/{parent}"}
            for parent in commit.parents
        ],
        "verification": _UNSIGNED,
    }


def commit_item(call: Call, repository: Repository, commit: Commit) -> dict[str, Any]:
    """A commit as lists and branches show it."""
    url, html = api_url(call, repository), web_url(call, repository)
    return {
        "sha": commit.sha,
        "node_id": _commit_node(repository, commit),
        "commit": {
            "author": _person(commit.author),
            "committer": _person(commit.committer),
            "message": commit.message,
            "tree": {"sha": commit.tree, "url": f"{url}/git/trees/{commit.tree}"},
            "url": f"{url}/git/commits/{commit.sha}",
            "comment_count": 0,
            "verification": _UNSIGNED,
        },
        "url": f"{url}/commits/{commit.sha}",
        "html_url": f"{html}/commit/{commit.sha}",
        "comments_url": f"{url}/commits/{commit.sha}/comments",
        "author": None,
        "committer": None,
        "parents": [
            {"sha": parent, "url": f"{url}/commits/{parent}", "html_url": f"{html}/commit/{parent}"}
            for parent in commit.parents
        ],
    }


def _commit_node(repository: Repository, commit: Commit) -> str:
    return f"{node_id('C', repository.id)}{commit.sha[:12]}"


def _person(person: tuple[str, str, int]) -> dict[str, str]:
    name, email, seconds = person
    return {"name": name, "email": email, "date": timestamp(seconds)}
