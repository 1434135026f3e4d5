"""The Git database: refs, trees, blobs and commits. Of a repository without a commit everything here is a conflict."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from devstack.githubsim import views_git
from devstack.githubsim.access import (
    requested_repository,
    require_contents,
    require_contents_write,
    require_unprotected,
    require_workflows,
    require_writable,
)
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, not_found
from devstack.githubsim.gitstore import GitRefused
from devstack.githubsim.records import Repository

_SHA = re.compile(r"[0-9a-f]{40}")
_MODES = frozenset({"100644", "100755", "040000", "160000", "120000"})


def _readable(call: Call) -> Repository:
    repository = requested_repository(call)
    require_contents(call, repository)
    _require_commits(repository)
    return repository


def _changeable(call: Call) -> Repository:
    repository = requested_repository(call)
    require_contents_write(call, repository)
    require_writable(repository)
    _require_commits(repository)
    return repository


def _require_commits(repository: Repository) -> None:
    if not repository.branches:
        raise ApiError(409, "Git Repository is empty.")


def get_ref(call: Call) -> Answer:
    repository = _readable(call)
    branch = call.params["ref"].removeprefix("heads/")
    if branch not in repository.branches or not call.params["ref"].startswith("heads/"):
        raise not_found()
    return Answer(body=views_git.ref(call, repository, branch, repository.branches[branch]))


def create_ref(call: Call) -> Answer:
    repository, body = _changeable(call), call.json()
    name, sha = str(body.get("ref", "")), str(body.get("sha", ""))
    branch = name.removeprefix("refs/heads/")
    if not name.startswith("refs/heads/"):
        raise ApiError(422, "Reference name must start with 'refs/' and have at least two slashes.")
    if branch in repository.branches:
        raise ApiError(422, "Reference already exists")
    _move(call, repository, branch, sha)
    return Answer(201, views_git.ref(call, repository, branch, sha))


def update_ref(call: Call) -> Answer:
    repository, body = _changeable(call), call.json()
    branch, sha = call.params["ref"].removeprefix("heads/"), str(body.get("sha", ""))
    if branch not in repository.branches:
        raise ApiError(422, "Reference does not exist")
    git, old = call.world.git, repository.branches[branch]
    if git.commit(repository.id, sha) is None:
        raise ApiError(422, "Object does not exist")
    if not body.get("force") and not git.is_ancestor(repository.id, old, sha):
        raise ApiError(422, "Update is not a fast forward")
    _move(call, repository, branch, sha)
    return Answer(body=views_git.ref(call, repository, branch, sha))


def _move(call: Call, repository: Repository, branch: str, sha: str) -> None:
    if call.world.git.commit(repository.id, sha) is None:
        raise ApiError(422, "Object does not exist")
    require_unprotected(repository, branch)
    try:
        call.world.set_head(repository, branch, sha)
    except GitRefused:
        raise ApiError(422, f"refs/heads/{branch} is not a valid ref name.") from None


def get_tree(call: Call) -> Answer:
    """Of a tree, of a commit's tree, or of a branch's. `recursive`: any value, as on GitHub."""
    repository = _readable(call)
    git, name = call.world.git, call.params["tree_sha"]
    commit = git.commit(repository.id, repository.branches.get(name, name)) if name else None
    sha = commit.tree if commit is not None else name
    entries = git.tree(repository.id, sha, recursive="recursive" in call.query) if _SHA.fullmatch(sha) else None
    if entries is None:
        raise not_found()
    most = call.switches.tree_entries
    return Answer(body=views_git.tree(call, repository, sha, entries[:most], truncated=len(entries) > most))


def create_tree(call: Call) -> Answer:
    repository, body = _changeable(call), call.json()
    git, base = call.world.git, body.get("base_tree")
    if base is not None and git.read(repository.id, str(base), "tree") is None:
        raise ApiError(404, "Not Found")
    entries = [_wanted(call, repository, entry) for entry in body.get("tree", ())]
    if any(path.startswith(".github/workflows/") for _, path, _ in entries):
        require_workflows(call)
    try:
        sha = git.build_tree(repository.id, base, entries)
    except GitRefused as refused:
        raise ApiError(422, str(refused) or "Invalid tree info") from None
    listed = git.tree(repository.id, sha, recursive=False) or []
    return Answer(201, views_git.tree(call, repository, sha, listed, truncated=False))


def _wanted(call: Call, repository: Repository, entry: dict[str, Any]) -> tuple[str, str, str | None]:
    """(mode, path, sha) of one entry; the SHA is None where the path is to be gone."""
    mode, path = entry.get("mode"), str(entry.get("path", ""))
    if mode not in _MODES:
        raise ApiError(422, "Must supply a valid tree.mode")
    if not path or any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/")):
        raise ApiError(422, "tree.path contains a malformed path component")
    if "content" in entry and "sha" in entry:
        raise ApiError(422, "Must supply either tree.sha or tree.content, not both")
    if "content" in entry:
        return mode, path, call.world.git.write(repository.id, "blob", str(entry["content"]).encode())
    sha = entry.get("sha")
    if sha is not None and mode != "160000" and not call.world.git.has(repository.id, sha):
        raise ApiError(422, f"tree.sha {sha} is not a valid {entry.get('type', 'blob')}")
    return mode, path, sha


def get_blob(call: Call) -> Answer:
    repository, sha = _readable(call), call.params["file_sha"]
    content = call.world.git.read(repository.id, sha, "blob")
    if content is None:
        raise not_found()
    if "raw" in call.accept:
        return Answer(raw=content)
    return Answer(
        body={
            "sha": sha,
            "node_id": f"B_{sha[:12]}",
            "size": len(content),
            "url": f"{views_git.api_url(call, repository)}/git/blobs/{sha}",
            "content": base64.encodebytes(content).decode(),
            "encoding": "base64",
        }
    )


def create_blob(call: Call) -> Answer:
    repository, body = _changeable(call), call.json()
    try:
        content = (
            base64.b64decode(body["content"]) if body.get("encoding") == "base64" else str(body["content"]).encode()
        )
    except (KeyError, binascii.Error, ValueError):
        raise ApiError(422, "content is not valid Base64") from None
    sha = call.world.git.write(repository.id, "blob", content)
    url = f"{views_git.api_url(call, repository)}/git/blobs/{sha}"
    return Answer(201, {"sha": sha, "url": url}, {"Location": url})


def create_commit(call: Call) -> Answer:
    repository, body = _changeable(call), call.json()
    git, tree = call.world.git, str(body.get("tree", ""))
    if git.read(repository.id, tree, "tree") is None:
        raise ApiError(422, "Tree SHA does not exist")
    parents = [str(parent) for parent in body.get("parents", ())]
    if any(git.commit(repository.id, parent) is None for parent in parents):
        raise ApiError(422, "Parent SHA does not exist or is not a commit object")
    sha = git.write_commit(repository.id, tree, parents, str(body.get("message", "")), call.person)
    commit = git.commit(repository.id, sha)
    assert commit is not None
    return Answer(201, views_git.git_commit(call, repository, commit))


def get_commit(call: Call) -> Answer:
    repository = _readable(call)
    commit = call.world.git.commit(repository.id, call.params["commit_sha"])
    if commit is None:
        raise not_found()
    return Answer(body=views_git.git_commit(call, repository, commit))


_GIT = "/repos/{owner}/{repo}/git"
_READ, _WRITE = "contents=read", "contents=write"
OPERATIONS = (
    Operation(
        method="GET", path=_GIT + "/ref/{ref:.+}", handler=get_ref, docs="git/refs#get-a-reference", permissions=_READ
    ),
    Operation(
        method="POST", path=_GIT + "/refs", handler=create_ref, docs="git/refs#create-a-reference", permissions=_WRITE
    ),
    Operation(
        method="PATCH",
        path=_GIT + "/refs/{ref:.+}",
        handler=update_ref,
        docs="git/refs#update-a-reference",
        permissions=_WRITE,
    ),
    Operation(
        method="GET", path=_GIT + "/trees/{tree_sha}", handler=get_tree, docs="git/trees#get-a-tree", permissions=_READ
    ),
    Operation(
        method="POST", path=_GIT + "/trees", handler=create_tree, docs="git/trees#create-a-tree", permissions=_WRITE
    ),
    Operation(
        method="GET", path=_GIT + "/blobs/{file_sha}", handler=get_blob, docs="git/blobs#get-a-blob", permissions=_READ
    ),
    Operation(
        method="POST", path=_GIT + "/blobs", handler=create_blob, docs="git/blobs#create-a-blob", permissions=_WRITE
    ),
    Operation(
        method="POST",
        path=_GIT + "/commits",
        handler=create_commit,
        docs="git/commits#create-a-commit",
        permissions=_WRITE,
    ),
    Operation(
        method="GET",
        path=_GIT + "/commits/{commit_sha}",
        handler=get_commit,
        docs="git/commits#get-a-commit-object",
        permissions=_READ,
    ),
)
