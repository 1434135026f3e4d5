"""A git host in memory, for tests of what stands on ``GitBackend``.

It is held to the same contract tests as the real backend (tests/contract/test_git_backend.py), so a service that is right with
it is right with the protocol. What a person or another program does to the host is done to its ``repositories`` directly.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from codecommon.errors import Terminal
from codecommon.githost.backend import (
    Absent,
    Account,
    AlreadyExists,
    Capability,
    HostRepository,
    HostTarget,
    OwnerKind,
    Redirected,
    RepositoryChanges,
    RepositoryRequest,
)
from codecommon.githost.policy import check_owner, check_repository_name

_DEFAULT_BRANCH: Final = "main"


@dataclass(slots=True)
class StubRepository:
    """One repository and what belongs to it. ``keys``: key id to (title, public key, read only); ``invited`` and ``granted``:
    user name to permission, ``invited`` with the invitation's id."""

    seen: HostRepository
    branches: set[str] = field(default_factory=set[str])
    keys: dict[str, tuple[str, str, bool]] = field(default_factory=dict[str, tuple[str, str, bool]])
    granted: dict[str, str] = field(default_factory=dict[str, str])
    invited: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])


class StubBackend:
    """A session of ``login`` at a host with the given organisations and other users.

    ``writes`` records every call that changed something, as (method, arguments). ``raise_next`` makes calls fail.
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
        self.invites = False
        self._account = Account(
            login=login,
            id="1",
            scopes=scopes,
            token_type="classic",  # noqa: S106
            capabilities=(Capability("createRepository", "Yes"), Capability("packages", "No", "the scope is missing")),
            principal="user:1",
        )
        self._host = host
        self._owners: dict[str, OwnerKind] = {name.lower(): "Organization" for name in organizations}
        self._owners |= {name.lower(): "User" for name in (login, *users)}
        self._errors: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self._last_id = 1000

    @property
    def name(self) -> str:
        return "github"

    @property
    def host(self) -> str:
        return self._host

    def open(self, target: HostTarget) -> StubBackend:
        """``OpenBackend``: this same session, whatever the target."""
        return self

    def raise_next(self, method: str, *errors: Exception) -> None:
        """The next calls of ``method`` raise ``errors``, one each, before anything is done."""
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
            "created_at": datetime.now(UTC).replace(microsecond=0),
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

    async def validate_connection(self) -> Account:
        self._fail("validate_connection")
        return self._account

    async def require_admission(self, organization: str) -> None:
        self._fail("require_admission")

    async def get_owner_kind(self, owner: str) -> OwnerKind | None:
        self._fail("get_owner_kind")
        check_owner(owner)
        return self._owners.get(owner.lower())

    async def find_repository(self, owner: str, name: str) -> HostRepository | Absent | Redirected:
        self._fail("find_repository")
        check_owner(owner)
        check_repository_name(name)
        if (found := self._named(owner, name)) is not None:
            return found
        if (location := self.redirects.get((owner.lower(), name.lower()))) is not None:
            return Redirected(location)
        return Absent(datetime.now(UTC).replace(microsecond=0))

    async def get_repository(self, repo_id: str) -> HostRepository | None:
        self._fail("get_repository")
        found = self.repositories.get(repo_id)
        return None if found is None else found.seen

    async def has_branch(self, repo: HostRepository, branch: str) -> bool:
        self._fail("has_branch")
        return repo.id in self.repositories and branch in self.repositories[repo.id].branches

    async def ensure_repository(self, request: RepositoryRequest) -> HostRepository:
        self._fail("ensure_repository")
        check_owner(request.owner)
        check_repository_name(request.name)
        if request.owner_kind == "User" and request.owner.lower() != self._account.login.lower():
            raise Terminal("OwnerMismatch", f"the credential is that of {self._account.login}, not of {request.owner}")
        if request.owner_kind == "User" and request.visibility == "internal":
            raise Terminal("ValidationFailed", "visibility internal is for organisations")
        if self._owners.get(request.owner.lower()) != request.owner_kind:
            raise Terminal("NotFoundOrNoAccess", f"{self._host} knows no {request.owner_kind} {request.owner}")
        if self._named(request.owner, request.name) is not None:
            raise AlreadyExists(f"{request.owner}/{request.name}")
        self.writes.append(("ensure_repository", (request,)))
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
            raise Terminal("RepositoryArchived", f"{repository.seen.name} is archived and read-only")
        if changes.default_branch is not None and changes.default_branch not in {
            *repository.branches,
            repository.seen.default_branch,
        }:
            raise Terminal("ValidationFailed", f"the branch {changes.default_branch} was not found")
        repository.seen = replace(repository.seen, **wanted)
        self.writes.append(("update_repository", (repo_id, changes)))
        return repository.seen

    async def delete_repository(self, repo_id: str) -> None:
        self._fail("delete_repository")
        if self.repositories.pop(repo_id, None) is not None:
            self.redirects = {
                name: location for name, location in self.redirects.items() if not location.endswith(f"/{repo_id}")
            }
            self.writes.append(("delete_repository", (repo_id,)))

    async def ensure_deploy_key(self, repo_id: str, title: str, public_key: str, read_only: bool) -> str:
        self._fail("ensure_deploy_key")
        keys = self._existing(repo_id).keys
        wanted = (title, public_key, read_only)
        if (same := next((key_id for key_id, key in keys.items() if key == wanted), None)) is not None:
            return same
        if any(public_key == key[1] for other in self.repositories.values() for key in other.keys.values()):
            raise Terminal("KeyInUse", "the key is already registered; a key serves one repository")
        key_id = self._next_id()
        keys[key_id] = wanted
        self.writes.append(("ensure_deploy_key", (repo_id, title, public_key, read_only)))
        return key_id

    async def delete_deploy_key(self, repo_id: str, key_id: str) -> None:
        self._fail("delete_deploy_key")
        repository = self.repositories.get(repo_id)
        if repository is not None and repository.keys.pop(key_id, None) is not None:
            self.writes.append(("delete_deploy_key", (repo_id, key_id)))

    async def ensure_collaborator(self, repo_id: str, username: str, permission: str) -> str | None:
        """Granted at once, or invited while ``invites`` is set."""
        self._fail("ensure_collaborator")
        repository, login = self._existing(repo_id), username.lower()
        if login in repository.granted or not self.invites:
            if repository.granted.get(login) != permission:
                repository.granted[login] = permission
                self.writes.append(("ensure_collaborator", (repo_id, username, permission)))
            return None
        invitation_id, invited = repository.invited.get(login, (self._next_id(), None))
        if invited != permission:
            repository.invited[login] = (invitation_id, permission)
            self.writes.append(("ensure_collaborator", (repo_id, username, permission)))
        return invitation_id

    async def remove_collaborator(self, repo_id: str, username: str) -> None:
        self._fail("remove_collaborator")
        repository = self.repositories.get(repo_id)
        if repository is None:
            return
        granted = repository.granted.pop(username.lower(), None)
        invited = repository.invited.pop(username.lower(), None)
        if granted or invited:
            self.writes.append(("remove_collaborator", (repo_id, username)))

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
            raise Terminal("NotFoundOrNoAccess", f"{self._host} has no repository with the id {repo_id}") from None

    def _next_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)

    def _fail(self, method: str) -> None:
        if self._errors[method]:
            raise self._errors[method].popleft()
