"""Kinds that the API serves and that no service reconciles yet. Their models hold the reference only."""

from __future__ import annotations

from codecommon.api.meta import BaseStatus, Resource, Wire


class RepositoryScopedSpec(Wire):
    """``repository_ref`` names the Repository object."""

    repository_ref: str


class RepositoryCommit(Resource[RepositoryScopedSpec, BaseStatus]):
    pass


class RepositoryCheckout(Resource[RepositoryScopedSpec, BaseStatus]):
    pass


class RepositoryBuildStatus(Resource[RepositoryScopedSpec, BaseStatus]):
    pass
