"""Repositories as tests of repository-svc need them, and what those tests look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from codecommon.api.annotations import CREATE_CLAIM
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.times import rfc3339
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


def held(*, claim: str | None = None, **metadata: Any) -> dict[str, Any]:
    """Metadata of an object that has our finalizer, and a create claim of that time."""
    annotations = {CREATE_CLAIM: claim} if claim else {}
    return {**HELD, "annotations": annotations, **metadata}


def ago(seconds: float) -> str:
    return rfc3339(datetime.now(UTC) - timedelta(seconds=seconds))


def made(world: World) -> list[str]:
    """What was done to the host, in order."""
    return [method for method, _ in world.host.writes]
