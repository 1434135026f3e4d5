"""One commit, through GitHub's Git Data API.

It is six requests where its files are few and are text: read the branch, its latest commits and the tree; write a tree, a commit
and the branch.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import orjson
from pydantic import BaseModel

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.contents import (
    SEARCHED_COMMITS,
    CommitRequest,
    Committed,
    FileChange,
    has_trailer,
    with_trailer,
)
from codecommon.githost.github.answer import Answer
from codecommon.githost.github.changes import (
    WORKFLOWS,
    Change,
    Entry,
    chunks,
    decide_changes,
    folders_of,
    relevant_paths,
    tree_entry,
)
from codecommon.githost.github.classify import OF_CONTENTS, Attempt, classify
from codecommon.githost.github.client import AnswerCut, Client
from codecommon.githost.github.git_data import (
    LONGEST_FOLDER,
    LONGEST_HISTORY,
    THREAD_FROM,
    CommitAnswer,
    RefAnswer,
    Sha,
    Target,
    default_branch,
    few_at_once,
    parsed,
    read_folder,
    says_empty,
    whole_tree,
)
from codecommon.githost.protocol import HostUnavailable
from codecommon.githost.refs import is_branch_name

_FEWER_COMMITS: Final = (SEARCHED_COMMITS, 10, 1)
_FIRST_MESSAGE: Final = "Begin the repository"
_MOVED: Final = re.compile(r"fast.?forward|already exists|does not exist", re.I)
_UNCLEAR: Final = frozenset({404, 409})
_NOT_MOVED: Final = frozenset({409, 422})
_NOT_BEGUN: Final = frozenset({404, 409, 422})


class _MadeCommit(BaseModel):
    sha: Sha
    html_url: str = ""
    tree: Target


class _MadeObject(BaseModel):
    """A blob, a tree or a commit; only the last one has a page."""

    sha: Sha
    html_url: str = ""


class _FileAnswer(BaseModel):
    commit: _MadeCommit


@dataclass(frozen=True, slots=True)
class Head:
    """What a commit is put on top of. ``sha`` empty: nothing. ``is_new``: the branch itself is not there yet.

    ``history``: the commit itself and those before it, the newest first.
    """

    sha: str
    tree: str
    url: str
    is_new: bool
    history: Sequence[CommitAnswer] = ()


class Empty:
    """The repository has no commit."""


class CommitWriter:
    """One commit on its way to one branch. ``made``: as of ``ContentsHost.commit``."""

    def __init__(
        self,
        client: Client,
        repo_id: str,
        branch: str,
        request: CommitRequest,
        made: MutableMapping[str, str],
    ) -> None:
        self._client = client
        self._repo_id = repo_id
        self._branch = branch
        self._request = request
        self._made = made
        # Of this call's own uploads none is lost.
        self._may_have_lost = bool(made)
        touches_workflows = any(change.path.startswith(WORKFLOWS) for change in request.changes)
        self._attempt = Attempt(
            f"commit to {branch} of the repository with the id {repo_id}",
            write=True,
            scope="workflow" if touches_workflows else "",
            refusals=OF_CONTENTS,
        )
        self._reading = Attempt(f"read the branch {branch} of the repository with the id {repo_id}")
        self._message = with_trailer(request.message, request.uid)

    async def head(self) -> Head | Empty:
        """The branch's head; where there is no such branch, that of the default branch."""
        found = await self._tip(self._branch)
        if isinstance(found, Empty):
            return found
        if found is not None:
            return await self._head_at(found, is_new=False)
        default = await default_branch(self._client, self._repo_id)
        base = await self._tip(default) if default != self._branch and is_branch_name(default) else None
        if isinstance(base, Empty):
            return base
        return Head("", "", "", is_new=True) if base is None else await self._head_at(base, is_new=True)

    async def begin(self) -> Committed | None:
        """The first commit of an empty repository; None: look again.

        GitHub lets nothing but one file be put into an empty repository. Where there are more, that is a commit of its own,
        without the trailer.
        """
        files = [change for change in self._request.changes if change.content is not None]
        if not files:
            return Committed(self._branch, "", "", made=False)
        first = min(files, key=_suits_as_first)
        is_all = len(files) == 1
        answer = await self._client.exchange(
            self._attempt,
            "PUT",
            self._repo_id,
            f"/contents/{quote(first.path)}",
            body={
                "message": self._message if is_all else _FIRST_MESSAGE,
                "content": base64.b64encode(first.content or b"").decode(),
                "branch": self._branch,
            },
            also=_NOT_BEGUN,
        )
        if answer.status in _NOT_BEGUN:
            # Somebody else made the first commit, which may be on another branch (404); or a rule forbids it.
            if isinstance(await self._tip(self._branch), Empty):
                raise classify(answer, self._attempt, self._client.scrub)
            return None
        commit = answer.parse(_FileAnswer).commit
        if is_all:
            return Committed(self._branch, commit.sha, commit.html_url, made=True)
        return await self._put(Head(commit.sha, commit.tree.sha, commit.html_url, is_new=False))

    async def on(self, head: Head) -> Committed | None:
        """The commit on top of ``head``, unless it is there already; None: the branch has moved."""
        # What another branch has is not on this one.
        for commit in () if head.is_new else head.history:
            if has_trailer(commit.commit.message, self._request.uid):
                return Committed(self._branch, commit.sha, commit.html_url, made=False)
        return await self._put(head)

    async def _put(self, head: Head) -> Committed | None:
        tree = await self._tree(head.tree, await self._changes(head.tree))
        if tree == head.tree:
            # The branch itself may be all that is missing.
            there = not head.is_new or not head.sha or await self._move(head, head.sha)
            return Committed(self._branch, head.sha, head.url, made=False) if there else None
        body = {"message": self._message, "tree": tree, "parents": [head.sha] if head.sha else []}
        sha = await self._once("/git/commits", lambda: body)
        if not await self._move(head, sha):
            return None
        return Committed(self._branch, sha, self._made.get(_url_key(sha), ""), made=True)

    async def _move(self, head: Head, sha: str) -> bool:
        """Let the branch be at ``sha``. False: it is no longer where it was."""
        if head.is_new:
            method, tail, body = "POST", "/git/refs", {"ref": f"refs/heads/{self._branch}", "sha": sha}
        else:
            method, tail, body = "PATCH", f"/git/refs/heads/{quote(self._branch)}", {"sha": sha}
        answer = await self._client.exchange(self._attempt, method, self._repo_id, tail, body=body, also=_NOT_MOVED)
        if answer.status not in _NOT_MOVED:
            return True
        if _MOVED.search(answer.message or "") or await self._tip(self._branch) != (None if head.is_new else head.sha):
            return False
        raise classify(answer, self._attempt, self._client.scrub)

    async def _tip(self, branch: str) -> str | Empty | None:
        """The SHA of a branch; None: there is no such branch."""
        answer = await self._client.exchange(
            self._reading, "GET", self._repo_id, f"/git/ref/heads/{quote(branch)}", also=_UNCLEAR
        )
        if answer.status == 404:
            return None
        if answer.status == 409:
            if not says_empty(answer):
                raise classify(answer, self._reading, self._client.scrub)
            return Empty()
        return answer.parse(RefAnswer).object.sha

    async def _head_at(self, sha: str, *, is_new: bool) -> Head:
        history = await self._history(sha)
        commit = history[0]
        if commit.sha != sha:
            raise HostUnavailable(f"{self._client.host} shows another commit than was asked for")
        return Head(commit.sha, commit.commit.tree.sha, commit.html_url, is_new=is_new, history=history)

    async def _history(self, sha: str) -> list[CommitAnswer]:
        """The commit and those before it, the newest first."""
        for number in _FEWER_COMMITS:
            try:
                answer = await self._client.exchange(
                    self._reading,
                    "GET",
                    self._repo_id,
                    "/commits",
                    params={"sha": sha, "per_page": number},
                    most=LONGEST_HISTORY,
                )
            except AnswerCut:
                continue
            if commits := await parsed(answer, _commits_in):
                return commits
            raise HostUnavailable(f"{self._client.host} shows no commit where there is one")
        raise AnswerCut(self._client.host, self._reading.doing)

    async def _changes(self, tree: str) -> list[Change]:
        """What differs from ``tree``, of all that is to be changed."""
        wanted = relevant_paths(self._request.changes)
        whole = await whole_tree(self._client, self._repo_id, tree) if tree else []
        if whole is not None:
            return await asyncio.to_thread(_differences, self._request.changes, wanted, whole)
        there = await self._there(tree, wanted)
        # What is below them is not known, so no folder becomes a file.
        occupied = {path for path, entry in there.items() if entry.kind == "tree"}
        return await asyncio.to_thread(decide_changes, self._request.changes, there, occupied)

    async def _there(self, tree: str, wanted: set[str]) -> dict[str, Entry]:
        """The entries at ``wanted`` paths of a tree that is too long to be read whole: folder by folder."""
        there: dict[str, Entry] = {}
        folders = {folder for path in wanted for folder in folders_of(path)}
        for folder in sorted({"", *folders}):
            above = there.get(folder)
            if folder and (above is None or above.kind != "tree"):
                continue
            sha = tree if above is None else above.sha
            found = await read_folder(self._client, self._repo_id, sha, f"{folder}/" if folder else "")
            there |= {entry.path: entry for entry in found if entry.path in wanted}
        return there

    async def _tree(self, base: str, changes: Sequence[Change]) -> str:
        """A tree with the changes; the name of the last one made. Empty: there is none to begin with, and nothing to change."""

        async def upload(change: Change) -> None:
            await self._once("/git/blobs", partial(_blob_body, change), _length((change,)))

        uploads = [change for change in changes if change.content is not None and not change.is_inline]
        await few_at_once(upload, uploads)
        tree = base
        for part in chunks(changes):
            base_tree = {"base_tree": tree} if tree else {}
            tree = await self._once("/git/trees", partial(_tree_body, base_tree, part), _length(part))
        return tree

    async def _once(self, tail: str, body: Callable[[], dict[str, Any]], length: int = 0) -> str:
        """The SHA of a git object that is made out of ``body()``, unless an earlier try has made it.

        ``length``: the bytes of the contents in it. Many are encoded off the event loop.
        """
        work = partial(_encoded, f"{self._repo_id}{tail}", body)
        content, key = work() if length < THREAD_FROM else await asyncio.to_thread(work)
        if (known := self._made.get(key)) is not None:
            return known
        try:
            # The answer about a tree lists its whole root.
            answer = await self._client.exchange(
                self._attempt, "POST", self._repo_id, tail, body=content, most=LONGEST_FOLDER
            )
        except Terminal as refused:
            if not self._may_have_lost or refused.reason != Reason.VALIDATION_FAILED:
                raise
            # What an earlier call uploaded may be gone, because no branch had it. The next call finds nothing here, so a second
            # refusal is about the request itself.
            self._made.clear()
            raise Retryable(Reason.HOST_CONFLICT, refused.message) from None
        made = await parsed(answer, lambda read: read.parse(_MadeObject))
        self._made[key] = made.sha
        if made.html_url:
            self._made[_url_key(made.sha)] = made.html_url
        return made.sha


def _tree_body(base_tree: dict[str, Any], part: Sequence[Change]) -> dict[str, Any]:
    return {**base_tree, "tree": [tree_entry(change) for change in part]}


def _blob_body(change: Change) -> dict[str, Any]:
    return {"content": base64.b64encode(change.content or b"").decode(), "encoding": "base64"}


def _length(changes: Iterable[Change]) -> int:
    return sum(len(change.content or b"") for change in changes)


def _encoded(scope: str, body: Callable[[], dict[str, Any]]) -> tuple[bytes, str]:
    """The body as it is sent, and its key in ``made``."""
    content = orjson.dumps(body())
    digest = hashlib.sha256(scope.encode())
    digest.update(content)
    return content, digest.hexdigest()


def _differences(changes: Sequence[FileChange], wanted: set[str], whole: list[Entry]) -> list[Change]:
    there = {entry.path: entry for entry in whole if entry.path in wanted}
    gone = {change.path for change in changes if change.content is None}
    # A folder in whose place a file is to be may keep nothing.
    becoming = {change.path for change in changes if change.content is not None} & {
        path for path, entry in there.items() if entry.kind == "tree"
    }
    occupied = {
        folder
        for entry in whole
        if becoming and entry.kind != "tree" and entry.path not in gone
        for folder in folders_of(entry.path)
        if folder in becoming
    }
    return decide_changes(changes, there, occupied)


def _commits_in(answer: Answer) -> list[CommitAnswer]:
    return answer.parse_list(CommitAnswer, most=SEARCHED_COMMITS)


def _suits_as_first(change: FileChange) -> tuple[bool, bool, int, str]:
    """The order in which files come into question: what needs no right of its own, is not empty, and is short."""
    length = len(change.content or b"")
    return change.path.startswith(WORKFLOWS), length == 0, length, change.path


def _url_key(sha: str) -> str:
    return f"url of {sha}"
