"""The backend for GitHub: its account, repositories, deploy keys, collaborators and invitations.

GitHub answers 404 both for what is gone and for what a credential must not see or change. So a 404 to a list does not yet say
that the repository is gone, nor a 404 to a removal that the thing is.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import quote

from githubkit import Response
from pydantic import BaseModel

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.github.answer import (
    AccountAnswer,
    Answer,
    CollaboratorAnswer,
    DeployKeyAnswer,
    InvitationAnswer,
    PackageAnswer,
    PermissionAnswer,
    RepositoryAnswer,
    VersionAnswer,
    invitation_permission,
)
from codecommon.githost.github.builds import GithubBuilds
from codecommon.githost.github.classify import (
    OF_INVITATIONS,
    OF_KEYS,
    OF_PACKAGES,
    Attempt,
    classify,
    lacks_scope,
    require_whole,
    withheld,
)
from codecommon.githost.github.client import HEADERS, Client
from codecommon.githost.github.contents import GithubContents
from codecommon.githost.github.holder import Holder
from codecommon.githost.github.names import check_owner, check_repository_name, is_login
from codecommon.githost.http.transport import Borrowed
from codecommon.githost.protocol import (
    Absent,
    Account,
    Grant,
    HostKey,
    HostPackage,
    HostRepository,
    Invitation,
    Listed,
    OwnerKind,
    PackageVersion,
    Redirected,
    RepositoryChanges,
    RepositoryRequest,
)
from codecommon.githost.refs import is_branch_name

ModelT = TypeVar("ModelT", bound=BaseModel)

_ROLES: Final = ("pull", "triage", "push", "maintain", "admin")
_ROLES_OF_USERS: Final = ("pull", "push", "admin")
_PER_PAGE: Final = 100
# A repository with more keys or collaborators than this is a host that sends us in circles.
_MOST_PAGES: Final = 100
# Each page may have 2 MiB, so pages alone bound nothing. A key or a collaborator takes some 1,500 bytes at the most.
_LONGEST_LIST: Final = 16 * 1024 * 1024
# A hundred pages of a host that takes more than half a second for each. Meanwhile the list holds one of the process's slots.
_LONGEST_LIST_SECONDS: Final = 60.0
# Of what a list is read page by page for, little is kept. A row of packages has 6 KiB at the most, and an owner 5,000 of them.
_LONGEST_LIST_OF_PACKAGES: Final = 64 * 1024 * 1024
_LONGEST_LIST_OF_PACKAGES_SECONDS: Final = 300.0
_PACKAGE_TYPES: Final = ("container", "npm", "maven", "rubygems", "nuget", "docker")
_IMAGES: Final = "container"
_PUBLIC_HOST: Final = "github.com"
_PUBLIC_REGISTRY: Final = "ghcr.io"
# The API has no package with a longer name, and no status takes one.
_LONGEST_PACKAGE_NAME: Final = 255
_NEXT: Final = re.compile(r'rel="?next"?')
_CREATED: Final = 201
_MOVED: Final = frozenset({301, 302, 307, 308})
_NOT_FOUND: Final = frozenset({404})
_NO_EXTRA: Final[frozenset[int]] = frozenset()
_SAME_VISIBILITY: Final = "visibility is already"


class GithubBackend:
    """One credential at one GitHub host; ``codecommon.githost.protocol`` says what the methods do."""

    def __init__(self, address: HostAddress, holder: Holder, transport: Borrowed) -> None:
        self._transport = transport
        self._holder = holder
        self._client = Client(address, holder.token_source, transport)
        self._rest = self._client.rest
        self.contents: Final = GithubContents(self._client)
        self.builds: Final = GithubBuilds(self._client)
        self._login: str | None = None
        self._owner_kinds: dict[str, OwnerKind] = {}
        # An Enterprise Server has a container registry with subdomain isolation only, so that is its name there, too.
        self.registry: Final = _PUBLIC_REGISTRY if address.host == _PUBLIC_HOST else f"containers.{address.host}"

    @property
    def name(self) -> str:
        return "github"

    @property
    def host(self) -> str:
        return self._client.host

    async def await_turn(self) -> None:
        await self._transport.await_turn()

    # ---- the account

    async def validate_connection(self) -> Account:
        account = await self._holder.account(self._client)
        self._login = account.login
        return account

    async def verify_access(self, organization: str) -> None:
        # Single sign-on and an organisation's policy on tokens protect its private repositories. Its profile is public.
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

    async def _account(self, login: str) -> AccountAnswer | None:
        answer = await self._client.send(
            Attempt(f"read the account {login}"),
            self._rest.users.async_get_by_username(login, headers=HEADERS),
            also=_NOT_FOUND,
        )
        return None if answer.status == 404 else answer.parse(AccountAnswer)

    # ---- repositories

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
            # What we make after this moment counts as ours, so it must be the host's clock that tells it.
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

    async def create_repository(self, request: RepositoryRequest) -> HostRepository:
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
        # GitHub also answers 404 for a private repository that the token may not see.
        seeing = Attempt(doing, write=True, scope="public_repo" if public else "repo")
        if answer.status == 404 and lacks_scope(answer, seeing):
            raise withheld(answer, seeing)

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
        """GitHub creates in the credential's own account, whatever is asked for. So that account must be the requested one."""
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

    # ---- deploy keys

    async def list_deploy_keys(self, repo_id: str) -> Listed[HostKey] | None:
        listed = await self._list(repo_id, "/keys", DeployKeyAnswer, "read the deploy keys")
        return None if listed is None else Listed(tuple(key.to_host_key() for key in listed.items), listed.at)

    async def get_deploy_key(self, repo_id: str, key_id: str) -> HostKey | None:
        answer = await self._client.send(
            Attempt(_of(repo_id, "read a deploy key")),
            self._client.by_id("GET", repo_id, f"/keys/{_number(key_id)}"),
            also=_NOT_FOUND,
        )
        return None if answer.status == 404 else answer.parse(DeployKeyAnswer).to_host_key()

    async def create_deploy_key(self, repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        answer = await self._client.send(
            Attempt(_of(repo_id, "register a deploy key"), write=True, refusals=OF_KEYS),
            self._client.by_id(
                "POST", repo_id, "/keys", body={"title": title, "key": public_key, "read_only": read_only}
            ),
        )
        return answer.parse(DeployKeyAnswer).to_host_key()

    async def delete_deploy_key(self, repo_id: str, key_id: str) -> None:
        refused = await self._remove(repo_id, f"/keys/{_number(key_id)}", "remove a deploy key")
        # The list decides: GitHub also answers 404 for one key where the credential may not see the keys.
        if refused is not None and _shows(await self.list_deploy_keys(repo_id), key_id):
            raise refused

    # ---- collaborators and invitations

    def roles(self, kind: OwnerKind) -> tuple[str, ...]:
        return _ROLES_OF_USERS if kind == "User" else _ROLES

    def is_username(self, name: str) -> bool:
        return is_login(name)

    async def get_user_id(self, login: str) -> str | None:
        check_owner(login)
        account = await self._account(login)
        return None if account is None else str(account.id)

    async def list_collaborators(self, repo_id: str) -> Listed[Grant] | None:
        doing, params = "read the collaborators", {"affiliation": "direct"}
        listed = await self._list(repo_id, "/collaborators", CollaboratorAnswer, doing, params)
        return None if listed is None else Listed(tuple(user.to_grant() for user in listed.items), listed.at)

    async def get_grant(self, repo_id: str, username: str) -> Grant | None:
        check_owner(username)
        # Of a public repository everybody has the role that the next answer names.
        if not await self._has_access(repo_id, username):
            return None
        answer = await self._client.send(
            Attempt(_of(repo_id, f"read the role of {username}")),
            self._client.by_id("GET", repo_id, f"/collaborators/{username}/permission"),
            also=_NOT_FOUND,
        )
        return None if answer.status == 404 else answer.parse(PermissionAnswer).to_grant()

    async def list_invitations(self, repo_id: str) -> Listed[Invitation] | None:
        listed = await self._list(repo_id, "/invitations", InvitationAnswer, "read the invitations")
        if listed is None:
            return None
        # An invitation whose user has deleted the account names nobody.
        return Listed(
            tuple(found for item in listed.items if (found := item.to_invitation()) is not None),
            listed.at,
        )

    async def set_collaborator(self, repo_id: str, username: str, role: str) -> Invitation | None:
        check_owner(username)
        attempt = Attempt(_of(repo_id, f"give {username} {role}"), write=True, refusals=OF_INVITATIONS)
        answer = await self._client.send(
            attempt,
            self._client.by_id("PUT", repo_id, f"/collaborators/{username}", body={"permission": role}),
            also=_NOT_FOUND,
        )
        if answer.status == 404:
            await self._require_user(repo_id, username, answer)
            raise classify(answer, attempt, self._client.scrub)
        return answer.parse(InvitationAnswer).to_invitation() if answer.status == _CREATED else None

    async def update_invitation(self, repo_id: str, invitation_id: str, role: str) -> None:
        attempt = Attempt(_of(repo_id, f"change an invitation to {role}"), write=True, refusals=OF_INVITATIONS)
        answer = await self._client.send(
            attempt,
            self._client.by_id(
                "PATCH",
                repo_id,
                f"/invitations/{_number(invitation_id)}",
                body={"permissions": invitation_permission(role)},
            ),
            also=_NOT_FOUND,
        )
        if answer.status != 404:
            return
        if not lacks_scope(answer, attempt) and await self.get_repository(repo_id) is not None:
            raise Retryable(
                Reason.HOST_CONFLICT, f"{answer.host} shows no such invitation any more when asked to {attempt.doing}"
            )
        raise classify(answer, attempt, self._client.scrub)

    async def cancel_invitation(self, repo_id: str, invitation_id: str) -> None:
        refused = await self._remove(repo_id, f"/invitations/{_number(invitation_id)}", "withdraw an invitation")
        if refused is not None and _shows(await self.list_invitations(repo_id), invitation_id):
            raise refused

    async def remove_collaborator(self, repo_id: str, username: str) -> None:
        check_owner(username)
        refused = await self._remove(repo_id, f"/collaborators/{username}", f"revoke the access of {username}")
        if refused is not None and await self._has_access(repo_id, username):
            raise refused

    async def _has_access(self, repo_id: str, username: str) -> bool:
        """Whether the user can reach the repository, by a grant or otherwise."""
        attempt = Attempt(_of(repo_id, f"look for {username} among the collaborators"))
        call = self._client.by_id("GET", repo_id, f"/collaborators/{username}")
        answer = await self._client.send(attempt, call, also=_NOT_FOUND)
        if answer.status == 404 and lacks_scope(answer, attempt):
            raise withheld(answer, attempt)
        return answer.status != 404

    async def _require_user(self, repo_id: str, username: str, answer: Answer) -> None:
        """Raises ``Terminal`` (``UserNotFound``) where a 404 is about the user."""
        if await self.get_repository(repo_id) is not None and await self.get_owner_kind(username) != "User":
            raise Terminal(
                Reason.USER_NOT_FOUND,
                f"{answer.host} has no user {username}; correct the name: make a new object with it",
            )

    # ---- packages

    @property
    def package_types(self) -> tuple[str, ...]:
        return _PACKAGE_TYPES

    async def list_packages(self, owner: str, package_type: str) -> AsyncIterator[tuple[HostPackage, ...]]:
        path = await self._packages_of(owner)
        attempt = Attempt(f"list the {package_type} packages of {owner}", scope="read:packages", refusals=OF_PACKAGES)
        registry = self.registry if package_type == _IMAGES else None
        async for rows in self._pages_of(attempt, path, PackageAnswer, {"package_type": package_type}):
            yield tuple(row.to_host_package(owner, package_type, registry) for row in rows if _is_package(row.name))

    async def get_package(self, owner: str, package_type: str, name: str) -> HostPackage | None:
        if not _is_package(name):
            return None
        answer = await self._client.send(
            Attempt(f"read a package of {owner}", scope="read:packages", refusals=OF_PACKAGES),
            self._client.get(f"{await self._packages_of(owner)}/{package_type}/{quote(name, safe='')}"),
            also=_NOT_FOUND,
        )
        registry = self.registry if package_type == _IMAGES else None
        return (
            None if answer.status == 404 else answer.parse(PackageAnswer).to_host_package(owner, package_type, registry)
        )

    async def list_versions(self, package: HostPackage) -> AsyncIterator[tuple[PackageVersion, ...]]:
        attempt = Attempt(
            f"list the versions of a package of {package.owner}", scope="read:packages", refusals=OF_PACKAGES
        )
        path = f"{await self._packages_of(package.owner)}/{package.type}/{quote(package.name, safe='')}/versions"
        async for versions in self._pages_of(attempt, path, VersionAnswer, {}, also=_NOT_FOUND):
            yield tuple(version.to_version() for version in versions)

    async def _packages_of(self, owner: str) -> str:
        """The path of an owner's packages. Raises ``Terminal`` (``NotFoundOrNoAccess``)."""
        kind = await self.get_owner_kind(owner)
        if kind is None:
            raise Terminal(
                Reason.NOT_FOUND_OR_NO_ACCESS, f"{self.host} shows this credential no user or organisation {owner}"
            )
        return f"/{'orgs' if kind == 'Organization' else 'users'}/{owner}/packages"

    async def _pages_of(
        self,
        attempt: Attempt,
        path: str,
        model: type[ModelT],
        params: dict[str, Any],
        *,
        also: frozenset[int] = _NO_EXTRA,
    ) -> AsyncIterator[list[ModelT]]:
        """The pages of a list, while a page is full or names a next one; none where the answer is among ``also``.

        Its bounds are as of ``_list``.
        """
        length, seconds = 0, 0.0
        for page in range(1, _MOST_PAGES + 1):
            asked = time.monotonic()
            answer = await self._client.send(
                attempt, self._client.get(path, {**params, "per_page": _PER_PAGE, "page": page}), also=also
            )
            # What the reader does with a page in between is not the host's time.
            seconds += time.monotonic() - asked
            length += len(answer.body)
            if length > _LONGEST_LIST_OF_PACKAGES or seconds > _LONGEST_LIST_OF_PACKAGES_SECONDS:
                raise self._endless(attempt)
            if answer.status in also:
                return
            # Without what single sign-on protects, things would seem to be gone.
            require_whole(answer)
            # A page of more than was asked for would hold up the event loop.
            items = answer.parse_list(model, most=_PER_PAGE)
            yield items
            # A full page comes without Link at times, although there is a next one.
            if len(items) < _PER_PAGE and not _NEXT.search(answer.headers.get("link", "")):
                return
        raise self._endless(attempt)

    # ---- lists and removals

    async def _list(
        self, repo_id: str, tail: str, model: type[ModelT], doing: str, params: dict[str, Any] | None = None
    ) -> Listed[ModelT] | None:
        """The whole list. Raises ``Retryable`` for one that is longer, or takes longer, than any real one: see the constants."""
        attempt = Attempt(_of(repo_id, doing))
        limit = asyncio.timeout(_LONGEST_LIST_SECONDS)
        try:
            async with limit:
                return await self._pages(repo_id, tail, model, attempt, params)
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._endless(attempt) from None

    async def _pages(
        self, repo_id: str, tail: str, model: type[ModelT], attempt: Attempt, params: dict[str, Any] | None
    ) -> Listed[ModelT] | None:
        length = 0
        items: list[ModelT] = []
        first: Answer | None = None
        for page in range(1, _MOST_PAGES + 1):
            # Pages are asked for by number. The address in Link could lead the credential elsewhere.
            query = {**(params or {}), "per_page": _PER_PAGE, "page": page}
            answer = await self._client.send(
                attempt, self._client.by_id("GET", repo_id, tail, params=query), also=_NOT_FOUND
            )
            if answer.status == 404:
                if await self.get_repository(repo_id) is None:
                    return None
                raise withheld(answer, attempt)
            first = first or answer
            length += len(answer.body)
            if length > _LONGEST_LIST:
                raise self._endless(attempt)
            found = answer.parse_list(model)
            items += found
            # A full page may have got a next page since, even where a 304 says that the page itself is unchanged.
            if len(found) < _PER_PAGE and not _NEXT.search(answer.headers.get("link", "")):
                return Listed(tuple(items), first.required_date())
        raise self._endless(attempt)

    def _endless(self, attempt: Attempt) -> Retryable:
        return Retryable(Reason.UNEXPECTED_ANSWER, f"{self._client.host} comes to no end when asked to {attempt.doing}")

    async def _remove(self, repo_id: str, tail: str, doing: str) -> Retryable | None:
        """None after a removal. After a 404, the refusal to raise if the thing is still there."""
        attempt = Attempt(_of(repo_id, doing), write=True)
        answer = await self._client.send(attempt, self._client.by_id("DELETE", repo_id, tail), also=_NOT_FOUND)
        if answer.status != 404:
            return None
        if lacks_scope(answer, attempt):
            raise classify(answer, attempt, self._client.scrub)
        refused = withheld(answer, attempt)
        # It can be tried again: what shows the thing may lag behind a removal of a moment ago.
        return Retryable(refused.reason, refused.message)


def _repository(answer: Answer) -> HostRepository:
    return answer.parse(RepositoryAnswer).to_host_repository()


def _is_package(name: str) -> bool:
    """Whether it can be the name of a package, and be asked for as one segment of a path."""
    return 0 < len(name) <= _LONGEST_PACKAGE_NAME and name not in (".", "..")


def _shows(listed: Listed[HostKey] | Listed[Invitation] | None, identifier: str) -> bool:
    return listed is not None and any(item.id == identifier for item in listed.items)


def _of(repo_id: str, doing: str) -> str:
    return f"{doing} of the repository with the id {repo_id}"


def _number(identifier: str) -> str:
    """The id as one segment of a path. Raises ``Terminal`` (``ValidationFailed``) for anything else."""
    if not (identifier.isascii() and identifier.isdecimal()):
        raise Terminal(Reason.VALIDATION_FAILED, "an id in status is not a number")
    return identifier
