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


class BuildRun(Wire):
    """``run_id`` None: there was no run. What else is said of a run is for the caller. Nothing reads that here."""

    run_id: int | None = Field(None, alias="runID")


class RepositoryBuildStatusStatus(RequestStatus):
    run: BuildRun | None = None


class RepositoryBuildStatus(Resource[RepositoryBuildStatusSpec, RepositoryBuildStatusStatus]):
    pass
