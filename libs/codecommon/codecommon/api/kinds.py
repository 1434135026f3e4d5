"""The one table of kinds: who reconciles what, and which references the watcher follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GROUP: Final = "code.kedge.faros.sh"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

RECONCILE_REQUESTED_AT: Final = f"{GROUP}/reconcile-requested-at"
PAUSED: Final = f"{GROUP}/paused"
CREATE_CLAIM: Final = f"{GROUP}/create-claim"
CLAIMED_KEY: Final = f"{GROUP}/claimed-key"
CLUSTER_ANNOTATION: Final = "kcp.io/cluster"

ACTED_ON_ANNOTATIONS: Final = frozenset({RECONCILE_REQUESTED_AT, PAUSED})
"""Annotations whose change is a reason to reconcile; every other annotation is somebody else's."""


_LONGEST_REQUEST: Final = 256
"""What status has room for (``lastHandledReconcileAt``); an annotation can be longer."""


def requested_at(annotations: Mapping[str, str]) -> str | None:
    """What somebody set to have the object looked at, as status will repeat it."""
    value = annotations.get(RECONCILE_REQUESTED_AT)
    return value[:_LONGEST_REQUEST] if value is not None else None


@dataclass(frozen=True, slots=True)
class KindSpec:
    """One kind of our API.

    ``service`` names the process that reconciles it and the prefix of its durables; None: served and left alone.
    ``parent`` is the plural of the kind that ``reference`` (a field of spec) names an object of.
    """

    resource: str
    kind: str
    service: str | None
    reference: str | None = None
    parent: str | None = None

    @property
    def finalizer(self) -> str:
        return f"{self.resource}.{GROUP}/finalizer"


CONNECTIONS: Final = KindSpec("connections", "Connection", "connection-svc")
REPOSITORIES: Final = KindSpec("repositories", "Repository", "repository-svc", "connectionRef", "connections")
DEPLOY_KEYS: Final = KindSpec("deploykeys", "DeployKey", "access-svc", "repositoryRef", "repositories")
COLLABORATORS: Final = KindSpec("collaborators", "Collaborator", "access-svc", "repositoryRef", "repositories")
PACKAGES: Final = KindSpec("packages", "Package", None, "repositoryRef", "repositories")
REPOSITORY_COMMITS: Final = KindSpec("repositorycommits", "RepositoryCommit", None, "repositoryRef", "repositories")
REPOSITORY_CHECKOUTS: Final = KindSpec(
    "repositorycheckouts", "RepositoryCheckout", None, "repositoryRef", "repositories"
)
REPOSITORY_BUILD_STATUSES: Final = KindSpec(
    "repositorybuildstatuses", "RepositoryBuildStatus", None, "repositoryRef", "repositories"
)

KINDS: Final = {
    kind.resource: kind
    for kind in (
        CONNECTIONS,
        REPOSITORIES,
        DEPLOY_KEYS,
        COLLABORATORS,
        PACKAGES,
        REPOSITORY_COMMITS,
        REPOSITORY_CHECKOUTS,
        REPOSITORY_BUILD_STATUSES,
    )
}


def children_of(resource: str) -> tuple[KindSpec, ...]:
    """Kinds whose objects refer to an object of ``resource``."""
    return tuple(kind for kind in KINDS.values() if kind.parent == resource)
