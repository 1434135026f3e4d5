"""What happens to the repository on the host when its object is deleted. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from codecommon.api.origin import is_recorded
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Retryable
from codecommon.controller.create_claim import CLAIM_WINDOW, stored_claim
from codecommon.githost.protocol import HostRepository
from repository_svc.decide import Found, origin_of


class OnHost(Enum):
    LEAVE = "leave it on the host"
    LOOK = "look at the host first"
    DELETE = "delete it"
    ARCHIVE = "archive it"


def decide_on_host(repo: Repository, *, leaving: bool) -> OnHost:
    """What follows from the object alone.

    ``leaving``: the workspace is giving up the API, which is not deleting. Only an explicit Delete is carried out then.
    """
    policy = repo.spec.deletion_policy
    may_exist = repo.status.repo_id is not None or repo.claim is not None
    if policy == "Orphan" or not may_exist or (leaving and policy != "Delete"):
        return OnHost.LEAVE
    if repo.spec.adoption_policy == "Observe":
        return OnHost.LEAVE
    if not is_recorded(repo.status.origin):
        return OnHost.LOOK
    if policy is None and repo.status.origin == "Adopted":
        return OnHost.LEAVE
    return OnHost.ARCHIVE if policy == "Archive" else OnHost.DELETE


def asks_who_made_it(repo: Repository) -> bool:
    """Whether the repository is deleted only because the object made it. Otherwise its policy says so, and an adopted one is
    deleted too, as far as the credential may.
    """
    return repo.spec.deletion_policy is None or repo.status.repo_id is None


def decide_after_look(repo: Repository, found: Found | None, now: datetime) -> OnHost:
    """After ``OnHost.LOOK``. ``found``: what the host shows under the id in status, or under the name if there is no id.

    Raises ``Retryable`` (``HostNotYetVisible``) while a repository may appear that was just created.
    """
    if not isinstance(found, HostRepository):
        claim = stored_claim(repo)
        if repo.status.repo_id is None and claim is not None and now - claim < CLAIM_WINDOW:
            raise Retryable(
                Reason.HOST_NOT_YET_VISIBLE,
                "waiting to see whether the repository was made before the object was deleted",
            )
        return OnHost.LEAVE
    origin = origin_of(repo, found)
    if origin == "Adopted" and asks_who_made_it(repo):
        return OnHost.LEAVE
    return OnHost.ARCHIVE if repo.spec.deletion_policy == "Archive" else OnHost.DELETE
