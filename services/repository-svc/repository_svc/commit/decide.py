"""What a RepositoryCommit asks the host for, and what its status says. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from codecommon.api.bundle import Bundle, file_digest
from codecommon.api.repository import Repository
from codecommon.api.repository_commit import RepositoryCommit
from codecommon.api.times import rfc3339
from codecommon.githost.contents import TRAILER, CommitRequest, Committed, FileChange

BUNDLE_WITHIN: Final = timedelta(seconds=30)
"""A bundle is stored right after kcp has taken the object. What is not there after so long will not come."""

USUAL_WAIT: Final = timedelta(seconds=2)

KEPT_COMMITS: Final = 20
"""Of each Repository, those that were answered last. Others list them."""

_READ_WITHIN: Final = timedelta(minutes=10)
"""Who asked for a commit reads its answer, which it waits for."""

_SOON: Final = timedelta(seconds=0.1)
_LATER: Final = timedelta(seconds=2)
_LONGEST_URL: Final = 2048
"""Of what kcp takes. Longer ones would fail each write of an answer that is there."""

_DEFAULT_MESSAGE: Final = "Update files"


class Kept(NamedTuple):
    """An answered RepositoryCommit, as far as it matters for which ones stay. Times as Kubernetes writes them."""

    answered: str
    created: str
    name: str
    uid: str


def wait_for_bundle(age: timedelta) -> timedelta | None:
    """When to look for the bundle of an object of that age again. None: never."""
    return None if age >= BUNDLE_WITHIN else min(max(age / 2, _SOON), _LATER)


def host_request(commit: RepositoryCommit, repository: Repository, bundle: Bundle) -> CommitRequest:
    """The commit as the host is asked for it. Without a branch anywhere, it is the host's default branch."""
    return CommitRequest(
        branch=commit.spec.branch or repository.spec.default_branch or "",
        message=_message(commit.spec.message),
        changes=tuple(FileChange(file.path, None if file.delete else file.content) for file in bundle.files),
        uid=commit.metadata.uid,
    )


def status_of(bundle: Bundle, committed: Committed) -> dict[str, Any]:
    """Status fields by wire name."""
    return {
        "branch": committed.branch,
        "commitSHA": committed.sha,
        # The rest of the answer is worth having without it.
        "commitURL": committed.url if len(committed.url) <= _LONGEST_URL else "",
        "source": {"digest": bundle.digest, "fileCount": len(bundle.files), "size": bundle.size},
        "files": [
            {"path": file.path, "delete": True}
            if file.delete
            else {"path": file.path, "digest": file_digest(file), "size": size}
            for file, size in zip(bundle.files, bundle.sizes, strict=True)
        ],
    }


def surplus(commits: Iterable[Kept], now: datetime) -> list[Kept]:
    """Which answered commits of one Repository go: all but those that were answered last, and none that may not be read yet."""
    lately = rfc3339(now - _READ_WITHIN)
    return [kept for kept in sorted(commits, reverse=True)[KEPT_COMMITS:] if kept.answered < lately]


def age(created: datetime, now: datetime) -> timedelta:
    """The age of an object whose clock may be ahead of ours."""
    return max(now - created, timedelta())


def _message(message: str) -> str:
    """The message without lines that would say that this is the commit of another object."""
    lines = (f"> {line}" if line.lstrip().startswith(f"{TRAILER}:") else line for line in message.strip().splitlines())
    return "\n".join(lines) or _DEFAULT_MESSAGE
