"""What a git host must be able to do for us, in terms that fit every host.

Names and ids are opaque strings. An owner may hold slashes (``group/subgroup``); a provider refuses what its hosts
cannot have.

Every method but the two creates is idempotent. Every method raises ``Terminal``, ``NotReady`` or ``Retryable`` with a
``Reason`` (``codecommon.api.results``). Four subclasses of them tell callers more: ``CredentialRejected``,
``KeyInUse``, ``HostUnavailable`` and its ``HostBusy``. ``AlreadyExists`` is none of them. A ``get_`` returns None when
the host says that there is no such thing, or does not show it to this credential; never because the host could not be
asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Literal, Protocol, TypeVar

from codecommon.api.reasons import Reason
from codecommon.api.repository import Visibility
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.builds import BuildsHost
from codecommon.githost.contents import ContentsHost

OwnerKind = Literal["User", "Organization"]
"""``User``: one person's account. ``Organization``: an account that several people share (on other hosts a group or a
workspace).

Both exist on every host that we know, and the difference decides who may create there and which roles there are.
"""

CapabilityName = Literal["createRepository", "deleteRepository", "deployKeys", "collaborators", "packages"]
CapabilityStatus = Literal["Yes", "No", "Unknown"]


class Credential(Protocol):
    """What a Connection's Secret holds. Only its provider looks inside; its repr shows nothing secret."""

    @property
    def issuer(self) -> str | None:
        """A digest of what makes the tokens of this credential, if that sends requests of its own (a GitHub App); else
        None.

        The host counts those requests apart. Whoever lacks the issuer's key cannot have its digest.
        """
        ...

    def for_owner(self, owner: str) -> Credential:
        """The credential for repositories of ``owner``; the same object where it serves every owner, or this one
        already.

        Raises ``Terminal`` (``OwnerMismatch``) where the Secret limits it to another owner.
        """
        ...


@dataclass(frozen=True, slots=True)
class HostTarget:
    """Where and as whom: what a provider needs to open a backend.

    ``base_url``: as written in the Connection, empty for the provider's public host; the provider checks it.
    ``credential``: as the provider read it from the Secret. ``credential_key``: the credential's key in caches. It
    consists of the cluster, the Connection's uid (with spec.type, the Secret's key and, for a credential of another
    owner, that owner) and the Secret's resourceVersion. No two tenants share one.
    """

    base_url: str
    credential: Credential
    ca_bundle: str | None
    credential_key: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Capability:
    """One use of a credential. ``message``: what is missing or unknown, and how to grant it."""

    name: CapabilityName
    status: CapabilityStatus
    message: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a credential speaks for.

    ``scopes`` and ``expires_at`` None: the host does not say, or the credential renews itself. ``token_type``: a word
    of the provider's, such as classic or unknown. ``id``: of what the host takes the credential for, a user or an
    application.
    """

    login: str
    id: str
    scopes: tuple[str, ...] | None
    token_type: str = "unknown"  # noqa: S105
    expires_at: datetime | None = None
    capabilities: tuple[Capability, ...] = ()


@dataclass(frozen=True, slots=True)
class HostRepository:
    """One repository as the host shows it. ``id`` stays the same over rename and transfer."""

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
    """A rename or transfer gave the name up; the API answers it with a redirect to ``location``, a URL."""

    location: str


@dataclass(frozen=True, slots=True)
class RepositoryRequest:
    """A repository to be made, with everything that the host needs to know."""

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
    """A whole list. ``at``: the Date header of its first page; what appears after that moment may be ours."""

    items: tuple[T, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class HostKey:
    """One deploy key. ``key`` is algorithm and base64 material, without comment.

    ``enabled``: False where the owner has disabled deploy keys since; the host then keeps the key, and it opens
    nothing.
    """

    id: str
    title: str
    key: str
    read_only: bool
    created_at: datetime
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Grant:
    """A user's own access. ``role``: one of ``AccessHost.roles`` or the name of a custom role, as in spec.

    ``user_id`` stays the same when the user takes another name; None where the host did not tell it.
    """

    username: str
    role: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """``role`` and ``user_id`` as in ``Grant``. An ``expired`` one can no longer be accepted, and is still listed."""

    id: str
    username: str
    user_id: str
    role: str
    expired: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class HostPackage:
    """One published package as its owner's list shows it.

    ``type``: one of ``PackagesHost.package_types``. ``repository_id``: of the repository that it is linked to, None for none.
    ``image_repository``: what an image is pulled by, without tag and digest; None where it holds no images. ``updated_at``: as
    the host writes it. It changes with every version. ``version_count``: hosts are known to say 0 where there are versions.
    """

    owner: str
    type: str
    name: str
    visibility: str
    html_url: str
    updated_at: str
    version_count: int
    repository_id: str | None
    image_repository: str | None


@dataclass(frozen=True, slots=True)
class PackageVersion:
    """One version. ``name``: its digest where the package holds images. ``created_at``: as the host writes it."""

    name: str
    tags: tuple[str, ...]
    created_at: str


class AlreadyExists(Exception):
    """The host refused to create because the name is taken: somebody made the thing since we last looked."""


class CredentialRejected(Terminal):
    """The host no longer takes the credential. Another one may be in the Secret by now.

    ``reason``: ``CredentialRejected``; ``AppNotInstalled`` where the credential has no access to the owner's account
    any more, ``OwnerMismatch`` where that account has another name now.
    """

    def __init__(self, message: str, *, reason: Reason = Reason.CREDENTIAL_REJECTED) -> None:
        super().__init__(reason, message)


class KeyInUse(Terminal):
    """The deploy key is registered already, and a key can be registered once."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.KEY_IN_USE, message)


class HostUnavailable(Retryable):
    """There is no answer of the host: it is unknown whether the request took effect. Times as of ``Retryable``."""

    def __init__(self, message: str, *, after: timedelta | None = None, drift_after: timedelta | None = None) -> None:
        super().__init__(Reason.HOST_UNAVAILABLE, message, after=after, drift_after=drift_after)


class HostBusy(HostUnavailable):
    """It is not this object's turn at the host: others have what the host may take of this process.

    It says nothing about the object, so it is neither written to status nor counted as a failure. ``after``: seconds.
    ``drift_after``: as of ``Retryable``.
    """

    def __init__(self, host: str, after: float, *, drift_after: timedelta | None = None) -> None:
        super().__init__(
            f"other objects are being worked on at {host}; waiting for a turn",
            after=timedelta(seconds=after),
            drift_after=drift_after,
        )


class ConnectionHost(Protocol):
    async def validate_connection(self) -> Account:
        """Ask the host whom the credential belongs to."""
        ...

    async def get_owner_kind(self, owner: str) -> OwnerKind | None:
        """Whose account ``owner`` is; None when the host shows this credential no such account."""
        ...

    async def verify_access(self, organization: str) -> None:
        """Read something that the organisation shows only to the credentials that it admits.

        Raises ``Terminal``: ``SSORequired``, with the address where the credential can be authorised;
        ``MissingPermission``.
        """
        ...


class RepositoryHost(Protocol):
    async def get_owner_kind(self, owner: str) -> OwnerKind | None: ...

    async def find_repository(self, owner: str, name: str) -> HostRepository | Absent | Redirected:
        """Look a repository up by name. A redirect is reported and not followed."""
        ...

    async def get_repository(self, repo_id: str) -> HostRepository | None:
        """Look a repository up by its id, whatever its name and owner are now."""
        ...

    async def has_branch(self, repo: HostRepository, branch: str) -> bool: ...

    async def create_repository(self, request: RepositoryRequest) -> HostRepository:
        """Create a repository. Raises ``AlreadyExists`` when the name is taken."""
        ...

    async def update_repository(self, repo_id: str, changes: RepositoryChanges) -> HostRepository: ...

    async def delete_repository(self, repo_id: str, *, public: bool = False) -> None:
        """Delete by id. A repository that is gone already counts as deleted.

        ``public``: everybody can see the repository. Raises ``Terminal`` (``MissingPermission``) where the credential
        cannot see whether the repository is gone.
        """
        ...


class AccessHost(Protocol):
    def roles(self, kind: OwnerKind) -> tuple[str, ...]:
        """The permissions that a user can be given on a repository of such an owner, from the narrowest to the widest.

        An organisation may have custom roles besides.
        """
        ...

    def is_username(self, name: str) -> bool:
        """Whether a user can have this name at all."""
        ...

    async def list_deploy_keys(self, repo_id: str) -> Listed[HostKey] | None:
        """All deploy keys, every page; None when the repository is gone.

        Raises ``Terminal`` (``MissingPermission``) where the repository is there and its keys are not shown.
        """
        ...

    async def get_deploy_key(self, repo_id: str, key_id: str) -> HostKey | None:
        """One key of the repository. It may be shown before ``list_deploy_keys`` has it. None: it is not there.

        Ask where the list was shown: a credential that may not see the keys gets None, too.
        """
        ...

    async def create_deploy_key(self, repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        """Register a key.

        Raises ``KeyInUse``, ``Terminal``: ``DeployKeysDisabled``, ``InvalidPublicKey``, ``MissingPermission``.
        """
        ...

    async def delete_deploy_key(self, repo_id: str, key_id: str) -> None:
        """Remove a key. A key that is gone already counts as removed.

        Raises ``Terminal`` (``MissingPermission``) where the key stays, or the host does not show whether it is gone.
        """
        ...

    async def get_user_id(self, login: str) -> str | None:
        """The id of the account that has this login now; None: there is none, or it is not shown."""
        ...

    async def list_collaborators(self, repo_id: str) -> Listed[Grant] | None:
        """Users with a grant of their own, not through a team or the organisation; pages and None as of
        ``list_deploy_keys``.
        """
        ...

    async def get_grant(self, repo_id: str, username: str) -> Grant | None:
        """The widest role that the user has as a collaborator, from whatever source; None: none, or only what everybody has.

        It may be there where ``list_collaborators`` leaves the user out.
        """
        ...

    async def list_invitations(self, repo_id: str) -> Listed[Invitation] | None:
        """Open and expired invitations; pages and None as of ``list_deploy_keys``."""
        ...

    async def set_collaborator(self, repo_id: str, username: str, role: str) -> Invitation | None:
        """Grant or invite, or change the role of a grant; returns the invitation where the host sent one.

        Raises ``Terminal``: ``UserNotFound``, ``PermissionUnsupported``, ``InvitationRefused`` (the organisation
        forbids it); ``Retryable``: ``InvitationLimit`` (the host's daily number for the repository is used up).
        """
        ...

    async def update_invitation(self, repo_id: str, invitation_id: str, role: str) -> None:
        """Change the role that an open invitation offers to another one of ``roles``.

        Raises ``Retryable``: ``HostConflict`` (there is no such invitation any more: accepted, declined or withdrawn).
        """
        ...

    async def cancel_invitation(self, repo_id: str, invitation_id: str) -> None:
        """Withdraw an open or expired invitation. One that is gone counts as withdrawn. Raises as
        ``delete_deploy_key``.
        """
        ...

    async def remove_collaborator(self, repo_id: str, username: str) -> None:
        """Revoke the user's own grant. A user without one counts as revoked. Raises as ``delete_deploy_key``."""
        ...


class PackagesHost(Protocol):
    """What accounts have published. Lists come page by page, so that a long one is never held as a whole.

    A list that was read to its end is whole, unless something was published or deleted meanwhile: then a package may be
    missing in it, or be there twice. One that cannot be read on raises, and nothing is known of what would have followed.
    """

    @property
    def package_types(self) -> tuple[str, ...]:
        """The types of packages, each of which has a list of its own."""
        ...

    def list_packages(self, owner: str, package_type: str) -> AsyncIterator[tuple[HostPackage, ...]]:
        """The packages of an account, of one type, whichever repositories they are linked to.

        Raises ``Terminal``: ``MissingPermission``; ``PackagesUnsupportedByToken``, where the host serves packages to no
        credential of this kind; ``NotFoundOrNoAccess``, where the host shows no such account.
        """
        ...

    async def get_package(self, owner: str, package_type: str, name: str) -> HostPackage | None:
        """One package; None: there is none, or it is not shown. Raises as ``list_packages``."""
        ...

    def list_versions(self, package: HostPackage) -> AsyncIterator[tuple[PackageVersion, ...]]:
        """The versions of a package, the newest ones first. A package that is gone has none. Raises as ``list_packages``."""
        ...


class GitBackend(ConnectionHost, RepositoryHost, AccessHost, PackagesHost, Protocol):
    """What can be done on one host with one credential."""

    @property
    def name(self) -> str:
        """The provider, as in ``Connection.spec.provider``."""
        ...

    @property
    def host(self) -> str:
        """The host's name as pinned in status, with the port if it is not the scheme's own."""
        ...

    @property
    def contents(self) -> ContentsHost:
        """What is in the repositories."""
        ...

    @property
    def builds(self) -> BuildsHost:
        """What the host builds for them."""
        ...

    async def await_turn(self) -> None:
        """Return once the budget lets something be created. Wait for it before you store what a create needs.

        Raises ``Retryable`` (``RateLimited``), with the time reserved for the object, where the wait is longer than a
        second.
        """
        ...
