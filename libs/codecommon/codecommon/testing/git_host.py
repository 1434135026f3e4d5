"""A git host in memory, for tests of what uses ``GitBackend``.

The contract tests (tests/contract/test_git_backend.py, test_access_backend.py) hold it to the same behaviour as the real backend,
so a service that is right with it is right with the protocol. A test changes ``repositories`` directly to act as a person or
another program on the host.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from codecommon.api.connection import ConnectionSpec
from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.limits import Limits
from codecommon.githost.protocol import (
    Absent,
    Account,
    AlreadyExists,
    Capability,
    Credential,
    GitBackend,
    Grant,
    HostKey,
    HostPackage,
    HostRepository,
    HostTarget,
    Invitation,
    KeyInUse,
    Listed,
    OwnerKind,
    PackageVersion,
    Redirected,
    RepositoryChanges,
    RepositoryRequest,
)
from codecommon.githost.registry import providers
from codecommon.testing.git_contents import StubBuilds, StubContents, StubTree

_DEFAULT_BRANCH: Final = "main"
_ROLES: Final = ("pull", "triage", "push", "maintain", "admin")
_ROLES_OF_USERS: Final = ("pull", "push", "admin")
_PACKAGE_TYPES: Final = ("container", "npm", "maven", "rubygems", "nuget", "docker")
_LOGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(?:\[bot\])?")
_REPOSITORY_NAME: Final = re.compile(r"(?!.*\.(?i:git|wiki)$|\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_PUBLIC_KEY: Final = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/=]+")

T = TypeVar("T")


@dataclass(slots=True)
class StubRepository:
    """One repository and what belongs to it. ``keys`` by id; ``granted`` and ``invited`` by login in lower case.

    ``tree``: commits and builds.
    """

    seen: HostRepository
    branches: set[str] = field(default_factory=set[str])
    keys: dict[str, HostKey] = field(default_factory=dict[str, HostKey])
    keys_disabled: bool = False
    granted: dict[str, str] = field(default_factory=dict[str, str])
    invited: dict[str, Invitation] = field(default_factory=dict[str, Invitation])
    tree: StubTree = field(default_factory=StubTree)


@dataclass(slots=True)
class StubPackage:
    """One published package with its versions, the newest first."""

    seen: HostPackage
    versions: list[PackageVersion] = field(default_factory=list[PackageVersion])


class StubProvider:
    """A registered provider whose backends are stubs, made by ``open_session``. All else is the provider's own."""

    def __init__(self, open_session: Callable[[HostTarget], GitBackend], name: str = "github") -> None:
        self._real = next(provider for provider in providers() if provider.name == name)
        self._open_session = open_session

    @property
    def name(self) -> str:
        return self._real.name

    @property
    def limits(self) -> Limits:
        return self._real.limits

    def address(self, base_url: str) -> HostAddress:
        return self._real.address(base_url)

    def credential_keys(self, spec: ConnectionSpec) -> str:
        return self._real.credential_keys(spec)

    def read_credential(self, spec: ConnectionSpec, data: Mapping[str, str], where: str) -> Credential:
        return self._real.read_credential(spec, data, where)

    def open(self, target: HostTarget, transport: HostTransport) -> GitBackend:
        return self._open_session(target)


class StubBackend:
    """A session of ``login`` at a host with the given organisations and other users.

    ``writes`` records every call that changed something, as (method, arguments). ``raise_next`` makes calls fail.
    ``packages`` by owner in lower case, type and name; ``publish`` adds to them. They are listed in pages of ``page_size``, each
    of which is one of ``reads``: (``list_packages``, (owner, type, page)) or (``list_versions``, (name, page)).
    ``org_owners`` (organisation to logins, in lower case) have every role. ``unlisted`` users are left out of
    ``list_collaborators``.
    ``users`` can be given access: at once if they are ``members`` (organisation to logins, in lower case) of the owner, otherwise
    by invitation. ``invites`` False gives access to all of them at once.
    """

    def __init__(
        self,
        login: str = "octocat",
        *,
        organizations: Iterable[str] = (),
        users: Iterable[str] = (),
        host: str = "git.example",
        scopes: tuple[str, ...] | None = ("repo", "delete_repo"),
    ) -> None:
        self.repositories: dict[str, StubRepository] = {}
        self.redirects: dict[tuple[str, str], str] = {}
        self.writes: list[tuple[str, tuple[Any, ...]]] = []
        self.invites = True
        self.members: dict[str, set[str]] = {}
        self.org_owners: dict[str, set[str]] = {}
        self.unlisted: set[str] = set()
        self.custom_roles: set[str] = set()
        self.outsiders_admitted = True
        self.packages: dict[tuple[str, str, str], StubPackage] = {}
        self.page_size = 100
        self.reads: list[tuple[str, tuple[Any, ...]]] = []
        self._account = Account(
            login=login,
            id="1",
            scopes=scopes,
            token_type="classic",  # noqa: S106
            capabilities=(Capability("createRepository", "Yes"), Capability("packages", "No", "the scope is missing")),
        )
        self._host = host
        self._owners: dict[str, OwnerKind] = {name.lower(): "Organization" for name in organizations}
        self._owners |= {name.lower(): "User" for name in (login, *users)}
        everybody = dict.fromkeys((login.lower(), *self._owners))
        self._account_ids = {name: str(number) for number, name in enumerate(everybody, start=1)}
        self._errors: defaultdict[str, deque[Exception | None]] = defaultdict(deque)
        self._last_id = 1000
        self._publications = 0
        self.contents = StubContents(self._existing)
        self.builds = StubBuilds(self._existing)

    @property
    def name(self) -> str:
        return "github"

    @property
    def host(self) -> str:
        return self._host

    def open(self, target: HostTarget) -> StubBackend:
        """For ``StubProvider``: this same session, whatever the target."""
        return self

    def raise_next(self, method: str, *errors: Exception | None) -> None:
        """The next calls of ``method`` raise ``errors``, one each, before anything is done. None: that call is answered."""
        self._errors[method].extend(errors)

    def add_repository(self, owner: str, name: str, *, branches: Iterable[str] = (), **fields: Any) -> HostRepository:
        """A repository made by somebody else; ``fields`` are those of ``HostRepository``."""
        repository_id = self._next_id()
        defaults: dict[str, Any] = {
            "id": repository_id,
            "owner": owner,
            "name": name,
            "visibility": "private",
            "description": "",
            "default_branch": _DEFAULT_BRANCH,
            "archived": False,
            "created_at": _now(),
            "html_url": f"https://{self._host}/{owner}/{name}",
            "clone_url": f"https://{self._host}/{owner}/{name}.git",
            "ssh_url": f"git@{self._host}:{owner}/{name}.git",
        }
        seen = HostRepository(**(defaults | fields))
        self.repositories[seen.id] = StubRepository(seen, set(branches))
        self.redirects.pop((owner.lower(), name.lower()), None)
        return seen

    def rename(self, repo_id: str, name: str, *, owner: str | None = None) -> None:
        """Rename or transfer, as a person would; the old name redirects until it is used again."""
        repository = self.repositories[repo_id]
        old = repository.seen
        repository.seen = replace(old, name=name, owner=owner or old.owner)
        self.redirects[old.owner.lower(), old.name.lower()] = f"https://{self._host}/repositories/{repo_id}"

    def add_key(self, repo_id: str, title: str, key: str, read_only: bool = True) -> HostKey:
        """A deploy key, as a person would register it."""
        made = HostKey(self._next_id(), title, key, read_only, _now())
        self.repositories[repo_id].keys[made.id] = made
        return made

    def accept(self, repo_id: str, username: str) -> None:
        """The user takes the invitation."""
        repository = self.repositories[repo_id]
        repository.granted[username.lower()] = repository.invited.pop(username.lower()).role

    def decline(self, repo_id: str, username: str) -> None:
        del self.repositories[repo_id].invited[username.lower()]

    def expire(self, repo_id: str, username: str) -> None:
        """Seven days pass for the invitation."""
        invited, user = self.repositories[repo_id].invited, username.lower()
        invited[user] = replace(invited[user], expired=True)

    def add_user(self, login: str) -> None:
        """Somebody makes an account, whose login may once have been another's."""
        self._owners[login.lower()] = "User"
        self._account_ids[login.lower()] = self._next_id()

    def rename_user(self, login: str, new: str) -> None:
        """The user takes another login and keeps id, repositories, grants and invitations; the old login is free."""
        old, now = login.lower(), new.lower()
        self._owners[now] = self._owners.pop(old)
        self._account_ids[now] = self._account_ids.pop(old)
        for repository in self.repositories.values():
            if old in repository.granted:
                repository.granted[now] = repository.granted.pop(old)
            if old in repository.invited:
                repository.invited[now] = replace(repository.invited.pop(old), username=now)
            if repository.seen.owner.lower() == old:
                repository.seen = replace(repository.seen, owner=new)

    def publish(
        self,
        owner: str,
        package_type: str,
        name: str,
        *versions: PackageVersion,
        repository_id: str | None = None,
        **fields: Any,
    ) -> StubPackage:
        """Publish versions, oldest first, of a package that is made if need be; ``fields`` are those of ``HostPackage``."""
        key = (owner.lower(), package_type, name)
        if key not in self.packages:
            image = f"registry.{self._host}/{owner}/{name}".lower() if package_type == "container" else None
            page = f"https://{self._host}/{owner}/packages/{package_type}/{name}"
            seen = HostPackage(owner, package_type, name, "private", page, "", 0, repository_id, image)
            self.packages[key] = StubPackage(seen)
        package = self.packages[key]
        package.versions[:0] = reversed(versions)
        self._publications += 1
        moment = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self._publications)
        changed: dict[str, Any] = {
            "updated_at": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "version_count": len(package.versions),
            "repository_id": repository_id or package.seen.repository_id,
        }
        package.seen = replace(package.seen, **(changed | fields))
        return package

    async def await_turn(self) -> None:
        self._fail("await_turn")

    async def validate_connection(self) -> Account:
        self._fail("validate_connection")
        return self._account

    async def verify_access(self, organization: str) -> None:
        self._fail("verify_access")

    async def get_owner_kind(self, owner: str) -> OwnerKind | None:
        self._fail("get_owner_kind")
        _check_login(owner)
        return self._owners.get(owner.lower())

    async def find_repository(self, owner: str, name: str) -> HostRepository | Absent | Redirected:
        self._fail("find_repository")
        _check_login(owner)
        _check_repository_name(name)
        if (found := self._named(owner, name)) is not None:
            return found
        if (location := self.redirects.get((owner.lower(), name.lower()))) is not None:
            return Redirected(location)
        return Absent(_now())

    async def get_repository(self, repo_id: str) -> HostRepository | None:
        self._fail("get_repository")
        found = self.repositories.get(repo_id)
        return None if found is None else found.seen

    async def has_branch(self, repo: HostRepository, branch: str) -> bool:
        self._fail("has_branch")
        return repo.id in self.repositories and branch in self.repositories[repo.id].branches

    async def create_repository(self, request: RepositoryRequest) -> HostRepository:
        self._fail("create_repository")
        _check_login(request.owner)
        _check_repository_name(request.name)
        if request.owner_kind == "User" and request.owner.lower() != self._account.login.lower():
            raise Terminal(
                Reason.OWNER_MISMATCH, f"the credential is that of {self._account.login}, not of {request.owner}"
            )
        if request.owner_kind == "User" and request.visibility == "internal":
            raise Terminal(Reason.VALIDATION_FAILED, "visibility internal is for organisations")
        if self._owners.get(request.owner.lower()) != request.owner_kind:
            raise Terminal(Reason.NOT_FOUND_OR_NO_ACCESS, f"{self._host} knows no {request.owner_kind} {request.owner}")
        if self._named(request.owner, request.name) is not None:
            raise AlreadyExists(f"{request.owner}/{request.name}")
        self.writes.append(("create_repository", (request,)))
        return self.add_repository(
            request.owner,
            request.name,
            branches={_DEFAULT_BRANCH} if request.auto_init else (),
            visibility=request.visibility,
            description=request.description,
        )

    async def update_repository(self, repo_id: str, changes: RepositoryChanges) -> HostRepository:
        self._fail("update_repository")
        repository = self._existing(repo_id)
        wanted = {
            name: value
            for name in ("visibility", "description", "default_branch", "archived")
            if (value := getattr(changes, name)) is not None
        }
        if repository.seen.archived and wanted and changes.archived is None:
            raise Terminal(Reason.REPOSITORY_ARCHIVED, f"{repository.seen.name} is archived and read-only")
        if changes.default_branch is not None and changes.default_branch not in {
            *repository.branches,
            repository.seen.default_branch,
        }:
            raise Terminal(Reason.VALIDATION_FAILED, f"the branch {changes.default_branch} was not found")
        repository.seen = replace(repository.seen, **wanted)
        self.writes.append(("update_repository", (repo_id, changes)))
        return repository.seen

    async def delete_repository(self, repo_id: str, *, public: bool = False) -> None:
        self._fail("delete_repository")
        if self.repositories.pop(repo_id, None) is not None:
            self.redirects = {
                name: location for name, location in self.redirects.items() if not location.endswith(f"/{repo_id}")
            }
            self.writes.append(("delete_repository", (repo_id,)))

    @property
    def package_types(self) -> tuple[str, ...]:
        return _PACKAGE_TYPES

    async def list_packages(self, owner: str, package_type: str) -> AsyncIterator[tuple[HostPackage, ...]]:
        if await self.get_owner_kind(owner) is None:
            raise Terminal(Reason.NOT_FOUND_OR_NO_ACCESS, f"{self._host} knows no {owner}")
        rows = [
            p.seen for (whose, type_, _), p in self.packages.items() if (whose, type_) == (owner.lower(), package_type)
        ]
        for number, page in enumerate(self._pages(rows), 1):
            self._fail("list_packages")
            self.reads.append(("list_packages", (owner, package_type, number)))
            yield page

    async def get_package(self, owner: str, package_type: str, name: str) -> HostPackage | None:
        self._fail("get_package")
        self.reads.append(("get_package", (owner, package_type, name)))
        package = self.packages.get((owner.lower(), package_type, name))
        return None if package is None else package.seen

    async def list_versions(self, package: HostPackage) -> AsyncIterator[tuple[PackageVersion, ...]]:
        found = self.packages.get((package.owner.lower(), package.type, package.name))
        for number, page in enumerate(self._pages(found.versions if found is not None else []), 1):
            self._fail("list_versions")
            self.reads.append(("list_versions", (package.name, number)))
            yield page

    def _pages(self, items: Sequence[T]) -> Iterator[tuple[T, ...]]:
        """Of a list that fills its last page, another page is asked for, because nothing says that there is none."""
        for start in range(0, len(items) + 1, self.page_size):
            page = tuple(items[start : start + self.page_size])
            yield page
            if len(page) < self.page_size:
                return

    def roles(self, kind: OwnerKind) -> tuple[str, ...]:
        return _ROLES_OF_USERS if kind == "User" else _ROLES

    def is_username(self, name: str) -> bool:
        return _LOGIN.fullmatch(name) is not None

    async def list_deploy_keys(self, repo_id: str) -> Listed[HostKey] | None:
        self._fail("list_deploy_keys")
        repository = self.repositories.get(repo_id)
        if repository is None:
            return None
        return _listed(replace(key, enabled=not repository.keys_disabled) for key in repository.keys.values())

    async def get_deploy_key(self, repo_id: str, key_id: str) -> HostKey | None:
        self._fail("get_deploy_key")
        repository = self.repositories.get(repo_id)
        key = None if repository is None else repository.keys.get(key_id)
        return key and replace(key, enabled=not self._existing(repo_id).keys_disabled)

    async def create_deploy_key(self, repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        self._fail("create_deploy_key")
        repository, material = self._existing(repo_id), " ".join(public_key.split()[:2])
        if repository.keys_disabled:
            raise Terminal(Reason.DEPLOY_KEYS_DISABLED, "deploy keys are disabled for this repository")
        if not _PUBLIC_KEY.fullmatch(material):
            raise Terminal(Reason.INVALID_PUBLIC_KEY, "the key is invalid")
        if any(material == key.key for other in self.repositories.values() for key in other.keys.values()):
            raise KeyInUse("the key is already registered; a key serves one repository")
        self.writes.append(("create_deploy_key", (repo_id, title, public_key, read_only)))
        return self.add_key(repo_id, title, material, read_only)

    async def delete_deploy_key(self, repo_id: str, key_id: str) -> None:
        self._fail("delete_deploy_key")
        repository = self.repositories.get(repo_id)
        if repository is not None and repository.keys.pop(key_id, None) is not None:
            self.writes.append(("delete_deploy_key", (repo_id, key_id)))

    async def get_user_id(self, login: str) -> str | None:
        self._fail("get_user_id")
        _check_login(login)
        return self._account_ids.get(login.lower())

    async def list_collaborators(self, repo_id: str) -> Listed[Grant] | None:
        self._fail("list_collaborators")
        repository = self.repositories.get(repo_id)
        if repository is None:
            return None
        owner = repository.seen.owner.lower()
        users = {owner} if self._owners.get(owner) == "User" else set[str]()
        shown = (self._grant(repository, user) for user in (*users, *repository.granted) if user not in self.unlisted)
        return _listed(grant for grant in shown if grant is not None)

    async def get_grant(self, repo_id: str, username: str) -> Grant | None:
        self._fail("get_grant")
        _check_login(username)
        repository = self.repositories.get(repo_id)
        return None if repository is None else self._grant(repository, username.lower())

    def _grant(self, repository: StubRepository, user: str) -> Grant | None:
        owner = repository.seen.owner.lower()
        owns = user in self.org_owners.get(owner, ()) or (user == owner and self._owners.get(owner) == "User")
        role = "admin" if owns else repository.granted.get(user)
        return None if role is None else Grant(user, role, self._account_ids.get(user))

    async def list_invitations(self, repo_id: str) -> Listed[Invitation] | None:
        self._fail("list_invitations")
        repository = self.repositories.get(repo_id)
        return None if repository is None else _listed(repository.invited.values())

    async def set_collaborator(self, repo_id: str, username: str, role: str) -> Invitation | None:
        self._fail("set_collaborator")
        _check_login(username)
        repository, user = self._existing(repo_id), username.lower()
        owner = repository.seen.owner.lower()
        if self._owners.get(user) != "User":
            raise Terminal(Reason.USER_NOT_FOUND, f"{self._host} has no user {username}")
        self._check_role(owner, user, role)
        if user in repository.granted or user in self.members.get(owner, ()) or not self.invites:
            if repository.granted.get(user) != role:
                repository.granted[user] = role
                self.writes.append(("set_collaborator", (repo_id, username, role)))
            repository.invited.pop(user, None)
            return None
        if not self.outsiders_admitted:
            raise Terminal(Reason.INVITATION_REFUSED, "the organisation does not admit outside collaborators")
        invitation = repository.invited.get(user)
        if invitation is None:
            user_id = self._account_ids[user]
            invitation = Invitation(self._next_id(), user, user_id, role, expired=False, created_at=_now())
        if invitation.role != role or user not in repository.invited:
            self.writes.append(("set_collaborator", (repo_id, username, role)))
        repository.invited[user] = replace(invitation, role=role)
        return repository.invited[user]

    async def update_invitation(self, repo_id: str, invitation_id: str, role: str) -> None:
        self._fail("update_invitation")
        invited = self._existing(repo_id).invited
        for user, invitation in invited.items():
            if invitation.id == invitation_id:
                invited[user] = replace(invitation, role=role)
                self.writes.append(("update_invitation", (repo_id, invitation_id, role)))
                return
        raise Retryable(Reason.HOST_CONFLICT, f"{self._host} has no invitation with the id {invitation_id} any more")

    async def cancel_invitation(self, repo_id: str, invitation_id: str) -> None:
        self._fail("cancel_invitation")
        repository = self.repositories.get(repo_id)
        invited = {} if repository is None else repository.invited
        for user in [user for user, invitation in invited.items() if invitation.id == invitation_id]:
            del invited[user]
            self.writes.append(("cancel_invitation", (repo_id, invitation_id)))

    async def remove_collaborator(self, repo_id: str, username: str) -> None:
        self._fail("remove_collaborator")
        repository = self.repositories.get(repo_id)
        if repository is not None and repository.granted.pop(username.lower(), None) is not None:
            self.writes.append(("remove_collaborator", (repo_id, username)))

    def _check_role(self, owner: str, user: str, role: str) -> None:
        if self._owners.get(owner) != "User":
            if role not in _ROLES and role not in self.custom_roles:
                raise Terminal(Reason.PERMISSION_UNSUPPORTED, f"the organisation has no role {role}")
        elif user == owner or role not in _ROLES_OF_USERS:
            raise Terminal(Reason.PERMISSION_UNSUPPORTED, f"{user} cannot be given {role} on the repository of a user")

    def _named(self, owner: str, name: str) -> HostRepository | None:
        return next(
            (
                repository.seen
                for repository in self.repositories.values()
                if (repository.seen.owner.lower(), repository.seen.name.lower()) == (owner.lower(), name.lower())
            ),
            None,
        )

    def _existing(self, repo_id: str) -> StubRepository:
        try:
            return self.repositories[repo_id]
        except KeyError:
            raise Terminal(
                Reason.NOT_FOUND_OR_NO_ACCESS, f"{self._host} has no repository with the id {repo_id}"
            ) from None

    def _next_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)

    def _fail(self, method: str) -> None:
        if self._errors[method] and (error := self._errors[method].popleft()) is not None:
            raise error


def _check_login(name: str) -> None:
    if not _LOGIN.fullmatch(name):
        raise Terminal(Reason.INVALID_NAME, "no account can have this name")


def _check_repository_name(name: str) -> None:
    if not _REPOSITORY_NAME.fullmatch(name):
        raise Terminal(Reason.INVALID_NAME, "no repository can have this name")


def _now() -> datetime:
    """The host's clock, which tells whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def _listed(items: Iterable[T]) -> Listed[T]:
    return Listed(tuple(items), _now())
