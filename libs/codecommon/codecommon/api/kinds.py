"""Every kind of the API. A ``KindSpec`` is all that the watcher, the bus and the test doubles know of a kind.

docs/adding-a-kind.md shows how to add one. tests/contract/test_crds_kinds.py holds the specs to crds/*.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.connection import Connection
from codecommon.api.group import GROUP
from codecommon.api.meta import Resource
from codecommon.api.package import Package
from codecommon.api.repository import Repository
from codecommon.api.repository_build_status import RepositoryBuildStatus
from codecommon.api.repository_checkout import RepositoryCheckout
from codecommon.api.repository_commit import RepositoryCommit

T = TypeVar("T", bound=Resource[Any, Any])

DuplicateKey = Callable[[Mapping[str, Any]], tuple[str, ...] | None]
"""From a spec (wire names) to what the object stands for on the host. None: something that no other object can stand for."""


@dataclass(frozen=True, slots=True)
class DuplicateRule:
    """Which objects of one kind and workspace may stand for the same thing on the git host.

    Attributes:
        key: Two objects with equal keys are possible duplicates.
        rivals: When an object goes, the eldest that waits of those with an equal key is reconciled, and so is the eldest
            of those for which this key is equal.
    """

    key: DuplicateKey
    rivals: DuplicateKey | None = None


@dataclass(frozen=True, slots=True)
class KindSpec(Generic[T]):
    """One kind of the API. All field names are wire names (camelCase).

    Attributes:
        model: The typed class of the kind's objects.
        kind: ``kind`` in manifests (``DeployKey``).
        resource: The plural, as it stands in URLs (``deploykeys``).
        service: The service that reconciles the kind, which is also the prefix of its durables. None: served only.
        parent: The plural of the kind that ``reference`` points to. The parent waits with its deletion for its children.
        reference: The field of spec that holds the name of the parent object.
        secret_reference: The field of spec that refers to a Secret: an object with ``name`` and optionally ``namespace``.
        identity: The fields of status that say who the object is on the host. Dependants are reconciled when one changes.
        further_selectable: Fields of spec, besides the references, that lists can be narrowed by.
        duplicates: None: objects of this kind never compete for the same thing on the host.
        request: An object asks for something once. Nothing wakes it any more once ``status.phase`` says that it is over.
        expires: A request that is over goes after a while, so its turn in the resync stays.
    """

    model: type[T]
    kind: str
    resource: str
    service: str | None = None
    parent: str | None = None
    reference: str | None = None
    secret_reference: str | None = None
    identity: tuple[str, ...] = ()
    further_selectable: tuple[str, ...] = ()
    duplicates: DuplicateRule | None = None
    request: bool = False
    expires: bool = False

    @property
    def finalizer(self) -> str:
        return f"{self.resource}.{GROUP}/finalizer"

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def selectable_fields(self) -> tuple[str, ...]:
        """Paths that a field selector may name besides ``metadata.name``: ``spec.repositoryRef``."""
        paths = (self.reference, f"{self.secret_reference}.name" if self.secret_reference else None)
        return tuple(f"spec.{path}" for path in (*paths, *self.further_selectable) if path is not None)


def _repository_name(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    return (spec["name"].lower(),) if "name" in spec else None


def _repository_of_owner(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    return (spec["name"].lower(), spec["connectionRef"], (spec.get("owner") or "").lower()) if "name" in spec else None


def _public_key(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    # A pair that we generate is unique. The third word of a public key is a comment.
    return (spec["repositoryRef"], *spec["publicKey"].split()[:2]) if spec.get("publicKey") else None


def _username(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    return spec["repositoryRef"], spec["username"].lower()


def _repository_ref(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    return (spec["repositoryRef"],)


CONNECTIONS: Final = KindSpec(
    Connection,
    kind="Connection",
    resource="connections",
    service="connection-svc",
    secret_reference="secretRef",  # noqa: S106 - the name of a field
    identity=("login", "host"),
)
REPOSITORIES: Final = KindSpec(
    Repository,
    kind="Repository",
    resource="repositories",
    service="repository-svc",
    parent="connections",
    reference="connectionRef",
    identity=("repoID", "host", "owner"),
    further_selectable=("name",),
    # Those of one Connection and owner wait for each other. Others wait only where two owners lead to one repository.
    duplicates=DuplicateRule(_repository_name, rivals=_repository_of_owner),
)
DEPLOY_KEYS: Final = KindSpec(
    DeployKey,
    kind="DeployKey",
    resource="deploykeys",
    service="access-svc",
    parent="repositories",
    reference="repositoryRef",
    duplicates=DuplicateRule(_public_key),
)
COLLABORATORS: Final = KindSpec(
    Collaborator,
    kind="Collaborator",
    resource="collaborators",
    service="access-svc",
    parent="repositories",
    reference="repositoryRef",
    # A user can rename, so another login may be the same user's.
    duplicates=DuplicateRule(_username, rivals=_repository_ref),
)
PACKAGES: Final = KindSpec(
    Package,
    kind="Package",
    resource="packages",
    parent="repositories",
    reference="repositoryRef",
)
REPOSITORY_COMMITS: Final = KindSpec(
    RepositoryCommit,
    kind="RepositoryCommit",
    resource="repositorycommits",
    service="repository-svc",
    parent="repositories",
    reference="repositoryRef",
    # Two commits of a workspace may have the same files.
    further_selectable=("source.bundleRef.name",),
    request=True,
)
REPOSITORY_CHECKOUTS: Final = KindSpec(
    RepositoryCheckout,
    kind="RepositoryCheckout",
    resource="repositorycheckouts",
    service="repository-svc",
    parent="repositories",
    reference="repositoryRef",
    request=True,
    expires=True,
)
REPOSITORY_BUILD_STATUSES: Final = KindSpec(
    RepositoryBuildStatus,
    kind="RepositoryBuildStatus",
    resource="repositorybuildstatuses",
    service="repository-svc",
    parent="repositories",
    reference="repositoryRef",
    request=True,
    expires=True,
)

_SPECS: Final[tuple[KindSpec[Any], ...]] = (
    CONNECTIONS,
    REPOSITORIES,
    DEPLOY_KEYS,
    COLLABORATORS,
    PACKAGES,
    REPOSITORY_COMMITS,
    REPOSITORY_CHECKOUTS,
    REPOSITORY_BUILD_STATUSES,
)

KINDS: Final[Mapping[str, KindSpec[Any]]] = {spec.resource: spec for spec in _SPECS}
"""Every kind by its plural. A parent comes before its children."""


def children_of(resource: str) -> tuple[KindSpec[Any], ...]:
    """The kinds whose objects refer to an object of ``resource``."""
    return tuple(kind for kind in KINDS.values() if kind.parent == resource)
