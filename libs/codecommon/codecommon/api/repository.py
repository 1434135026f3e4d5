"""Repository: one repository on a git host."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from codecommon.api.meta import BaseStatus, Resource, Wire

Visibility = Literal["private", "public", "internal"]
AdoptionPolicy = Literal["AdoptOrCreate", "CreateOnly", "AdoptOnly", "Observe"]
DeletionPolicy = Literal["Delete", "Orphan", "Archive"]
Origin = Literal["Created", "Adopted"]


class RepositorySpec(Wire):
    connection_ref: str
    name: str
    owner: str | None = None
    visibility: Visibility | None = None
    description: str | None = None
    default_branch: str | None = None
    auto_init: bool = False
    adoption_policy: AdoptionPolicy = "AdoptOrCreate"
    deletion_policy: DeletionPolicy | None = None


class RepositoryStatus(BaseStatus):
    """``repo_id`` is the host's numeric id in decimal; with ``host`` it is the repository's identity.

    ``baseline_generation``: the generation whose settings were taken as found on the host and are not applied.
    ``visibility``: the visibility in spec that was last acted on, so that a later edit can be told from an old wish.
    """

    repo_id: str | None = Field(None, alias="repoID")
    html_url: str | None = Field(None, alias="htmlURL")
    clone_url: str | None = Field(None, alias="cloneURL")
    ssh_url: str | None = Field(None, alias="sshURL")
    origin: Origin | None = None
    host: str | None = None
    owner: str | None = None
    baseline_generation: int | None = None
    visibility: Visibility | None = None

    @property
    def bound(self) -> bool:
        return self.repo_id is not None


class Repository(Resource[RepositorySpec, RepositoryStatus]):
    @property
    def pinned_host(self) -> str | None:
        """The host that the object is bound to. Today's provider left no host, but a URL."""
        url = self.status.html_url
        return self.status.host or (urlsplit(url).netloc if url else None) or None
