"""What to do about one repository. Pure: observations in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from codecommon.api.kinds import CREATE_CLAIM
from codecommon.api.meta import Condition
from codecommon.api.repository import Origin, Repository, Visibility
from codecommon.conditions import condition
from codecommon.errors import Retryable, Terminal
from codecommon.githost.backend import (
    Absent,
    HostRepository,
    OwnerKind,
    Redirected,
    RepositoryChanges,
    RepositoryRequest,
)

CLAIM_WINDOW: Final = timedelta(minutes=2)
"""A repository made this long after the claim is ours: a create that the host takes this long to carry out has failed."""

YOUNG: Final = timedelta(minutes=10)
"""A host is eventually consistent: a 404 within this time of our create does not mean that the repository is gone."""

CONDITIONS: Final = frozenset({"SettingsDiffer", "DefaultBranchPending", "Archived"})

ARCHIVED: Final = condition("Archived", "True", "ArchivedOnHost", "read-only on the host; settings are not sent")

_WIDTH: Final[dict[Visibility, int]] = {"private": 0, "internal": 1, "public": 2}


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


def pinned_host(repo: Repository) -> str | None:
    """The host that the object is bound to. Today's provider left no host, but a URL."""
    status = repo.status
    return status.host or (urlsplit(status.html_url).netloc if status.html_url else None) or None


def pinned_owner(repo: Repository) -> str | None:
    status = repo.status
    if status.owner:
        return status.owner
    path = urlsplit(status.html_url).path.strip("/") if status.html_url else ""
    return path.split("/")[0] or None


def require_identity(repo: Repository, host: str, owner: str) -> None:
    """Raises ``Terminal`` (``IdentityConflict``) when the object would move to another host or owner."""
    if repo.status.repo_id is None:
        return
    bound_host, bound_owner = pinned_host(repo), pinned_owner(repo)
    if bound_host is not None and bound_host.lower() != host.lower():
        raise Terminal(
            "IdentityConflict",
            f"this object stands for a repository on {bound_host}, its Connection points to {host}; "
            "point spec.connectionRef back, or make a new Repository for the other host",
        )
    if bound_owner is not None and bound_owner.lower() != owner.lower():
        raise Terminal(
            "IdentityConflict",
            f"this object stands for a repository of {bound_owner}, its owner would now be {owner}; "
            f"set spec.owner to {bound_owner}, or make a new Repository for the other owner",
        )


def require_eldest(repo: Repository, others: list[Repository]) -> None:
    """Raises ``Terminal`` (``DuplicateRepository``) when an older object in the workspace stands for the same repository."""

    def age(candidate: Repository) -> tuple[datetime, str]:
        return candidate.metadata.creation_timestamp, candidate.metadata.uid

    elder = min((o for o in others if o.metadata.uid != repo.metadata.uid), key=age, default=None)
    if elder is not None and age(elder) < age(repo):
        raise _duplicate(elder)


def decide_unbound(repo: Repository, seen: Found) -> Create | Keep:
    """What to do for an object that has no repository yet."""
    policy = repo.spec.adoption_policy
    match seen:
        case Redirected():
            raise Terminal(
                "NameRedirected",
                f"{repo.spec.name!r} was renamed on the host and the old name leads to {seen.location}; "
                "make a Repository with the new name, or choose another",
            )
        case Absent():
            if policy in ("AdoptOnly", "Observe"):
                raise Terminal(
                    "HostObjectMissing", f"there is no repository to adopt, and adoptionPolicy {policy} creates none"
                )
            return Create(_claim(repo, seen))
        case HostRepository():
            origin = origin_of(repo, seen)
            if origin == "Adopted" and policy == "CreateOnly":
                raise Terminal(
                    "NameTaken",
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
        raise Retryable("HostNotYetVisible", "the host does not show the new repository yet")
    if repo.status.origin != "Created" or repo.spec.adoption_policy in ("AdoptOnly", "Observe"):
        raise Terminal(
            "HostObjectMissing",
            f"repository {repo.status.repo_id} no longer exists on the host, or this credential may not see it, and it "
            "was not made by this object; restore it, or delete this object",
        )
    return None


@dataclass(frozen=True, slots=True)
class Settings:
    """Which settings to send, and what to say about those that are not sent."""

    changes: RepositoryChanges
    wants_branch: str | None
    differing: tuple[str, ...]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        if not self.differing:
            return ()
        message = "left as found on the host: " + ", ".join(self.differing)
        return (condition("SettingsDiffer", "True", "LeftAsFound", message),)


def decide_settings(repo: Repository, seen: HostRepository, origin: Origin, baseline: int | None) -> Settings:
    """Compare the fields that are present in spec with the host.

    Nothing is sent at the generation that was taken as found (``baseline``), to an archived repository, or with
    adoptionPolicy Observe.
    """
    spec = repo.spec
    frozen = baseline == repo.metadata.generation or seen.archived or spec.adoption_policy == "Observe"
    description = spec.description if spec.description is not None and spec.description != seen.description else None
    branch = spec.default_branch if spec.default_branch and spec.default_branch != seen.default_branch else None
    visibility = spec.visibility if spec.visibility is not None and spec.visibility != seen.visibility else None
    differing: list[str] = []
    if frozen:
        differing += ["description"] if description is not None else []
        differing += ["defaultBranch"] if branch is not None else []
        description = branch = None
    if visibility is not None and (frozen or not _may_change_visibility(repo, seen, origin)):
        differing.append(f"visibility ({seen.visibility}; edit spec.visibility to change it)")
        visibility = None
    return Settings(RepositoryChanges(visibility=visibility, description=description), branch, tuple(differing))


def _may_change_visibility(repo: Repository, seen: HostRepository, origin: Origin) -> bool:
    """Taking over never may, an edit of the field always; drift is repaired only towards narrower, on what we made."""
    wanted, status = repo.spec.visibility, repo.status
    assert wanted is not None
    if status.repo_id is not None and status.origin is None:
        return False
    if status.repo_id is not None and wanted != status.visibility:
        return True
    return origin == "Created" and _WIDTH[wanted] < _WIDTH[seen.visibility]


def baseline_after(repo: Repository, seen: HostRepository, origin: Origin) -> int | None:
    """The generation whose settings count as found: set when a repository is adopted or taken over, then kept.

    An object that today's provider left and that was edited since is at a later generation than the one it observed.
    """
    if repo.status.repo_id == seen.id:
        if repo.status.origin is not None:
            return repo.status.baseline_generation
        return repo.status.observed_generation or repo.metadata.generation
    return repo.metadata.generation if origin == "Adopted" else None


def branch_pending(branch: str) -> Condition:
    return condition(
        "DefaultBranchPending",
        "True",
        "BranchMissing",
        f"branch {branch!r} does not exist; it becomes the default once it does",
    )


def creation(repo: Repository, owner: str, kind: OwnerKind | None) -> RepositoryRequest:
    """The request that makes it; raises ``Terminal`` (``OwnerNotFound``) for an owner that the host does not show."""
    if kind is None:
        raise Terminal(
            "OwnerNotFound",
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


def namesakes(
    repo: Repository, candidates: list[Repository], owner: str, connection_owner: str
) -> list[Repository]:
    """Those of ``candidates`` (same ``spec.name``) that mean the same repository through the same Connection."""
    return [
        other
        for other in candidates
        if other.spec.connection_ref == repo.spec.connection_ref
        and (other.spec.owner or connection_owner).lower() == owner.lower()
    ]


def require_unclaimed(repo: Repository, seen: HostRepository, host: str, others: list[Repository]) -> None:
    """Raises ``Terminal`` (``DuplicateRepository``) when another object of the workspace is bound to ``seen`` already."""
    for other in others:
        if other.metadata.uid != repo.metadata.uid and other.status.repo_id == seen.id and pinned_host(other) == host:
            raise _duplicate(other)


def _duplicate(other: Repository) -> Terminal:
    return Terminal(
        "DuplicateRepository",
        f"Repository {other.name!r} in this workspace stands for the same repository; delete one of the two",
    )


# ---- the create claim


def _claim(repo: Repository, seen: Absent) -> str:
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
