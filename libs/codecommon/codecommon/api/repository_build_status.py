"""RepositoryBuildStatus: a request for the newest run of a workflow, or for another run of it."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from codecommon.api.meta import Resource, Wire
from codecommon.api.request import RequestSpec, RequestStatus

RERUN: Final = "rerun"
"""The ``action`` that starts the workflow again. Any other reports the newest run."""


class RepositoryBuildStatusSpec(RequestSpec):
    """``ref``: a branch or the SHA of a commit, whose runs count; of a rerun the branch to build. Empty: the default branch.

    ``max_log_lines``: of the end of a failed job's log, 1 to 1,000.
    """

    workflow_file_name: str
    action: str = "status"
    ref: str = ""
    max_log_lines: int = 200


class BuildJob(Wire):
    """``failure_log``: untrusted text, which the job wrote."""

    name: str = ""
    status: str = ""
    conclusion: str = ""
    failure_log: str = ""


class BuildRun(Wire):
    """A run of the workflow; ``found`` False: there is none, and nothing else is set. The words are the host's."""

    found: bool
    run_id: int | None = Field(None, alias="runID")
    status: str = ""
    conclusion: str = ""
    head_sha: str = Field("", alias="headSHA")
    html_url: str = Field("", alias="htmlURL")
    jobs: tuple[BuildJob, ...] = ()


class RepositoryBuildStatusStatus(RequestStatus):
    """``dispatched``: whether a run was started for this request."""

    dispatched: bool | None = None
    run: BuildRun | None = None


class RepositoryBuildStatus(Resource[RepositoryBuildStatusSpec, RepositoryBuildStatusStatus]):
    pass
