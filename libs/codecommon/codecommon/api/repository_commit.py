"""RepositoryCommit: a request for one commit, made from a bundle of files."""

from __future__ import annotations

from codecommon.api.meta import Resource, Wire
from codecommon.api.request import BundleRef, RequestSpec, RequestStatus


class CommitSource(Wire):
    bundle_ref: BundleRef


class RepositoryCommitSpec(RequestSpec):
    """``branch`` empty: the repository's default branch."""

    branch: str = ""
    message: str = ""
    source: CommitSource


class RepositoryCommit(Resource[RepositoryCommitSpec, RequestStatus]):
    """``status`` says what was committed, too. Nothing reads that here."""
