"""A language model's tools, through the development hub and on the real kcp, host and services."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import pytest_asyncio

from devstack.cluster import Cluster
from devstack.devhub import DevHub
from devstack.kcp import service_account_token
from devstack.mcp_client import McpClient, ToolRefused, client_configuration, mcp_client
from devstack.processes import Process
from devstack.provider import ProviderInstallation
from devstack.resources import is_ready
from devstack.scenario import Account, Scenario, connection, has, repository, secret, unique
from devstack.tenant import Tenant
from devstack.tenants import TenantPool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Clients:
    """Connects to the provider's tools, in each way that the hub has."""

    hub: DevHub
    provider: ProviderInstallation
    tls: ssl.SSLContext

    @asynccontextmanager
    async def assistant(
        self, tenant: Tenant, token: str | None = None, *, mode: Literal["auto", "legacy"] = "auto"
    ) -> AsyncIterator[McpClient]:
        """Through the aggregate: the address and the token that the hub hands out, or another token."""
        url = self.hub.mcp_url(tenant.cluster)
        async with mcp_client(url, token or tenant.mcp_token, tls=self.tls, prefix="code__", mode=mode) as client:
            yield client

    @asynccontextmanager
    async def person(self, tenant: Tenant, *, mode: Literal["auto", "legacy"] = "auto") -> AsyncIterator[McpClient]:
        """Through the backend proxy, with the person's own token. The headers say which workspace is meant."""
        url = f"{self.hub.url}/services/providers/code/mcp"
        async with mcp_client(url, headers=tenant.headers, tls=self.tls, mode=mode) as client:
            yield client

    @asynccontextmanager
    async def beside_the_hub(self, headers: Mapping[str, str], token: str | None) -> AsyncIterator[McpClient]:
        """Straight to the gateway, as somebody who got into its network."""
        async with mcp_client(f"{self.provider.url}/mcp", token, headers=headers) as client:
            yield client


@pytest.fixture
def clients(services: Process, devhub: DevHub, provider: ProviderInstallation) -> Clients:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return Clients(devhub, provider, tls)


@pytest_asyncio.fixture(scope="module")
async def other_tenant(tenants: TenantPool) -> AsyncIterator[Tenant]:
    taken = await tenants.take()
    yield taken
    await tenants.give_back(taken)


async def refusal(client: McpClient, tool: str, **arguments: Any) -> str:
    """The sentence of a tool that has to refuse."""
    with pytest.raises(ToolRefused) as refused:
        await client.call(tool, arguments)
    return str(refused.value)


async def secret_for(tenant: Tenant, scenario: Scenario) -> Account:
    """The Secret ``git``, which a person has made: no tool takes a token."""
    account = await scenario.account()
    await tenant.apply(secret("git", account.token.value))
    return account


async def connect(client: McpClient, account: Account, scenario: Scenario) -> dict[str, Any]:
    return await client.call(
        "create_connection",
        {"name": "main", "owner": account.login, "secretName": "git", "baseURL": scenario.url},
    )


async def test_a_model_connects_creates_explains_waits_and_deletes(
    clients: Clients, scenario: Scenario, tenant: Tenant
) -> None:
    account, guest = await secret_for(tenant, scenario), unique("guest")
    await scenario.control.create_user(guest)

    async with clients.assistant(tenant) as client:
        connected = await connect(client, account, scenario)
        created = await client.call(
            "create_repository",
            {
                "name": "site",
                "connectionRef": "main",
                "deployKeys": [{"title": "build"}],
                "collaborators": [{"username": guest, "permission": "push"}],
            },
        )
        waited = await client.call("wait_for", {"kind": "Repository", "name": "site"})

        assert connected["ready"], connected
        assert waited["met"], waited
        assert created["created"], created
        [key], [collaborator] = created["deployKeys"], created["collaborators"]
        assert (key["created"], collaborator["created"]) == (True, True)
        await tenant.wait_for("deploykeys", key["name"], is_ready)
        await tenant.wait_for("collaborators", collaborator["name"], has("InvitationPending", "True"))
        assert (await tenant.get("secrets", key["secretName"], namespace="default")) is not None
        keys = await scenario.control.keys(account.login, "site")
        assert [k.title for k in keys] == ["build"]
        assert [i.login for i in await scenario.control.invitations(account.login, "site")] == [guest]

        planned = await client.call("delete_repository", {"name": "site", "plan": True})
        assert all(named in planned["plan"] for named in (f"{account.login}/site", key["name"], collaborator["name"]))
        assert await tenant.get("repositories", "site") is not None
        # The Repository would be kept until these are gone, as the plan says.
        await client.call("delete_deploy_key", {"name": key["name"]})
        await client.call("remove_collaborator", {"name": collaborator["name"]})
        wrong = await refusal(client, "delete_repository", name="site", confirm=f"{account.login}/other")
        assert f"{account.login}/site" in wrong
        await client.call("delete_repository", {"name": "site", "confirm": f"{account.login}/site"})
        gone = await client.call("wait_for", {"kind": "Repository", "name": "site", "condition": "Deleted"})

    assert (gone["met"], gone["exists"]) == (True, False)
    assert "site" not in await scenario.repositories_of(account.login)


async def test_what_a_tool_has_made_says_who_asked_for_it(clients: Clients, scenario: Scenario, tenant: Tenant) -> None:
    account = await secret_for(tenant, scenario)
    async with clients.person(tenant) as person, clients.assistant(tenant) as assistant:
        await connect(person, account, scenario)
        await assistant.call("create_repository", {"name": "site", "connectionRef": "main"})

    by_person = (await tenant.get("connections", "main") or {})["metadata"]["annotations"]
    by_assistant = (await tenant.get("repositories", "site") or {})["metadata"]["annotations"]
    assert tenant.user.name in " ".join(by_person.values())
    assert "service account through the aggregate" in " ".join(by_assistant.values())
    assert tenant.user.name not in " ".join(by_assistant.values())


async def test_a_model_is_told_why_something_is_broken_and_who_has_to_act(
    clients: Clients, scenario: Scenario, shared_tenant: Tenant
) -> None:
    await shared_tenant.apply(connection("lost", "nobody", scenario.url))
    await shared_tenant.apply(repository("orphan", "lost"))
    await shared_tenant.wait_for("connections", "lost", has("Ready", "False"))

    async with clients.assistant(shared_tenant) as client:
        told = await client.call("explain", {"kind": "Repository", "name": "orphan"})

    assert [link["kind"] for link in told["chain"]] == ["Repository", "Connection", "Secret"]
    assert (told["ready"], told["whoMustAct"], told["cause"]["kind"]) == (False, "workspace", "Secret")
    assert "lost-token" in told["explanation"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("way", ["assistant", "person"])
async def test_each_way_through_the_hub_lists_the_same_tools(
    clients: Clients, shared_tenant: Tenant, way: Literal["assistant", "person"], mode: Literal["auto", "legacy"]
) -> None:
    connect_to = clients.assistant if way == "assistant" else clients.person
    async with connect_to(shared_tenant, mode=mode) as client:
        names = {name.removeprefix(client.prefix) for name in await client.tools()}
        listed = await client.call("list_repositories")

    assert {"list_connections", "create_repository", "explain", "wait_for"} <= names
    assert "repositories" in listed


async def test_the_configuration_that_a_person_pastes_works(clients: Clients, shared_tenant: Tenant) -> None:
    url = clients.hub.mcp_url(shared_tenant.cluster, plain=True)
    [server] = json.loads(client_configuration(url, shared_tenant.mcp_token))["mcpServers"].values()

    async with mcp_client(server["url"], headers=server["headers"]) as client:
        assert "repositories" in await client.call("code__list_repositories")


async def test_a_caller_without_rights_gets_the_refusal_of_kcp(clients: Clients, shared_tenant: Tenant) -> None:
    administrator: Cluster = clients.hub.kcp.cluster(shared_tenant.cluster)
    token = await service_account_token(administrator, unique("nobody"), admin_binding=None)

    async with clients.assistant(shared_tenant, token) as client:
        told = [
            await refusal(client, "list_repositories"),
            await refusal(client, "create_repository", name="mine", connectionRef="main"),
            await refusal(client, "delete_repository", name="mine"),
        ]

    assert all("permission" in sentence for sentence in told), told
    assert await shared_tenant.get("repositories", "mine") is None


async def test_the_headers_of_one_tenant_with_the_token_of_another_give_nothing_of_either(
    clients: Clients, scenario: Scenario, shared_tenant: Tenant, other_tenant: Tenant
) -> None:
    mine, theirs = unique("mine"), unique("theirs")
    await shared_tenant.apply(connection(mine, "nobody", scenario.url))
    await other_tenant.apply(connection(theirs, "nobody", scenario.url))
    headers = {
        "X-Kedge-Tenant": shared_tenant.workspace_path,
        "X-Kedge-Cluster": shared_tenant.cluster,
        "X-Kedge-User": shared_tenant.user.name,
    }

    async with (
        clients.beside_the_hub(headers, other_tenant.token) as forged,
        clients.assistant(shared_tenant, other_tenant.token) as by_user,
        clients.assistant(shared_tenant, other_tenant.mcp_token) as by_account,
    ):
        told = [await refusal(client, "list_connections") for client in (forged, by_user, by_account)]
        told += [
            await refusal(client, "create_connection", name=unique("c"), owner="o", secretName="s")
            for client in (forged, by_user, by_account)
        ]

    assert not [sentence for sentence in told if mine in sentence or theirs in sentence]
    assert {c["metadata"]["name"] for c in await shared_tenant.list("connections")} >= {mine}
    for tenant in (shared_tenant, other_tenant):
        assert not [c for c in await tenant.list("connections") if c["metadata"]["name"].startswith("c-")]


@pytest.mark.timeout(240)
async def test_a_model_learns_which_image_to_deploy_and_never_gets_a_signature(
    clients: Clients, scenario: Scenario, tenant: Tenant
) -> None:
    login, commit = unique("publisher"), "4f2a" * 10
    await scenario.control.create_user(login)
    token = await scenario.control.create_token(login, scopes=["repo", "user", "read:packages"])
    await scenario.connect(tenant, Account(login, token))
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    image = await scenario.control.publish_image(login, "site", tags=["v1", f"sha-{commit[:7]}"], repository="site")

    async with clients.assistant(tenant) as client:

        async def listed() -> list[str]:
            found = await client.call("list_packages", {"repositoryRef": "site"})
            return [package.get("packageName", "") for package in found["packages"]]

        await scenario.wait_until(listed, ["site"], timeout=60, what="the Package in the answer of list_packages")
        by_tag = await client.call("resolve_image", {"repository": "site", "tag": "v1"})
        by_commit = await client.call("resolve_image", {"repository": "site", "commit": commit})
        assert by_tag == by_commit
        assert by_tag["digest"] == image.index.name
        assert by_tag["image"] == f"containers.{scenario.authority}/{login}/site@{image.index.name}".lower()
        signature = await refusal(client, "resolve_image", repository="site", tag=image.signature.tags[0])
        referrers = await refusal(client, "resolve_image", repository="site", tag=image.referrers.tags[0])

    assert "No image of this Repository" in signature
    assert "No image of this Repository" in referrers


async def test_nobody_gets_anything_without_a_token(clients: Clients, shared_tenant: Tenant) -> None:
    async with clients.beside_the_hub({"X-Kedge-Cluster": shared_tenant.cluster}, None) as client:
        assert "list_repositories" in await client.tools()
        told = await refusal(client, "list_repositories")

    assert "token" in told
