"""Repositories as tests of repository-svc need them, and what those tests look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from codecommon.api.claim import Claim
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.repository import Repository
from codecommon.api.times import rfc3339
from codecommon.controller.owner_record import repository
from codecommon.githost.protocol import HostRepository
from codecommon.testing.harness import World

NOW: Final = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SEEN: Final = HostRepository(
    id="7",
    owner="octocat",
    name="site",
    visibility="private",
    description="as found",
    default_branch="main",
    archived=False,
    created_at=NOW,
    html_url="https://git.example/octocat/site",
    clone_url="https://git.example/octocat/site.git",
    ssh_url="git@git.example:octocat/site.git",
)
"""What the host shows, made at ``NOW``."""
HELD: Final = {"finalizers": [REPOSITORIES.finalizer]}
"""Metadata of an object that has our finalizer."""
SITE: Final = {"host": "git.example", "owner": "octocat", "observedGeneration": 1}
"""Status of an object that was looked at."""


def held(**metadata: Any) -> dict[str, Any]:
    """Metadata of an object that has our finalizer."""
    return {**HELD, **metadata}


def claim_of_time(time: str | None) -> Claim | None:
    """A create claim of that time; None: none."""
    return Claim(datetime.fromisoformat(time)) if time is not None else None


def ago(seconds: float) -> str:
    return rfc3339(datetime.now(UTC) - timedelta(seconds=seconds))


def moment_ago(seconds: float) -> datetime:
    return datetime.fromisoformat(ago(seconds))


async def record_repository(world: World, made_at: datetime) -> None:
    """Let Repository ``site`` be recorded as the maker, at that time, of the repository in its status."""
    site = Repository.parse(world.stored("repositories", "site"), world.objects.workspace)
    assert site.status.host
    assert site.status.repo_id
    await world.ownership.record_made(repository(site.status.host, site.status.repo_id), site, made_at)


def made(world: World) -> list[str]:
    """What was done to the host, in order."""
    return [method for method, _ in world.host.writes]
