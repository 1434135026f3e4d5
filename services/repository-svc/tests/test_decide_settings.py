"""Which settings are sent, and which are left as found: one row per rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from codecommon.api.repository import Repository
from codecommon.githost.protocol import HostRepository, RepositoryChanges
from codecommon.testing.builders import parse_repository, repository_object
from codecommon.testing.repositories import NOW, SEEN
from repository_svc import decide


def repo(*, generation: int = 1, status: dict[str, Any] | None = None, **spec: Any) -> Repository:
    """``spec`` by wire name."""
    metadata: dict[str, Any] = {"generation": generation, "creationTimestamp": NOW.isoformat()}
    return parse_repository(repository_object(metadata=metadata, status=status, **spec))


def seen(**changes: Any) -> HostRepository:
    return replace(SEEN, **changes)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


OURS = {"repoID": "7", "origin": "Created"}
ADOPTED = {"repoID": "7", "origin": "Adopted"}
LEGACY = {"repoID": "7"}

NO_CHANGES = RepositoryChanges()


@dataclass(frozen=True)
class Settings:
    repo: Repository
    seen: HostRepository
    changes: RepositoryChanges = NO_CHANGES
    wants_branch: str | None = None
    unmanaged: tuple[str, ...] = ()
    """The names of the settings that are reported as different and left alone."""


SETTLED: dict[str, Any] = {**OURS, "observedGeneration": 1, "visibility": "private"}
SETTINGS = {
    "absent from spec: not managed": Settings(repo(status=SETTLED), seen(visibility="public", default_branch="x")),
    "a description that differs is applied": Settings(
        repo(description="new", status=SETTLED), seen(), RepositoryChanges(description="new")
    ),
    "an empty description is a description": Settings(
        repo(description="", status=SETTLED), seen(), RepositoryChanges(description="")
    ),
    "a description that is there already is not sent": Settings(repo(description="as found", status=SETTLED), seen()),
    "a final line end is no part of a description": Settings(
        repo(description="as found\n", status=SETTLED), seen()
    ),
    "a description that differs is sent without white space around it": Settings(
        repo(description="\n new \n\n", status=SETTLED), seen(), RepositoryChanges(description="new")
    ),
    "nor is one that the host shows": Settings(
        repo(description="as found", status=SETTLED), seen(description="as found\n")
    ),
    "a default branch that differs is wanted": Settings(
        repo(defaultBranch="trunk", status=SETTLED), seen(), wants_branch="trunk"
    ),
    "the default branch that it is already is not looked for": Settings(repo(defaultBranch="main", status=SETTLED), seen()),
    "an edit that says public makes it public": Settings(
        repo(visibility="public", generation=2, status=SETTLED), seen(), RepositoryChanges(visibility="public")
    ),
    "an edit that says private makes it private": Settings(
        repo(visibility="private", generation=2, status={**SETTLED, "visibility": "public"}),
        seen(visibility="public"),
        RepositoryChanges(visibility="private"),
    ),
    "ours drifted from private to public: made private again": Settings(
        repo(visibility="private", status=SETTLED), seen(visibility="public"), RepositoryChanges(visibility="private")
    ),
    "ours drifted from public to private: not made public by a drift pass": Settings(
        repo(visibility="public", status={**SETTLED, "visibility": "public"}), seen(), unmanaged=("visibility",)
    ),
    "adopted and drifted: its visibility is not changed without an edit": Settings(
        repo(visibility="private", status={**SETTLED, **ADOPTED}), seen(visibility="public"), unmanaged=("visibility",)
    ),
    "adopted and edited to public: made public": Settings(
        repo(visibility="public", generation=2, status={**SETTLED, **ADOPTED}),
        seen(),
        RepositoryChanges(visibility="public"),
    ),
    "adoption does not change the visibility": Settings(
        repo(visibility="public"), seen(created_at=after(-60)), unmanaged=("visibility",)
    ),
    "take-over sends nothing and reports what differs": Settings(
        repo(
            description="new",
            defaultBranch="trunk",
            visibility="public",
            status={**LEGACY, "observedGeneration": 1},
        ),
        seen(),
        unmanaged=("description", "defaultBranch", "visibility"),
    ),
    "taken over and not edited since: nothing is sent": Settings(
        repo(description="new", status={**SETTLED, "baselineGeneration": 1}), seen(), unmanaged=("description",)
    ),
    "taken over and edited since: everything is applied": Settings(
        repo(description="new", defaultBranch="trunk", generation=2, status={**SETTLED, "baselineGeneration": 1}),
        seen(),
        RepositoryChanges(description="new"),
        wants_branch="trunk",
    ),
    "taken over, its description edited: it is not made public by that": Settings(
        repo(
            description="new",
            visibility="public",
            generation=2,
            status={**SETTLED, "visibility": "public", "baselineGeneration": 1},
        ),
        seen(),
        RepositoryChanges(description="new"),
        unmanaged=("visibility",),
    ),
    "Observe: nothing is sent": Settings(
        repo(description="new", visibility="public", generation=2, adoptionPolicy="Observe", status=SETTLED),
        seen(),
        unmanaged=("description", "visibility"),
    ),
    "archived on the host: nothing is sent": Settings(
        repo(description="new", visibility="public", generation=2, status=SETTLED),
        seen(archived=True),
        unmanaged=("description", "visibility"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS.values(), ids=SETTINGS)
def test_settings(case: Settings) -> None:
    bound = decide.Bind(case.seen, decide.origin_of(case.repo, case.seen))
    decided = decide.decide_settings(case.repo, bound)
    assert decided.changes == case.changes
    assert decided.wants_branch == case.wants_branch
    assert tuple(decided.unmanaged) == case.unmanaged
    assert [c.type for c in decided.conditions] == (["SettingsDiffer"] if case.unmanaged else [])


BASELINES = {
    "created or adopted: nothing is left as found": (repo(generation=2), None),
    "taken over: this one": (repo(generation=3, status={**LEGACY, "observedGeneration": 3}), 3),
    "taken over, edited since the Go provider observed it: this one too, a take-over never writes": (
        repo(generation=4, status={**LEGACY, "observedGeneration": 3}), 4,
    ),
    "on record: kept": (repo(generation=5, status={**OURS, "baselineGeneration": 2}), 2),
    "on record as none: kept": (repo(generation=5, status=OURS), None),
    "made again in place of one that is gone: nothing is left as found": (
        repo(generation=5, status={"repoID": "6", "origin": "Created"}), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("object_", "wanted"), BASELINES.values(), ids=BASELINES)
def test_baseline(object_: Repository, wanted: int | None) -> None:
    assert decide.baseline(object_, SEEN) == wanted
