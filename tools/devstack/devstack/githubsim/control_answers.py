"""What the simulator's control API answers, for its client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from devstack.githubsim.journal import Entry
from devstack.githubsim.records import PackageType, Visibility


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A fresh credential. `id` is what the other calls want; `value` is what a client sends."""

    id: int
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuedApp:
    """A fresh App. `private_key` is PEM, PKCS#1, as GitHub hands it out."""

    id: int
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuedOAuthApp:
    """What a fresh OAuth app identifies itself with."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SimRepository:
    """A repository as it is, whoever may see it. `created_at` is in epoch seconds."""

    id: int
    owner: str
    name: str
    visibility: Visibility
    description: str | None
    default_branch: str
    archived: bool
    branches: list[str]
    created_at: float
    toggles: dict[str, bool]


@dataclass(frozen=True, slots=True)
class SimCommit:
    sha: str
    message: str
    parents: tuple[str, ...]
    tree: str


@dataclass(frozen=True, slots=True)
class SimRun:
    """A run of a workflow. `jobs`: each with `id`, `name`, `status`, `conclusion` and `log`."""

    id: int
    repository_id: int
    workflow: str
    branch: str
    head_sha: str
    number: int
    created_at: float
    event: str
    status: str
    conclusion: str | None
    jobs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class SimKey:
    """A deploy key. `repository` is owner/name; `key` has no comment."""

    id: int
    repository: str
    repo_id: int
    title: str
    key: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class SimInvitation:
    """`role` in the words of an invitation (read, write, …) or a custom one. `created_at` is in epoch seconds."""

    id: int
    login: str
    role: str
    created_at: float
    expired: bool


@dataclass(frozen=True, slots=True)
class SimPackage:
    """A package as it is, whoever may see it. `repository` is owner/name. Times are in epoch seconds."""

    id: int
    owner: str
    package_type: PackageType
    name: str
    visibility: Visibility
    repository: str | None
    version_count: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class SimVersion:
    """A version of a package. `name` is a container's digest, or another version's number."""

    id: int
    name: str
    tags: list[str]
    created_at: float


@dataclass(frozen=True, slots=True)
class SimImage:
    """An image and what stands beside it: each a version of its own, in the order of their publication."""

    platforms: list[SimVersion]
    """The manifests of each platform, untagged."""
    index: SimVersion
    """What the image's tags lead to."""
    signature: SimVersion
    attestation: SimVersion
    sbom: SimVersion
    referrers: SimVersion
    """The fallback of a registry without a list of referrers: tagged with the digest alone."""

    @property
    def digest(self) -> str:
        return self.index.name


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What was asked since the journal was last cleared. Of very many requests only the newest have entries.

    `violations`: requests refused for a secondary limit, by its name, and as `blocked` those sent before the time
    that such a refusal had named.
    """

    total: int
    unknown_credentials: int
    max_in_flight: int
    max_in_flight_by_login: dict[str, int]
    violations: dict[str, int]
    entries: list[Entry]
