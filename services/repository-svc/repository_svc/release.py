"""What to do on the host when a Repository object goes. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from codecommon.api.annotations import CREATE_CLAIM
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Retryable
from codecommon.controller.create_claim import CLAIM_WINDOW, stored_claim
from codecommon.githost.protocol import HostRepository
from repository_svc.claim import origin_of
from repository_svc.decide import Found


class Release(Enum):
    LEAVE = "leave it on the host"
    LOOK = "look at the host first"
    DELETE = "delete it"
    ARCHIVE = "archive it"


def decide_release(repo: Repository, *, leaving: bool) -> Release:
    """What is known without asking the host.

    ``leaving``: the workspace is giving up the API, which is not deleting; only an explicit Delete is carried out then.
    """
    policy = repo.spec.deletion_policy
    made_something = repo.status.repo_id is not None or CREATE_CLAIM in repo.metadata.annotations
    if policy == "Orphan" or not made_something or (leaving and policy != "Delete"):
        return Release.LEAVE
    if repo.spec.adoption_policy == "Observe":
        return Release.LEAVE
    if repo.status.origin is None:
        # Either a crash hid the answer to our create, or today's provider left no record of who made it.
        return Release.LOOK
    if policy is None and repo.status.origin == "Adopted":
        return Release.LEAVE
    return Release.ARCHIVE if policy == "Archive" else Release.DELETE


def decide_found(repo: Repository, seen: Found | None, now: datetime) -> Release:
    """After ``Release.LOOK``: what the host shows under the id in status, or else under the name."""
    if not isinstance(seen, HostRepository):
        claim = stored_claim(repo)
        if repo.status.repo_id is None and claim is not None and now - claim < CLAIM_WINDOW:
            raise Retryable(
                Reason.HOST_NOT_YET_VISIBLE,
                "waiting to see whether the repository was made before the object was deleted",
            )
        return Release.LEAVE
    origin = origin_of(repo, seen)
    if origin == "Adopted" and (repo.spec.deletion_policy is None or repo.status.repo_id is None):
        return Release.LEAVE
    return Release.ARCHIVE if repo.spec.deletion_policy == "Archive" else Release.DELETE
