"""Deleting: by a person, by giving up the API, by deleting the workspace; with and without a credential."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from devstack.devhub import DevHub
from devstack.kcp import Kcp
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.resources import condition, is_gone, is_ready
from devstack.scenario import Scenario, collaborator, deploy_key, has, repository, secret, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

EVERYTHING = [("connections", "acme"), ("repositories", "one"), ("repositories", "two")]


async def _set_up(scenario: Scenario, tenant: Tenant, *names: str) -> str:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    for name in names:
        await tenant.apply(repository(name, "acme"))
    for name in names:
        await tenant.wait_for("repositories", name, is_ready)
    return account.login


@pytest.mark.parametrize("order", list(itertools.permutations(EVERYTHING)), ids=lambda o: "-".join(n for _, n in o))
async def test_everything_deleted_in_any_order_finishes_and_cleans_the_host(
    services: Process, scenario: Scenario, shared_tenant: Tenant, order: tuple[tuple[str, str], ...]
) -> None:
    login = await _set_up(scenario, shared_tenant, "one", "two")
    for resource, name in order:
        await shared_tenant.delete(resource, name)
    for resource, name in order:
        await shared_tenant.wait_for(resource, name, is_gone)
    assert await scenario.repositories_of(login) == {}


async def test_a_connection_stays_while_a_repository_needs_it(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    login = await _set_up(scenario, tenant, "one")
    await tenant.delete("connections", "acme")
    kept = await tenant.wait_for("connections", "acme", has("Ready", "False", "DeletionBlocked"))
    assert "Repository/one" in condition(kept, "Ready")["message"]
    await tenant.delete("repositories", "one")
    await tenant.wait_for("connections", "acme", is_gone)
    assert await scenario.repositories_of(login) == {}


async def test_deleted_while_the_credential_is_gone_stays_and_says_what_to_do(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("one", "acme"))
    await tenant.apply(repository("two", "acme"))
    for name in ("one", "two"):
        await tenant.wait_for("repositories", name, is_ready)
    await tenant.delete("secrets", "acme-token")
    await tenant.wait_for("connections", "acme", has("Ready", "False", "CredentialUnavailable"))
    for name in ("one", "two"):
        await tenant.delete("repositories", name)
        kept = await tenant.wait_for("repositories", name, has("Ready", "False", "CredentialUnavailable"))
        message = condition(kept, "Ready")["message"]
        assert "default/acme-token" in message
        assert "Orphan" in message
    assert set(await scenario.repositories_of(account.login)) == {"one", "two"}

    # Either way out works: let go of one, restore the credential for the other.
    await tenant.patch("repositories", "one", {"spec": {"deletionPolicy": "Orphan"}})
    await tenant.wait_for("repositories", "one", is_gone)
    await tenant.apply(secret("acme-token", account.token.value))
    await tenant.wait_for("repositories", "two", is_gone)
    assert set(await scenario.repositories_of(account.login)) == {"one"}


async def test_disabling_the_provider_finishes_and_leaves_the_host_alone(
    services: Process, scenario: Scenario, tenant: Tenant, devhub: DevHub, kcp: Kcp
) -> None:
    login = await _set_up(scenario, tenant, "one", "two")
    guest = unique("guest")
    await scenario.control.create_user(guest)
    await tenant.apply(deploy_key("ci", "one"))
    await tenant.apply(collaborator("guest", "one", guest))
    await tenant.wait_for("deploykeys", "ci", is_ready)
    await tenant.wait_for("collaborators", "guest", has("InvitationPending", "True"))
    await scenario.control.clear_journal()
    await devhub.disable(tenant)
    await kcp.cluster(tenant.cluster).wait_for("apibindings", "code", is_gone, 30)
    assert set(await scenario.repositories_of(login)) == {"one", "two"}
    assert await scenario.requests_of(login, writes_only=True) == []
    # The key still works: whoever mounts its private half goes on.
    pair = await tenant.get("secrets", "deploykey-ci")
    assert pair is not None
    assert "ownerReferences" not in pair["metadata"]


async def test_disabling_the_provider_deletes_what_asks_for_it_explicitly(
    services: Process, scenario: Scenario, tenant: Tenant, devhub: DevHub, kcp: Kcp
) -> None:
    login = await _set_up(scenario, tenant, "one")
    await tenant.apply(repository("two", "acme", deletionPolicy="Delete"))
    await tenant.wait_for("repositories", "two", is_ready)
    await devhub.disable(tenant)
    await kcp.cluster(tenant.cluster).wait_for("apibindings", "code", is_gone, 30)
    assert set(await scenario.repositories_of(login)) == {"one"}


async def test_deleting_the_workspace_finishes_and_leaves_the_host_alone(
    services: Process, scenario: Scenario, devhub: DevHub, kcp: Kcp
) -> None:
    tenant = await devhub.create_tenant()
    await devhub.enable(tenant)
    login = await _set_up(scenario, tenant, "one", "two")
    await scenario.control.clear_journal()
    await devhub.delete_tenant(tenant)
    parent, _, name = tenant.workspace_path.rpartition(":")
    # kcp looks at a workspace that is being deleted again after ever longer pauses.
    await kcp.cluster(parent).wait_for("workspaces", name, is_gone, 120)
    assert set(await scenario.repositories_of(login)) == {"one", "two"}
    assert await scenario.requests_of(login, writes_only=True) == []


async def test_a_workspace_deleted_with_many_objects_leaves_no_message_and_no_warning(
    services: Process, scenario: Scenario, tenant: Tenant, devhub: DevHub, kcp: Kcp, services_nats: NatsServer
) -> None:
    """``tenant`` stays bound, because kcp takes back the endpoint when nobody is."""
    going = await devhub.create_tenant()
    await devhub.enable(going)
    await _set_up(scenario, going, *(f"repo-{number}" for number in range(30)))
    logged = len(services.lines)
    await devhub.delete_tenant(going)
    parent, _, name = going.workspace_path.rpartition(":")
    await kcp.cluster(parent).wait_for("workspaces", name, is_gone, 120)
    async with Bus.connect(NatsSettings(url=(services_nats.url,))) as bus, asyncio.timeout(30):
        while going.cluster in await bus.clusters_with_messages():
            await asyncio.sleep(0.2)
    refused = [line for line in services.lines[logged:] if going.cluster in line and "kcp refused" in line]
    assert [line for line in refused if "WARNING" in line] == []


async def test_deletion_policies_say_what_happens_on_the_host(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await scenario.control.create_repository(account.login, "adopted-delete")
    wishes = {"orphan": "Orphan", "archive": "Archive", "delete": "Delete", "adopted-delete": "Delete"}
    for name, policy in wishes.items():
        await tenant.apply(repository(name, "acme", deletionPolicy=policy))
    await asyncio.gather(*(tenant.wait_for("repositories", name, is_ready) for name in wishes))
    for name in wishes:
        await tenant.delete("repositories", name)
    await asyncio.gather(*(tenant.wait_for("repositories", name, is_gone) for name in wishes))
    left = await scenario.repositories_of(account.login)
    assert {name: repo.archived for name, repo in left.items()} == {"orphan": False, "archive": True}
