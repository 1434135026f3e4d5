"""The text files of a repository at a ref.

That is three requests: the commit, its tree with everything below, and one archive, of which each file is compared with the tree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.archive import ArchiveReader, ArchiveRefused
from codecommon.githost.contents import (
    Skipped,
    SkipReason,
    Snapshot,
    SnapshotCaps,
    SnapshotFile,
    blob_sha,
    is_path,
    is_text,
)
from codecommon.githost.github.changes import Entry
from codecommon.githost.github.classify import Attempt, classify
from codecommon.githost.github.client import Client
from codecommon.githost.github.git_data import (
    LONGEST_HISTORY,
    CommitAnswer,
    default_branch,
    few_at_once,
    object_name,
    read_folder,
    read_repository,
    says_empty,
    whole_tree,
)
from codecommon.githost.protocol import HostBusy, HostUnavailable

_RAW: Final = "application/vnd.github.raw+json"
_MOST_FOLDERS: Final = 200
# Of entries that folder by folder are known at once. The last folder comes on top.
_MOST_LISTED: Final = 10_000
# Of an archive: unpacked bytes, which holds the media of a usual web page, and entries.
_LONGEST_ARCHIVE: Final = 512 * 1024 * 1024
_MOST_ENTRIES: Final = 100_000
_LONGEST_SNAPSHOT_SECONDS: Final = 240.0
_MOST_SKIPPED: Final = 100
_SYMLINK: Final = "120000"
_NO_SUCH_REF: Final = frozenset({404, 409, 422})
_ELSEWHERE: Final = frozenset({302, 404})


class SnapshotReader:
    """Reads snapshots of the repositories that a client's credential may see."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, repo_id: str, ref: str, caps: SnapshotCaps, reserve: Callable[[int], None]) -> Snapshot:
        wanted = ref or await default_branch(self._client, repo_id)
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

    async def _commit_at(self, repo_id: str, ref: str) -> CommitAnswer | None:
        """The commit of a branch, a tag or a SHA; None: the repository is empty. Raises ``Terminal`` (``RefNotFound``)."""
        attempt = Attempt(f"read what is at {ref} of the repository with the id {repo_id}")
        answer = await self._client.exchange(
            attempt,
            "GET",
            repo_id,
            "/commits",
            params={"sha": ref, "per_page": 1},
            most=LONGEST_HISTORY,
            also=_NO_SUCH_REF,
        )
        if answer.status == 409:
            if says_empty(answer):
                return None
            raise classify(answer, attempt, self._client.scrub)
        found = answer.parse_list(CommitAnswer) if answer.status == 200 else []
        if not found:
            # The repository itself may be what is not there.
            await read_repository(self._client, repo_id)
            raise Terminal(
                Reason.REF_NOT_FOUND, f"{self._client.host} shows no branch, tag or commit {ref} in this repository"
            )
        return found[0]

    async def _listed(self, repo_id: str, tree: str, caps: SnapshotCaps) -> tuple[list[Entry], list[str], int]:
        """What is in the tree, in its order; the first folders that were not looked into, and how many there are of these."""
        whole = await whole_tree(self._client, repo_id, tree)
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
            found = await read_folder(self._client, repo_id, sha, f"{path}/" if path else "")
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
                attempt,
                "GET",
                repo_id,
                f"/git/blobs/{object_name(entry.sha)}",
                accept=_RAW,
                most=reading.caps.file_bytes,
            )
            if blob_sha(answer.body) != entry.sha:
                raise HostUnavailable(f"{self._client.host} answered with another file than was asked for")
            reading.take(entry.path, answer.body)

        await few_at_once(read, reading.missing())


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
