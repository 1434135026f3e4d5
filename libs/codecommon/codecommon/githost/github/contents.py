"""Files and commits at GitHub, through its Git Data API.

A commit is six requests where its files are few and are text: read the branch, its latest commits and the tree; write a tree,
a commit and the branch.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from urllib.parse import quote
from weakref import WeakValueDictionary

import orjson
from pydantic import BaseModel, Field

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.archive import ArchiveReader, ArchiveRefused
from codecommon.githost.contents import (
    SEARCHED_COMMITS,
    CommitRequest,
    Committed,
    FileChange,
    Skipped,
    SkipReason,
    Snapshot,
    SnapshotCaps,
    SnapshotFile,
    blob_sha,
    has_trailer,
    is_path,
    is_text,
    no_reservation,
    with_trailer,
)
from codecommon.githost.github.answer import Answer, RepositoryAnswer
from codecommon.githost.github.changes import (
    WORKFLOWS,
    Change,
    Entry,
    check_paths,
    chunks,
    decide_changes,
    folders_of,
    parse_tree,
    relevant_paths,
    tree_entry,
)
from codecommon.githost.github.classify import OF_CONTENTS, Attempt, classify
from codecommon.githost.github.client import AnswerCut, Client
from codecommon.githost.protocol import HostBusy, HostUnavailable
from codecommon.githost.refs import is_branch_name
from codecommon.process.line import Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")

_DEFAULT_BRANCH: Final = "main"
_RAW: Final = "application/vnd.github.raw+json"
# Others may move the branch meanwhile. Each try is half a dozen requests, and the object comes back.
_MOST_TRIES: Final = 5
# Who waits holds a slot of the process.
_LONGEST_WAIT_SECONDS: Final = 1.0
# Some 30,000 entries. Parsing more would hold up the event loop; such a tree is read folder by folder.
_LONGEST_TREE: Final = 8 * 1024 * 1024
# One folder of 60,000 files.
_LONGEST_FOLDER: Final = 16 * 1024 * 1024
_MOST_FOLDERS: Final = 200
# Of entries that folder by folder are known at once. The last folder comes on top.
_MOST_LISTED: Final = 10_000
# A message has no bound at GitHub.
_LONGEST_HISTORY: Final = 4 * 1024 * 1024
_FEWER_COMMITS: Final = (SEARCHED_COMMITS, 10, 1)
_AT_ONCE: Final = 2
_THREAD_FROM: Final = 64 * 1024
# Of an archive: unpacked bytes, which holds the media of a usual web page, and entries.
_LONGEST_ARCHIVE: Final = 512 * 1024 * 1024
_MOST_ENTRIES: Final = 100_000
_LONGEST_SNAPSHOT_SECONDS: Final = 240.0
_MOST_SKIPPED: Final = 100
_FIRST_MESSAGE: Final = "Begin the repository"
_EMPTY: Final = re.compile(r"\bempty\b", re.I)
_MOVED: Final = re.compile(r"fast.?forward|already exists|does not exist", re.I)
_SYMLINK: Final = "120000"
_NOT_FOUND: Final = frozenset({404})
_UNCLEAR: Final = frozenset({404, 409})
_NOT_MOVED: Final = frozenset({409, 422})
_NOT_BEGUN: Final = frozenset({404, 409, 422})
_NO_SUCH_REF: Final = frozenset({404, 409, 422})
_ELSEWHERE: Final = frozenset({302, 404})


_Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
"""The name of a git object. Names become parts of paths and of status."""


class _Target(BaseModel):
    sha: _Sha


class _RefAnswer(BaseModel):
    object: _Target


class _CommitBody(BaseModel):
    message: str = ""
    tree: _Target


class _CommitAnswer(BaseModel):
    sha: _Sha
    html_url: str = ""
    commit: _CommitBody


class _MadeCommit(BaseModel):
    sha: _Sha
    html_url: str = ""
    tree: _Target


class _MadeObject(BaseModel):
    """A blob, a tree or a commit; only the last one has a page."""

    sha: _Sha
    html_url: str = ""


class _FileAnswer(BaseModel):
    commit: _MadeCommit


@dataclass(frozen=True, slots=True)
class _Head:
    """What a commit is put on top of. ``sha`` empty: nothing. ``is_new``: the branch itself is not there yet.

    ``history``: the commit itself and those before it, the newest first.
    """

    sha: str
    tree: str
    url: str
    is_new: bool
    history: Sequence[_CommitAnswer] = ()


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Turn:
    """Whose turn it is to commit to a branch. ``line``: of those that come back."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    line: Line = field(default_factory=Line)


class _Empty:
    """The repository has no commit."""


class GithubContents:
    """``codecommon.githost.contents`` says what the methods do."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # A branch's entry lives as long as somebody holds it.
        self._turns: WeakValueDictionary[tuple[str, str], _Turn] = WeakValueDictionary()

    # ---- commits

    async def commit(self, repo_id: str, request: CommitRequest, made: MutableMapping[str, str]) -> Committed:
        check_paths(request.changes)
        # Of those that commit to one branch all but one would do their work in vain.
        async with self._turn(repo_id, request.branch):
            branch = request.branch or await self._default_branch(repo_id)
            if not is_branch_name(branch):
                raise Terminal(Reason.VALIDATION_FAILED, f"{branch} is not the name of a branch")
            writer = _Writer(self._client, repo_id, branch, request, made)
            for _ in range(_MOST_TRIES):
                head = await writer.head()
                done = await (writer.begin() if isinstance(head, _Empty) else writer.on(head))
                if done is not None:
                    return done
        raise Retryable(
            Reason.HOST_CONFLICT,
            f"others changed the branch {branch} at {self._client.host} each time before this commit",
        )

    @asynccontextmanager
    async def _turn(self, repo_id: str, branch: str) -> AsyncIterator[None]:
        """Raises ``HostBusy`` while others commit to the branch."""
        turn, clock = self._turns.setdefault((repo_id, branch), _Turn()), asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                await turn.lock.acquire()
        except TimeoutError:
            after = turn.line.wait(clock(), 1, at_least=_LONGEST_WAIT_SECONDS)
            raise HostBusy(self._client.host, after) from None
        began = clock()
        try:
            yield
        finally:
            turn.line.took(clock() - began)
            turn.lock.release()

    async def _default_branch(self, repo_id: str) -> str:
        repository = await _repository(self._client, repo_id)
        return repository.default_branch or _DEFAULT_BRANCH

    # ---- files at a ref

    async def read_snapshot(
        self, repo_id: str, ref: str, caps: SnapshotCaps, reserve: Callable[[int], None] = no_reservation
    ) -> Snapshot:
        wanted = ref or await self._default_branch(repo_id)
        limit = asyncio.timeout(_LONGEST_SNAPSHOT_SECONDS)
        try:
            async with limit:
                return await self._snapshot(repo_id, wanted, caps, reserve)
        except TimeoutError:
            if not limit.expired():
                raise
            raise HostUnavailable(f"{self._client.host} takes too long to show what is at {wanted}") from None

    async def _snapshot(self, repo_id: str, ref: str, caps: SnapshotCaps, reserve: Callable[[int], None]) -> Snapshot:
        commit = await self._commit_at(repo_id, ref)
        if commit is None:
            return Snapshot(ref, "")
        entries, left_out, left_count = await self._listed(repo_id, commit.commit.tree.sha, caps)
        skipped = _Skips()
        reading = _Reading(caps, {})
        for entry in entries:
            if entry.kind == "tree":
                continue
            if (why := _why_not(entry, caps)) is not None:
                skipped.add(entry.path, why)
            else:
                reading.wanted[entry.path] = entry
        if reading.wanted:
            reserve(min(sum(entry.size for entry in reading.wanted.values()), caps.total_bytes))
            await self._read_archive(repo_id, commit.sha, reading)
            await self._read_rest(repo_id, reading)
        files = reading.result(skipped)
        for folder in left_out:
            skipped.add(f"{folder}/", "too many files")
        skipped.count += left_count - len(left_out)
        return Snapshot(ref, commit.sha, tuple(files), tuple(skipped.first), skipped.count)

    async def _commit_at(self, repo_id: str, ref: str) -> _CommitAnswer | None:
        """The commit of a branch, a tag or a SHA; None: the repository is empty. Raises ``Terminal`` (``RefNotFound``)."""
        attempt = Attempt(f"read what is at {ref} of the repository with the id {repo_id}")
        answer = await self._client.exchange(
            attempt,
            "GET",
            repo_id,
            "/commits",
            params={"sha": ref, "per_page": 1},
            most=_LONGEST_HISTORY,
            also=_NO_SUCH_REF,
        )
        if answer.status == 409:
            if _says_empty(answer):
                return None
            raise classify(answer, attempt, self._client.scrub)
        found = answer.parse_list(_CommitAnswer) if answer.status == 200 else []
        if not found:
            # The repository itself may be what is not there.
            await _repository(self._client, repo_id)
            raise Terminal(
                Reason.REF_NOT_FOUND, f"{self._client.host} shows no branch, tag or commit {ref} in this repository"
            )
        return found[0]

    async def _listed(self, repo_id: str, tree: str, caps: SnapshotCaps) -> tuple[list[Entry], list[str], int]:
        """What is in the tree, in its order; the first folders that were not looked into, and how many there are of these."""
        whole = await _whole_tree(self._client, repo_id, tree)
        if whole is not None:
            return whole, [], 0
        entries: list[Entry] = []
        waiting: list[tuple[str, str]] = [("", tree)]
        looked = files = 0
        while (
            waiting
            and looked < _MOST_FOLDERS
            and files < caps.files
            # Folders may share what is in them, so a small repository may have any number of paths.
            and len(entries) + len(waiting) < _MOST_LISTED
        ):
            path, sha = waiting.pop()
            looked += 1
            found = await _folder(self._client, repo_id, sha, f"{path}/" if path else "")
            entries += [entry for entry in found if entry.kind != "tree"]
            files += sum(entry.kind == "blob" for entry in found)
            waiting += reversed([(entry.path, entry.sha) for entry in found if entry.kind == "tree"])
        return entries, [path for path, _ in waiting[: -_MOST_SKIPPED - 1 : -1]], len(waiting)

    async def _read_archive(self, repo_id: str, sha: str, reading: _Reading) -> None:
        """Take from the archive what is as the tree says. An archive that cannot be used leaves everything to be read."""
        attempt = Attempt(f"read the archive of the repository with the id {repo_id}")
        answer = await self._client.exchange(attempt, "GET", repo_id, f"/tarball/{sha}", also=_ELSEWHERE)
        if answer.status != 302:
            return
        reader = ArchiveReader(reading.wants, reading.take, most_bytes=_LONGEST_ARCHIVE, most_entries=_MOST_ENTRIES)
        try:
            async with self._client.download(answer) as pieces:
                if pieces is None:
                    return
                async for piece in pieces:
                    await asyncio.to_thread(reader.feed, piece)
                    if reader.is_at_end or reading.is_done:
                        return
        except HostBusy:
            raise
        except (ArchiveRefused, HostUnavailable):
            # An archive that is too slow would be so each time. What is left of the files is read on its own.
            return

    async def _read_rest(self, repo_id: str, reading: _Reading) -> None:
        """Read as blobs what the archive left out or changed, as far as there is room for it."""

        async def read(entry: Entry) -> None:
            attempt = Attempt(f"read a file of the repository with the id {repo_id}")
            answer = await self._client.exchange(
                attempt, "GET", repo_id, f"/git/blobs/{_hex(entry.sha)}", accept=_RAW, most=reading.caps.file_bytes
            )
            if blob_sha(answer.body) != entry.sha:
                raise HostUnavailable(f"{self._client.host} answered with another file than was asked for")
            reading.take(entry.path, answer.body)

        await _few_at_once(read, reading.missing())


class _Writer:
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

    async def head(self) -> _Head | _Empty:
        """The branch's head; where there is no such branch, that of the default branch."""
        found = await self._tip(self._branch)
        if isinstance(found, _Empty):
            return found
        if found is not None:
            return await self._head_at(found, is_new=False)
        default = (await _repository(self._client, self._repo_id)).default_branch or _DEFAULT_BRANCH
        base = await self._tip(default) if default != self._branch and is_branch_name(default) else None
        if isinstance(base, _Empty):
            return base
        return _Head("", "", "", is_new=True) if base is None else await self._head_at(base, is_new=True)

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
            if isinstance(await self._tip(self._branch), _Empty):
                raise classify(answer, self._attempt, self._client.scrub)
            return None
        commit = answer.parse(_FileAnswer).commit
        if is_all:
            return Committed(self._branch, commit.sha, commit.html_url, made=True)
        return await self._put(_Head(commit.sha, commit.tree.sha, commit.html_url, is_new=False))

    async def on(self, head: _Head) -> Committed | None:
        """The commit on top of ``head``, unless it is there already; None: the branch has moved."""
        # What another branch has is not on this one.
        for commit in () if head.is_new else head.history:
            if has_trailer(commit.commit.message, self._request.uid):
                return Committed(self._branch, commit.sha, commit.html_url, made=False)
        return await self._put(head)

    async def _put(self, head: _Head) -> Committed | None:
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

    async def _move(self, head: _Head, sha: str) -> bool:
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

    async def _tip(self, branch: str) -> str | _Empty | None:
        """The SHA of a branch; None: there is no such branch."""
        answer = await self._client.exchange(
            self._reading, "GET", self._repo_id, f"/git/ref/heads/{quote(branch)}", also=_UNCLEAR
        )
        if answer.status == 404:
            return None
        if answer.status == 409:
            if not _says_empty(answer):
                raise classify(answer, self._reading, self._client.scrub)
            return _Empty()
        return answer.parse(_RefAnswer).object.sha

    async def _head_at(self, sha: str, *, is_new: bool) -> _Head:
        history = await self._history(sha)
        commit = history[0]
        if commit.sha != sha:
            raise HostUnavailable(f"{self._client.host} shows another commit than was asked for")
        return _Head(commit.sha, commit.commit.tree.sha, commit.html_url, is_new=is_new, history=history)

    async def _history(self, sha: str) -> list[_CommitAnswer]:
        """The commit and those before it, the newest first."""
        for number in _FEWER_COMMITS:
            try:
                answer = await self._client.exchange(
                    self._reading,
                    "GET",
                    self._repo_id,
                    "/commits",
                    params={"sha": sha, "per_page": number},
                    most=_LONGEST_HISTORY,
                )
            except AnswerCut:
                continue
            if commits := await _parsed(answer, _commits_in):
                return commits
            raise HostUnavailable(f"{self._client.host} shows no commit where there is one")
        raise AnswerCut(self._client.host, self._reading.doing)

    async def _changes(self, tree: str) -> list[Change]:
        """What differs from ``tree``, of all that is to be changed."""
        wanted = relevant_paths(self._request.changes)
        whole = await _whole_tree(self._client, self._repo_id, tree) if tree else []
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
            found = await _folder(self._client, self._repo_id, sha, f"{folder}/" if folder else "")
            there |= {entry.path: entry for entry in found if entry.path in wanted}
        return there

    async def _tree(self, base: str, changes: Sequence[Change]) -> str:
        """A tree with the changes; the name of the last one made. Empty: there is none to begin with, and nothing to change."""

        async def upload(change: Change) -> None:
            await self._once("/git/blobs", partial(_blob_body, change), _length((change,)))

        uploads = [change for change in changes if change.content is not None and not change.is_inline]
        await _few_at_once(upload, uploads)
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
        content, key = work() if length < _THREAD_FROM else await asyncio.to_thread(work)
        if (known := self._made.get(key)) is not None:
            return known
        try:
            # The answer about a tree lists its whole root.
            answer = await self._client.exchange(
                self._attempt, "POST", self._repo_id, tail, body=content, most=_LONGEST_FOLDER
            )
        except Terminal as refused:
            if not self._may_have_lost or refused.reason != Reason.VALIDATION_FAILED:
                raise
            # What an earlier call uploaded may be gone, because no branch had it. The next call finds nothing here, so a second
            # refusal is about the request itself.
            self._made.clear()
            raise Retryable(Reason.HOST_CONFLICT, refused.message) from None
        made = await _parsed(answer, lambda read: read.parse(_MadeObject))
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


class _Skips:
    """What is left out, and why: the first paths, and how many there are."""

    def __init__(self) -> None:
        self.first: list[Skipped] = []
        self.count = 0

    def add(self, path: str, why: SkipReason) -> None:
        self.count += 1
        if len(self.first) < _MOST_SKIPPED:
            self.first.append(Skipped(path, why))


class _Reading:
    """The files of a snapshot on their way in. ``wanted`` by path, in the tree's order.

    Texts are kept within ``caps``. Of all else it is remembered that it was seen.
    """

    def __init__(self, caps: SnapshotCaps, wanted: dict[str, Entry]) -> None:
        self.caps = caps
        self.wanted = wanted
        self._texts: dict[str, bytes] = {}
        self._binaries: set[str] = set()
        self._over: dict[str, SkipReason] = {}
        self._bytes = 0

    @property
    def is_done(self) -> bool:
        """Whether all that is wanted was seen, or there is no room for more."""
        seen = len(self._texts) + len(self._binaries) + len(self._over)
        return seen >= len(self.wanted) or len(self._texts) >= self.caps.files

    def wants(self, path: str, size: int) -> bool:
        """For ``ArchiveReader``. A file of another size is not what the tree says."""
        entry = self.wanted.get(path)
        return entry is not None and entry.size == size and path not in self._over

    def take(self, path: str, content: bytes) -> None:
        """Keep a file if it is what the tree says, a text, and there is room."""
        if blob_sha(content) != self.wanted[path].sha:
            return
        if not is_text(content):
            self._binaries.add(path)
        elif len(self._texts) >= self.caps.files:
            self._over[path] = "too many files"
        elif self._bytes + len(content) > self.caps.total_bytes:
            self._over[path] = "too many bytes"
        else:
            self._texts[path] = content
            self._bytes += len(content)

    def missing(self) -> list[Entry]:
        """What is to be read on its own, as far as there is room for it."""
        known = self._texts.keys() | self._binaries | self._over.keys()
        found: list[Entry] = []
        length = self._bytes
        for path, entry in self.wanted.items():
            if path in known:
                continue
            if len(self._texts) + len(found) >= self.caps.files or length + entry.size > self.caps.total_bytes:
                break
            found.append(entry)
            length += entry.size
        return found

    def result(self, skipped: _Skips) -> list[SnapshotFile]:
        """The texts in order; what is not among them goes to ``skipped``."""
        files: list[SnapshotFile] = []
        for path in self.wanted:
            if (text := self._texts.get(path)) is not None:
                files.append(SnapshotFile(path, text))
            elif path in self._binaries:
                skipped.add(path, "binary")
            else:
                is_full = len(self._texts) >= self.caps.files
                skipped.add(path, self._over.get(path) or ("too many files" if is_full else "too many bytes"))
        return files


def _why_not(entry: Entry, caps: SnapshotCaps) -> SkipReason | None:
    """Why a file is not even asked for."""
    if entry.kind == "commit":
        return "submodule"
    if entry.mode == _SYMLINK:
        return "symlink"
    if not is_path(entry.path):
        return "unreadable"
    return "too large" if entry.size > caps.file_bytes else None


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


async def _repository(client: Client, repo_id: str) -> RepositoryAnswer:
    """Raises ``Terminal`` (``NotFoundOrNoAccess``)."""
    attempt = Attempt(f"read the repository with the id {repo_id}")
    return (await client.send(attempt, client.by_id("GET", repo_id))).parse(RepositoryAnswer)


async def _whole_tree(client: Client, repo_id: str, sha: str) -> list[Entry] | None:
    """Everything in a tree, in its order; None: it is too much for one answer."""
    try:
        answer = await client.exchange(
            Attempt(f"list the files of the repository with the id {repo_id}"),
            "GET",
            repo_id,
            f"/git/trees/{_hex(sha)}",
            params={"recursive": 1},
            most=_LONGEST_TREE,
        )
    except AnswerCut:
        return None
    entries, is_truncated = await _entries(client, answer, "")
    return None if is_truncated else entries


async def _folder(client: Client, repo_id: str, sha: str, below: str) -> list[Entry]:
    answer = await client.exchange(
        Attempt(f"list a folder of the repository with the id {repo_id}"),
        "GET",
        repo_id,
        f"/git/trees/{_hex(sha)}",
        most=_LONGEST_FOLDER,
    )
    entries, _ = await _entries(client, answer, below)
    return entries


async def _entries(client: Client, answer: Answer, below: str) -> tuple[list[Entry], bool]:
    try:
        return await _parsed(answer, lambda read: parse_tree(read.body, below))
    except ValueError:
        raise HostUnavailable(f"{client.host} answered with something that is not its API's") from None


def _commits_in(answer: Answer) -> list[_CommitAnswer]:
    return answer.parse_list(_CommitAnswer, most=SEARCHED_COMMITS)


async def _parsed(answer: Answer, parse: Callable[[Answer], T]) -> T:
    """``parse(answer)``, off the event loop where it takes a while."""
    return parse(answer) if len(answer.body) < _THREAD_FROM else await asyncio.to_thread(parse, answer)


async def _few_at_once(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """``work`` on each item, on two at a time. The first error ends it."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[Any]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _suits_as_first(change: FileChange) -> tuple[bool, bool, int, str]:
    """The order in which files come into question: what needs no right of its own, is not empty, and is short."""
    length = len(change.content or b"")
    return change.path.startswith(WORKFLOWS), length == 0, length, change.path


def _url_key(sha: str) -> str:
    return f"url of {sha}"


def _says_empty(answer: Answer) -> bool:
    return _EMPTY.search(answer.message or "") is not None


def _hex(sha: str) -> str:
    """The name of a git object as one segment of a path. Raises ``HostUnavailable`` for anything else, which a host may send."""
    if not re.fullmatch(r"[0-9a-f]{40,64}", sha):
        raise HostUnavailable("the host names a git object by something that is no SHA")
    return sha
