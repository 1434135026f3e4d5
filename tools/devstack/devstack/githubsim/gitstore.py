"""The git repositories behind the simulated host: bare ones on disk, which git itself reads and writes.

Objects that the API makes are written here as loose objects, because a process for each would take most of the time. What
needs git's own judgement (trees out of changes, ancestry, archives, pushes and fetches) is left to git.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_NO_OBJECT = "0" * 40
_KINDS = {"160000": "commit", "040000": "tree"}
_ENVIRONMENT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


class GitRefused(Exception):
    """git did not do what was asked; the text is its own."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a tree. ``mode``: six digits. ``size``: of a blob, else None. ``path``: relative to the tree."""

    mode: str
    kind: str
    sha: str
    size: int | None
    path: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as it is stored. ``author`` and ``committer``: name, email and epoch seconds."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: tuple[str, str, int]
    committer: tuple[str, str, int]
    message: str


class GitStore:
    """One bare repository for each id. Without a folder it has one of its own, which ``close`` removes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._own = folder is None
        self._folder = folder

    def close(self) -> None:
        if self._own and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def path(self, repository_id: int) -> Path:
        """The repository's folder, which is made if need be."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="githubsim-"))
        path = self._folder / f"{repository_id}.git"
        if not (path / "HEAD").exists():
            (path / "objects").mkdir(parents=True)
            (path / "refs" / "heads").mkdir(parents=True)
            (path / "config").write_text("[core]\n\tbare = true\n\trepositoryformatversion = 0\n[gc]\n\tauto = 0\n")
            (path / "HEAD").write_text("ref: refs/heads/main\n")
        return path

    def remove(self, repository_id: int) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder / f"{repository_id}.git", ignore_errors=True)

    # ---- objects

    def write(self, repository_id: int, kind: str, data: bytes) -> str:
        """Store an object; returns its name."""
        whole = f"{kind} {len(data)}".encode() + b"\x00" + data
        sha = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        file = self.path(repository_id) / "objects" / sha[:2] / sha[2:]
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(zlib.compress(whole, 1))
        return sha

    def read(self, repository_id: int, sha: str, kind: str) -> bytes | None:
        """The object's content; None: there is no such object of this kind."""
        file = self.path(repository_id) / "objects" / sha[:2] / sha[2:]
        try:
            whole = zlib.decompress(file.read_bytes())
        except OSError:
            return self._packed(repository_id, sha, kind)
        head, _, data = whole.partition(b"\x00")
        return data if head.split()[0] == kind.encode() else None

    def _packed(self, repository_id: int, sha: str, kind: str) -> bytes | None:
        """What came by a push is in a pack."""
        if sha == EMPTY_TREE and kind == "tree":
            return b""
        if not any((self.path(repository_id) / "objects").glob("pack/*.idx")):
            return None
        try:
            return self._git(repository_id, "cat-file", kind, sha)
        except GitRefused:
            return None

    def commit(self, repository_id: int, sha: str) -> Commit | None:
        data = self.read(repository_id, sha, "commit")
        if data is None:
            return None
        head, _, message = data.decode(errors="replace").partition("\n\n")
        lines = [line.split(" ", 1) for line in head.split("\n") if not line.startswith(" ")]
        fields = {name: value for name, value in lines if name != "parent"}
        return Commit(
            sha,
            fields["tree"],
            tuple(value for name, value in lines if name == "parent"),
            _person(fields["author"]),
            _person(fields["committer"]),
            message.removesuffix("\n"),
        )

    def write_commit(
        self, repository_id: int, tree: str, parents: Sequence[str], message: str, person: tuple[str, str, int]
    ) -> str:
        name, email, seconds = person
        who = f"{name} <{email}> {seconds} +0000"
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {who}", f"committer {who}"]
        return self.write(repository_id, "commit", "\n".join((*lines, "", message)).encode())

    def tree(self, repository_id: int, sha: str, *, recursive: bool) -> list[TreeEntry] | None:
        """The entries in git's order, with those of trees below if `recursive`; None: there is no such tree."""
        data = self.read(repository_id, sha, "tree")
        if data is None:
            return None
        if not data:
            return []
        options = ("-r", "-t") if recursive else ()
        listed = self._git(repository_id, "ls-tree", "-z", "-l", *options, sha)
        return [_entry(line) for line in listed.decode(errors="surrogateescape").split("\x00") if line]

    def build_tree(self, repository_id: int, base: str | None, entries: Iterable[tuple[str, str, str | None]]) -> str:
        """A tree like `base` with each (mode, path, sha) in its place, or gone where the SHA is None.

        Raises GitRefused for a path that is not there and is to be gone, and for what cannot be a tree.
        """
        entries = list(entries)
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            if base is not None and base != EMPTY_TREE:
                self._git(repository_id, "read-tree", base, extra=index)
            gone = [path for _, path, sha in entries if sha is None]
            there = (
                set(self._git(repository_id, "ls-files", "-z", extra=index).decode().split("\x00")) if gone else set()
            )
            if any(path not in there for path in gone):
                raise GitRefused("GitRPC::BadObjectState")
            lines = [f"0 {_NO_OBJECT}\t{path}" for path in gone]
            lines += [f"{mode} {sha}\t{path}" for mode, path, sha in entries if sha is not None]
            info = "".join(f"{line}\x00" for line in lines).encode(errors="surrogateescape")
            self._git(repository_id, "update-index", "-z", "--add", "--index-info", stdin=info, extra=index)
            return self._git(repository_id, "write-tree", extra=index).decode().strip()

    def has(self, repository_id: int, sha: str) -> bool:
        return any(self.read(repository_id, sha, kind) is not None for kind in ("blob", "tree", "commit"))

    # ---- history and refs

    def heads(self, repository_id: int) -> dict[str, str]:
        """Branch to commit."""
        listed = self._git(repository_id, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads").decode()
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name.removeprefix("refs/heads/"): sha for sha, name in pairs}

    def tag(self, repository_id: int, name: str) -> str | None:
        """The commit that a tag leads to."""
        try:
            return self._git(repository_id, "rev-parse", "--verify", f"refs/tags/{name}^{{commit}}").decode().strip()
        except GitRefused:
            return None

    def set_head(self, repository_id: int, branch: str, sha: str) -> None:
        """Raises GitRefused for a name that cannot be a branch's."""
        self._git(repository_id, "update-ref", f"refs/heads/{branch}", sha)

    def set_default(self, repository_id: int, branch: str) -> None:
        (self.path(repository_id) / "HEAD").write_text(f"ref: refs/heads/{branch}\n")

    def history(self, repository_id: int, sha: str) -> Iterator[Commit]:
        """The commit and its ancestors, the newest first."""
        waiting: list[tuple[int, int, str]] = [(0, 0, sha)]
        seen = {sha}
        while waiting:
            _, _, name = heapq.heappop(waiting)
            commit = self.commit(repository_id, name)
            if commit is None:
                continue
            yield commit
            for parent in commit.parents:
                if parent not in seen:
                    seen.add(parent)
                    older = self.commit(repository_id, parent)
                    heapq.heappush(waiting, (-(older.committer[2] if older else 0), len(seen), parent))

    def is_ancestor(self, repository_id: int, older: str, newer: str) -> bool:
        return any(commit.sha == older for commit in self.history(repository_id, newer))

    def archive_command(self, repository_id: int, sha: str, prefix: str) -> list[str]:
        """What writes the commit's tree to standard output, as tar.gz."""
        git = ["git", f"--git-dir={self.path(repository_id)}"]
        return [*git, "archive", "--format=tar.gz", f"--prefix={prefix}/", sha]

    def _git(
        self, repository_id: int, *arguments: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> bytes:
        finished = subprocess.run(
            ["git", f"--git-dir={self.path(repository_id)}", *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **_ENVIRONMENT, **(extra or {})},
            check=False,
        )
        if finished.returncode != 0:
            raise GitRefused(finished.stderr.decode(errors="replace").strip())
        return finished.stdout


def environment() -> dict[str, str]:
    """What git runs with, so that no setting of this machine's user counts."""
    return {**os.environ, **_ENVIRONMENT}


def _entry(line: str) -> TreeEntry:
    head, _, path = line.partition("\t")
    mode, kind, sha, size = head.split()
    return TreeEntry(mode, _KINDS.get(mode, kind), sha, None if size == "-" else int(size), path)


def _person(text: str) -> tuple[str, str, int]:
    name, _, rest = text.partition(" <")
    email, _, moment = rest.partition("> ")
    return name, email, int(moment.split()[0])
