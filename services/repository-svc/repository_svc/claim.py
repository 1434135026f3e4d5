"""Who made a repository. Pure."""

from __future__ import annotations

from codecommon.api.repository import Origin, Repository
from codecommon.controller.create_claim import claimed
from codecommon.githost.protocol import HostRepository


def origin_of(repo: Repository, seen: HostRepository) -> Origin:
    """Who made it: what status records of this id; else the claim. Today's provider recorded nothing, and what is not older
    than the object counts as made by it."""
    if repo.status.repo_id == seen.id:
        if repo.status.origin is not None:
            return repo.status.origin
        return "Created" if seen.created_at >= repo.metadata.creation_timestamp else "Adopted"
    return "Created" if claimed(repo, seen.created_at) else "Adopted"
