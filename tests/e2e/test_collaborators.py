"""Collaborators: invited, accepted, expired, changed, ended, withdrawn."""

from __future__ import annotations

import pytest

from devstack.errors import ApiError
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
