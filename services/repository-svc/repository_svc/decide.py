"""What to do about one repository: whose it is, whether to create it, which settings to send. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from codecommon.api import go_provider
from codecommon.api.claim import Claim
from codecommon.api.meta import Condition
from codecommon.api.origin import Origin
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Repository, Visibility
from codecommon.api.results import Interruption, Retryable, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.conditions import condition
from codecommon.controller.create_claim import claim_for, is_under_claim
from codecommon.githost.protocol import (
    Absent,
    CredentialRejected,
    HostRepository,
    OwnerKind,
    Redirected,
    RepositoryChanges,
    RepositoryRequest,
)

CONDITIONS: Final = frozenset(
    {ConditionType.SETTINGS_DIFFER, ConditionType.DEFAULT_BRANCH_PENDING, ConditionType.ARCHIVED}
)
ARCHIVED: Final = condition(
    ConditionType.ARCHIVED, "True", Reason.ARCHIVED_ON_HOST, "read-only on the host; settings are not sent"
)

_LAG: Final = timedelta(minutes=10)
"""A host is eventually consistent: 404s for less than this time do not mean that the repository is missing."""
# A repository that only this credential does not see must not go with its object.
_LET_GO: Final = "set spec.deletionPolicy to Orphan and delete this object"
_WIDTH: Final[dict[Visibility, int]] = {"private": 0, "internal": 1, "public": 2}

Found = HostRepository | Absent | Redirected
"""What the host shows under an id or a name."""


# ---- whose it is


@dataclass(frozen=True, slots=True)
class Create:
    """Create it. ``claim``: the create claim that is stored first."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Bind:
    """It is on the host and the object stands for it."""

    seen: HostRepository
    origin: Origin


def origin_of(repo: Repository, seen: HostRepository) -> Origin:
    """Who made ``seen``: what status records for its id, else what the create claim says."""
    if repo.status.repo_id == seen.id:
        return go_provider.resolve_origin(
            repo.status.origin, object_created_at=repo.metadata.creation_timestamp, made_at=seen.created_at
        )
    return "Created" if is_under_claim(repo, seen.created_at) else "Adopted"


def decide_bound(repo: Repository, found: Found, now: datetime) -> Bind | None:
    """For an object that has a repository. ``found``: what the host shows under its id, else under its name.

    None: the repository is missing and spec says that it is to be made again. Raises ``Retryable`` (``HostNotYetVisible``) while
    the host may lag, and ``Terminal`` (``HostObjectMissing``) then. Both record since when it is missing.
    """
    if isinstance(found, HostRepository) and found.id == repo.status.repo_id:
        return Bind(found, origin_of(repo, found))
    # Another process's clock may have been ahead.
    since = min(repo.status.missing_since or now, now)
    status = {"missingSince": rfc3339(since)}
    if now - since < _LAG:
        raise Retryable(
            Reason.HOST_NOT_YET_VISIBLE,
            f"{_last_seen(repo, since)}; looking again until {rfc3339(since + _LAG)}",
            status=status,
        )
    if _may_create(repo) and repo.spec.missing_policy == "Recreate":
        return None
    raise Terminal(Reason.HOST_OBJECT_MISSING, _report(repo, found, since), status=status)


def look_due(repo: Repository, now: datetime) -> bool:
    """Whether a missing repository is still looked for, which must not wait for the next resync."""
    return repo.status.missing_since is not None and repo.status.condition(ConditionType.STALLED) is None


def _may_create(repo: Repository) -> bool:
    return repo.spec.adoption_policy not in ("AdoptOnly", "Observe")


def _last_seen(repo: Repository, since: datetime) -> str:
    where = repo.status.html_url or f"{repo.status.owner}/{repo.spec.name} on {repo.status.host}"
    return (
        f"the host has not shown the repository with the id {repo.status.repo_id} since {rfc3339(since)}; "
        f"it was last seen at {where}"
    )


def _report(repo: Repository, found: Found, since: datetime) -> str:
    """What is known of a missing repository and what a person can do. An empty one in its place would look like health."""
    otherwise = _LET_GO
    match found:
        case HostRepository():
            now = f", and another repository (id {found.id}) has its name now"
        case Redirected():
            now = f", and its name now leads to {found.location}"
        case Absent():
            now = ""
            if _may_create(repo):
                otherwise = "set spec.missingPolicy to Recreate to have a new, empty one made"
    return (
        f"{_last_seen(repo, since)}{now}. It was deleted, moved to another account, or this credential may not see it any more. "
        f"Give the credential access to it, restore it or transfer it back; or {otherwise}"
    )


def decide_unbound(repo: Repository, found: Found, claim_key: str | None = None) -> Create | Bind:
    """For an object that has no repository, or one that is to be made again. ``found``: what the host shows under the name.
    ``claim_key``: the ``Claim.key`` of a create.

    Raises ``Terminal``: ``NameRedirected``, ``NameTaken``, ``HostObjectMissing``.
    """
    policy = repo.spec.adoption_policy
    match found:
        case Redirected():
            raise Terminal(
                Reason.NAME_REDIRECTED,
                f"{repo.spec.name!r} was renamed on the host and the old name leads to {found.location}; "
                "make a Repository with the new name, or choose another",
            )
        case Absent():
            if not _may_create(repo):
                raise Terminal(
                    Reason.HOST_OBJECT_MISSING,
                    f"there is no repository to adopt, and adoptionPolicy {policy} creates none",
                )
            return Create(claim_for(repo, found.since, bound=repo.status.repo_id is not None, key=claim_key))
        case HostRepository():
            return bind(repo, found, origin_of(repo, found))


def bind(repo: Repository, found: HostRepository, origin: Origin) -> Bind:
    """For an object that has no repository, or one that is to be made again. Raises ``Terminal``: ``NameTaken``,
    ``HostObjectMissing``.
    """
    if origin == "Adopted" and repo.status.repo_id is not None:
        raise Terminal(
            Reason.HOST_OBJECT_MISSING,
            f"repository {repo.status.repo_id} is missing on the host, and another one has its name now; "
            f"{_LET_GO}, and make a new one if that other repository is wanted",
        )
    if origin == "Adopted" and repo.spec.adoption_policy == "CreateOnly":
        raise Terminal(
            Reason.NAME_TAKEN,
            "a repository of that name exists and was not made by this object; "
            "choose another name, or set adoptionPolicy to AdoptOrCreate",
        )
    return Bind(found, origin)


def creation(repo: Repository, owner: str, kind: OwnerKind | None) -> RepositoryRequest:
    """The request that creates it. Raises ``Terminal`` (``OwnerNotFound``) for an owner that the host does not show."""
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
        description=(repo.spec.description or "").strip(),
        auto_init=repo.spec.auto_init,
    )


# ---- its settings


@dataclass(frozen=True, slots=True)
class Settings:
    """``changes``: what to send. ``wants_branch``: the default branch to set if it exists.

    ``unmanaged``: the fields of spec that differ on the host and are left as found, by wire name, with what to say of each.
    """

    changes: RepositoryChanges
    wants_branch: str | None
    unmanaged: Mapping[str, str]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        if not self.unmanaged:
            return ()
        message = "left as found on the host: " + ", ".join(self.unmanaged.values())
        return (condition(ConditionType.SETTINGS_DIFFER, "True", Reason.LEFT_AS_FOUND, message),)


def decide_settings(repo: Repository, bound: Bind) -> Settings:
    """Compare the fields that are present in spec with the host.

    Nothing is sent at the baseline generation, to an archived repository, or with adoptionPolicy Observe.
    """
    spec, seen = repo.spec, bound.seen
    frozen = baseline(repo, seen) == repo.metadata.generation or seen.archived or spec.adoption_policy == "Observe"
    # A YAML block ends with a line end, which the host refuses.
    description = spec.description.strip() if spec.description is not None else None
    description = None if description == seen.description.strip() else description
    branch = spec.default_branch if spec.default_branch and spec.default_branch != seen.default_branch else None
    visibility = spec.visibility if spec.visibility is not None and spec.visibility != seen.visibility else None
    unmanaged: dict[str, str] = {}
    if frozen:
        unmanaged |= {"description": "description"} if description is not None else {}
        unmanaged |= {"defaultBranch": "defaultBranch"} if branch is not None else {}
        description = branch = None
    if visibility is not None and (frozen or not _may_set_visibility(repo, bound, visibility)):
        unmanaged["visibility"] = f"visibility ({seen.visibility}; edit spec.visibility to change it)"
        visibility = None
    return Settings(RepositoryChanges(visibility=visibility, description=description), branch, unmanaged)


def one_by_one(settings: Settings, seen: HostRepository) -> list[tuple[str, RepositoryChanges]]:
    """What to send, a setting at a time and by its wire name, so that a refused one holds up no other.

    What narrows access goes first, and what widens it goes last.
    """
    visibility = settings.changes.visibility
    access = [] if visibility is None else [("visibility", RepositoryChanges(visibility=visibility))]
    others: list[tuple[str, RepositoryChanges]] = []
    if settings.changes.description is not None:
        others.append(("description", RepositoryChanges(description=settings.changes.description)))
    if settings.wants_branch is not None:
        others.append(("defaultBranch", RepositoryChanges(default_branch=settings.wants_branch)))
    narrows = visibility is not None and _WIDTH[visibility] < _WIDTH[seen.visibility]
    return access + others if narrows else others + access


def ends_sending(refused: Interruption) -> bool:
    """Whether the next setting would meet the same: the credential is not taken, or the host named a time to come back."""
    return isinstance(refused, CredentialRejected) or (isinstance(refused, Retryable) and refused.after is not None)


def refusal_of(refused: Sequence[tuple[str, Interruption]]) -> Interruption:
    """One result for the settings that were refused, by wire name, at least one. Its message reports each of them.

    What can be tried again decides, because it is still to be applied. Once it is, what is final shows.
    """
    results = [result for _, result in refused]
    pending = [r for r in results if ends_sending(r) or isinstance(r, Retryable)]
    decisive = pending[-1] if pending else results[0]
    return decisive.reworded("; ".join(f"{name} is not set: {result.message}" for name, result in refused))


def baseline(repo: Repository, seen: HostRepository) -> int | None:
    """The generation whose settings were taken as found on ``seen``. A baseline speaks of the repository in status only."""
    return repo.status.baseline_generation if repo.status.repo_id == seen.id else None


def _may_set_visibility(repo: Repository, bound: Bind, wanted: Visibility) -> bool:
    """An edit of the field always counts. Drift is repaired only towards narrower, and only where we made the repository."""
    if repo.status.repo_id is not None and wanted != repo.status.visibility:
        return True
    return bound.origin == "Created" and _WIDTH[wanted] < _WIDTH[bound.seen.visibility]


def branch_pending(branch: str) -> Condition:
    return condition(
        ConditionType.DEFAULT_BRANCH_PENDING,
        "True",
        Reason.BRANCH_MISSING,
        f"branch {branch!r} does not exist; it becomes the default once it does",
    )


# ---- what status says


def status_of(repo: Repository, bound: Bind, host: str, owner: str) -> dict[str, Any]:
    """Status fields by wire name. ``host`` and ``owner``: where the repository is.

    ``visibility`` keeps its value while the repository is archived, so that an edit made meanwhile is sent later.
    """
    seen, pinned = bound.seen, repo.status.owner
    unsent_edit = seen.archived and repo.status.origin is not None
    return {
        "repoID": seen.id,
        "missingSince": None,
        "htmlURL": seen.html_url,
        "cloneURL": seen.clone_url,
        "sshURL": seen.ssh_url,
        "origin": bound.origin,
        "host": host,
        "owner": pinned if pinned and pinned.lower() == owner.lower() else owner,
        "baselineGeneration": baseline(repo, seen),
        "visibility": repo.status.visibility if unsent_edit else repo.spec.visibility,
    }
