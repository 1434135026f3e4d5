"""Settings: what differs between spec and host, what of it is sent, and what is only reported. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from codecommon.api.meta import Condition
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Origin, Repository, Visibility
from codecommon.controller.conditions import condition
from codecommon.githost.protocol import HostRepository, RepositoryChanges

_WIDTH: Final[dict[Visibility, int]] = {"private": 0, "internal": 1, "public": 2}


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
        return (condition(ConditionType.SETTINGS_DIFFER, "True", Reason.LEFT_AS_FOUND, message),)


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


def baseline_after(repo: Repository, seen: HostRepository) -> int | None:
    """The generation whose settings count as found and are not sent: the one at which an object of today's provider, which
    left an id and no origin, is taken over."""
    if repo.status.repo_id != seen.id:
        return None
    return repo.status.baseline_generation if repo.status.origin is not None else repo.metadata.generation


def branch_pending(branch: str) -> Condition:
    return condition(
        ConditionType.DEFAULT_BRANCH_PENDING,
        "True",
        Reason.BRANCH_MISSING,
        f"branch {branch!r} does not exist; it becomes the default once it does",
    )
