"""A tenant's way through the development hub on a real kcp; the provider's MCP endpoint is a stub."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import yaml
from hub_bed import Received, Upstream, answer, upstream

from devstack.cluster import Cluster
from devstack.devhub import DevHub
from devstack.errors import ApiError
from devstack.kubeconfig import Access
from devstack.provider import ProviderInstallation
from devstack.resources import CODE_API
from devstack.static_users import STATIC_USERS
from devstack.tenant import Tenant

pytestmark = pytest.mark.e2e

BOUND_SECONDS = 30.0
ACCEPT = {"Accept": "application/json, text/event-stream"}
LIST_CONNECTIONS = "{ code_kedge_faros_sh { v1alpha1 { Connections { items { metadata { name } } } } } }"


@pytest.fixture
async def mcp_provider(devhub: DevHub) -> AsyncIterator[Upstream]:
    """Another provider in the catalogue, with one tool."""
    tool = {"name": "who", "inputSchema": {"type": "object"}}

    def respond(received: Received) -> bytes:
        asked = json.loads(received.body)["method"]
        content: Any = {"tools/list": {"tools": [tool]}, "tools/call": {"content": []}}.get(asked, {})
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": content}).encode()
        return answer(body, headers="Content-Type: application/json\r\n")

    async with upstream() as running:
        running.respond = respond
        spec = {"displayName": "Stub", "backend": {"url": running.url}}
        devhub.registry.upsert({"metadata": {"name": "stub"}, "spec": spec})
        yield running
        devhub.registry.remove("stub")


def connection(name: str) -> dict[str, Any]:
    spec = {"provider": "github", "type": "pat", "owner": "octo", "secretRef": {"name": "token"}}
    return {"apiVersion": CODE_API, "kind": "Connection", "metadata": {"name": name}, "spec": spec}


async def json_of(sending: Any) -> Any:
    async with sending as response:
        assert response.status == 200, await response.text()
        return await response.json(content_type=None)


async def test_from_login_to_the_aggregate_with_the_workspaces_own_token(
    devhub: DevHub, provider: ProviderInstallation, hub_client: aiohttp.ClientSession, mcp_provider: Upstream
) -> None:
    made = await devhub.create_tenant()
    user = {"Authorization": f"Bearer {made.user.token}"}

    (code, _) = (await json_of(hub_client.get("/api/providers")))["items"]
    assert (code["name"], code["ready"]) == ("code", True)
    login = await json_of(hub_client.post("/auth/token-login", headers=user))
    orgs = (await json_of(hub_client.get("/api/orgs", headers=user)))["items"]
    org = next(it["uuid"] for it in orgs if not it["personal"])
    listed = await json_of(hub_client.get(f"/api/orgs/{org}/workspaces", headers=user | {"X-Kedge-Org": org}))
    (workspace,) = listed["items"]
    base = f"/api/orgs/{org}/workspaces/{workspace['uuid']}"
    headers = user | {"X-Kedge-Org": org, "X-Kedge-Workspace": workspace["uuid"]}
    claims = {"acceptedClaims": [{"group": "", "resource": "secrets"}]}
    enabled = await json_of(hub_client.post(f"{base}/providers/code/enable", json=claims, headers=headers))
    assert enabled == {"bindingName": "code"}

    # The kubeconfig of the login reaches the workspace with the user's own rights.
    config = yaml.safe_load(base64.b64decode(login["kubeconfig"]))
    server = config["clusters"][0]["cluster"]["server"]
    assert server == f"{devhub.url}/clusters/{workspace['clusterName']}"
    through_hub = Cluster(hub_client, Access(server, config["users"][0]["user"]["token"], None))
    await through_hub.apply(connection("mine"))
    assert [item["metadata"]["name"] for item in await through_hub.list("connections")] == ["mine"]

    # The token of the MCP server works at the aggregate, and through the hub in its own workspace.
    connect = await json_of(hub_client.get(f"{base}/mcpservers/default/connect", headers=headers))
    assert (connect["serverName"], connect["tokenReady"]) == ("kedge", True)
    robot = {"Authorization": f"Bearer {connect['token']}"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "stub__who"}}
    async with hub_client.post(connect["endpointURL"], json=call, headers=robot | ACCEPT) as response:
        assert response.status == 200
        assert '"content": []' in await response.text()
    assert mcp_provider.last.header("Authorization") == robot["Authorization"]
    assert mcp_provider.last.header("X-Kedge-Cluster") == workspace["clusterName"]
    found = await json_of(
        hub_client.get(f"/clusters/{workspace['clusterName']}/apis/{CODE_API}/connections", headers=robot)
    )
    assert [item["metadata"]["name"] for item in found["items"]] == ["mine"]
    await devhub.delete_tenant(made)


async def test_a_user_has_no_rights_at_kcp_in_the_workspace_of_another(
    devhub: DevHub, tenant: Tenant, hub_client: aiohttp.ClientSession
) -> None:
    other = await devhub.create_tenant()
    for token in (other.user.token, other.mcp_token):
        directly = devhub.kcp.cluster(tenant.cluster, token=token)
        with pytest.raises(ApiError) as problem:
            await directly.list("secrets")
        assert problem.value.status == 403
    await devhub.delete_tenant(other)


async def test_a_user_without_a_workspace_gets_one_at_login(devhub: DevHub, hub_client: aiohttp.ClientSession) -> None:
    user = STATIC_USERS[-1]
    headers = {"Authorization": f"Bearer {user.token}"}
    first, second = await asyncio.gather(
        *(json_of(hub_client.post("/auth/token-login", headers=headers)) for _ in range(2))
    )
    assert first == second
    (org,) = (await json_of(hub_client.get("/api/orgs", headers=headers)))["items"]
    assert org["personal"] is True
    config = yaml.safe_load(base64.b64decode(first["kubeconfig"]))
    through_hub = Cluster(hub_client, Access(config["clusters"][0]["cluster"]["server"], user.token, None))
    assert await through_hub.get("serviceaccounts", "default-mcp") is not None


async def graphql_answer(
    hub_client: aiohttp.ClientSession, cluster: str, token: str, query: str, **variables: Any
) -> tuple[int, Any]:
    body = {"query": query, "variables": variables}
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    async with hub_client.post(f"/graphql/{cluster}", json=body, headers=headers) as response:
        return response.status, await response.json() if response.status == 200 else await response.text()


async def until_served(hub_client: aiohttp.ClientSession, cluster: str, token: str) -> Any:
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            status, body = await graphql_answer(hub_client, cluster, token, LIST_CONNECTIONS)
            if status == 200 and "errors" not in body:
                return body["data"]
            await asyncio.sleep(0.1)


async def test_graphql_answers_once_the_provider_is_enabled(
    devhub: DevHub, graphql: str, tenant: Tenant, hub_client: aiohttp.ClientSession
) -> None:
    await until_served(hub_client, tenant.cluster, tenant.user.token)
    status, body = await graphql_answer(
        hub_client,
        tenant.cluster,
        tenant.user.token,
        "mutation($y: String!) { applyYaml(yaml: $y) }",
        y=json.dumps(connection("main")),
    )
    assert (status, body.get("errors")) == (200, None)
    listed = await until_served(hub_client, tenant.cluster, tenant.user.token)
    assert listed == {"code_kedge_faros_sh": {"v1alpha1": {"Connections": {"items": [{"metadata": {"name": "main"}}]}}}}
    assert await tenant.get("connections", "main") is not None


async def test_graphql_refuses_who_has_no_token_no_rights_or_no_schema(
    devhub: DevHub, graphql: str, tenant: Tenant, hub_client: aiohttp.ClientSession
) -> None:
    await until_served(hub_client, tenant.cluster, tenant.user.token)
    async with hub_client.post(f"/graphql/{tenant.cluster}", json={"query": LIST_CONNECTIONS}) as response:
        assert response.status == 401
    other = await devhub.create_tenant()
    assert (await graphql_answer(hub_client, other.cluster, other.user.token, LIST_CONNECTIONS))[0] == 404
    status, body = await graphql_answer(hub_client, tenant.cluster, other.user.token, LIST_CONNECTIONS)
    assert status != 200 or "errors" in body
    await devhub.delete_tenant(other)


async def test_a_graphql_subscription_streams_through(
    devhub: DevHub, graphql: str, tenant: Tenant, hub_client: aiohttp.ClientSession
) -> None:
    await until_served(hub_client, tenant.cluster, tenant.user.token)
    query = "subscription { code_kedge_faros_sh_v1alpha1_connections { type object { metadata { name } } } }"
    headers = {"Authorization": f"Bearer {tenant.user.token}", "Accept": "text/event-stream"}
    async with (
        asyncio.timeout(BOUND_SECONDS),
        hub_client.post(f"/graphql/{tenant.cluster}", json={"query": query}, headers=headers) as response,
    ):
        assert (response.status, response.content_type) == (200, "text/event-stream")
        await tenant.apply(connection("watched"))
        while b"watched" not in (line := await response.content.readline()):
            assert line, "the stream ended"
