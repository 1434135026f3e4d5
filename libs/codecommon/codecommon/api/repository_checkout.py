"""RepositoryCheckout: a request for the text files of a repository at a ref, which are stored as a bundle."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from codecommon.api.meta import Resource
from codecommon.api.request import BundleRef, RequestSpec, RequestStatus


class RepositoryCheckoutSpec(RequestSpec):
    """``ref``: a branch, a tag or a commit. Empty: the repository's default branch."""

    ref: str = ""


class RepositoryCheckoutStatus(RequestStatus):
    """``bundle_ref`` None: there is nothing to read, as in an empty repository. ``skipped``: what is left out, and why."""

    ref: str | None = None
    commit_sha: str | None = Field(None, alias="commitSHA")
    bundle_ref: BundleRef | None = None
    skipped: tuple[str, ...] = ()
    started_at: datetime | None = None


class RepositoryCheckout(Resource[RepositoryCheckoutSpec, RepositoryCheckoutStatus]):
    pass
