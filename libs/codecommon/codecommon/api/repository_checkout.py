"""RepositoryCheckout: a request for the text files of a repository at a ref, which are stored as a bundle."""

from __future__ import annotations

from codecommon.api.meta import Resource
from codecommon.api.request import RequestSpec, RequestStatus


class RepositoryCheckoutSpec(RequestSpec):
    """``ref``: a branch, a tag or a commit. Empty: the repository's default branch."""

    ref: str = ""


class RepositoryCheckout(Resource[RepositoryCheckoutSpec, RequestStatus]):
    """``status`` says what was read, and which bundle has it, too. Nothing reads that here."""
