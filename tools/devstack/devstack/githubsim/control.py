"""A client of the simulator's control API, for tests and demonstrations in any process."""

from __future__ import annotations

import base64
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Self, cast
from urllib.parse import quote

import aiohttp
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from devstack.githubsim.control_answers import (
    IssuedApp,
    IssuedOAuthApp,
    IssuedToken,
    JournalReport,
    SimCommit,
    SimImage,
    SimInvitation,
    SimKey,
    SimPackage,
    SimRepository,
    SimRun,
    SimVersion,
)
from devstack.githubsim.faults import FaultAction
from devstack.githubsim.identifiers import TokenKind
from devstack.githubsim.journal import Entry
from devstack.githubsim.records import OrgRole, PackageType, Visibility

_APPS: Final = Counter[str]()
"""How many Apps this process has made, by simulator."""


@cache
def _app_key(number: int) -> rsa.RSAPrivateKey:
    """The key of a simulator's App ``number``. Two simulators have the same keys, because making one takes 0.1 s."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class ControlRefused(Exception):
    """The simulator did not do what was asked; the text says why."""


def _package(owner: str, package_type: PackageType, name: str) -> str:
    return f"/packages/{owner}/{package_type}/{quote(name, safe='')}"


class SimControl:
    """Use as an async context manager. Every call raises ControlRefused if the simulator refuses it."""

    def __init__(self, url: str, *, ca: str | None = None) -> None:
        """`ca`, PEM, is trusted for a simulator behind TLS."""
        self._tls = ssl.create_default_context(cadata=ca) if ca else True
        self._base = f"{url.rstrip('/')}/_sim"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def create_user(self, login: str, *, name: str | None = None) -> int:
        """Returns the user's id."""
        return (await self._send("POST", "/users", {"login": login, "name": name}))["id"]

    async def rename_user(self, login: str, new: str) -> None:
        """The user takes another login, and keeps id, tokens, repositories and access. The old login is free for others."""
        await self._send("PATCH", f"/users/{login}", {"login": new})

    async def create_org(self, login: str, *, members: dict[str, OrgRole] | None = None, **settings: Any) -> int:
        """`members` maps logins to roles; an `admin` owns the organisation. Returns its id.

        Settings: `hidden`, `saml` (tokens need single sign-on), `enterprise`, `members_can_create_repositories`,
        `members_can_delete_repositories`, `default_repository_permission`, `deploy_keys_enabled`,
        `outside_collaborators_allowed`, `custom_roles` (name to the role it is based on).
        """
        return (await self._send("POST", "/orgs", {"login": login, "members": members or {}, **settings}))["id"]

    async def edit_org(self, login: str, *, members: dict[str, OrgRole | None] | None = None, **settings: Any) -> None:
        """Change settings and memberships; a role of None removes the member."""
        await self._send("PATCH", f"/orgs/{login}", {"members": members or {}, **settings})

    async def rename_org(self, login: str, new: str) -> None:
        """The organisation takes another login, and keeps id, members, repositories and installations."""
        await self._send("PATCH", f"/orgs/{login}", {"login": new})

    async def set_team(
        self, org: str, team: str, *, members: list[str], repositories: dict[str, str] | None = None
    ) -> None:
        """Make or replace a team that gives its members a role in each of the `repositories` (name to role)."""
        body = {"members": members, "repositories": repositories or {}}
        await self._send("PUT", f"/orgs/{org}/teams/{team}", body)

    async def create_token(
        self,
        login: str,
        *,
        kind: TokenKind = "classic",
        scopes: list[str] | None = None,
        permissions: dict[str, str] | None = None,
        resource_owner: str | None = None,
        hidden_orgs: list[str] | None = None,
        sso_orgs: list[str] | None = None,
        expires_in: float | None = None,
    ) -> IssuedToken:
        """A credential of the user.

        `scopes` are for classic and OAuth tokens (default `repo`, `delete_repo`, `user`), `permissions`
        (default administration, contents and metadata) and `resource_owner` (default the user) for
        fine-grained ones. The token does not see `hidden_orgs`, and is authorised for the single sign-on of
        `sso_orgs`. `expires_in` seconds; None never.
        """
        fields: dict[str, Any] = {"login": login, "kind": kind, "expires_in": expires_in}
        if kind == "fine-grained":
            granted = {"administration": "write", "contents": "write", "metadata": "read"}
            fields["permissions"] = granted if permissions is None else permissions
        else:
            fields["scopes"] = ["repo", "delete_repo", "user"] if scopes is None else scopes
        if resource_owner is not None:
            fields["resource_owner"] = resource_owner
        if hidden_orgs is not None:
            fields["hidden_orgs"] = hidden_orgs
        if sso_orgs is not None:
            fields["sso_orgs"] = sso_orgs
        answer = await self._send("POST", "/tokens", fields)
        return IssuedToken(answer["id"], answer["token"])

    async def edit_token(self, token_id: int, **changes: Any) -> None:
        """Change `scopes`, `permissions`, `hidden_orgs`, `sso_orgs`, `revoked` or `expires_in`."""
        await self._send("PATCH", f"/tokens/{token_id}", changes)

    async def revoke_token(self, token_id: int) -> None:
        """The deploy keys that a classic or OAuth token made go with it."""
        await self.edit_token(token_id, revoked=True)

    async def create_app(self, slug: str) -> IssuedApp:
        """A GitHub App, installed nowhere. It acts as ``<slug>[bot]``."""
        _APPS[self._base] += 1
        key = _app_key(_APPS[self._base])
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        answer = await self._send("POST", "/apps", {"slug": slug, "public_key": public})
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
        return IssuedApp(answer["id"], private)

    async def install_app(
        self, app_id: int, account: str, *, permissions: dict[str, str] | None = None, token_lifetime: float = 3600.0
    ) -> int:
        """Install on a user or organisation; returns the installation's id.

        `permissions` default to administration, contents and metadata. Tokens live for `token_lifetime` seconds.
        """
        granted = {"administration": "write", "contents": "write", "metadata": "read"}
        fields = {"permissions": granted if permissions is None else permissions, "token_lifetime": token_lifetime}
        return (await self._send("POST", f"/apps/{app_id}/installations", {"account": account, **fields}))["id"]

    async def edit_installation(self, installation_id: int, **changes: Any) -> None:
        """Change `permissions` (of tokens to come), `suspended` or `token_lifetime`."""
        await self._send("PATCH", f"/installations/{installation_id}", changes)

    async def uninstall_app(self, installation_id: int) -> None:
        await self._send("DELETE", f"/installations/{installation_id}")

    async def revoke_installation_tokens(self, installation_id: int) -> int:
        """Its tokens are no good from now on; returns how many were still good."""
        return (await self._send("DELETE", f"/installations/{installation_id}/tokens"))["revoked"]

    async def create_oauth_app(
        self, callback_url: str, *, approve_as: str | None = None, asks: bool = False
    ) -> IssuedOAuthApp:
        """An OAuth app, whose requests for access the user `approve_as` grants; None: they are denied.

        `asks`: a page lets the person at the browser choose. A `login` in the request's address stands before both.
        """
        fields = {"callback_url": callback_url, "approve_as": approve_as, "asks": asks}
        return IssuedOAuthApp(**await self._send("POST", "/oauth-apps", fields))

    async def approve_oauth_as(self, client_id: str, login: str | None) -> None:
        """From now on this user is at the browser; None: nobody agrees."""
        await self._send("PATCH", f"/oauth-apps/{client_id}", {"approve_as": login})

    async def create_repository(
        self, owner: str, name: str, *, visibility: Visibility = "private", **settings: Any
    ) -> SimRepository:
        """A repository made by somebody else, visible at once.

        Settings: `description`, `homepage`, `branches` (names), `protected` (branches), `default_branch`, `archived`,
        `grants` (login to role), `created_at` (epoch seconds) and GitHub's boolean settings.
        """
        body = {"owner": owner, "name": name, "visibility": visibility, **settings}
        return SimRepository(**await self._send("POST", "/repos", body))

    async def edit_repository(self, owner: str, name: str, /, **changes: Any) -> SimRepository:
        """As a person would: the settings of `create_repository`, `name` to rename, `owner` to transfer.

        `branches` are added to those that are there, and so are `grants`; a role of None withdraws one.
        """
        return SimRepository(**await self._send("PATCH", f"/repos/{owner}/{name}", changes))

    async def get_repository(self, owner: str, name: str) -> SimRepository:
        return SimRepository(**await self._send("GET", f"/repos/{owner}/{name}"))

    async def delete_repository(self, owner: str, name: str) -> None:
        await self._send("DELETE", f"/repos/{owner}/{name}")

    async def push(
        self,
        owner: str,
        name: str,
        files: Mapping[str, bytes | None],
        *,
        branch: str = "main",
        message: str = "A change",
        modes: Mapping[str, str] | None = None,
    ) -> str:
        """One commit of a person with these files on top of the branch; None deletes one. Returns its SHA.

        `modes` by path, `100644` where there is none. The content of a submodule (`160000`) is the SHA that it is at.
        """
        entries = [
            ((modes or {}).get(path, "100644"), path, None if content is None else base64.b64encode(content).decode())
            for path, content in files.items()
        ]
        body = {"branch": branch, "message": message, "files": entries}
        return (await self._send("POST", f"/repos/{owner}/{name}/commits", body))["sha"]

    async def files(self, owner: str, name: str, branch: str = "main") -> dict[str, bytes]:
        """Path and content of everything at the branch's head; of a submodule the content is empty."""
        listed = await self._send("GET", f"/repos/{owner}/{name}/files?branch={quote(branch, safe='')}")
        return {path: base64.b64decode(encoded) for path, (_, encoded) in listed.items()}

    async def modes(self, owner: str, name: str, branch: str = "main") -> dict[str, str]:
        """Path and mode of everything at the branch's head."""
        listed = await self._send("GET", f"/repos/{owner}/{name}/files?branch={quote(branch, safe='')}")
        return {path: mode for path, (mode, _) in listed.items()}

    async def commits(self, owner: str, name: str, branch: str = "main") -> list[SimCommit]:
        """The branch's commits, the newest first."""
        listed = await self._send("GET", f"/repos/{owner}/{name}/commits?branch={quote(branch, safe='')}")
        return [SimCommit(**fields | {"parents": tuple(fields["parents"])}) for fields in listed]

    async def create_run(self, owner: str, name: str, workflow: str, **fields: Any) -> SimRun:
        """A run of the workflow file, at the head of `branch` (default: the default branch) or at `head_sha`.

        `status` (default `queued`), `conclusion`, and `jobs`, each with `name`, `status`, `conclusion` and `log`.
        """
        return SimRun(**await self._send("POST", f"/repos/{owner}/{name}/runs", {"workflow": workflow, **fields}))

    async def runs(self, owner: str, name: str) -> list[SimRun]:
        """The oldest first."""
        return [SimRun(**fields) for fields in await self._send("GET", f"/repos/{owner}/{name}/runs")]

    async def downloads(self) -> dict[str, int]:
        """Requests to the host of archives and logs: `served`, and `refused` because they brought a credential."""
        return await self._send("GET", "/downloads")

    async def keys(self, owner: str, name: str) -> list[SimKey]:
        return [SimKey(**fields) for fields in await self._send("GET", f"/repos/{owner}/{name}/keys")]

    async def all_keys(self) -> list[SimKey]:
        """Of every repository."""
        return [SimKey(**fields) for fields in await self._send("GET", "/keys")]

    async def add_key(
        self, owner: str, name: str, key: str, *, login: str, title: str = "", read_only: bool = True
    ) -> SimKey:
        """Registered by the user `login` in a browser."""
        body = {"key": key, "login": login, "title": title, "read_only": read_only}
        return SimKey(**await self._send("POST", f"/repos/{owner}/{name}/keys", body))

    async def delete_key(self, owner: str, name: str, key_id: int) -> None:
        await self._send("DELETE", f"/repos/{owner}/{name}/keys/{key_id}")

    async def grants(self, owner: str, name: str) -> dict[str, str]:
        """Logins to roles (read, write, …), without the owner; `edit_repository` sets them."""
        return await self._send("GET", f"/repos/{owner}/{name}/grants")

    async def invitations(self, owner: str, name: str) -> list[SimInvitation]:
        return [SimInvitation(**fields) for fields in await self._send("GET", f"/repos/{owner}/{name}/invitations")]

    async def invite(self, owner: str, name: str, login: str, *, by: str, role: str = "write") -> None:
        """Sent by the user `by` in a browser; it does not count for the daily limit."""
        await self._send("POST", f"/repos/{owner}/{name}/invitations", {"login": login, "by": by, "role": role})

    async def accept_invitation(self, owner: str, name: str, login: str) -> None:
        await self._send("POST", f"/repos/{owner}/{name}/invitations/{login}/accept")

    async def decline_invitation(self, owner: str, name: str, login: str) -> None:
        await self._send("POST", f"/repos/{owner}/{name}/invitations/{login}/decline")

    async def expire_invitation(self, owner: str, name: str, login: str) -> None:
        """As if its seven days were over."""
        await self._send("POST", f"/repos/{owner}/{name}/invitations/{login}/expire")

    async def publish_package(
        self,
        owner: str,
        package_type: PackageType,
        name: str,
        *,
        repository: str | None = None,
        visibility: Visibility = "private",
    ) -> SimPackage:
        """A package without versions. `repository` is the name of one of the owner's, or owner/name."""
        body = {
            "owner": owner,
            "package_type": package_type,
            "name": name,
            "repository": repository,
            "visibility": visibility,
        }
        return SimPackage(**await self._send("POST", "/packages", body))

    async def publish_version(
        self,
        owner: str,
        package_type: PackageType,
        name: str,
        version: str | None = None,
        *,
        tags: Sequence[str] = (),
    ) -> SimVersion:
        """A version of a package that is there: a digest (``sha256:…``) for containers, else a number; None makes one up.

        A version that is there gets the tags besides those it has. Other versions lose them.
        """
        path = f"{_package(owner, package_type, name)}/versions"
        return SimVersion(**await self._send("POST", path, {"version": version, "tags": list(tags)}))

    async def publish_image(
        self,
        owner: str,
        name: str,
        *,
        tags: Sequence[str],
        repository: str | None = None,
        visibility: Visibility = "private",
        platforms: int = 2,
    ) -> SimImage:
        """An image of several platforms as a pipeline pushes it, with cosign's signature, attestation and SBOM after it.

        The package is made if it is not there; `repository` and `visibility` are for that.
        """
        if not any((p.package_type, p.name) == ("container", name) for p in await self.packages(owner)):
            await self.publish_package(owner, "container", name, repository=repository, visibility=visibility)

        async def push(*pushed: str) -> SimVersion:
            return await self.publish_version(owner, "container", name, tags=pushed)

        manifests = [await push() for _ in range(platforms)]
        index = await push(*tags)
        tag = index.name.replace(":", "-")
        signature, attestation, sbom = [await push(f"{tag}.{suffix}") for suffix in ("sig", "att", "sbom")]
        return SimImage(manifests, index, signature, attestation, sbom, await push(tag))

    async def publish_many(
        self,
        owner: str,
        count: int,
        *,
        versions: int = 1,
        tags: int = 1,
        package_type: PackageType = "container",
        prefix: str = "package",
        repositories: Sequence[str] = (),
        visibility: Visibility = "private",
    ) -> int:
        """`count` packages of `versions` each, ``<prefix>-00000`` and so on. Returns how many there were made.

        The newest version has `tags` tags, the others none. `repositories` get the packages in turn.
        """
        body = {
            "owner": owner,
            "count": count,
            "versions": versions,
            "tags": tags,
            "package_type": package_type,
            "prefix": prefix,
            "repositories": list(repositories),
            "visibility": visibility,
        }
        return (await self._send("POST", "/packages/many", body))["made"]

    async def packages(self, owner: str) -> list[SimPackage]:
        """Of all types."""
        return [SimPackage(**fields) for fields in await self._send("GET", f"/packages/{owner}")]

    async def versions(self, owner: str, package_type: PackageType, name: str) -> list[SimVersion]:
        """The newest first."""
        path = f"{_package(owner, package_type, name)}/versions"
        return [SimVersion(**fields) for fields in await self._send("GET", path)]

    async def edit_package(self, owner: str, package_type: PackageType, name: str, **changes: Any) -> SimPackage:
        """Change `visibility`, or the `repository` that it is linked to (as in `publish_package`; None: to none)."""
        return SimPackage(**await self._send("PATCH", _package(owner, package_type, name), changes))

    async def delete_package(self, owner: str, package_type: PackageType, name: str) -> None:
        await self._send("DELETE", _package(owner, package_type, name))

    async def delete_version(self, owner: str, package_type: PackageType, name: str, version: str) -> None:
        """`version` is its name: a container's digest, or the number."""
        await self._send("DELETE", f"{_package(owner, package_type, name)}/versions/{quote(version, safe='')}")

    async def repositories(self) -> list[SimRepository]:
        return [SimRepository(**fields) for fields in (await self.state())["repositories"]]

    async def state(self) -> dict[str, Any]:
        """Users, organisations, tokens (without their values) and repositories."""
        return await self._send("GET", "/state")

    async def journal(self) -> JournalReport:
        answer = await self._send("GET", "/journal")
        entries = [Entry(**fields) for fields in answer.pop("entries")]
        return JournalReport(entries=entries, **answer)

    async def clear_journal(self) -> None:
        await self._send("DELETE", "/journal")

    async def set_switches(self, *, token_id: int | None = None, **switches: Any) -> None:
        """Set fields of `switches.Switches`, for everybody or only for requests with one token."""
        await self._send("PATCH", "/switches", switches if token_id is None else {**switches, "token_id": token_id})

    async def clear_limits(self) -> None:
        """Everybody has their whole quota again, and nobody is blocked."""
        await self._send("DELETE", "/limits")

    async def add_fault(self, action: FaultAction, **fields: Any) -> None:
        """Add a rule; see `faults.Fault` for the fields."""
        await self._send("POST", "/faults", {"action": action, **fields})

    async def clear_faults(self) -> None:
        await self._send("DELETE", "/faults")

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        session = cast(aiohttp.ClientSession, self._session)
        async with session.request(method, self._base + path, json=body) as response:
            answer = await response.json()
            if response.status != 200:
                raise ControlRefused(answer["message"])
            return answer
