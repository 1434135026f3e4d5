"""What is in a repository, in terms of git that fit every host: files at a ref, and commits on a branch.

Contents are bytes. A path is relative, has ``/`` between its parts and is as git stores it. Which paths and how many bytes a
caller may hand in is the caller's rule; a host's own rules are ``Terminal``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

TRAILER: Final = "Kedge-RepositoryCommit"
"""The key of the last line of each message. Its value is the uid of the object that asked for the commit."""

SEARCHED_COMMITS: Final = 50
"""How far back from the branch's head a commit is looked for by its trailer."""

SkipReason = Literal["binary", "symlink", "submodule", "too large", "too many files", "too many bytes", "unreadable"]
"""Why a path is not in a snapshot. ``too large``: the file itself. ``unreadable``: a path that no file here can have."""

_NEVER_IN_A_PATH: Final = re.compile(r"[\x00\\]")
_LONGEST_PATH: Final = 1024


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file as it is to be. ``content`` None: it is to be gone; a path that is not there counts as gone."""

    path: str
    content: bytes | None


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """One commit. ``branch`` empty: the default branch. ``uid``: of the object that asks, for the trailer.

    A branch that is not there begins at the head of the default branch.
    """

    branch: str
    message: str
    changes: tuple[FileChange, ...]
    uid: str


@dataclass(frozen=True, slots=True)
class Committed:
    """What the branch holds now. ``url``: a page for people.

    ``made``: this call made the commit. False: an earlier one did, or the branch had all of it, and ``sha`` is its head.
    """

    branch: str
    sha: str
    url: str
    made: bool


@dataclass(frozen=True, slots=True)
class SnapshotCaps:
    """The most that a snapshot holds: ``files``, ``file_bytes`` of one file, ``total_bytes`` of all."""

    files: int
    file_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A text: UTF-8 without NUL."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    path: str
    why: SkipReason


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The texts at a ref, in the order of their paths.

    ``ref``: what was asked for, or the default branch. ``commit_sha`` empty: the repository has no commit. ``skipped``: the first
    ones only; ``skipped_count`` counts all that are known.
    """

    ref: str
    commit_sha: str
    files: tuple[SnapshotFile, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0


def no_reservation(size: int) -> None:
    """Let a snapshot have any size within its caps."""


class ContentsHost(Protocol):
    async def commit(self, repo_id: str, request: CommitRequest, made: MutableMapping[str, str]) -> Committed:
        """Put all changes on the branch in one commit, on top of whatever its head is.

        It is idempotent: a commit with the trailer of ``request.uid`` among the last ``SEARCHED_COMMITS`` is the answer. What is
        there already is left as it is, and without a difference there is no commit. A file that is there keeps its mode; one
        that takes the place of a symbolic link becomes a file. An empty repository gets a first commit with one of the files
        before, where the host cannot make one with many.

        ``made`` is what earlier calls with the same request have uploaded. Keep it while you try again, so that a request that
        waits for the host's limits gets on; an empty one is always right.

        Raises ``Terminal``: ``BranchProtected``, ``RepositoryArchived``, ``MissingPermission``, ``NotFoundOrNoAccess``,
        ``ValidationFailed`` (such as a file below another file); ``Retryable``: ``HostConflict``, where others were faster time
        and again.
        """
        ...

    async def read_snapshot(
        self, repo_id: str, ref: str, caps: SnapshotCaps, reserve: Callable[[int], None] = no_reservation
    ) -> Snapshot:
        """The texts at ``ref``: a branch, a tag or a commit; empty: the default branch.

        ``reserve`` is told once how many bytes the texts have at most, before the first of them is read. What it raises ends the
        call.

        Raises ``Terminal``: ``RefNotFound``, ``NotFoundOrNoAccess``.
        """
        ...


def with_trailer(message: str, uid: str) -> str:
    """The message with the trailer as its last line."""
    return f"{message.strip()}\n\n{TRAILER}: {uid}"


def has_trailer(message: str, uid: str) -> bool:
    """Whether it is the message of the commit that the object ``uid`` asked for."""
    return f"{TRAILER}: {uid}" in message.splitlines()


def is_text(content: bytes) -> bool:
    """Whether it is UTF-8 without NUL."""
    if b"\x00" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def blob_sha(content: bytes) -> str:
    """The name that git gives to a file's content, in a repository with SHA-1."""
    return hashlib.sha1(b"blob %d\x00" % len(content) + content, usedforsecurity=False).hexdigest()


def is_path(path: str) -> bool:
    """Whether a file can have this path: relative, with nothing that leads elsewhere or into git's own files."""
    parts = path.split("/")
    return (
        len(path) <= _LONGEST_PATH
        and not _NEVER_IN_A_PATH.search(path)
        and not any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)
    )
