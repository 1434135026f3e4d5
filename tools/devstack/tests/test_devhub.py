"""The development hub as a provider and a tenant meet it; the provider is the real ``code-provider init``."""

from __future__ import annotations

import aiohttp
import pytest

from devstack.cluster import Cluster
from devstack.devhub import DevHub
from devstack.kubeconfig import load_access
from devstack.provider import ProviderInstallation
from devstack.resources import CODE_API, is_gone
from devstack.tenant import Tenant

pytestmark = pytest.mark.e2e


async def test_the_minted_kubeconfig_goes_through_the_hub_to_the_providers_own_workspace(
    devhub: DevHub, provider: ProviderInstallation, hub_client: aiohttp.ClientSession
) -> None:
    access = load_access(provider.folder / "provider.kubeconfig")
    assert access.server == f"{devhub.url}/clusters/{provider.provisioned.cluster}"
    exports = await Cluster(hub_client, access).list("apiexports")
    assert [item["metadata"]["name"] for item in exports] == ["code.providers.kedge.faros.sh"]


async def test_a_registered_provider_is_in_the_catalogue_and_its_entry_is_ready(
    devhub: DevHub, provider: ProviderInstallation, hub_client: aiohttp.ClientSession
) -> None:
    async with hub_client.get("/api/providers") as answer:
        (item,) = (await answer.json())["items"]
    assert (item["name"], item["ready"], item["apiExportPath"]) == ("code", True, f"{devhub.path}:providers:code")
    entry = await devhub.kcp.cluster(provider.provisioned.cluster).get("catalogentries", "code")
    assert entry is not None
    assert entry["status"]["conditions"][0]["reason"] == "EndpointsResolved"
    assert entry["status"]["endpoints"]["backend"] == provider.url


async def test_heartbeats_are_answered_as_the_hub_answers_them(
    provider: ProviderInstallation, hub_client: aiohttp.ClientSession
) -> None:
    async with hub_client.post(
        "/api/providers/code/heartbeat", json={"version": "0.1.0", "status": "healthy"}
    ) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    async with hub_client.post("/api/providers/code/heartbeat") as answer:
        assert answer.status == 200
    async with hub_client.post("/api/providers/nobody/heartbeat") as answer:
        assert (answer.status, await answer.text()) == (404, "provider not found: nobody")
    async with hub_client.post("/api/providers/code/heartbeat", data=b"{") as answer:
        assert answer.status == 400


async def test_the_hub_says_that_it_is_well(hub_client: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/readyz"):
        async with hub_client.get(path) as answer:
            assert answer.status == 200


async def test_an_enabled_provider_serves_its_api_in_the_tenants_workspace(tenant: Tenant) -> None:
    stored = await tenant.apply(
        {
            "apiVersion": CODE_API,
            "kind": "Connection",
            "metadata": {"name": "main"},
            "spec": {"provider": "github", "type": "pat", "owner": "octo", "secretRef": {"name": "token"}},
        }
    )
    assert stored["metadata"]["generation"] == 1


async def test_enabling_and_disabling_over_http(
    devhub: DevHub, provider: ProviderInstallation, hub_client: aiohttp.ClientSession
) -> None:
    tenant = await devhub.create_tenant()
    base = f"/api/orgs/{tenant.organization}/workspaces/{tenant.workspace}/providers"
    headers = tenant.headers
    async with hub_client.post(f"{base}/nobody/enable", headers=headers, json={}) as answer:
        assert answer.status == 404
    body = {"acceptedClaims": [{"group": "", "resource": "secrets"}]}
    async with hub_client.post(f"{base}/code/enable", headers=headers, json=body) as answer:
        assert (answer.status, await answer.json()) == (200, {"bindingName": "code"})
    async with hub_client.get(f"{base}/enabled", headers=headers) as answer:
        assert await answer.json() == {"bindingNamesByProvider": {"code": "code"}}
    binding = await tenant.get("apibindings", "code")
    assert binding is not None
    (claim,) = binding["spec"]["permissionClaims"]
    assert (claim["state"], claim["selector"], claim["resource"]) == ("Accepted", {"matchAll": True}, "secrets")
    async with hub_client.post(f"{base}/code/disable", headers=headers) as answer:
        assert answer.status == 204
    await tenant.wait_for("apibindings", "code", is_gone, 30)
    await devhub.delete_tenant(tenant)


async def test_a_claim_that_was_not_ticked_is_rejected(devhub: DevHub, provider: ProviderInstallation) -> None:
    tenant = await devhub.create_tenant()
    await devhub.enable(tenant, accepted=())
    binding = await tenant.get("apibindings", "code")
    assert binding is not None
    assert [claim["state"] for claim in binding["spec"]["permissionClaims"]] == ["Rejected"]
    await devhub.delete_tenant(tenant)


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"Authorization": ""}, 401), ({"X-Kedge-Org": "other"}, 400), ({"Authorization": "Bearer other"}, 401)],
)
async def test_only_members_choose_providers(
    tenant: Tenant, hub_client: aiohttp.ClientSession, changes: dict[str, str], status: int
) -> None:
    path = f"/api/orgs/{tenant.organization}/workspaces/{tenant.workspace}/providers/enabled"
    async with hub_client.get(path, headers=tenant.headers | changes) as answer:
        assert answer.status == status
