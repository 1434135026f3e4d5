"""Tenants do not meet, do not delay each other, and their tokens are found nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from nats.aio.msg import Msg

from devstack.devhub import DevHub
from devstack.kcp import Kcp
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.provider import ProviderInstallation, metrics_of
from devstack.resources import is_ready
from devstack.scenario import Scenario, app_secret, connection, deploy_key, has, repository, secret, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

FLOOD = 600
"""Far more than a workspace's share of the slots. codecommon's `test_runtime_shares` proves that share with 2,000 events."""


async def test_same_named_objects_of_two_tenants_never_meet(
    services: Process, scenario: Scenario, tenant: Tenant, other_tenant: Tenant
) -> None:
    accounts = {tenant: await scenario.account("left"), other_tenant: await scenario.account("right")}
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
    assert set(await scenario.repositories_of(accounts[other_tenant].login)) == {"site"}


async def test_a_name_that_would_lead_into_another_workspace_leads_nowhere(
    services: Process, scenario: Scenario, tenant: Tenant, other_tenant: Tenant
) -> None:
    victim = other_tenant
    account = await scenario.account("victim")
    await scenario.connect(victim, account)
    await victim.apply(repository("site", "acme"))
    await victim.wait_for("repositories", "site", is_ready)
    there = f"../../../../../../{victim.cluster}"

    in_another = f"{there}/api/v1/namespaces/default/secrets/acme-token"
    await tenant.apply(connection("stolen", account.login, scenario.url, secret_name=in_another))
    await tenant.wait_for("connections", "stolen", has("Ready", "False", "CredentialUnavailable"))
    ours = f"../../../../../{victim.cluster}/apis/code.kedge.faros.sh/v1alpha1"
    await tenant.apply(repository("mine", f"{ours}/connections/acme"))
    await tenant.wait_for("repositories", "mine", has("Ready", "False", "ConnectionNotFound"))
    await tenant.apply(deploy_key("mine", f"{ours}/repositories/site"))
    await tenant.wait_for("deploykeys", "mine", has("Ready", "False", "RepositoryNotFound"))
    assert set(await scenario.repositories_of(account.login)) == {"site"}


async def test_credentials_and_private_keys_are_in_their_own_secrets_and_nowhere_else(
    services: Process,
    scenario: Scenario,
    tenant: Tenant,
    services_nats: NatsServer,
    provider: ProviderInstallation,
    kcp: Kcp,
) -> None:
    """Slow, because it looks for each line of each key in all that the services have stored and logged so far."""
    control, account, org = scenario.control, await scenario.account(), unique("org")
    await control.create_org(org)
    app = await control.create_app(unique("app"))
    installation = await control.install_app(app.id, org)
    given, pasted = Ed25519PrivateKey.generate(), openssh(Ed25519PrivateKey.generate())
    manifest = secret("acme-token", account.token.value)
    # kubectl apply keeps the whole manifest, with the token, in an annotation.
    manifest["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(manifest)}

    async with everything_said_on(services_nats) as heard:
        await tenant.apply(manifest)
        await tenant.apply(connection("acme", account.login, scenario.url))
        await tenant.apply(repository("site", "acme"))
        await tenant.apply(deploy_key("generated", "site"))
        await tenant.apply(deploy_key("given", "site", publicKey=public_half(given)))
        await tenant.apply(deploy_key("pasted", "site", publicKey=pasted))
        for name in ("generated", "given"):
            await tenant.wait_for("deploykeys", name, is_ready)
        await tenant.wait_for("deploykeys", "pasted", has("Ready", "False", "InvalidPublicKey"))

        await tenant.apply(app_secret("app-token", app))
        await tenant.apply(connection("app", org, scenario.url, type="github-app"))
        await tenant.apply(repository("web", "app"))
        await tenant.wait_for("repositories", "web", is_ready)
        assert await control.revoke_installation_tokens(installation) >= 1
        await tenant.apply(repository("second", "app"))
        await tenant.wait_for("repositories", "second", is_ready)

        manifest["metadata"]["annotations"]["touched"] = "yes"
        await tenant.apply(manifest)
        await control.revoke_token(account.token.id)
        await tenant.request_reconcile("connections", "acme")
        await tenant.wait_for("connections", "acme", has("Ready", "False", "CredentialRejected"))
        await tenant.patch("repositories", "site", {"spec": {"description": "refused from now on"}})
        await tenant.wait_for("repositories", "site", has("Ready", "False"))

    subjects = {subject.split(".")[0] for subject, _ in heard}
    assert {"code", "$KV", "$JS"} <= subjects, "events, buckets and the server's API were listened to"
    secrets = {found["metadata"]["name"]: found for found in await tenant.list("secrets")}
    private = base64.b64decode(secrets["deploykey-generated"]["data"]["ssh-privatekey"]).decode()
    exposed = await metrics_of(services, kcp.session)
    assert {"watcher", "connection-svc", "repository-svc", "access-svc"} <= exposed.keys()
    places = [
        *((f"message {subject}", text) for subject, text in heard),
        *((f"secret {name}", json.dumps(found).encode()) for name, found in secrets.items()),
        *await everything_shown_in(tenant),
        *((f"metrics of {service}", text.encode()) for service, text in exposed.items()),
        *everything_kept_in(services_nats.folder, "*"),
        *everything_kept_in(provider.folder, "*.log"),
    ]

    def holders(*values: str) -> set[str]:
        marks = [mark for value in values for mark in forms(value)]
        return {place for place, content in places if any(mark in content for mark in marks)}

    assert holders(account.token.value) == {"secret acme-token"}
    assert holders(*body_lines(app.private_key)) == {"secret app-token"}
    assert holders(*body_lines(private)) == {"secret deploykey-generated"}
    assert holders(*body_lines(pasted)) == set()
    assert holders(*body_lines(openssh(given))) == set()
    # The value of an installation token is known to the host and the service alone; its shape is not to be mistaken.
    assert [place for place, content in places if INSTALLATION_TOKEN.search(content)] == []


async def test_the_many_objects_of_a_dead_credential_do_not_delay_another_tenant(
    services: Process, scenario: Scenario, devhub: DevHub, tenant: Tenant
) -> None:
    """Slow, because kcp stores some 60 objects a second, and the flood has to last longer than the other tenant's work."""
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

    flood = asyncio.create_task(asyncio.wait_for(asyncio.gather(*map(create, range(FLOOD))), 120))
    await dead.wait_for("repositories", "repo-100", lambda r: r is not None, 60)
    for number in range(5):
        await tenant.apply(repository(f"mine-{number}", "acme"))
        await tenant.wait_for("repositories", f"mine-{number}", is_ready, 20)
        if number == 0:
            assert not flood.done(), "it did not wait for the end of the flood"
    await flood
    await tenant.apply(repository("after", "acme"))
    await tenant.wait_for("repositories", "after", is_ready, 20)
    assert not [e for e in await scenario.requests_of(account.login) if "/repos" in e.path]
    await devhub.delete_tenant(dead)


INSTALLATION_TOKEN = re.compile(rb"ghs_[0-9A-Za-z]{20}|Z2hzX[0-9A-Za-z+/]{20}")
"""As it is, and as the beginning of a base64 text."""

Place = tuple[str, bytes]
"""Where something could have been left behind, and what is there."""


def openssh(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public_half(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def body_lines(pem: str) -> list[str]:
    """A part of a private key is as good a mark as the whole, however its lines were joined again.

    Without the first, which is the same in all keys of a kind, and the last, which can be a word.
    """
    lines = [line for line in pem.splitlines() if line and not line.startswith("-----")][1:-1]
    assert lines
    return lines


def forms(value: str) -> list[bytes]:
    """``value`` as it is, and what base64 makes of it wherever in a text it stands: without the ends, which its neighbours
    have a part in."""
    raw = value.encode()
    return [raw, *(base64.b64encode(bytes(before) + raw)[cut:-4] for before, cut in ((0, 0), (1, 2), (2, 3)))]


async def everything_shown_in(tenant: Tenant) -> list[Place]:
    """Objects without their specs, in which a user may have written anything, and Kubernetes' own Events."""
    shown: list[Place] = []
    for resource in ("connections", "repositories", "deploykeys"):
        found = await tenant.list(resource)
        assert found
        shown += [(f"{resource} {o['metadata']['name']}", json.dumps({**o, "spec": None}).encode()) for o in found]
    return shown + [("event", json.dumps(event).encode()) for event in await tenant.list("events")]


def everything_kept_in(folder: Path, pattern: str) -> list[Place]:
    kept = [(str(path), path.read_bytes()) for path in folder.rglob(pattern) if path.is_file()]
    assert any(content for _, content in kept)
    return kept


@asynccontextmanager
async def everything_said_on(server: NatsServer) -> AsyncIterator[list[Place]]:
    """(subject, body and headers) of every message that passes the server, buckets and acknowledgements included."""
    heard: list[Place] = []

    async def listen(message: Msg) -> None:
        heard.append((message.subject, message.data + json.dumps(message.headers or {}).encode()))

    listener = await nats.connect(server.url)
    try:
        await listener.subscribe(">", cb=listen)
        await listener.flush()
        yield heard
        await listener.flush()
    finally:
        await listener.close()
