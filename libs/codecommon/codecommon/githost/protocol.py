"""What a git host must be able to do for us.

Every method is idempotent. Every method raises ``Terminal``, ``NotReady`` or ``Retryable`` (``codecommon.api.results``) with a
reason of ``docs/conditions.md``; nothing else is known of a host's errors outside its backend. A ``get_`` returns None only when
the host says that the thing does not exist, never because it could not be asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, Protocol, TypeVar

from codecommon.api.reasons import Reason
from codecommon.api.repository import Visibility
from codecommon.api.results import Terminal
from codecommon.process.secrets import SecretValue

OwnerKind = Literal["User", "Organization"]


CapabilityName = Literal["createRepository", "deleteRepository", "deployKeys", "collaborators", "packages"]
CapabilityStatus = Literal["Yes", "No", "Unknown"]


@dataclass(frozen=True, slots=True)
class AppSecret:
    """A GitHub App's identity: it makes tokens of its installation on ``owner`` and of no other.

    ``installation_id`` None: looked up by ``owner``. ``private_key``: PEM, PKCS#1 or PKCS#8.
    """

    app_id: str
    installation_id: str | None
    owner: str
    private_key: SecretValue

    @property
    def app(self) -> str:
        """The App, as a digest of its id and key: who has another App's id but not its key does not get the same."""
        return hashlib.sha256(f"{self.app_id}\0{self.private_key.reveal().strip()}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class HostTarget:
    """Where and as whom: what a backend needs to open a session.

    ``base_url``: as written in the Connection, empty for the provider's public host; the backend judges it.
    ``credential``: a Secret's text, taken for a token, or an App's key.
    ``principal``: cache key of the credential (cluster, Connection uid, Secret resourceVersion), the uid with spec.type, the
    Secret's key and, where an App acts on another account, its owner behind it; no two tenants share one.
    """

    base_url: str
    credential: SecretValue | AppSecret
    ca_bundle: str | None
    principal: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that we do with a credential. ``message``: what is missing or not told, and how to grant it."""

    name: CapabilityName
    status: CapabilityStatus
    message: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a credential speaks for.

    ``scopes`` and ``expires_at`` None: the host does not say, or it renews itself. ``token_type``: classic, fine-grained, oauth,
    installation, app-user or unknown. ``id``: of the user, or of the App's installation.
    """

    login: str
    id: str
    scopes: tuple[str, ...] | None
    token_type: str = "unknown"  # noqa: S105
    expires_at: datetime | None = None
    capabilities: tuple[Capability, ...] = ()


@dataclass(frozen=True, slots=True)
class HostRepository:
    """One repository as the host shows it. ``id`` is the numeric id in decimal, stable over rename and transfer."""

    id: str
    owner: str
    name: str
    visibility: Visibility
    description: str
    default_branch: str
    archived: bool
    created_at: datetime
    html_url: str
    clone_url: str
    ssh_url: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The host says that there is no such repository. ``since`` is the Date header of its 404."""

    since: datetime


@dataclass(frozen=True, slots=True)
class Redirected:
    """The name was given up by a rename or a transfer; the API answers it with a redirect to ``location``, a URL."""

    location: str


@dataclass(frozen=True, slots=True)
class RepositoryRequest:
    """A repository to be made, complete with all that the host needs to make it."""

    owner: str
    owner_kind: OwnerKind
    name: str
    visibility: Visibility
    description: str
    auto_init: bool


@dataclass(frozen=True, slots=True)
class RepositoryChanges:
    """Settings to be changed on an existing repository; None: left as it is."""

    visibility: Visibility | None = None
    description: str | None = None
    default_branch: str | None = None
    archived: bool | None = None


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A whole list, and ``at``, the Date header of its first page: the moment from which what appears may be ours."""

    items: tuple[T, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class HostKey:
    """One deploy key. ``key`` is algorithm and base64 material, without comment. ``id`` in decimal.

    ``enabled``: False where the organisation has disabled deploy keys since, which keeps them and lets none in.
    """

    id: str
    title: str
    key: str
    read_only: bool
    created_at: datetime
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Grant:
    """A user's own access. ``role``: pull, triage, push, maintain, admin, or a custom role's name, as in spec.

    ``user_id`` in decimal, which stays when the user takes another name; None where the host did not tell.
    """

    username: str
    role: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """``role``, ``user_id`` as in ``Grant``. An ``expired`` one can no longer be accepted, and still shows. ``id`` in decimal."""

    id: str
    username: str
    user_id: str
    role: str
    expired: bool
    created_at: datetime


class AlreadyExists(Exception):
    """The host refused to create because the name is taken: somebody made it since it was last looked at."""


class ConnectionHost(Protocol):
    async def validate_connection(self) -> Account:
        """Ask the host whom the credential belongs to."""
        ...

    async def get_owner_kind(self, owner: str) -> OwnerKind | None:
        """Whether ``owner`` is a user or an organisation; None when the host knows no such account (for this credential)."""
        ...

    async def require_admission(self, organization: str) -> None:
        """Ask for something that the organisation shows only to credentials it admits.

        ``Terminal``: ``SSORequired``, with the address to authorise the credential at; ``MissingPermission``.
        """
        ...


class RepositoryHost(Protocol):
    async def get_owner_kind(self, owner: str) -> OwnerKind | None: ...

    async def find_repository(self, owner: str, name: str) -> HostRepository | Absent | Redirected:
        """Look a repository up by name; a redirect is reported, not followed."""
        ...

    async def get_repository(self, repo_id: str) -> HostRepository | None:
        """Look a repository up by its numeric id, wherever it was renamed or transferred to."""
        ...

    async def has_branch(self, repo: HostRepository, branch: str) -> bool: ...

    async def ensure_repository(self, request: RepositoryRequest) -> HostRepository:
        """Create a repository. Raises ``AlreadyExists`` when the name is taken."""
        ...

    async def update_repository(self, repo_id: str, changes: RepositoryChanges) -> HostRepository: ...

    async def delete_repository(self, repo_id: str, *, public: bool = False) -> None:
        """Delete by id; a repository that is gone already counts as deleted.

        ``public``: it is one that everybody can see. Raises ``Terminal`` (``MissingPermission``) where the credential could not
        see whether it is gone.
        """
        ...


class AccessHost(Protocol):
    async def list_deploy_keys(self, repo_id: str) -> Listed[HostKey] | None:
        """All deploy keys, every page; None when the repository is gone.

        Raises ``Terminal`` (``MissingPermission``) where the repository is there and its keys are not shown.
        """
        ...

    async def create_deploy_key(self, repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        """Register a key. ``Terminal``: ``KeyInUse``, ``DeployKeysDisabled``, ``InvalidPublicKey``, ``MissingPermission``."""
        ...

    async def delete_deploy_key(self, repo_id: str, key_id: str) -> None:
        """Remove a key; one that is gone already counts as removed.

        Raises ``Terminal`` (``MissingPermission``) where it is not, or the host does not show whether it is.
        """
        ...

    async def get_user_id(self, login: str) -> str | None:
        """The id of the account that has this login now, in decimal; None: there is none, or it is not shown."""
        ...

    async def list_collaborators(self, repo_id: str) -> Listed[Grant] | None:
        """Users with a grant of their own (not through a team or the organisation), every page; None as above."""
        ...

    async def list_invitations(self, repo_id: str) -> Listed[Invitation] | None:
        """Open and expired invitations, every page; None as above."""
        ...

    async def set_collaborator(self, repo_id: str, username: str, role: str) -> Invitation | None:
        """Grant or invite, or change the role of a grant; returns the invitation where the host sent one.

        ``Terminal``: ``UserNotFound``, ``PermissionUnsupported``, ``InvitationRefused`` (the organisation forbids it).
        ``Retryable``: ``InvitationLimit`` (the host's daily number for the repository is used up).
        """
        ...

    async def update_invitation(self, repo_id: str, invitation_id: str, role: str) -> None:
        """Change the role that an open invitation offers; one of the five standard roles.

        ``Retryable``: ``HostConflict`` (there is no such invitation any more: accepted, declined or withdrawn).
        """
        ...

    async def cancel_invitation(self, repo_id: str, invitation_id: str) -> None:
        """Withdraw an invitation, open or expired; one that is gone counts as withdrawn. Raises as ``delete_deploy_key``."""
        ...

    async def remove_collaborator(self, repo_id: str, username: str) -> None:
        """Revoke the user's own grant; a user without one counts as revoked. Raises as ``delete_deploy_key``."""
        ...


class GitBackend(ConnectionHost, RepositoryHost, AccessHost, Protocol):
    """A session with one host under one credential. ``host`` is its name as pinned in status, with port if not the default."""

    @property
    def name(self) -> str:
        """The provider, as in ``Connection.spec.provider``."""
        ...

    @property
    def host(self) -> str: ...

    async def await_turn(self) -> None:
        """Return once something may be created, as far as the budget knows: what is noted before a create is then not in vain.

        Raises ``Retryable`` (``RateLimited``) with the object's time where that is not within a second.
        """
        ...


OpenBackend = Callable[[HostTarget], GitBackend]


class Registry:
    """Backends by ``Connection.spec.provider``."""

    def __init__(self, backends: Mapping[str, OpenBackend]) -> None:
        self._backends = dict(backends)

    def open(self, provider: str, target: HostTarget) -> GitBackend:
        """Raises ``Terminal`` (``ProviderNotFound``) for a provider nobody registered."""
        try:
            opener = self._backends[provider]
        except KeyError:
            known = ", ".join(sorted(self._backends))
            raise Terminal(
                Reason.PROVIDER_NOT_FOUND, f"provider {provider!r} is not known here; use one of: {known}"
            ) from None
        return opener(target)
