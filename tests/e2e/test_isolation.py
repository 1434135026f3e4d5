"""Tenants do not meet, do not delay each other, and their tokens are found nowhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.msg import Msg

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
    async with everything_said_on(nats_server) as heard:
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

    subjects = {subject.split(".")[0] for subject, _ in heard}
    assert {"code", "$KV", "$JS"} <= subjects, "events, buckets and the server's API were listened to"
    assert not [subject for subject, text in heard if marked in text]
    for resource in ("connections", "repositories"):
        for found in await tenant.list(resource):
            assert marked not in json.dumps(found)
    logs = list(provider.folder.rglob("*.log"))
    assert logs
    assert not [path for path in logs if marked in path.read_text()]
    stored = [path for path in nats_server.folder.rglob("*") if path.is_file() and path.stat().st_size]
    assert stored
    assert not [path for path in stored if marked.encode() in path.read_bytes()]


@asynccontextmanager
async def everything_said_on(server: NatsServer) -> AsyncIterator[list[tuple[str, str]]]:
    """(subject, body and headers) of every message that passes the server, buckets and acknowledgements included."""
    heard: list[tuple[str, str]] = []

    async def listen(message: Msg) -> None:
        heard.append((message.subject, message.data.decode(errors="replace") + json.dumps(message.headers or {})))

    listener = await nats.connect(server.url)
    try:
        await listener.subscribe(">", cb=listen)
        await listener.flush()
        yield heard
        await listener.flush()
    finally:
        await listener.close()
