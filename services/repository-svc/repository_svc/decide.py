"""What to do about one repository. Pure: observations in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Origin, Repository
from codecommon.api.results import Retryable, Terminal
from codecommon.controller.conditions import condition
from codecommon.controller.create_claim import claim_for, stored_claim
from codecommon.githost.protocol import Absent, HostRepository, OwnerKind, Redirected, RepositoryRequest
from repository_svc.claim import origin_of

YOUNG: Final = timedelta(minutes=10)
"""A host is eventually consistent: a 404 within this time of our create does not mean that the repository is gone."""

CONDITIONS: Final = frozenset(
    {ConditionType.SETTINGS_DIFFER, ConditionType.DEFAULT_BRANCH_PENDING, ConditionType.ARCHIVED}
)
ARCHIVED: Final = condition(
    ConditionType.ARCHIVED, "True", Reason.ARCHIVED_ON_HOST, "read-only on the host; settings are not sent"
)


@dataclass(frozen=True, slots=True)
class Create:
    """Make it. ``claim``: the value of the create claim to be stored first."""

    claim: str


@dataclass(frozen=True, slots=True)
class Keep:
    """It is there and belongs to this object, by way of ``origin``."""

    seen: HostRepository
    origin: Origin


Found = HostRepository | Absent | Redirected


def decide_unbound(repo: Repository, seen: Found) -> Create | Keep:
    """What to do for an object that has no repository yet."""
    policy = repo.spec.adoption_policy
    match seen:
        case Redirected():
            raise Terminal(
                Reason.NAME_REDIRECTED,
                f"{repo.spec.name!r} was renamed on the host and the old name leads to {seen.location}; "
                "make a Repository with the new name, or choose another",
            )
        case Absent():
            if policy in ("AdoptOnly", "Observe"):
                raise Terminal(
                    Reason.HOST_OBJECT_MISSING,
                    f"there is no repository to adopt, and adoptionPolicy {policy} creates none",
                )
            return Create(claim_for(repo, seen.since, bound=repo.status.repo_id is not None))
        case HostRepository():
            origin = origin_of(repo, seen)
            if origin == "Adopted" and repo.status.repo_id is not None:
                raise Terminal(
                    Reason.HOST_OBJECT_MISSING,
                    f"repository {repo.status.repo_id} no longer exists on the host, and another one has its name now; "
                    "delete this object, and make a new one if that other repository is wanted",
                )
            if origin == "Adopted" and policy == "CreateOnly":
                raise Terminal(
                    Reason.NAME_TAKEN,
                    "a repository of that name exists and was not made by this object; "
                    "choose another name, or set adoptionPolicy to AdoptOrCreate",
                )
            return Keep(seen, origin)


def decide_bound(repo: Repository, seen: HostRepository | None, now: datetime) -> Keep | None:
    """What to do for an object that has a repository. None: it is gone for good and may be made again."""
    if seen is not None:
        return Keep(seen, origin_of(repo, seen))
    claim = stored_claim(repo)
    if claim is not None and now - claim < YOUNG:
        raise Retryable(Reason.HOST_NOT_YET_VISIBLE, "the host does not show the new repository yet")
    if repo.status.origin != "Created" or repo.spec.adoption_policy in ("AdoptOnly", "Observe"):
        raise Terminal(
            Reason.HOST_OBJECT_MISSING,
            f"repository {repo.status.repo_id} no longer exists on the host, or this credential may not see it, and it "
            "was not made by this object; restore it, or delete this object",
        )
    return None


def creation(repo: Repository, owner: str, kind: OwnerKind | None) -> RepositoryRequest:
    """The request that makes it; raises ``Terminal`` (``OwnerNotFound``) for an owner that the host does not show."""
    if kind is None:
        raise Terminal(
            Reason.OWNER_NOT_FOUND,
            f"the host knows no user or organisation {owner!r}, or this credential may not see it; correct the owner, "
            "or give the credential access to it",
        )
    return RepositoryRequest(
        owner=owner,
        owner_kind=kind,
        name=repo.spec.name,
        visibility=repo.spec.visibility or "private",
        description=repo.spec.description or "",
        auto_init=repo.spec.auto_init,
    )


def status_of(
    repo: Repository, seen: HostRepository, origin: Origin, host: str, owner: str, baseline: int | None
) -> dict[str, Any]:
    """Status fields by wire name. ``visibility`` stays what it was while an edit of it cannot be sent; what was wanted before
    the repository became ours is no edit."""
    unsent_edit = seen.archived and repo.status.origin is not None
    return {
        "repoID": seen.id,
        "htmlURL": seen.html_url,
        "cloneURL": seen.clone_url,
        "sshURL": seen.ssh_url,
        "origin": origin,
        "host": host,
        "owner": repo.status.owner or owner,
        "baselineGeneration": baseline,
        "visibility": repo.status.visibility if unsent_edit else repo.spec.visibility,
    }
