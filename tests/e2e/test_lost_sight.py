"""The host shows a repository no more: its keys and access go only when it is sure that there is nothing left to remove."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devstack.kcp import Kcp
from devstack.processes import Process
from devstack.resources import condition, is_gone, is_ready
from devstack.scenario import Account, Scenario, collaborator, deploy_key, has, repository, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ACCESS = [("deploykeys", "one"), ("deploykeys", "two"), ("collaborators", "guest")]


async def _shared_site(scenario: Scenario, tenant: Tenant) -> tuple[Account, str, str]:
    """A ready Repository ``site`` with two keys and a member's access; returns its maker, organisation and member."""
    account = await scenario.account()
    org, guest = unique("org"), unique("guest")
    await scenario.control.create_user(guest)
    await scenario.control.create_org(org, members={account.login: "admin", guest: "member"})
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", owner=org))
    await tenant.wait_for("repositories", "site", is_ready)
    await tenant.apply(deploy_key("one", "site"))
    await tenant.apply(deploy_key("two", "site"))
    await tenant.apply(collaborator("guest", "site", guest))
    for resource, name in ACCESS:
        await tenant.wait_for(resource, name, is_ready)
    return account, org, guest


async def _kept(tenant: Tenant, resource: str, name: str) -> Any:
    """Deleted, and still there, with what can be done about it."""
    await tenant.delete(resource, name)
    kept = await tenant.wait_for(resource, name, has("Ready", "False", "HostObjectMissing"))
    assert "may not see it" in condition(kept, "Ready")["message"]


async def test_a_credential_that_does_not_see_the_repository_any_more_leaves_no_key_and_no_access_behind(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because no event tells what has changed on the host: the objects come back with growing delays."""
    account, org, guest = await _shared_site(scenario, tenant)
    await scenario.control.edit_token(account.token.id, hidden_orgs=[org])
    for resource, name in ACCESS:
        await _kept(tenant, resource, name)
    assert len(await scenario.control.keys(org, "site")) == 2

    await tenant.patch("deploykeys", "one", {"spec": {"deletionPolicy": "Orphan"}})
    await tenant.wait_for("deploykeys", "one", is_gone)
    await scenario.control.edit_token(account.token.id, hidden_orgs=[])
    for resource, name in ACCESS:
        await tenant.wait_for(resource, name, is_gone, 60)
    assert len(await scenario.control.keys(org, "site")) == 1, "the one that was to be left"
    assert guest not in await scenario.control.grants(org, "site")


async def test_what_was_in_a_repository_that_somebody_deleted_goes_with_its_object(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because no event tells what has changed on the host: the objects come back with growing delays."""
    _, org, _ = await _shared_site(scenario, tenant)
    await scenario.control.delete_repository(org, "site")
    for resource, name in ACCESS:
        await _kept(tenant, resource, name)
    await tenant.delete("repositories", "site")
    for resource, name in (*ACCESS, ("repositories", "site")):
        await tenant.wait_for(resource, name, is_gone, 60)


async def test_a_repository_that_is_missing_is_reported_and_made_again_only_when_spec_says_so(
    services: Process, scenario: Scenario, tenant: Tenant, kcp: Kcp
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme"))
    lost = await tenant.wait_for("repositories", "site", is_ready)
    await scenario.control.delete_repository(account.login, "site")
    await tenant.request_reconcile("repositories", "site")
    await tenant.wait_for("repositories", "site", has("Reconciling", "True", "HostNotYetVisible"))

    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await kcp.cluster(tenant.cluster).patch_status("repositories", "site", {"missingSince": an_hour_ago})
    reported = await tenant.wait_for("repositories", "site", has("Ready", "False", "HostObjectMissing"), 60)
    assert "spec.missingPolicy" in condition(reported, "Ready")["message"]
    assert "site" not in await scenario.repositories_of(account.login)

    await tenant.patch("repositories", "site", {"spec": {"missingPolicy": "Recreate"}})
    again = await tenant.wait_for("repositories", "site", is_ready)
    assert again["status"]["repoID"] != lost["status"]["repoID"]
    assert "missingSince" not in again["status"]
