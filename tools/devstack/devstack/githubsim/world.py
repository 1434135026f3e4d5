"""The simulated host's state: accounts, repositories and what belongs to them, tokens.

One event loop owns a World; nothing in it awaits, so no operation is ever seen half done. Who may do
what is not decided here (see `access`); a World only keeps identity and names consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from devstack.githubsim.identifiers import TokenKind, commit_sha, new_token, node_id

Clock = Callable[[], float]
"""Seconds since the epoch."""

Visibility = Literal["public", "private", "internal"]
Role = Literal["read", "triage", "write", "maintain", "admin"]
OrgRole = Literal["member", "admin"]

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


class NameTaken(Exception):
    """The account already has a repository of this name, or the host an account of this login."""


class KeyTaken(Exception):
    """Some repository of the host has this key."""


@dataclass(slots=True, kw_only=True)
class User:
    """A person's account."""

    id: int
    login: str
    created_at: float
    name: str | None = None

    @property
    def node_id(self) -> str:
        return node_id("U", self.id)


@dataclass(slots=True, kw_only=True)
class Team:
    """Members of an organisation, and their role in each of its repositories that the team has; by ids."""

    members: list[int] = field(default_factory=list)
    repositories: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class DeployKey:
    """An SSH key of one repository. `key` is without comment. `token_id` made it, and it goes with that token."""

    id: int
    repository_id: int
    title: str
    key: str
    read_only: bool
    created_at: float
    added_by: int
    token_id: int | None = None


@dataclass(slots=True, kw_only=True)
class Invitation:
    """An offer of a role. It expires by itself; `forced_expiry` is a control call's."""

    id: int
    repository_id: int
    invitee_id: int
    inviter_id: int
    role: str
    created_at: float
    forced_expiry: bool = False

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
    toggles: dict[str, bool] = field(default_factory=TOGGLES.copy)
    grants: dict[int, str] = field(default_factory=dict)
    """User to role; an organisation's may be a custom one."""
    invited_at: list[float] = field(default_factory=list)
    """When outsiders were invited in the last day, also if the invitation is gone: there is a limit to it."""

    @property
    def node_id(self) -> str:
        return node_id("R", self.id)


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
    """An OAuth app. `approve_as` is the login of who is at the browser and agrees; None: they do not agree."""

    client_id: str
    client_secret: str = field(repr=False)
    callback_url: str
    approve_as: str | None = None


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


class World:
    """Every account, repository and token of the simulated host."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.accounts: dict[int, Account] = {}
        self.repositories: dict[int, Repository] = {}
        self.tokens: dict[int, Token] = {}
        self.keys: dict[int, DeployKey] = {}
        self.invitations: dict[int, Invitation] = {}
        self.apps: dict[int, App] = {}
        self.installations: dict[int, Installation] = {}
        self.oauth_apps: dict[str, OAuthApp] = {}
        self.oauth_codes: dict[str, OAuthCode] = {}
        self.moved: dict[tuple[int, str], int] = {}
        self.next_id: dict[str, int] = {
            "account": 90_000_001,
            "repository": 800_000_001,
            "token": 1,
            "key": 70_000_001,
            "invitation": 60_000_001,
            "app": 1_200_001,
            "installation": 60_000_001,
        }
        self._logins: dict[str, int] = {}
        self._names: dict[tuple[int, str], int] = {}
        self._token_values: dict[str, int] = {}

    def user(self, user_id: int) -> User:
        account = self.accounts[user_id]
        assert isinstance(account, User)
        return account

    def account(self, login: str) -> Account | None:
        """The user or organisation of this login, in any case."""
        account_id = self._logins.get(login.lower())
        return None if account_id is None else self.accounts[account_id]

    def token(self, value: str) -> Token | None:
        """The token that was ever issued with this value, whatever its state."""
        token_id = self._token_values.get(value)
        return None if token_id is None else self.tokens[token_id]

    def installed(self, app_id: int, account: Account) -> Installation | None:
        """The App's installation on the account."""
        found = (i for i in self.installations.values() if i.app_id == app_id and i.account_id == account.id)
        return next(found, None)

    def owner(self, repository: Repository) -> Account:
        return self.accounts[repository.owner_id]

    def find(self, owner: Account, name: str) -> Repository | None:
        """The repository that has this name now, in any case."""
        repository_id = self._names.get((owner.id, name.lower()))
        return None if repository_id is None else self.repositories[repository_id]

    def find_moved(self, owner: Account, name: str) -> Repository | None:
        """The repository that had this name once, as long as nobody has reused the name."""
        repository_id = self.moved.get((owner.id, name.lower()))
        return None if repository_id is None else self.repositories[repository_id]

    def owned_by(self, owner: Account) -> Iterator[Repository]:
        return (repository for repository in self.repositories.values() if repository.owner_id == owner.id)

    def keys_of(self, repository: Repository) -> list[DeployKey]:
        return [key for key in self.keys.values() if key.repository_id == repository.id]

    def invitations_of(self, repository: Repository) -> list[Invitation]:
        return [invitation for invitation in self.invitations.values() if invitation.repository_id == repository.id]

    def invitation_for(self, repository: Repository, user: User) -> Invitation | None:
        return next((found for found in self.invitations_of(repository) if found.invitee_id == user.id), None)

    def add_account(self, account: Account) -> None:
        """Raises NameTaken if a user or organisation has the login."""
        if account.login.lower() in self._logins:
            raise NameTaken(account.login)
        self.accounts[account.id] = account
        self._logins[account.login.lower()] = account.id

    def add_token(self, token: Token) -> None:
        self.tokens[token.id] = token
        self._token_values[token.value] = token.id

    def add_repository(self, repository: Repository) -> None:
        """Raises NameTaken if the owner has a repository of this name."""
        self._claim_name(repository)
        self.repositories[repository.id] = repository

    def new_user(self, login: str, *, name: str | None = None) -> User:
        user = User(id=self.allocate("account"), login=login, created_at=self.clock(), name=name)
        self.add_account(user)
        return user

    def new_organization(self, login: str, members: dict[int, OrgRole]) -> Organization:
        org = Organization(id=self.allocate("account"), login=login, created_at=self.clock(), members=members)
        self.add_account(org)
        return org

    def new_token(self, user: User, kind: TokenKind) -> Token:
        token = Token(id=self.allocate("token"), user_id=user.id, kind=kind, value=new_token(kind))
        self.add_token(token)
        return token

    def new_app(self, slug: str, public_key: str) -> App:
        """An App and its bot's account. Raises NameTaken."""
        bot = self.new_user(f"{slug}[bot]")
        app = App(id=self.allocate("app"), slug=slug, user_id=bot.id, public_key=public_key, created_at=self.clock())
        self.apps[app.id] = app
        return app

    def install(self, app: App, account: Account, permissions: dict[str, str]) -> Installation:
        """Raises NameTaken if the App is there already."""
        if self.installed(app.id, account):
            raise NameTaken(app.slug)
        installation = Installation(
            id=self.allocate("installation"),
            app_id=app.id,
            account_id=account.id,
            created_at=self.clock(),
            permissions=permissions,
        )
        self.installations[installation.id] = installation
        return installation

    def uninstall(self, installation: Installation) -> None:
        """Its tokens are no good any more."""
        del self.installations[installation.id]
        for token in self.tokens.values():
            if token.installation_id == installation.id:
                token.revoked = True

    def new_installation_token(self, installation: Installation) -> Token:
        """A token that has what the installation has now."""
        token = self.new_token(self.user(self.apps[installation.app_id].user_id), "installation")
        token.installation_id = installation.id
        token.resource_owner_id = installation.account_id
        token.permissions = dict(installation.permissions)
        token.expires_at = self.clock() + installation.token_lifetime
        return token

    def new_repository(self, owner: Account, name: str, visibility: Visibility) -> Repository:
        """An empty repository. Raises NameTaken."""
        now = self.clock()
        repository = Repository(
            id=self.allocate("repository"),
            owner_id=owner.id,
            name=name,
            created_at=now,
            updated_at=now,
            pushed_at=now,
            visibility=visibility,
        )
        self.add_repository(repository)
        return repository

    def new_key(
        self, repository: Repository, title: str, key: str, read_only: bool, by: User, token: Token | None
    ) -> DeployKey:
        """Raises KeyTaken if any repository has the key."""
        if any(other.key == key for other in self.keys.values()):
            raise KeyTaken
        made = DeployKey(
            id=self.allocate("key"),
            repository_id=repository.id,
            title=title,
            key=key,
            read_only=read_only,
            created_at=self.clock(),
            added_by=by.id,
            token_id=None if token is None else token.id,
        )
        self.keys[made.id] = made
        return made

    def invite(self, repository: Repository, invitee: User, inviter: User, role: str) -> Invitation:
        made = Invitation(
            id=self.allocate("invitation"),
            repository_id=repository.id,
            invitee_id=invitee.id,
            inviter_id=inviter.id,
            role=role,
            created_at=self.clock(),
        )
        self.invitations[made.id] = made
        return made

    def revoke(self, token: Token) -> None:
        """The token is no good any more, and the deploy keys that a classic or OAuth token made are gone."""
        token.revoked = True
        if token.kind in ("classic", "oauth"):
            self.keys = {number: key for number, key in self.keys.items() if key.token_id != token.id}

    def push(self, repository: Repository, branch: str) -> None:
        """A new head commit on a branch. The first branch of a repository becomes its default branch."""
        now = self.clock()
        if not repository.branches:
            repository.default_branch = branch
        repository.branches[branch] = commit_sha(repository.id, branch, now)
        repository.pushed_at = now

    def move(self, repository: Repository, *, owner: Account | None = None, name: str | None = None) -> None:
        """Rename or transfer; the old name leads to the repository until it is reused. Raises NameTaken."""
        old = (repository.owner_id, repository.name)
        del self._names[repository.owner_id, repository.name.lower()]
        repository.owner_id = owner.id if owner else repository.owner_id
        repository.name = name or repository.name
        try:
            self._claim_name(repository)
        except NameTaken:
            repository.owner_id, repository.name = old
            self._claim_name(repository)
            raise
        old_key, new_key = (old[0], old[1].lower()), (repository.owner_id, repository.name.lower())
        if old_key != new_key:
            self.moved[old_key] = repository.id

    def delete(self, repository: Repository) -> None:
        del self.repositories[repository.id]
        del self._names[repository.owner_id, repository.name.lower()]
        self.moved = {key: target for key, target in self.moved.items() if target != repository.id}
        for kept in (self.keys, self.invitations):
            for number in [number for number, item in kept.items() if item.repository_id == repository.id]:
                del kept[number]

    def allocate(self, kind: str) -> int:
        number = self.next_id[kind]
        self.next_id[kind] = number + 1
        return number

    def _claim_name(self, repository: Repository) -> None:
        key = (repository.owner_id, repository.name.lower())
        if key in self._names:
            raise NameTaken(repository.name)
        self._names[key] = repository.id
        self.moved.pop(key, None)
