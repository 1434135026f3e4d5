"""What the simulated host knows: accounts, repositories and what belongs to them, Apps, tokens; and the words for it.

Plain records that refer to each other by id. `world` keeps them together and consistent, `state_file` writes them down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from devstack.githubsim.identifiers import TokenKind, node_id

Visibility = Literal["public", "private", "internal"]
Role = Literal["read", "triage", "write", "maintain", "admin"]
OrgRole = Literal["member", "admin"]
PackageType = Literal["npm", "maven", "rubygems", "docker", "nuget", "container"]

PACKAGE_TYPES: tuple[PackageType, ...] = ("npm", "maven", "rubygems", "docker", "nuget", "container")
GRANULAR_TYPES: frozenset[PackageType] = frozenset({"container", "npm", "nuget", "rubygems"})
"""The types whose packages belong to an account and have a visibility of their own; the others belong to a repository."""

DEFAULT_BRANCH = "main"
INVITATION_LIFE = 7 * 86400.0

TOGGLES: dict[str, bool] = {
    "has_issues": True,
    "has_projects": True,
    "has_wiki": True,
    "has_discussions": False,
    "is_template": False,
    "allow_squash_merge": True,
    "allow_merge_commit": True,
    "allow_rebase_merge": True,
    "allow_auto_merge": False,
    "delete_branch_on_merge": False,
    "allow_update_branch": False,
    "allow_forking": True,
    "web_commit_signoff_required": False,
}
"""A repository's boolean settings and GitHub's default for each."""


@dataclass(slots=True, kw_only=True)
class User:
    """A person's account, or an App's bot."""

    id: int
    login: str
    created_at: float
    name: str | None = None

    @property
    def node_id(self) -> str:
        return node_id("U", self.id)

    @property
    def is_bot(self) -> bool:
        """Whether it is an App's account: never a collaborator, as what an App may do is a matter of its installations."""
        return self.login.endswith("[bot]")


@dataclass(slots=True, kw_only=True)
class Team:
    """Members of an organisation, and their role in each of its repositories that the team has; by ids."""

    members: list[int] = field(default_factory=list)
    repositories: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class DeployKey:
    """An SSH key of one repository. `key` is without comment. `token_id` made it, and it goes with that token.
    Before `visible_from` the list does not show it; its own address does."""

    id: int
    repository_id: int
    title: str
    key: str
    read_only: bool
    created_at: float
    added_by: int
    token_id: int | None = None
    visible_from: float = 0.0


@dataclass(slots=True, kw_only=True)
class Invitation:
    """An offer of a role. It expires by itself; `forced_expiry` is a control call's. Before `visible_from` no list shows it."""

    id: int
    repository_id: int
    invitee_id: int
    inviter_id: int
    role: str
    created_at: float
    forced_expiry: bool = False
    visible_from: float = 0.0

    def expired(self, now: float) -> bool:
        return self.forced_expiry or now - self.created_at >= INVITATION_LIFE


@dataclass(slots=True, kw_only=True)
class Organization:
    """An organisation. `hidden` ones answer 404 to everyone but members; `enterprise` ones may have internal
    repositories; `saml` ones answer only tokens that were authorised for their single sign-on."""

    id: int
    login: str
    created_at: float
    name: str | None = None
    members: dict[int, OrgRole] = field(default_factory=dict)
    hidden: bool = False
    saml: bool = False
    enterprise: bool = False
    members_can_create_repositories: bool = True
    members_can_delete_repositories: bool = True
    default_repository_permission: Literal["none", "read", "write", "admin"] = "read"
    deploy_keys_enabled: bool = True
    outside_collaborators_allowed: bool = True
    custom_roles: dict[str, Role] = field(default_factory=dict)
    """Name to the role it is based on."""
    teams: dict[str, Team] = field(default_factory=dict)

    @property
    def node_id(self) -> str:
        return node_id("O", self.id)

    def may_delete_repositories(self, user: User) -> bool:
        """Whether the organisation lets this user delete the repositories that the user administers."""
        return self.members_can_delete_repositories or self.members.get(user.id) == "admin"


Account = User | Organization


@dataclass(slots=True, kw_only=True)
class Repository:
    """A repository. `branches` maps a branch to its head commit; without branches the repository is empty.
    `protected` branches take commits from nobody.
    Before `visible_from` GETs do not find it (eventual consistency after a create)."""

    id: int
    owner_id: int
    name: str
    created_at: float
    updated_at: float
    pushed_at: float
    visible_from: float = 0.0
    visibility: Visibility = "private"
    description: str | None = None
    homepage: str | None = None
    default_branch: str = DEFAULT_BRANCH
    archived: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    protected: list[str] = field(default_factory=list)
    toggles: dict[str, bool] = field(default_factory=TOGGLES.copy)
    grants: dict[int, str] = field(default_factory=dict)
    """User to role; an organisation's may be a custom one."""
    invited_at: list[float] = field(default_factory=list)
    """When outsiders were invited in the last day, also if the invitation is gone: there is a limit to it."""

    @property
    def node_id(self) -> str:
        return node_id("R", self.id)


@dataclass(slots=True, kw_only=True)
class PackageVersion:
    """A version: of a container package a manifest. `tags` is for these alone.

    A `version_name` of None stands for a made-up digest, so that many versions need little memory.
    """

    id: int
    created_at: float
    updated_at: float
    version_name: str | None = None
    tags: tuple[str, ...] = ()
    deleted_at: float | None = None

    @property
    def name(self) -> str:
        """The digest of a container's version, the number of another one's."""
        return self.version_name or f"sha256:{hashlib.sha256(str(self.id).encode()).hexdigest()}"


@dataclass(slots=True, kw_only=True)
class Package:
    """A package. `versions` are in the order of their creation; `deleted` are those that can be restored."""

    id: int
    owner_id: int
    package_type: PackageType
    name: str
    created_at: float
    updated_at: float
    visibility: Visibility = "private"
    repository_id: int | None = None
    versions: list[PackageVersion] = field(default_factory=list[PackageVersion])
    deleted: list[PackageVersion] = field(default_factory=list[PackageVersion])

    @property
    def granular(self) -> bool:
        """Whether it belongs to the account, and is at most linked to a repository."""
        return self.package_type in GRANULAR_TYPES


@dataclass(slots=True, kw_only=True)
class WorkflowJob:
    """A job of a run. `log` None: there is none yet, or none any more."""

    id: int
    name: str
    status: str = "completed"
    conclusion: str | None = "success"
    log: str | None = None


@dataclass(slots=True, kw_only=True)
class WorkflowRun:
    """A run of the workflow file `workflow`."""

    id: int
    repository_id: int
    workflow: str
    branch: str
    head_sha: str
    number: int
    created_at: float
    event: str = "push"
    status: str = "queued"
    conclusion: str | None = None
    jobs: list[WorkflowJob] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class App:
    """A GitHub App. `user_id` is its bot's account; `public_key`, PEM, verifies its JWTs."""

    id: int
    slug: str
    user_id: int
    public_key: str
    created_at: float


@dataclass(slots=True, kw_only=True)
class Installation:
    """An App on an account. `token_lifetime` is how many seconds its tokens live."""

    id: int
    app_id: int
    account_id: int
    created_at: float
    permissions: dict[str, str] = field(default_factory=dict)
    suspended_at: float | None = None
    token_lifetime: float = 3600.0


@dataclass(slots=True, kw_only=True)
class OAuthApp:
    """An OAuth app. `approve_as` is the login of who is at the browser and agrees; None: they do not agree.

    `asks`: a page asks the person at the browser, who may be any user. `denial` is what the app is told of a refusal.
    """

    client_id: str
    client_secret: str = field(repr=False)
    callback_url: str
    approve_as: str | None = None
    asks: bool = False
    denial: str = "The user has denied your application access."


@dataclass(slots=True, kw_only=True)
class OAuthCode:
    """What a code of the web flow stands for. `challenge` is PKCE's (S256); None without PKCE."""

    client_id: str
    user_id: int
    scopes: list[str]
    redirect_uri: str
    challenge: str | None
    expires_at: float


@dataclass(slots=True, kw_only=True)
class Token:
    """A credential of a user, or of an App's installation (its user is the bot).

    `scopes` are those of classic and OAuth tokens; `permissions` (name to `read` or `write`) and
    `resource_owner_id` those of the others. `sso_orgs` are the `saml` organisations it was authorised for,
    `hidden_orgs` those that it cannot see although its user could.
    """

    id: int
    user_id: int
    kind: TokenKind
    value: str = field(repr=False)
    scopes: list[str] = field(default_factory=list)
    permissions: dict[str, str] = field(default_factory=dict)
    resource_owner_id: int | None = None
    hidden_orgs: list[int] = field(default_factory=list)
    sso_orgs: list[int] = field(default_factory=list)
    installation_id: int | None = None
    revoked: bool = False
    expires_at: float | None = None

    @property
    def by_permissions(self) -> bool:
        """Whether permissions, not scopes, say what it may do."""
        return self.kind in ("fine-grained", "installation")
