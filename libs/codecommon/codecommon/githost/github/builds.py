"""Builds at GitHub: Actions."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, Field

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.builds import BuildJob, BuildRun, LogEnd
from codecommon.githost.github.answer import RepositoryAnswer
from codecommon.githost.github.classify import OF_DISPATCHES, Attempt
from codecommon.githost.github.client import Client

_SHA: Final = re.compile(r"[0-9a-f]{40}")
_WORKFLOW: Final = re.compile(r"[^/\\\x00-\x1f]{1,255}")
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_MOST_JOBS: Final = 100
# A job may have a thousand steps, which the list of jobs names.
_LONGEST_LIST: Final = 8 * 1024 * 1024
_LONGEST_END: Final = 256 * 1024
# The end of a log is behind all the rest of it.
_LONGEST_LOG: Final = 64 * 1024 * 1024
_NO_FAILURE: Final = frozenset({"success", "skipped", "neutral"})
_NOT_FOUND: Final = frozenset({404})
_LOG: Final = frozenset({302, 404, 410})


class _RunAnswer(BaseModel):
    id: int
    status: str | None = None
    conclusion: str | None = None
    head_sha: str = ""
    html_url: str = ""

    def to_run(self) -> BuildRun:
        return BuildRun(str(self.id), self.status or "", self.conclusion or "", self.head_sha, self.html_url)


class _RunsAnswer(BaseModel):
    workflow_runs: list[_RunAnswer]


class _JobAnswer(BaseModel):
    id: int
    name: str = ""
    status: str | None = None
    conclusion: str | None = None

    def to_job(self) -> BuildJob:
        conclusion = self.conclusion or ""
        has_failed = bool(conclusion) and conclusion not in _NO_FAILURE
        return BuildJob(str(self.id), self.name, self.status or "", conclusion, has_failed)


class _JobsAnswer(BaseModel):
    jobs: list[_JobAnswer] = Field(max_length=_MOST_JOBS)


class GithubBuilds:
    """``codecommon.githost.builds`` says what the methods do."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def find_run(self, repo_id: str, workflow: str, ref: str) -> BuildRun | None:
        ref = ref or await self._default_branch(repo_id)
        params: dict[str, str | int] = {"per_page": 1, "head_sha" if _SHA.fullmatch(ref) else "branch": ref}
        answer = await self._client.exchange(
            Attempt(_of(repo_id, f"read the runs of {workflow}")),
            "GET",
            repo_id,
            f"/actions/workflows/{_segment(workflow)}/runs",
            params=params,
            most=_LONGEST_LIST,
            also=_NOT_FOUND,
        )
        if answer.status == 404:
            await self._require_actions(repo_id)
            return None
        runs = answer.parse(_RunsAnswer).workflow_runs
        return runs[0].to_run() if runs else None

    async def list_jobs(self, repo_id: str, run_id: str) -> tuple[BuildJob, ...]:
        answer = await self._client.exchange(
            Attempt(_of(repo_id, "read the jobs of a run")),
            "GET",
            repo_id,
            f"/actions/runs/{_number(run_id)}/jobs",
            params={"filter": "latest", "per_page": _MOST_JOBS},
            most=_LONGEST_LIST,
            also=_NOT_FOUND,
        )
        if answer.status == 404:
            await self._require_actions(repo_id)
            return ()
        return tuple(job.to_job() for job in answer.parse(_JobsAnswer).jobs)

    async def read_log_end(self, repo_id: str, job_id: str, lines: int) -> LogEnd | None:
        answer = await self._client.exchange(
            Attempt(_of(repo_id, "read the log of a job")),
            "GET",
            repo_id,
            f"/actions/jobs/{_number(job_id)}/logs",
            also=_LOG,
        )
        if answer.status != 302:
            return None
        async with self._client.download(answer) as pieces:
            return None if pieces is None else await _end_of(pieces, lines)

    async def dispatch(self, repo_id: str, workflow: str, branch: str) -> str:
        branch = branch or await self._default_branch(repo_id)
        answer = await self._client.exchange(
            Attempt(_of(repo_id, f"start {workflow} on {branch}"), write=True, refusals=OF_DISPATCHES),
            "POST",
            repo_id,
            f"/actions/workflows/{_segment(workflow)}/dispatches",
            body={"ref": branch},
            also=_NOT_FOUND,
        )
        if answer.status == 404:
            await self._require_actions(repo_id)
            raise Terminal(
                Reason.WORKFLOW_NOT_FOUND,
                f"{self._client.host} has no workflow {workflow} on the default branch of this repository, or this credential "
                "must not start it",
            )
        return branch

    async def _default_branch(self, repo_id: str) -> str:
        answer = await self._client.send(Attempt(_of(repo_id, "read")), self._client.by_id("GET", repo_id))
        return answer.parse(RepositoryAnswer).default_branch or "main"

    async def _require_actions(self, repo_id: str) -> None:
        """Raises ``Terminal`` (``BuildsUnsupported``, ``NotFoundOrNoAccess``) where a 404 is about more than one workflow."""
        answer = await self._client.exchange(
            Attempt(_of(repo_id, "list the workflows")),
            "GET",
            repo_id,
            "/actions/workflows",
            params={"per_page": 1},
            also=_NOT_FOUND,
        )
        if answer.status != 404:
            return
        await self._default_branch(repo_id)
        raise Terminal(
            Reason.BUILDS_UNSUPPORTED,
            f"{self._client.host} offers no Actions for this repository: they are switched off, or the host has none",
        )


async def _end_of(pieces: AsyncIterator[bytes], lines: int) -> LogEnd:
    """The last lines of what comes, of which the last bytes only are kept."""
    kept: deque[bytes] = deque()
    length = total = 0
    is_cut = False
    async for piece in pieces:
        kept.append(piece)
        length += len(piece)
        total += len(piece)
        while length - len(kept[0]) >= _LONGEST_END:
            length -= len(kept.popleft())
        if total > _LONGEST_LOG:
            is_cut = True
            break
    end = b"".join(kept)[-_LONGEST_END:]
    if len(end) < total:
        # The first line is not whole. If it is the only one, a part of it is better than nothing.
        end = end.partition(b"\n")[2] or end
    every = end.decode(errors="replace").removeprefix("\ufeff").splitlines()
    shown = tuple(every[-lines:])
    return LogEnd(shown, is_whole=len(end) == total and len(shown) == len(every), is_cut=is_cut)


def _segment(workflow: str) -> str:
    """The name of a workflow's file as one segment of a path. Raises ``Terminal`` (``ValidationFailed``)."""
    if not _WORKFLOW.fullmatch(workflow) or workflow in (".", ".."):
        raise Terminal(Reason.VALIDATION_FAILED, "a workflow is named by its file's name, without folders")
    return quote(workflow, safe="")


def _number(identifier: str) -> str:
    if not _NUMBER.fullmatch(identifier):
        raise Terminal(Reason.VALIDATION_FAILED, "the id of a run or job is not a number")
    return identifier


def _of(repo_id: str, doing: str) -> str:
    return f"{doing} of the repository with the id {repo_id}"
