"""The create claim: how a repository that was made in a pass nobody finished is recognised. Pure.

Before a create, the Date of the 404 that was observed is stored on the object. What the host made within ``CLAIM_WINDOW`` after
it is ours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from codecommon.api.kinds import CREATE_CLAIM
from codecommon.api.repository import Origin, Repository
from codecommon.githost.backend import Absent, HostRepository

CLAIM_WINDOW: Final = timedelta(minutes=2)
"""A create that the host takes longer than this to carry out has failed."""


def claim_for(repo: Repository, seen: Absent) -> str:
    """The claim for a create now. One that an earlier pass stored stays while what it made may still be invisible."""
    stored = stored_claim(repo)
    if stored is not None and repo.status.repo_id is None and seen.since - stored < CLAIM_WINDOW:
        return repo.metadata.annotations[CREATE_CLAIM]
    return seen.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stored_claim(repo: Repository) -> datetime | None:
    text = repo.metadata.annotations.get(CREATE_CLAIM)
    if not text:
        return None
    try:
        claim = datetime.fromisoformat(text)
    except ValueError:
        return None
    return claim if claim.tzinfo else claim.replace(tzinfo=UTC)


def origin_of(repo: Repository, seen: HostRepository) -> Origin:
    """Who made it: what status records of this id; else the claim. Today's provider recorded nothing, and what is not older
    than the object counts as made by it."""
    if repo.status.repo_id == seen.id:
        if repo.status.origin is not None:
            return repo.status.origin
        return "Created" if seen.created_at >= repo.metadata.creation_timestamp else "Adopted"
    claim = stored_claim(repo)
    return "Created" if claim is not None and claim <= seen.created_at <= claim + CLAIM_WINDOW else "Adopted"
