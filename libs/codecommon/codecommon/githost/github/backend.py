"""A session with GitHub: its account and repositories; access.py has the rest."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Literal, cast
from urllib.parse import quote

from githubkit import Response

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.github.access import GithubAccess
from codecommon.githost.github.answer import AccountAnswer, Answer, RepositoryAnswer
from codecommon.githost.github.classify import Attempt, classify, lacks_scope, require_whole, withheld
from codecommon.githost.github.client import HEADERS, Client
from codecommon.githost.github.endpoint import AllowedHosts, HostEndpoint
from codecommon.githost.github.holder import AppHolders, Holder, TokenHolder
from codecommon.githost.github.names import check_owner, check_repository_name, is_branch_name
from codecommon.githost.github.token import judge
from codecommon.githost.http.transport import Borrowed, HostTransport
from codecommon.githost.protocol import (
    Absent,
    Account,
    AppSecret,
    GitBackend,
    HostRepository,
    HostTarget,
    OpenBackend,
    OwnerKind,
    Redirected,
    RepositoryChanges,
    RepositoryRequest,
)

_MOVED: Final = frozenset({301, 302, 307, 308})
_NOT_FOUND: Final = frozenset({404})
_NO_EXTRA: Final[frozenset[int]] = frozenset()
_SAME_VISIBILITY: Final = "visibility is already"


def open_github(transport: HostTransport, allowed: AllowedHosts) -> OpenBackend:
    """The opener of ``GithubBackend`` sessions over the process's transport.

    It raises ``Terminal``: ``HostNotAllowed``, ``CredentialInvalid``, ``CABundleInvalid``, each before anything is sent.
    """

    apps = AppHolders()

    def open_session(target: HostTarget) -> GitBackend:
        endpoint = allowed.endpoint(target.base_url)
        app = target.credential.app if isinstance(target.credential, AppSecret) else None
        borrowed = transport.borrow(endpoint, target.principal, target.ca_bundle, app)
        match target.credential:
            case AppSecret() as secret:
                holder = apps.holder(endpoint, target, secret, borrowed)
            case token:
                holder = TokenHolder(judge(token, endpoint))
        return GithubBackend(endpoint, holder, borrowed)

    return open_session


class GithubBackend(GithubAccess):
    """One credential at one GitHub host; ``codecommon.githost.protocol`` says what the methods do."""

    def __init__(self, endpoint: HostEndpoint, holder: Holder, transport: Borrowed) -> None:
        self._transport = transport
        self._holder = holder
        self._client = Client(endpoint, holder.authority, transport)
        self._rest = self._client.rest
        self._login: str | None = None
        self._owner_kinds: dict[str, OwnerKind] = {}

    @property
    def name(self) -> str:
        return "github"

    @property
    def host(self) -> str:
        return self._client.host

    async def await_turn(self) -> None:
        await self._transport.await_turn()

    async def validate_connection(self) -> Account:
        account = await self._holder.account(self._client)
        self._login = account.login
        return account

    async def require_admission(self, organization: str) -> None:
        # Private repositories are what single sign-on and an organisation's policy on tokens protect; its profile is public.
        answer = await self._client.send(
            Attempt(f"list the repositories of {organization}"),
            self._rest.repos.async_list_for_org(organization, type="private", per_page=1, headers=HEADERS),
            also=_NOT_FOUND,
        )
        require_whole(answer)

    async def get_owner_kind(self, owner: str) -> OwnerKind | None:
        check_owner(owner)
        # An account that was seen does not change its kind while this credential lasts; one that was not may appear.
        if (known := self._owner_kinds.get(owner.lower())) is not None:
            return known
        account = await self._account(owner)
        if account is None:
            return None
        kind: OwnerKind = "Organization" if account.type == "Organization" else "User"
        self._owner_kinds[owner.lower()] = kind
        return kind

    async def get_user_id(self, login: str) -> str | None:
        check_owner(login)
        account = await self._account(login)
        return None if account is None else str(account.id)

    async def find_repository(self, owner: str, name: str) -> HostRepository | Absent | Redirected:
        check_owner(owner)
        check_repository_name(name)
        answer = await self._client.send(
            Attempt(f"read {owner}/{name}"),
            self._rest.repos.async_get(owner, name, headers=HEADERS),
            also=_NOT_FOUND | _MOVED,
        )
        if answer.status in _MOVED:
            return Redirected(self._client.scrub(str(answer.location)))
        if answer.status == 404:
            # What we make after this moment counts as ours, so the moment is taken from the host's clock or not at all.
            return Absent(answer.required_date())
        return _repository(answer)

    async def get_repository(self, repo_id: str) -> HostRepository | None:
        answer = await self._client.send(
            Attempt(f"read the repository with the id {repo_id}"), self._client.by_id("GET", repo_id), also=_NOT_FOUND
        )
        return None if answer.status == 404 else _repository(answer)

    async def has_branch(self, repo: HostRepository, branch: str) -> bool:
        if not is_branch_name(branch):
            return False
        answer = await self._client.send(
            Attempt(f"read the branch {branch} of {repo.owner}/{repo.name}"),
            self._rest.repos.async_get_branch(repo.owner, repo.name, quote(branch, safe=""), headers=HEADERS),
            # A branch that was renamed is answered with a redirect to its new name.
            also=_NOT_FOUND | _MOVED,
        )
        return answer.status == 200

    async def ensure_repository(self, request: RepositoryRequest) -> HostRepository:
        check_owner(request.owner)
        check_repository_name(request.name)
        self._holder.require_creates_for(request.owner, request.owner_kind)
        attempt = Attempt(f"create {request.owner}/{request.name}", write=True, creates=True)
        if request.owner_kind == "Organization":
            created = _repository(await self._client.send(attempt, self._create_in_org(request)))
        else:
            await self._check_own_account(request)
            created = _repository(await self._client.send(attempt, self._create_for_user(request)))
        self._check_identity(created, request)
        return created

    async def update_repository(self, repo_id: str, changes: RepositoryChanges) -> HostRepository:
        body: dict[str, Any] = {
            field: value
            for field in ("visibility", "description", "default_branch")
            if (value := getattr(changes, field)) is not None
        }
        # An archived repository takes no other change: it is unarchived before and archived after them.
        steps = [{"archived": False}] if changes.archived is False else []
        steps += [body] if body else []
        steps += [{"archived": True}] if changes.archived else []
        updated: HostRepository | None = None
        for step in steps:
            updated = await self._update(repo_id, step)
        return updated or await self._existing(repo_id)

    async def delete_repository(self, repo_id: str, *, public: bool = False) -> None:
        doing = f"delete the repository with the id {repo_id}"
        answer = await self._client.send(
            Attempt(doing, write=True, scope="delete_repo"), self._client.by_id("DELETE", repo_id), also=_NOT_FOUND
        )
        # Of a private one that a token may not see GitHub says the same as of one that is gone.
        seeing = Attempt(doing, write=True, scope="public_repo" if public else "repo")
        if answer.status == 404 and lacks_scope(answer, seeing):
            raise withheld(answer, seeing)

    async def _account(self, login: str) -> AccountAnswer | None:
        answer = await self._client.send(
            Attempt(f"read the account {login}"),
            self._rest.users.async_get_by_username(login, headers=HEADERS),
            also=_NOT_FOUND,
        )
        return None if answer.status == 404 else answer.parse(AccountAnswer)

    def _create_in_org(self, request: RepositoryRequest) -> Awaitable[Response[Any]]:
        return self._rest.repos.async_create_in_org(
            request.owner,
            data={
                "name": request.name,
                "description": request.description,
                "private": request.visibility != "public",
                # githubkit's type does not know `internal`.
                "visibility": cast(Literal["public", "private"], request.visibility),
                "auto_init": request.auto_init,
            },
            headers=HEADERS,
        )

    def _create_for_user(self, request: RepositoryRequest) -> Awaitable[Response[Any]]:
        return self._rest.repos.async_create_for_authenticated_user(
            data={
                "name": request.name,
                "description": request.description,
                "private": request.visibility == "private",
                "auto_init": request.auto_init,
            },
            headers=HEADERS,
        )

    async def _check_own_account(self, request: RepositoryRequest) -> None:
        """GitHub creates in the account of the credential whatever one asks for; so that account must be the one asked for."""
        if request.visibility == "internal":
            raise Terminal(
                Reason.VALIDATION_FAILED,
                "visibility internal is for organisations of an enterprise, not for a user's account",
            )
        login = self._login or (await self.validate_connection()).login
        if login.lower() != request.owner.lower():
            raise Terminal(
                Reason.OWNER_MISMATCH,
                f"{request.owner} is another user's account: the credential is that of {login}, and a repository can be made "
                "only in its own account or in an organisation",
            )

    def _check_identity(self, created: HostRepository, request: RepositoryRequest) -> None:
        if created.name == request.name and created.owner.lower() == request.owner.lower():
            return
        raise Terminal(
            Reason.NAME_ALTERED,
            f"asked for {request.owner}/{request.name}, {self.host} made {created.owner}/{created.name} (id {created.id})",
            status={"repoID": created.id, "host": self.host, "origin": "Created"},
        )

    async def _update(self, repo_id: str, body: dict[str, Any]) -> HostRepository:
        attempt = Attempt(f"change the repository with the id {repo_id}", write=True)
        also = frozenset({422}) if "visibility" in body else _NO_EXTRA
        answer = await self._client.send(attempt, self._client.by_id("PATCH", repo_id, body=body), also=also)
        if answer.status != 422:
            return _repository(answer)
        if not (answer.message or "").lower().startswith(_SAME_VISIBILITY):
            raise classify(answer, attempt, self._client.scrub)
        # Somebody else made the same change; GitHub then refuses the whole request.
        rest = {field: value for field, value in body.items() if field != "visibility"}
        return await self._update(repo_id, rest) if rest else await self._existing(repo_id)

    async def _existing(self, repo_id: str) -> HostRepository:
        found = await self.get_repository(repo_id)
        if found is None:
            raise Terminal(
                Reason.NOT_FOUND_OR_NO_ACCESS,
                f"{self.host} has no repository with the id {repo_id} for this credential",
            )
        return found


def _repository(answer: Answer) -> HostRepository:
    return answer.parse(RepositoryAnswer).to_host_repository()
