"""Collaborators: invited, accepted, expired, changed, ended, withdrawn."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from devstack.cluster import Predicate
from devstack.errors import ApiError
from devstack.githubsim.journal import Entry
from devstack.processes import Process
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
    account, guest, renamed = await _renamed_guest(scenario, tenant)
    await scenario.control.create_user(guest)
    await scenario.control.edit_repository(account.login, "site", grants={renamed: None})
    await tenant.wait_for("collaborators", "guest", has("Ready", "False", "UserChanged"), 40)
    assert await scenario.control.invitations(account.login, "site") == []
    await tenant.delete("collaborators", "guest")
    await tenant.wait_for("collaborators", "guest", is_gone)


async def test_an_expired_invitation_is_sent_anew_a_bounded_number_of_times(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, guest = await _site(scenario, tenant)
    await tenant.apply(collaborator("guest", "site", guest))
    for sent in (1, 2, 3):
        await tenant.wait_for("collaborators", "guest", _sent(sent), 40)
        await scenario.control.expire_invitation(account.login, "site", guest)
    await tenant.wait_for("collaborators", "guest", has("Ready", "False", "InvitationExpired"), 40)

    await tenant.request_reconcile("collaborators", "guest")
    await tenant.wait_for("collaborators", "guest", PENDING)
    (invitation,) = await scenario.control.invitations(account.login, "site")
    assert not invitation.expired


async def test_more_invitations_than_the_host_takes_in_a_day_wait_for_the_next(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, _ = await _site(scenario, tenant)
    guests = [unique("guest") for _ in range(51)]
    await asyncio.gather(*(scenario.control.create_user(guest) for guest in guests))
    await asyncio.gather(*(tenant.apply(collaborator(guest, "site", guest)) for guest in guests))
    waits = has("Reconciling", "True", "InvitationLimit")
    told = [await tenant.wait_for("collaborators", guest, lambda c: PENDING(c) or waits(c)) for guest in guests]
    (late,) = filter(waits, told)
    assert condition(late, "Stalled") is None
    assert len(await scenario.control.invitations(account.login, "site")) == 50

    await scenario.control.set_switches(token_id=account.token.id, invitation_day=0.1)
    await tenant.wait_for("collaborators", late["metadata"]["name"], PENDING, 40)
    assert {i.login for i in await scenario.control.invitations(account.login, "site")} == set(guests)


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


async def test_access_through_a_team_is_not_reported_as_ours(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    org, member = await _team_site(scenario, tenant)
    await scenario.control.set_team(org, "admins", members=[member], repositories={"site": "admin"})
    await tenant.apply(collaborator("member", "site", member, permission="pull"))
    await tenant.wait_for("collaborators", "member", is_ready)
    await tenant.wait_for("collaborators", "member", has("WiderAccess", "True", "NotOurs"), 40)
    await scenario.control.clear_journal()
    looked = await tenant.reconcile("collaborators", "member", "now")
    assert "admin through a team" in condition(looked, "WiderAccess")["message"]
    assert await _writes(scenario) == [], "another grant would change nothing"
    # What the object gave is a grant of its own beside the team's, and goes with it; the team's is not ours to take.
    assert await _role(scenario, org, member) == "read"
    await tenant.delete("collaborators", "member")
    await tenant.wait_for("collaborators", "member", is_gone)
    assert await _role(scenario, org, member) is None


async def test_a_role_that_a_users_repository_does_not_know_is_refused_before_the_call(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, guest = await _site(scenario, tenant)
    await scenario.control.clear_journal()
    await tenant.apply(collaborator("guest", "site", guest, permission="triage"))
    await tenant.wait_for("collaborators", "guest", has("Ready", "False", "PermissionUnsupported"))
    assert await scenario.requests_of(account.login, writes_only=True) == []


async def test_a_repository_that_an_organisation_takes_over_knows_the_roles_of_an_organisation(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, guest = await _site(scenario, tenant)
    await tenant.apply(collaborator("guest", "site", guest, permission="maintain"))
    await tenant.wait_for("collaborators", "guest", has("Ready", "False", "PermissionUnsupported"))

    org = unique("org")
    await scenario.control.create_org(org, members={account.login: "admin"})
    await scenario.control.edit_repository(account.login, "site", owner=org)
    await tenant.wait_for("collaborators", "guest", PENDING, 40)
    (invitation,) = await scenario.control.invitations(org, "site")
    assert (invitation.login, invitation.role) == (guest, "maintain")


async def test_access_ends_by_itself(services: Process, scenario: Scenario, tenant: Tenant) -> None:
    org, member = await _team_site(scenario, tenant)
    until = datetime.now(UTC) + timedelta(seconds=6)
    await tenant.apply(collaborator("member", "site", member, expiresAt=until.strftime("%Y-%m-%dT%H:%M:%SZ")))
    await tenant.wait_for("collaborators", "member", is_ready)
    assert await _role(scenario, org, member) == "write"
    await tenant.wait_for("collaborators", "member", has("AccessEnded", "True", "Expired"), 30)
    assert await _role(scenario, org, member) is None


async def _writes(scenario: Scenario) -> list[Entry]:
    return [entry for entry in (await scenario.control.journal()).entries if entry.method != "GET"]


async def _role(scenario: Scenario, owner: str, login: str) -> str | None:
    """The user's own grant on the host; whoever made the repository has one too."""
    return (await scenario.control.grants(owner, "site")).get(login)


def _sent(count: int) -> Predicate:
    return lambda c: c is not None and c.get("status", {}).get("invitations") == count


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
