"""The simulated host's state as a whole: every record, found by id, login, name or value, made and changed.

One event loop owns a World; nothing in it awaits, so no operation is ever seen half done. Who may do
what is not decided here (see `access`); a World only keeps identity and names consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from devstack.githubsim.gitstore import GitStore
from devstack.githubsim.identifiers import TokenKind, new_token
from devstack.githubsim.names import NameTaken
from devstack.githubsim.packages import PackageStore
from devstack.githubsim.records import (
    Account,
    App,
    DeployKey,
    Installation,
    Invitation,
    OAuthApp,
    OAuthCode,
    Organization,
    OrgRole,
    Repository,
    Token,
    User,
    Visibility,
    WorkflowRun,
)

Clock = Callable[[], float]
"""Seconds since the epoch."""


class KeyTaken(Exception):
    """Some repository of the host has this key."""


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
        self.runs: dict[int, WorkflowRun] = {}
        self.git = GitStore()
        self.moved: dict[tuple[int, str], int] = {}
        self.next_id: dict[str, int] = {
            "account": 90_000_001,
            "repository": 800_000_001,
            "token": 1,
            "key": 70_000_001,
            "invitation": 60_000_001,
            "app": 1_200_001,
            "installation": 60_000_001,
            "package": 5_000_001,
            "package-version": 400_000_001,
            "run": 12_000_000_001,
            "job": 34_000_000_001,
        }
        self.packages = PackageStore(clock, self.allocate)
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

    def rename_account(self, account: Account, login: str) -> None:
        """The old login is free at once. Raises NameTaken if another user or organisation has the new one."""
        if self._logins.get(login.lower(), account.id) != account.id:
            raise NameTaken(login)
        del self._logins[account.login.lower()]
        account.login = login
        self._logins[login.lower()] = account.id

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
        git, head = self.git, repository.branches.get(branch)
        parent = git.commit(repository.id, head) if head is not None else None
        if parent is None:
            blob = git.write(repository.id, "blob", f"# {repository.name}\n".encode())
            tree = git.write(repository.id, "tree", b"100644 README.md\x00" + bytes.fromhex(blob))
            message = "Initial commit"
        else:
            tree, message = parent.tree, "Another commit"
        parents = [head] if head is not None and parent is not None else []
        person = ("GitHub", "noreply@github.com", int(self.clock()))
        self.set_head(repository, branch, git.write_commit(repository.id, tree, parents, message, person))

    def set_head(self, repository: Repository, branch: str, sha: str) -> None:
        """The branch is at this commit now. The first branch becomes the default branch. Raises GitRefused."""
        self.git.set_head(repository.id, branch, sha)
        if not repository.branches:
            self._begin(repository, branch)
        repository.branches[branch] = sha
        repository.pushed_at = self.clock()

    def pushed(self, repository: Repository) -> None:
        """Take note of the branches after a push by git itself."""
        heads = self.git.heads(repository.id)
        if heads and not repository.branches:
            default = repository.default_branch
            self._begin(repository, default if default in heads else min(heads))
        repository.branches = heads
        repository.pushed_at = self.clock()

    def _begin(self, repository: Repository, branch: str) -> None:
        repository.default_branch = branch
        self.git.set_default(repository.id, branch)

    def workflows(self, repository: Repository) -> set[str]:
        """The names of the workflow files on the default branch."""
        folder = ".github/workflows/"
        head = repository.branches.get(repository.default_branch)
        commit = self.git.commit(repository.id, head) if head is not None else None
        entries = self.git.tree(repository.id, commit.tree, recursive=True) or [] if commit is not None else []
        return {entry.path.removeprefix(folder) for entry in entries if entry.path.startswith(folder)}

    def file_at(self, repository: Repository, branch: str, path: str) -> bytes | None:
        """A file at the branch's head."""
        commit = self.git.commit(repository.id, repository.branches[branch])
        entries = self.git.tree(repository.id, commit.tree, recursive=True) or [] if commit is not None else []
        sha = next((entry.sha for entry in entries if entry.path == path), None)
        return None if sha is None else self.git.read(repository.id, sha, "blob")

    def new_run(
        self, repository: Repository, workflow: str, branch: str, *, head_sha: str | None = None, event: str = "push"
    ) -> WorkflowRun:
        """A run that is queued."""
        run = WorkflowRun(
            id=self.allocate("run"),
            repository_id=repository.id,
            workflow=workflow,
            branch=branch,
            head_sha=head_sha or repository.branches[branch],
            number=1 + sum(other.repository_id == repository.id for other in self.runs.values()),
            created_at=self.clock(),
            event=event,
        )
        self.runs[run.id] = run
        return run

    def move(self, repository: Repository, *, owner: Account | None = None, name: str | None = None) -> None:
        """Rename or transfer; the old name leads to the repository until it is reused. Raises NameTaken."""
        if owner is not None and owner.id != repository.owner_id:
            self.packages.require_free(repository, owner.id)
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
        if old[0] != repository.owner_id:
            self.packages.repository_transferred(repository, old[0])

    def delete(self, repository: Repository) -> None:
        del self.repositories[repository.id]
        del self._names[repository.owner_id, repository.name.lower()]
        self.moved = {key: target for key, target in self.moved.items() if target != repository.id}
        self.packages.repository_deleted(repository)
        self.git.remove(repository.id)
        self.runs = {number: run for number, run in self.runs.items() if run.repository_id != repository.id}
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
