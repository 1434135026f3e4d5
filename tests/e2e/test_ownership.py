"""Two workspaces of one account: the deletion of one's object leaves alone what the other's object made."""

from __future__ import annotations

import nats
import pytest

from codecommon.messaging.bus import OWNERS
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.resources import is_ready
from devstack.scenario import Scenario, has, repository
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PAUSED = {"metadata": {"annotations": {"code.kedge.faros.sh/paused": "true"}}}


async def test_what_another_workspace_made_stays_whatever_a_tenant_writes_into_status(
    services: Process, scenario: Scenario, services_nats: NatsServer, tenant: Tenant, other_tenant: Tenant
) -> None:
    """First with the record, then after NATS has lost it, when both objects say that they made the repository."""
    other = other_tenant
    account = await scenario.account()
    for where in (tenant, other):
        await scenario.connect(where, account)
        for name in ("kept", "lost"):
            await where.apply(repository(name, "acme"))
            await where.wait_for("repositories", name, is_ready)
    for name in ("kept", "lost"):
        found = await other.get("repositories", name)
        assert found is not None
        assert found["status"]["origin"] == "Adopted"
        # A paused object keeps what its tenant writes until it is deleted.
        await other.patch("repositories", name, PAUSED)
        await other.patch_status("repositories", name, {"origin": "Created"})

    await other.delete("repositories", "kept")
    await other.wait_for("repositories", "kept", lambda r: r is None)
    assert set(await scenario.repositories_of(account.login)) == {"kept", "lost"}

    connection = await nats.connect(services_nats.url)
    try:
        await connection.jetstream().purge_stream(f"KV_{OWNERS}")
    finally:
        await connection.close()
    for where in (tenant, other):
        await where.delete("repositories", "lost")
        await where.wait_for("repositories", "lost", has("Ready", "False", "OwnershipDisputed"), 60)
    await other.patch("repositories", "lost", {"spec": {"deletionPolicy": "Orphan"}})
    await other.wait_for("repositories", "lost", lambda r: r is None)
    assert set(await scenario.repositories_of(account.login)) == {"kept", "lost"}
    await tenant.patch("repositories", "lost", {"spec": {"deletionPolicy": "Delete"}})
    await tenant.wait_for("repositories", "lost", lambda r: r is None)
    assert set(await scenario.repositories_of(account.login)) == {"kept"}
