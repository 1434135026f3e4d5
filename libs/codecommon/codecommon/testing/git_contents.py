"""Commits, files and builds of the git host in memory. ``StubBackend.contents`` and ``StubBackend.builds`` are these.

tests/contract/test_contents_backend.py and test_builds_backend.py hold them to the same behaviour as the real backend.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.builds import BuildJob, BuildRun, LogEnd
from codecommon.githost.contents import (
    SEARCHED_COMMITS,
    CommitRequest,
    Committed,
    Skipped,
    SkipReason,
    Snapshot,
    SnapshotCaps,
    SnapshotFile,
    has_trailer,
    is_path,
    is_text,
    no_reservation,
    with_trailer,
)

if TYPE_CHECKING:
    from codecommon.testing.git_host import StubRepository

_DEFAULT_BRANCH: Final = "main"
_FILE: Final = "100644"
_SYMLINK: Final = "120000"
_SUBMODULE: Final = "160000"
_SHA: Final = re.compile(r"[0-9a-f]{40}")

Find = Callable[[str], "StubRepository"]
"""The repository of an id. Raises ``Terminal`` (``NotFoundOrNoAccess``)."""


@dataclass(frozen=True, slots=True)
class StubFile:
    """``mode``: as git writes it. ``content`` of a symbolic link: where it leads; of a submodule: the commit."""

    content: bytes
    mode: str = _FILE


@dataclass(frozen=True, slots=True)
class StubCommit:
    sha: str
    parent: str
    message: str
    files: Mapping[str, StubFile]


@dataclass(slots=True)
class StubRun:
    """A run of ``workflow`` on ``branch``. ``logs`` by the id of the job."""

    workflow: str
    branch: str
    run: BuildRun
    jobs: list[BuildJob] = field(default_factory=list[BuildJob])
    logs: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class StubTree:
    """What one repository holds. ``heads``: the SHA of each branch that has a commit. ``protected``: branches that take none.

    ``workflows``: name of the file, and whether it may be started by hand. ``runs``: the newest last. ``offers_builds`` False:
    the host runs none for it. ``dispatched``: (workflow, branch) of each start.
    """

    commits: dict[str, StubCommit] = field(default_factory=dict[str, StubCommit])
    heads: dict[str, str] = field(default_factory=dict[str, str])
    protected: set[str] = field(default_factory=set[str])
    workflows: dict[str, bool] = field(default_factory=dict[str, bool])
    runs: list[StubRun] = field(default_factory=list[StubRun])
    offers_builds: bool = True
    dispatched: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


class _Raising:
    def __init__(self, find: Find) -> None:
        self._find = find
        self._errors: defaultdict[str, deque[Exception | None]] = defaultdict(deque)

    def raise_next(self, method: str, *errors: Exception | None) -> None:
        """As of ``StubBackend``."""
        self._errors[method].extend(errors)

    def _fail(self, method: str) -> None:
        if self._errors[method] and (error := self._errors[method].popleft()) is not None:
            raise error


class StubContents(_Raising):
    """``ContentsHost`` in memory. ``refuses_workflows``: as for a credential that may not change workflow files."""

    refuses_workflows = False

    async def commit(self, repo_id: str, request: CommitRequest, made: MutableMapping[str, str]) -> Committed:
        self._fail("commit")
        repository = self._find(repo_id)
        tree = repository.tree
        branch = request.branch or repository.seen.default_branch or _DEFAULT_BRANCH
        base = tree.heads.get(branch) or tree.heads.get(repository.seen.default_branch) or ""
        if (found := self._made_before(tree, base, request.uid)) is not None:
            return self._committed(repository, branch, found, made=False)
        files = _changed(dict(tree.commits[base].files) if base else {}, request)
        if not base and not files:
            return Committed(branch, "", "", made=False)
        if base and files == tree.commits[base].files:
            tree.heads[branch] = base
            repository.branches.add(branch)
            return self._committed(repository, branch, base, made=False)
        self._require_allowed(repository, branch, request)
        sha = self.add_commit(repo_id, branch, with_trailer(request.message, request.uid), files, parent=base)
        return self._committed(repository, branch, sha, made=True)

    async def read_snapshot(
        self, repo_id: str, ref: str, caps: SnapshotCaps, reserve: Callable[[int], None] = no_reservation
    ) -> Snapshot:
        self._fail("read_snapshot")
        repository = self._find(repo_id)
        tree = repository.tree
        wanted = ref or repository.seen.default_branch
        if not tree.commits:
            return Snapshot(wanted, "")
        sha = tree.heads.get(wanted) or (wanted if wanted in tree.commits else None)
        if sha is None:
            raise Terminal(Reason.REF_NOT_FOUND, f"{repository.seen.name} has no branch, tag or commit {wanted}")
        files: list[SnapshotFile] = []
        skipped: list[Skipped] = []
        total = 0
        for path, file in sorted(tree.commits[sha].files.items()):
            why = _why_not(path, file, caps, len(files), total)
            if why is not None:
                skipped.append(Skipped(path, why))
                continue
            files.append(SnapshotFile(path, file.content))
            total += len(file.content)
        reserve(total)
        return Snapshot(wanted, sha, tuple(files), tuple(skipped), len(skipped))

    def add_commit(
        self, repo_id: str, branch: str, message: str, files: Mapping[str, StubFile], *, parent: str = ""
    ) -> str:
        """A commit with exactly ``files``, as a person would push it; returns its SHA."""
        repository = self._find(repo_id)
        tree = repository.tree
        sha = hashlib.sha1(repr((parent, message, len(tree.commits))).encode(), usedforsecurity=False).hexdigest()
        tree.commits[sha] = StubCommit(sha, parent, message, dict(files))
        tree.heads[branch] = sha
        repository.branches.add(branch)
        return sha

    def files(self, repo_id: str, branch: str = _DEFAULT_BRANCH) -> dict[str, bytes]:
        """Path and content of everything at the branch's head."""
        tree = self._find(repo_id).tree
        return {path: file.content for path, file in tree.commits[tree.heads[branch]].files.items()}

    def history(self, repo_id: str, branch: str = _DEFAULT_BRANCH) -> list[StubCommit]:
        """The commits of the branch, the newest first."""
        tree = self._find(repo_id).tree
        found: list[StubCommit] = []
        sha = tree.heads.get(branch, "")
        while sha:
            found.append(tree.commits[sha])
            sha = tree.commits[sha].parent
        return found

    def _made_before(self, tree: StubTree, head: str, uid: str) -> str | None:
        sha = head
        for _ in range(SEARCHED_COMMITS):
            if not sha:
                return None
            if has_trailer(tree.commits[sha].message, uid):
                return sha
            sha = tree.commits[sha].parent
        return None

    def _require_allowed(self, repository: StubRepository, branch: str, request: CommitRequest) -> None:
        if repository.seen.archived:
            raise Terminal(Reason.REPOSITORY_ARCHIVED, f"{repository.seen.name} is archived and read-only")
        if branch in repository.tree.protected:
            raise Terminal(Reason.BRANCH_PROTECTED, f"the branch {branch} is protected")
        if self.refuses_workflows and any(change.path.startswith(".github/workflows/") for change in request.changes):
            raise Terminal(Reason.MISSING_PERMISSION, "the credential lacks the scope workflow")

    def _committed(self, repository: StubRepository, branch: str, sha: str, *, made: bool) -> Committed:
        return Committed(branch, sha, f"{repository.seen.html_url}/commit/{sha}", made)


class StubBuilds(_Raising):
    """``BuildsHost`` in memory."""

    async def find_run(self, repo_id: str, workflow: str, ref: str) -> BuildRun | None:
        self._fail("find_run")
        tree = self._offering(repo_id)
        ref = ref or self._find(repo_id).seen.default_branch or _DEFAULT_BRANCH
        for made in reversed(tree.runs):
            at = made.run.head_sha if _SHA.fullmatch(ref) else made.branch
            if made.workflow == workflow and ref == at:
                return made.run
        return None

    async def list_jobs(self, repo_id: str, run_id: str) -> tuple[BuildJob, ...]:
        self._fail("list_jobs")
        tree = self._offering(repo_id)
        return next((tuple(made.jobs) for made in tree.runs if made.run.id == run_id), ())

    async def read_log_end(self, repo_id: str, job_id: str, lines: int) -> LogEnd | None:
        self._fail("read_log_end")
        tree = self._offering(repo_id)
        text = next((made.logs[job_id] for made in tree.runs if job_id in made.logs), None)
        if text is None:
            return None
        every = text.splitlines()
        return LogEnd(tuple(every[-lines:]), len(every) <= lines)

    async def dispatch(self, repo_id: str, workflow: str, branch: str) -> str:
        self._fail("dispatch")
        tree, repository = self._offering(repo_id), self._find(repo_id)
        branch = branch or repository.seen.default_branch
        if workflow not in tree.workflows:
            raise Terminal(Reason.WORKFLOW_NOT_FOUND, f"{repository.seen.name} has no workflow {workflow}")
        if branch not in repository.branches:
            raise Terminal(Reason.REF_NOT_FOUND, f"{repository.seen.name} has no branch {branch}")
        if not tree.workflows[workflow]:
            raise Terminal(Reason.WORKFLOW_NOT_DISPATCHABLE, f"{workflow} has no workflow_dispatch")
        tree.dispatched.append((workflow, branch))
        return branch

    def _offering(self, repo_id: str) -> StubTree:
        tree = self._find(repo_id).tree
        if not tree.offers_builds:
            raise Terminal(Reason.BUILDS_UNSUPPORTED, "the host runs no builds here")
        return tree


def _changed(files: dict[str, StubFile], request: CommitRequest) -> dict[str, StubFile]:
    """``files`` after the changes. Raises ``Terminal`` (``ValidationFailed``)."""
    for change in request.changes:
        if not is_path(change.path):
            raise Terminal(Reason.VALIDATION_FAILED, "no file can have this path")
        if change.content is None:
            files.pop(change.path, None)
    for change in request.changes:
        if change.content is None:
            continue
        existing = files.get(change.path)
        if existing is not None and existing.mode == _SUBMODULE:
            raise Terminal(Reason.VALIDATION_FAILED, f"{change.path} is a submodule")
        mode = existing.mode if existing is not None and existing.mode != _SYMLINK else _FILE
        files[change.path] = StubFile(change.content, mode)
    for path in files:
        parts = path.split("/")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in files:
                raise Terminal(Reason.VALIDATION_FAILED, f"{path} is below a path that is a file")
    return files


def _why_not(path: str, file: StubFile, caps: SnapshotCaps, count: int, total: int) -> SkipReason | None:
    if file.mode in (_SYMLINK, _SUBMODULE):
        return "symlink" if file.mode == _SYMLINK else "submodule"
    if not is_path(path):
        return "unreadable"
    if len(file.content) > caps.file_bytes:
        return "too large"
    if not is_text(file.content):
        return "binary"
    if count >= caps.files:
        return "too many files"
    return "too many bytes" if total + len(file.content) > caps.total_bytes else None
