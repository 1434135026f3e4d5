"""RepositoryCommit: a request for one commit, made from a bundle of files."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from codecommon.api.meta import Resource, Wire
from codecommon.api.request import BundleRef, RequestSpec, RequestStatus


class CommitSource(Wire):
    bundle_ref: BundleRef


class RepositoryCommitSpec(RequestSpec):
    """``branch`` empty: the repository's default branch."""

    branch: str = ""
    message: str = ""
    source: CommitSource


class RepositoryCommitStatus(RequestStatus):
    """``files`` and ``source`` are in the stored status, too. Nothing reads them here."""

    branch: str | None = None
    commit_sha: str | None = Field(None, alias="commitSHA")
    commit_url: str | None = Field(None, alias="commitURL")
    started_at: datetime | None = None


class RepositoryCommit(Resource[RepositoryCommitSpec, RepositoryCommitStatus]):
    pass
