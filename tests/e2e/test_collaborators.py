"""Collaborators: invited, accepted, expired, changed, ended, withdrawn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from codecommon.testing.builders import event_for
from devstack.errors import ApiError
from devstack.kcp import Kcp
from devstack.nats import NatsServer
from devstack.own_instance import EXPORT
from devstack.processes import Process
from devstack.provider import ProviderInstallation
from devstack.resources import condition, is_gone, is_ready
from devstack.scenario import Account, Scenario, collaborator, has, repository, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PENDING = has("InvitationPending", "True", "AwaitingAcceptance")


async def _site(scenario: Scenario, tenant: Tenant) -> tuple[Account, str]:
    """A ready Repository ``site`` of a user, and somebody to share it with."""
    account = await scenario.account()
    guest = unique("guest")
    await scenario.control.create_user(guest)
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    return account, guest


async def _renamed_guest(scenario: Scenario, tenant: Tenant) -> tuple[Account, str, str]:
    """As ``_site``, with a ready Collaborator ``guest``, whose user has taken another login since: the one before, and that."""
    account, guest = await _site(scenario, tenant)
    await tenant.apply(collaborator("guest", "site", guest))
    await tenant.wait_for("collaborators", "guest", PENDING)
    await scenario.control.accept_invitation(account.login, "site", guest)
    await tenant.wait_for("collaborators", "guest", is_ready, 40)
    renamed = unique("renamed")
    await scenario.control.rename_user(guest, renamed)
    return account, guest, renamed


async def _team_site(scenario: Scenario, tenant: Tenant) -> tuple[str, str]:
    """A ready Repository ``site`` of an organisation, and one of its members."""
    account = await scenario.account()
    org, member = unique("org"), unique("member")
    await scenario.control.create_user(member)
    await scenario.control.create_org(
        org, members={account.login: "admin", member: "member"}, custom_roles={"releaser": "write"}
    )
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", owner=org))
    await tenant.wait_for("repositories", "site", is_ready)
    return org, member


async def test_an_invitation_is_pending_until_the_user_accepts_which_is_noticed_without_a_change(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, guest = await _site(scenario, tenant)
    await tenant.apply(collaborator("guest", "site", guest, permission="pull"))
    pending = await tenant.wait_for("collaborators", "guest", PENDING)
    (invitation,) = await scenario.control.invitations(account.login, "site")
    assert pending["status"]["invitationID"] == str(invitation.id)

    await scenario.control.accept_invitation(account.login, "site", guest)
    ready = await tenant.wait_for("collaborators", "guest", is_ready, 40)
    assert condition(ready, "InvitationPending") is None
    assert "invitationID" not in ready["status"]
    assert await scenario.control.grants(account.login, "site") == {guest: "read"}

    await tenant.delete("collaborators", "guest")
    await tenant.wait_for("collaborators", "guest", is_gone)
    assert await scenario.control.grants(account.login, "site") == {}


async def test_a_new_invitation_that_the_host_does_not_list_yet_counts_as_open(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because the resync, which looks twice, comes by every 10 s."""
    account, guest = await _site(scenario, tenant)
    await scenario.control.set_switches(token_id=account.token.id, visibility_delay=60.0)
    await tenant.apply(collaborator("guest", "site", guest))
    sent = await tenant.wait_for("collaborators", "guest", PENDING)
    await scenario.control.clear_journal()

    async def looked_twice() -> bool:
        looks = [e for e in await scenario.requests_of(account.login) if e.path.endswith("/invitations")]
        return len(looks) >= 2

    await scenario.wait_until(looked_twice, True, timeout=40, what="two looks at the invitations")
    assert await tenant.get("collaborators", "guest") == sent, "what is not listed yet was not declined"
    assert await scenario.requests_of(account.login, writes_only=True) == []


async def test_deleting_withdraws_a_pending_invitation(services: Process, scenario: Scenario, tenant: Tenant) -> None:
    account, guest = await _site(scenario, tenant)
    await tenant.apply(collaborator("guest", "site", guest))
    await tenant.wait_for("collaborators", "guest", PENDING)
    await tenant.delete("collaborators", "guest")
    await tenant.wait_for("collaborators", "guest", is_gone)
    assert await scenario.control.invitations(account.login, "site") == []


async def test_a_user_who_renames_keeps_being_ours_and_the_deletion_removes_the_access(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, guest, renamed = await _renamed_guest(scenario, tenant)
    stranger = await scenario.control.create_user(guest)
    looked = await tenant.reconcile("collaborators", "guest", "renamed")
    assert is_ready(looked)
    assert renamed in condition(looked, "Ready")["message"]
    assert looked["status"]["userID"] != str(stranger)
    assert await scenario.control.grants(account.login, "site") == {renamed: "write"}
    assert await scenario.control.invitations(account.login, "site") == []

    await tenant.delete("collaborators", "guest")
    await tenant.wait_for("collaborators", "guest", is_gone)
    assert await scenario.control.grants(account.login, "site") == {}


async def test_who_takes_the_login_of_a_user_without_access_is_not_invited(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because the resync, which finds the change on the host, comes by every 10 s."""
    account, guest, renamed = await _renamed_guest(scenario, tenant)
    await scenario.control.create_user(guest)
    await scenario.control.edit_repository(account.login, "site", grants={renamed: None})
    await tenant.wait_for("collaborators", "guest", has("Ready", "False", "UserChanged"), 40)
    assert await scenario.control.invitations(account.login, "site") == []
    await tenant.delete("collaborators", "guest")
    await tenant.wait_for("collaborators", "guest", is_gone)


async def test_roles_are_compared_by_name_custom_ones_too(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    org, member = await _team_site(scenario, tenant)
    for permission, seen in (("triage", "triage"), ("maintain", "maintain"), ("releaser", "releaser")):
        await tenant.apply(collaborator("member", "site", member, permission=permission))
        await tenant.wait_for("collaborators", "member", is_ready)
        assert await _role(scenario, org, member) == seen
    await scenario.control.edit_repository(org, "site", grants={member: "read"})
    await scenario.wait_until(lambda: _role(scenario, org, member), "releaser", timeout=40, what="the role on the host")


async def test_access_ends_by_itself(services: Process, scenario: Scenario, tenant: Tenant) -> None:
    org, member = await _team_site(scenario, tenant)
    until = datetime.now(UTC) + timedelta(seconds=6)
    await tenant.apply(collaborator("member", "site", member, expiresAt=until.strftime("%Y-%m-%dT%H:%M:%SZ")))
    await tenant.wait_for("collaborators", "member", is_ready)
    assert await _role(scenario, org, member) == "write"
    await tenant.wait_for("collaborators", "member", has("AccessEnded", "True", "Expired"), 30)
    assert await _role(scenario, org, member) is None


async def test_an_app_as_collaborator_is_told_how_apps_get_access(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    await _site(scenario, tenant)
    await tenant.apply(collaborator("helper", "site", "helper[bot]"))
    refused = await tenant.wait_for("collaborators", "helper", has("Ready", "False", "InvalidName"))
    message = condition(refused, "Ready")["message"]
    assert "gets access by its installation" in message
    assert "delete this object" in message


async def test_lists_that_leave_out_an_owner_for_long_cost_one_write_of_status_and_none_on_the_host(
    services: Process,
    scenario: Scenario,
    tenant: Tenant,
    services_nats: NatsServer,
    provider: ProviderInstallation,
    kcp: Kcp,
) -> None:
    account, guest, org = await scenario.account(), unique("guest"), unique("org")
    await scenario.control.create_user(guest)
    await scenario.control.create_org(org, members={account.login: "admin", guest: "admin"})
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", owner=org))
    await tenant.apply(collaborator("owner", "site", guest))
    before = await tenant.wait_for("collaborators", "owner", is_ready)
    served = await kcp.cluster(provider.provisioned.cluster).get("apiexportendpointslices", EXPORT)
    assert served is not None
    endpoint = served["status"]["endpoints"][0]["url"]
    await scenario.control.add_fault(
        "status", status=200, body=[], method="GET", path=".*/collaborators", login=account.login, count=None
    )
    await scenario.control.clear_journal()

    async def lists() -> int:
        return sum(entry.path.endswith("/collaborators") for entry in await scenario.requests_of(account.login))

    versions = set[str]()
    # The resync comes by every 10 s. Here it is asked for, so that ten turns take a few seconds.
    async with Bus.connect(NatsSettings(url=(services_nats.url,))) as bus:
        for turn in range(10):
            found = await tenant.get("collaborators", "owner")
            assert found is not None
            versions.add(found["metadata"]["resourceVersion"])
            done = await lists()
            await bus.publish(event_for(found, reason="resync", cluster=tenant.cluster, endpoint=endpoint))
            await scenario.wait_until(
                lambda done=done: _more(lists, done), True, timeout=30, what=f"the look at the host of turn {turn}"
            )
    after = await tenant.get("collaborators", "owner")
    assert after is not None
    versions |= {after["metadata"]["resourceVersion"]}
    assert len(versions - {before["metadata"]["resourceVersion"]}) <= 1
    assert is_ready(after)
    assert await scenario.requests_of(account.login, writes_only=True) == []
    await scenario.control.clear_faults()


async def _more(count: Callable[[], Awaitable[int]], than: int) -> bool:
    return await count() > than


async def _role(scenario: Scenario, owner: str, login: str) -> str | None:
    """The user's own grant on the host; whoever made the repository has one too."""
    return (await scenario.control.grants(owner, "site")).get(login)


async def test_a_username_cannot_change(services: Process, scenario: Scenario, tenant: Tenant) -> None:
    _, guest = await _site(scenario, tenant)
    await tenant.apply(collaborator("guest", "site", guest))
    with pytest.raises(ApiError, match="username cannot change"):
        await tenant.patch("collaborators", "guest", {"spec": {"username": "somebody-else"}})


@pytest.mark.parametrize("until", ["2027-01-01T00:00:00+24:00", "0000-01-01T00:00:00Z", "tomorrow"])
async def test_an_end_that_no_clock_shows_is_refused(
    services: Process, scenario: Scenario, shared_tenant: Tenant, until: str
) -> None:
    with pytest.raises(ApiError, match=r"spec\.expiresAt"):
        await shared_tenant.create(collaborator("guest", "site", "guest", expiresAt=until))
