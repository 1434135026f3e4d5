"""The implementations of ``GitBackend`` that the contract cases run against.

The stub, the GitHub backend talking HTTP to the simulator, and, with GITHUB_TOKEN and GITHUB_OWNER set (and GITHUB_BASE_URL and
GITHUB_HOST for an Enterprise Server), the real host, where repositories named ``contract-…`` are made and deleted.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from git_trees import HostTree, simulated_tree, stub_tree

from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import GitBackend, HostRepository, HostTarget, PackageVersion, RepositoryRequest
from codecommon.process.secrets import SecretValue
from codecommon.testing.git_host import StubBackend
from devstack.githubsim import GithubSim, SimControl
from devstack.githubsim.records import PackageType

ME, OTHER, MEMBER, ORG = "octocat", "hubot", "monalisa", "acme"
Person = Callable[[HostRepository, str], Awaitable[None]]
Publish = Callable[..., Awaitable[None]]
"""``publish(type, name, *versions, repository=None)``: versions of a package of the host's owner, each with its tags."""
PRINCIPAL = ("cluster", "uid", "1")


@dataclass
class Host:
    """One implementation and what the cases need besides the protocol. ``other`` is a user the credential does not speak for,
    ``member`` one who is in the organisation. ``rename`` and ``push`` act as another person; ``accept`` and ``expire`` do so with
    a user's invitation, ``disable_keys`` and ``refuse_outsiders`` with the organisation, ``add_role`` gives it a custom role.
    ``rename_user`` gives a user another login, ``register`` makes a user. None: this host offers no such thing to a test."""

    backend: GitBackend
    owner: str
    organization: str | None = None
    other: str | None = None
    rename: Person | None = None
    push: Person | None = None
    member: str | None = None
    accept: Person | None = None
    expire: Person | None = None
    disable_keys: Callable[[HostRepository], Awaitable[None]] | None = None
    refuse_outsiders: Callable[[], Awaitable[None]] | None = None
    add_role: Callable[[str], Awaitable[None]] | None = None
    rename_user: Callable[[str, str], Awaitable[None]] | None = None
    register: Callable[[str], Awaitable[None]] | None = None
    publish: Publish | None = None
    tree: HostTree | None = None
    made: list[HostRepository] = field(default_factory=list)

    async def request(self, **fields: object) -> RepositoryRequest:
        owner = str(fields.pop("owner", self.owner))
        defaults = RepositoryRequest(
            owner=owner,
            owner_kind=await self.backend.get_owner_kind(owner) or "User",
            name=f"contract-{uuid.uuid4().hex[:12]}",
            visibility="private",
            description="made by a contract test",
            auto_init=False,
        )
        return replace(defaults, **fields)

    async def create(self, **fields: object) -> HostRepository:
        created = await self.backend.create_repository(await self.request(**fields))
        self.made.append(created)
        return created


@asynccontextmanager
async def stub_host() -> AsyncIterator[Host]:
    stub = StubBackend(ME, organizations=[ORG], users=[OTHER, MEMBER])
    stub.members[ORG] = {MEMBER}

    async def rename(repository: HostRepository, name: str) -> None:
        stub.rename(repository.id, name)

    async def push(repository: HostRepository, branch: str) -> None:
        stub.repositories[repository.id].branches.add(branch)

    async def accept(repository: HostRepository, user: str) -> None:
        stub.accept(repository.id, user)

    async def expire(repository: HostRepository, user: str) -> None:
        stub.expire(repository.id, user)

    async def disable_keys(repository: HostRepository) -> None:
        stub.repositories[repository.id].keys_disabled = True

    async def refuse_outsiders() -> None:
        stub.outsiders_admitted = False

    async def add_role(role: str) -> None:
        stub.custom_roles.add(role)

    async def rename_user(login: str, new: str) -> None:
        stub.rename_user(login, new)

    async def register(login: str) -> None:
        stub.add_user(login)

    async def publish(
        package_type: PackageType, name: str, *versions: tuple[str, ...], repository: HostRepository | None = None
    ) -> None:
        made = [PackageVersion(f"sha256:{uuid.uuid4().hex * 2}", tags, "2026-11-01T00:00:00Z") for tags in versions]
        stub.publish(ME, package_type, name, *made, repository_id=repository.id if repository is not None else None)

    yield Host(
        stub,
        ME,
        ORG,
        OTHER,
        rename,
        push,
        MEMBER,
        accept,
        expire,
        disable_keys,
        refuse_outsiders,
        add_role,
        rename_user,
        register,
        publish,
        stub_tree(stub),
    )


@dataclass
class Simulator:
    """A simulated host with two users and an organisation, and the way to open sessions with it."""

    control: SimControl
    url: str
    transport: HostTransport
    downloads_url: str

    def open(self, token: str) -> GitBackend:
        github = GithubProvider([self.url, self.downloads_url])
        target = HostTarget(self.url, TokenSecret(SecretValue(token)), None, PRINCIPAL)
        return github.open(target, self.transport)

    async def session(self, login: str = ME, **token: object) -> GitBackend:
        return self.open((await self.control.create_token(login, **token)).value)


@asynccontextmanager
async def running_simulator() -> AsyncIterator[Simulator]:
    async with GithubSim.serve() as sim, SimControl(sim.url) as control:
        await control.create_user(ME)
        await control.create_user(OTHER)
        await control.create_user(MEMBER)
        await control.create_org(ORG, members={ME: "admin", MEMBER: "member"}, enterprise=True)
        transport = HostTransport(proxies=ProxyRules())
        try:
            yield Simulator(control, sim.url, transport, sim.downloads_url)
        finally:
            await transport.aclose()


@asynccontextmanager
async def simulated_host() -> AsyncIterator[Host]:
    async with running_simulator() as simulator:
        control = simulator.control

        async def rename(repository: HostRepository, name: str) -> None:
            await control.edit_repository(repository.owner, repository.name, name=name)

        async def push(repository: HostRepository, branch: str) -> None:
            await control.edit_repository(repository.owner, repository.name, branches=[branch])

        async def accept(repository: HostRepository, user: str) -> None:
            await control.accept_invitation(repository.owner, repository.name, user)

        async def expire(repository: HostRepository, user: str) -> None:
            await control.expire_invitation(repository.owner, repository.name, user)

        async def disable_keys(repository: HostRepository) -> None:
            await control.edit_org(repository.owner, deploy_keys_enabled=False)

        async def refuse_outsiders() -> None:
            await control.edit_org(ORG, outside_collaborators_allowed=False)

        async def add_role(role: str) -> None:
            await control.edit_org(ORG, custom_roles={role: "triage"})

        async def register(login: str) -> None:
            await control.create_user(login)

        async def publish(
            package_type: PackageType, name: str, *versions: tuple[str, ...], repository: HostRepository | None = None
        ) -> None:
            known = {(p.package_type, p.name) for p in await control.packages(ME)}
            if (package_type, name) not in known:
                linked = repository.name if repository is not None else None
                await control.publish_package(ME, package_type, name, repository=linked)
            for tags in versions:
                await control.publish_version(ME, package_type, name, tags=tags)

        session = await simulator.session(scopes=["repo", "delete_repo", "user", "read:packages", "workflow"])
        yield Host(
            session,
            ME,
            ORG,
            OTHER,
            rename,
            push,
            MEMBER,
            accept,
            expire,
            disable_keys,
            refuse_outsiders,
            add_role,
            control.rename_user,
            register,
            publish,
            simulated_tree(control),
        )


@asynccontextmanager
async def real_host() -> AsyncIterator[Host]:
    token, owner = os.environ["GITHUB_TOKEN"], os.environ["GITHUB_OWNER"]
    transport = HostTransport()
    target = HostTarget(os.environ.get("GITHUB_BASE_URL", ""), TokenSecret(SecretValue(token)), None, PRINCIPAL)
    backend = GithubProvider(filter(None, [os.environ.get("GITHUB_HOST")])).open(target, transport)
    try:
        kind = await backend.get_owner_kind(owner)
        yield Host(backend, owner, owner if kind == "Organization" else None, "octocat")
    finally:
        await transport.aclose()


HOSTS = {"stub": stub_host, "simulator": simulated_host}
if os.environ.get("GITHUB_TOKEN") and os.environ.get("GITHUB_OWNER"):
    HOSTS["real"] = real_host


def needs(offered: Any) -> Any:
    if offered is None:
        pytest.skip("this host offers no such thing to a test")
    return offered


def public_key() -> str:
    """An ed25519 public key that nobody has the private half of."""
    name = b"ssh-ed25519"
    blob = len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big") + uuid.uuid4().bytes + uuid.uuid4().bytes
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"
