"""Commits, single files and archives of a repository."""

from __future__ import annotations

import base64
import binascii
import re

from devstack.githubsim import views_git
from devstack.githubsim.access import (
    requested_repository,
    require_contents,
    require_contents_write,
    require_unprotected,
    require_workflows,
    require_writable,
)
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, found, not_found
from devstack.githubsim.gitstore import GitRefused
from devstack.githubsim.paging import page
from devstack.githubsim.records import Repository

_MOST_LISTED = 1000
_SHA = re.compile(r"[0-9a-f]{40}")


def list_commits(call: Call) -> Answer:
    """From the branch or commit `sha`, else from the default branch, the newest first."""
    repository = requested_repository(call)
    require_contents(call, repository)
    if not repository.branches:
        raise ApiError(409, "Git Repository is empty.")
    sha = _resolved(call, repository, call.query.get("sha") or repository.default_branch)
    history = call.world.git.history(repository.id, sha)
    commits, headers = page(call, [commit for commit, _ in zip(history, range(_MOST_LISTED), strict=False)])
    return Answer(body=[views_git.commit_item(call, repository, commit) for commit in commits], headers=headers)


def put_contents(call: Call) -> Answer:
    """Write one file in a commit of its own. An empty repository gets its first one, and the branch it is on."""
    repository, body = requested_repository(call), call.json()
    require_contents_write(call, repository)
    require_writable(repository)
    path, git = call.params["path"], call.world.git
    if path.startswith(".github/workflows/"):
        require_workflows(call)
    try:
        content = base64.b64decode(str(body["content"]))
    except (KeyError, binascii.Error, ValueError):
        raise ApiError(422, "content is not valid Base64") from None
    branch = str(body.get("branch") or repository.default_branch)
    if repository.branches and branch not in repository.branches:
        raise ApiError(404, f"Branch {branch} not found")
    require_unprotected(repository, branch)
    head = repository.branches.get(branch)
    parent = git.commit(repository.id, head) if head is not None else None
    base = parent.tree if parent is not None else None
    existing = (
        next((e for e in git.tree(repository.id, base, recursive=True) or [] if e.path == path), None) if base else None
    )
    if existing is not None and body.get("sha") != existing.sha:
        message = (
            f"{path} does not match {body['sha']}" if "sha" in body else 'Invalid request.\n\n"sha" wasn\'t supplied.'
        )
        raise ApiError(409 if "sha" in body else 422, message)
    blob = git.write(repository.id, "blob", content)
    try:
        tree = git.build_tree(repository.id, base, [(existing.mode if existing else "100644", path, blob)])
    except GitRefused as refused:
        raise ApiError(422, str(refused)) from None
    message = str(body.get("message", ""))
    sha = git.write_commit(repository.id, tree, [head] if head else [], message, call.person)
    call.world.set_head(repository, branch, sha)
    commit = git.commit(repository.id, sha)
    assert commit is not None
    url, html = views_git.api_url(call, repository), views_git.web_url(call, repository)
    links = {"self": f"{url}/contents/{path}", "git": f"{url}/git/blobs/{blob}", "html": f"{html}/blob/{branch}/{path}"}
    shown = {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": blob,
        "size": len(content),
        "url": links["self"],
        "html_url": links["html"],
        "git_url": links["git"],
        "download_url": f"{html}/raw/{branch}/{path}",
        "type": "file",
        "_links": links,
    }
    return Answer(
        200 if existing else 201, {"content": shown, "commit": views_git.git_commit(call, repository, commit)}
    )


def download_tarball(call: Call) -> Answer:
    """A redirect to the other host. An empty repository has none."""
    repository = requested_repository(call)
    require_contents(call, repository)
    if not repository.branches:
        raise not_found()
    sha = _resolved(call, repository, call.params.get("ref") or repository.default_branch)
    owner = call.world.owner(repository).login
    command = call.world.git.archive_command(repository.id, sha, f"{owner}-{repository.name}-{sha[:7]}")
    return found(call.downloads.offer(command, f"{sha}.tar.gz"))


def _resolved(call: Call, repository: Repository, name: str) -> str:
    """The commit of a branch, the commit itself, or that of a tag. Raises ApiError 404."""
    sha = repository.branches.get(name.removeprefix("refs/").removeprefix("heads/"), name)
    if _SHA.fullmatch(sha) and call.world.git.commit(repository.id, sha) is not None:
        return sha
    if (tagged := call.world.git.tag(repository.id, name)) is None:
        raise not_found()
    return tagged


OPERATIONS = (
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/commits",
        handler=list_commits,
        docs="commits/commits#list-commits",
        permissions="contents=read",
        anonymous=True,
    ),
    Operation(
        method="PUT",
        path="/repos/{owner}/{repo}/contents/{path:.+}",
        handler=put_contents,
        docs="repos/contents#create-or-update-file-contents",
        permissions="contents=write",
    ),
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/tarball/{ref:.+}",
        handler=download_tarball,
        docs="repos/contents#download-a-repository-archive-tar",
        permissions="contents=read",
        anonymous=True,
    ),
)
