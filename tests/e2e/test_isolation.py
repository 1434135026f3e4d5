"""Tenants do not meet, do not delay each other, and their tokens are found nowhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import nats
import pytest

from devstack.devhub import DevHub
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.provider import ProviderInstallation
from devstack.resources import is_ready
from devstack.scenario import Scenario, connection, has, repository, secret
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_same_named_objects_of_two_tenants_never_meet(
    services: Process, scenario: Scenario, devhub: DevHub, tenant: Tenant
) -> None:
    other = await devhub.create_tenant()
    await devhub.enable(other)
    accounts = {tenant: await scenario.account("left"), other: await scenario.account("right")}
    for where, account in accounts.items():
        await scenario.connect(where, account)
        await where.apply(repository("site", "acme", description=account.login))
    for where, account in accounts.items():
        ready = await where.wait_for("repositories", "site", is_ready)
        assert f"/{account.login}/site" in ready["status"]["htmlURL"]
        made = await scenario.repositories_of(account.login)
        assert {name: repo.description for name, repo in made.items()} == {"site": account.login}
    await tenant.delete("repositories", "site")
    await tenant.wait_for("repositories", "site", lambda r: r is None)
    assert set(await scenario.repositories_of(accounts[other].login)) == {"site"}
    await devhub.delete_tenant(other)


async def test_two_thousand_objects_of_a_dead_credential_do_not_delay_another_tenant(
    services: Process, scenario: Scenario, devhub: DevHub, tenant: Tenant
) -> None:
    dead = await devhub.create_tenant()
    await devhub.enable(dead)
    account = await scenario.account("dead")
    await scenario.control.revoke_token(account.token.id)
    await dead.apply(secret("acme-token", account.token.value))
    await dead.apply(connection("acme", account.login, scenario.url))
    await dead.wait_for("connections", "acme", has("Ready", "False", "CredentialRejected"))
    living = await scenario.account("living")
    await scenario.connect(tenant, living)

    gate = asyncio.Semaphore(16)

    async def create(number: int) -> None:
        async with gate:
            await dead.create(repository(f"repo-{number}", "acme"))

    flood = asyncio.create_task(asyncio.wait_for(asyncio.gather(*map(create, range(2000))), 120))
    await dead.wait_for("repositories", "repo-500", lambda r: r is not None, 60)
    for number in range(5):
        await tenant.apply(repository(f"mine-{number}", "acme"))
        # The flood takes much longer than this to be worked off.
        await tenant.wait_for("repositories", f"mine-{number}", is_ready, 5)
    await flood
    await tenant.apply(repository("after", "acme"))
    await tenant.wait_for("repositories", "after", is_ready, 5)
    assert not [e for e in await scenario.requests_of(account.login) if "/repos" in e.path]
    await devhub.delete_tenant(dead)


async def test_a_token_applied_with_kubectl_is_in_no_log_message_or_bucket(
    services: Process,
    scenario: Scenario,
    tenant: Tenant,
    nats_server: NatsServer,
    provider: ProviderInstallation,
) -> None:
    account = await scenario.account()
    marked = account.token.value
    manifest = secret("acme-token", marked)
    # kubectl apply keeps the whole manifest, with the token, in an annotation.
    manifest["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(manifest)}
    await tenant.apply(manifest)
    await tenant.apply(connection("acme", account.login, scenario.url))
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    manifest["metadata"]["annotations"]["touched"] = "yes"
    await tenant.apply(manifest)
    await scenario.control.revoke_token(account.token.id)
    await tenant.patch(
        "connections", "acme", {"metadata": {"annotations": {"code.kedge.faros.sh/reconcile-requested-at": "x"}}}
    )
    await tenant.wait_for("connections", "acme", has("Ready", "False", "CredentialRejected"))

    for resource in ("connections", "repositories"):
        for found in await tenant.list(resource):
            assert marked not in json.dumps(found)
    logs = [path for path in Path(provider.folder).rglob("*.log")]
    assert logs
    for path in logs:
        assert marked not in path.read_text()
    stored = await _everything_in(nats_server)
    assert stored > 0
    for path in nats_server.folder.rglob("*"):
        if path.is_file():
            assert marked.encode() not in path.read_bytes()
    connection_to_nats = await nats.connect(nats_server.url)
    try:
        js = connection_to_nats.jetstream()
        for info in await js.streams_info():
            name = info.config.name
            for sequence in range(info.state.first_seq, info.state.last_seq + 1):
                try:
                    message = await js.get_msg(name, sequence)
                except nats.js.errors.NotFoundError:
                    continue
                assert marked.encode() not in (message.data or b"")
                assert marked not in json.dumps(message.headers or {})
    finally:
        await connection_to_nats.close()


async def _everything_in(server: NatsServer) -> int:
    """Bytes on disk of the server's store: what is searched is not empty."""
    return sum(path.stat().st_size for path in server.folder.rglob("*") if path.is_file())
