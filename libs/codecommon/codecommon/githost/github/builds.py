"""Builds at GitHub: Actions."""

from __future__ import annotations

from codecommon.githost.builds import BuildJob, BuildRun, LogEnd
from codecommon.githost.github.client import Client


class GithubBuilds:
    """``codecommon.githost.builds`` says what the methods do."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def find_run(self, repo_id: str, workflow: str, ref: str) -> BuildRun | None:
        raise NotImplementedError

    async def list_jobs(self, repo_id: str, run_id: str) -> tuple[BuildJob, ...]:
        raise NotImplementedError

    async def read_log_end(self, repo_id: str, job_id: str, lines: int) -> LogEnd | None:
        raise NotImplementedError

    async def dispatch(self, repo_id: str, workflow: str, branch: str) -> str:
        raise NotImplementedError
