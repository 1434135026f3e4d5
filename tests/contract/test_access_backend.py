"""What ``AccessHost`` promises, held against each implementation (git_hosts.py)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from git_hosts import ME, MEMBER, ORG, OTHER, Host, Simulator, needs, public_key

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.protocol import Grant, HostRepository, Invitation


async def grants(host: Host, repository: HostRepository) -> set[Grant]:
    """Without the owner of a user's repository, whom hosts show too."""
    listed = await host.backend.list_collaborators(repository.id)
    assert listed is not None
    return {grant for grant in listed.items if grant.username.lower() not in (repository.owner.lower(), host.owner)}


async def invitations(host: Host, repository: HostRepository) -> tuple[Invitation, ...]:
    listed = await host.backend.list_invitations(repository.id)
    assert listed is not None
    return listed.items


async def test_a_deploy_key_is_registered_without_its_comment_and_listed(host: Host) -> None:
    repository, key = await host.create(), public_key()
    made = await host.backend.create_deploy_key(repository.id, "ci", f"{key} me@laptop", True)
    assert (made.title, made.key, made.read_only) == ("ci", key, True)
    listed = await host.backend.list_deploy_keys(repository.id)
    assert listed is not None
    assert listed.items == (made,)
    assert abs(listed.at - datetime.now(UTC)) < timedelta(minutes=10)


async def test_a_deploy_key_is_shown_by_its_id_and_only_in_its_repository(host: Host) -> None:
    repository, other = await host.create(), await host.create()
    made = await host.backend.create_deploy_key(repository.id, "ci", public_key(), True)
    assert await host.backend.get_deploy_key(repository.id, made.id) == made
    assert await host.backend.get_deploy_key(other.id, made.id) is None
    await host.backend.delete_deploy_key(repository.id, made.id)
    assert await host.backend.get_deploy_key(repository.id, made.id) is None


async def test_a_removed_deploy_key_is_gone_and_can_be_removed_again(host: Host) -> None:
    repository = await host.create()
    made = await host.backend.create_deploy_key(repository.id, "ci", public_key(), False)
    for _ in range(2):
        await host.backend.delete_deploy_key(repository.id, made.id)
    listed = await host.backend.list_deploy_keys(repository.id)
    assert listed is not None
    assert listed.items == ()


async def test_a_key_serves_one_repository(host: Host) -> None:
    first, second, key = await host.create(), await host.create(), public_key()
    made = await host.backend.create_deploy_key(first.id, "ci", key, True)
    for repository in (first, second):
        with pytest.raises(Terminal) as refused:
            await host.backend.create_deploy_key(repository.id, "ci", f"{key} again", True)
        assert refused.value.reason == "KeyInUse"
    await host.backend.delete_deploy_key(first.id, made.id)
    await host.backend.create_deploy_key(second.id, "ci", key, True)


async def test_what_is_no_public_key_is_refused(host: Host) -> None:
    repository = await host.create()
    with pytest.raises(Terminal) as refused:
        await host.backend.create_deploy_key(repository.id, "ci", "ssh-ed25519 nonsense", True)
    assert refused.value.reason == "InvalidPublicKey"


async def test_disabled_deploy_keys_are_told_apart(host: Host) -> None:
    disable = needs(host.disable_keys)
    repository = await host.create(owner=needs(host.organization))
    before = await host.backend.create_deploy_key(repository.id, "before", public_key(), True)
    assert before.enabled
    await disable(repository)
    with pytest.raises(Terminal) as refused:
        await host.backend.create_deploy_key(repository.id, "ci", public_key(), True)
    assert refused.value.reason == "DeployKeysDisabled"
    listed = await host.backend.list_deploy_keys(repository.id)
    assert listed is not None
    assert [(key.id, key.enabled) for key in listed.items] == [(before.id, False)]


async def test_an_outsider_is_invited_and_granted_when_it_accepts(host: Host) -> None:
    accept, user = needs(host.accept), needs(host.other)
    repository = await host.create()
    invitation = await host.backend.set_collaborator(repository.id, user, "push")
    assert invitation is not None
    assert (invitation.username, invitation.role, invitation.expired) == (user, "push", False)
    assert await invitations(host, repository) == (invitation,)
    assert await grants(host, repository) == set()
    await accept(repository, user)
    assert await grants(host, repository) == {Grant(user, "push", await host.backend.get_user_id(user))}
    assert await invitations(host, repository) == ()


async def test_the_role_of_one_user_is_shown_without_a_list_and_an_invitation_is_none(host: Host) -> None:
    accept, invited, granted = needs(host.accept), needs(host.other), needs(host.member)
    repository = await host.create(visibility="public")
    for user in (invited, granted):
        await host.backend.set_collaborator(repository.id, user, "push")
    await accept(repository, granted)
    shown = await host.backend.get_grant(repository.id, granted)
    assert shown == Grant(granted, "push", await host.backend.get_user_id(granted))
    assert await host.backend.get_grant(repository.id, invited) is None
    owner = await host.backend.get_grant(repository.id, repository.owner)
    assert owner is not None
    assert owner.role == "admin"
    assert await host.backend.get_grant("1", granted) is None


async def test_the_id_of_a_user_is_that_of_the_account_and_outlives_a_new_login(host: Host) -> None:
    accept, rename, register = needs(host.accept), needs(host.rename_user), needs(host.register)
    invited, granted, new = needs(host.other), needs(host.member), "somebody"
    repository = await host.create()
    for user in (invited, granted):
        await host.backend.set_collaborator(repository.id, user, "push")
    await accept(repository, granted)
    ids = {user: await host.backend.get_user_id(user) for user in (invited, granted)}
    assert len({*ids.values(), None}) == 3
    for user in (invited, granted):
        await rename(user, f"{new}-{user}")
        assert await host.backend.get_user_id(user) is None
        assert await host.backend.get_user_id(f"{new}-{user}".upper()) == ids[user]
    assert await grants(host, repository) == {Grant(f"{new}-{granted}", "push", ids[granted])}
    (invitation,) = await invitations(host, repository)
    assert (invitation.username, invitation.user_id) == (f"{new}-{invited}", ids[invited])

    await register(granted)
    assert await host.backend.get_user_id(granted) not in (None, *ids.values())
    await host.backend.remove_collaborator(repository.id, granted)
    assert len(await grants(host, repository)) == 1, "that of somebody else is not taken"
    await host.backend.remove_collaborator(repository.id, f"{new}-{granted}")
    assert await grants(host, repository) == set()


async def test_a_user_is_not_invited_twice(host: Host) -> None:
    repository, user = await host.create(), needs(host.other)
    first = await host.backend.set_collaborator(repository.id, user, "pull")
    assert await host.backend.set_collaborator(repository.id, user.upper(), "pull") == first
    assert len(await invitations(host, repository)) == 1


async def test_the_role_of_a_grant_changes_without_an_invitation(host: Host) -> None:
    accept, user = needs(host.accept), needs(host.other)
    repository = await host.create()
    await host.backend.set_collaborator(repository.id, user, "pull")
    await accept(repository, user)
    for _ in range(2):
        assert await host.backend.set_collaborator(repository.id, user, "admin") is None
    assert await grants(host, repository) == {Grant(user, "admin", await host.backend.get_user_id(user))}


@pytest.mark.parametrize("role", ["pull", "triage", "push", "maintain", "admin"])
async def test_a_member_of_the_organisation_is_granted_each_role_at_once(host: Host, role: str) -> None:
    user = needs(host.member)
    repository = await host.create(owner=host.organization)
    assert await host.backend.set_collaborator(repository.id, user, role) is None
    assert await grants(host, repository) == {Grant(user, role, await host.backend.get_user_id(user))}


async def test_a_custom_role_is_granted_where_the_organisation_has_it(host: Host) -> None:
    add_role, user = needs(host.add_role), needs(host.member)
    repository = await host.create(owner=host.organization)
    with pytest.raises(Terminal) as refused:
        await host.backend.set_collaborator(repository.id, user, "auditor")
    assert refused.value.reason == "PermissionUnsupported"
    await add_role("auditor")
    await host.backend.set_collaborator(repository.id, user, "auditor")
    assert await grants(host, repository) == {Grant(user, "auditor", await host.backend.get_user_id(user))}


@pytest.mark.parametrize("role", ["triage", "maintain", "auditor"])
async def test_a_users_repository_refuses_the_roles_of_organisations(host: Host, role: str) -> None:
    if host.organization == host.owner:
        pytest.skip("the host's owner is an organisation")
    repository = await host.create()
    with pytest.raises(Terminal) as refused:
        await host.backend.set_collaborator(repository.id, needs(host.other), role)
    assert refused.value.reason == "PermissionUnsupported"


async def test_a_user_who_does_not_exist_is_told_apart_from_a_repository_that_does_not(host: Host) -> None:
    repository = await host.create()
    nobody = f"nobody-{uuid.uuid4().hex[:16]}"
    with pytest.raises(Terminal) as refused:
        await host.backend.set_collaborator(repository.id, nobody, "pull")
    assert refused.value.reason == "UserNotFound"
    await host.backend.delete_repository(repository.id)
    with pytest.raises(Terminal) as refused:
        await host.backend.set_collaborator(repository.id, needs(host.other), "pull")
    assert refused.value.reason == "NotFoundOrNoAccess"


async def test_outsiders_are_refused_where_the_organisation_forbids_them_and_members_are_not(host: Host) -> None:
    refuse = needs(host.refuse_outsiders)
    repository = await host.create(owner=host.organization)
    await refuse()
    with pytest.raises(Terminal) as refused:
        await host.backend.set_collaborator(repository.id, needs(host.other), "pull")
    assert refused.value.reason == "InvitationRefused"
    assert await host.backend.set_collaborator(repository.id, needs(host.member), "pull") is None


@pytest.mark.parametrize("role", ["pull", "push", "admin"])
async def test_an_open_invitation_changes_its_role(host: Host, role: str) -> None:
    repository = await host.create()
    sent = await host.backend.set_collaborator(repository.id, needs(host.other), "pull")
    assert sent is not None
    await host.backend.update_invitation(repository.id, sent.id, role)
    (shown,) = await invitations(host, repository)
    assert (shown.id, shown.role) == (sent.id, role)


async def test_an_invitation_that_was_accepted_meanwhile_is_looked_at_again(host: Host) -> None:
    accept, user = needs(host.accept), needs(host.other)
    repository = await host.create()
    sent = await host.backend.set_collaborator(repository.id, user, "pull")
    assert sent is not None
    await accept(repository, user)
    with pytest.raises(Retryable) as overtaken:
        await host.backend.update_invitation(repository.id, sent.id, "push")
    assert overtaken.value.reason == "HostConflict"
    await host.backend.delete_repository(repository.id)
    with pytest.raises(Terminal) as refused:
        await host.backend.update_invitation(repository.id, sent.id, "push")
    assert refused.value.reason == "NotFoundOrNoAccess"


async def test_a_withdrawn_invitation_is_gone_and_can_be_withdrawn_again(host: Host) -> None:
    repository = await host.create()
    sent = await host.backend.set_collaborator(repository.id, needs(host.other), "pull")
    assert sent is not None
    for _ in range(2):
        await host.backend.cancel_invitation(repository.id, sent.id)
    assert await invitations(host, repository) == ()


async def test_an_expired_invitation_shows_as_such_until_it_is_withdrawn(host: Host) -> None:
    expire, user = needs(host.expire), needs(host.other)
    repository = await host.create()
    sent = await host.backend.set_collaborator(repository.id, user, "pull")
    assert sent is not None
    await expire(repository, user)
    (shown,) = await invitations(host, repository)
    assert (shown.id, shown.expired) == (sent.id, True)
    await host.backend.cancel_invitation(repository.id, sent.id)
    again = await host.backend.set_collaborator(repository.id, user, "pull")
    assert again is not None
    assert (again.id != sent.id, again.expired) == (True, False)


async def test_a_revoked_grant_is_gone_and_can_be_revoked_again(host: Host) -> None:
    user = needs(host.member)
    repository = await host.create(owner=host.organization)
    await host.backend.set_collaborator(repository.id, user, "push")
    for _ in range(2):
        await host.backend.remove_collaborator(repository.id, user)
    assert await grants(host, repository) == set()


async def test_nobody_has_nothing_to_revoke(host: Host) -> None:
    repository = await host.create()
    await host.backend.remove_collaborator(repository.id, f"nobody-{uuid.uuid4().hex[:16]}")


async def test_nothing_is_listed_of_a_repository_that_is_gone_and_nothing_is_left_to_remove(host: Host) -> None:
    repository = await host.create()
    await host.backend.delete_repository(repository.id)
    assert await host.backend.list_deploy_keys(repository.id) is None
    assert await host.backend.list_collaborators(repository.id) is None
    assert await host.backend.list_invitations(repository.id) is None
    await host.backend.delete_deploy_key(repository.id, "1")
    await host.backend.cancel_invitation(repository.id, "1")
    await host.backend.remove_collaborator(repository.id, needs(host.other))


# What only GitHub answers, against the simulator.


async def test_every_page_of_keys_is_read(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    repository = await host.create(name="web")
    for _ in range(201):
        await simulator.control.add_key(ME, "web", public_key(), login=ME)
    listed = await host.backend.list_deploy_keys(repository.id)
    assert listed is not None
    assert len({key.id for key in listed.items}) == 201
    reads = [entry for entry in (await simulator.control.journal()).entries if entry.path.endswith("/keys")]
    assert len(reads) == 3


async def test_every_page_of_collaborators_and_invitations_is_read(simulator: Simulator) -> None:
    host, control = Host(await simulator.session(), ME), simulator.control
    repository = await host.create(name="web")
    granted, invited = ([f"{prefix}-{number}" for number in range(101)] for prefix in ("granted", "invited"))
    for login in (*granted, *invited):
        await control.create_user(login)
    await control.edit_repository(ME, "web", grants=dict.fromkeys(granted, "read"))
    for login in invited:
        await control.invite(ME, "web", login, by=ME)
    assert {grant.username for grant in await grants(host, repository)} == set(granted)
    assert {invitation.username for invitation in await invitations(host, repository)} == set(invited)


async def test_a_team_gives_no_grant_of_ones_own(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    repository = await host.create(name="web", owner=ORG)
    await simulator.control.set_team(ORG, "ops", members=["monalisa"], repositories={"web": "maintain"})
    assert await grants(host, repository) == set()


async def test_a_member_is_refused_less_than_the_base_permission_and_told_of_it(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    repository = await host.create(name="web", owner=ORG)
    await simulator.control.edit_org(ORG, default_repository_permission="write")
    with pytest.raises(Terminal) as refused:
        await host.backend.set_collaborator(repository.id, MEMBER, "pull")
    assert refused.value.reason == "PermissionUnsupported"
    assert "base permission" in refused.value.message
    assert await host.backend.set_collaborator(repository.id, MEMBER, "push") is None


@pytest.mark.parametrize(
    ("listing", "rights"),
    [
        ("list_deploy_keys", "administrator"),
        ("list_collaborators", "push access"),
        ("list_invitations", "administrator"),
    ],
)
async def test_a_list_that_is_not_shown_is_not_a_repository_that_is_gone(
    simulator: Simulator, listing: str, rights: str
) -> None:
    owner = Host(await simulator.session(), ME)
    repository = await owner.create(name="web", visibility="public")
    for session, named in (
        (await simulator.session(scopes=["user"]), "public_repo or repo"),
        (await simulator.session("hubot"), rights),
    ):
        with pytest.raises(Terminal) as refused:
            await getattr(session, listing)(repository.id)
        assert refused.value.reason == "MissingPermission"
        assert named in refused.value.message


async def test_a_fine_grained_token_without_the_permission_is_told_which(simulator: Simulator) -> None:
    repository = await Host(await simulator.session(), ME).create(name="web")
    limited = await simulator.session(kind="fine-grained", permissions={"administration": "read"})
    assert await limited.list_deploy_keys(repository.id) is not None
    with pytest.raises(Terminal) as refused:
        await limited.create_deploy_key(repository.id, "ci", public_key(), True)
    assert refused.value.reason == "MissingPermission"
    assert "administration=write" in refused.value.message


@pytest.mark.parametrize("listing", ["list_deploy_keys", "list_invitations"])
async def test_a_fine_grained_token_that_sees_the_repository_alone_is_told_what_it_lacks(
    simulator: Simulator, listing: str
) -> None:
    repository = await Host(await simulator.session(), ME).create(name="web")
    limited = await simulator.session(kind="fine-grained", permissions={"contents": "write", "metadata": "read"})
    assert isinstance(await limited.get_repository(repository.id), HostRepository)
    with pytest.raises(Terminal) as refused:
        await getattr(limited, listing)(repository.id)
    assert refused.value.reason == "MissingPermission"
    assert "administration=read" in refused.value.message


async def test_a_removal_without_the_scope_is_not_taken_for_done(simulator: Simulator) -> None:
    repository = await Host(await simulator.session(), ME).create(name="web", visibility="public")
    key = await simulator.control.add_key(ME, "web", public_key(), login=ME)
    limited = await simulator.session(scopes=["user"])
    with pytest.raises(Terminal) as refused:
        await limited.delete_deploy_key(repository.id, str(key.id))
    assert refused.value.reason == "MissingPermission"
    assert len(await simulator.control.keys(ME, "web")) == 1


async def test_a_change_of_an_invitation_without_the_scope_is_no_conflict(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    repository = await host.create(name="web", visibility="public")
    sent = await host.backend.set_collaborator(repository.id, OTHER, "pull")
    assert sent is not None
    limited = await simulator.session(scopes=["user"])
    with pytest.raises(Terminal) as refused:
        await limited.update_invitation(repository.id, sent.id, "push")
    assert refused.value.reason == "MissingPermission"


@pytest.mark.parametrize("role", ["maintain", "write", "read"])
@pytest.mark.parametrize("thing", ["grant", "key", "invitation"])
async def test_who_administers_the_repository_no_more_has_removed_nothing(
    simulator: Simulator, thing: str, role: str
) -> None:
    """GitHub answers the removal with 404, which is also its answer for what is gone."""
    host, control = Host(await simulator.session(), ME), simulator.control
    repository = await host.create(name="web", owner=ORG)
    key = await host.backend.create_deploy_key(repository.id, "ci", public_key(), True)
    sent = await host.backend.set_collaborator(repository.id, OTHER, "pull")
    assert sent is not None
    await host.backend.set_collaborator(repository.id, MEMBER, "push")
    await control.edit_org(ORG, members={ME: "member"})
    await control.edit_repository(ORG, "web", grants={ME: role})
    remove = {
        "grant": partial(host.backend.remove_collaborator, repository.id, MEMBER),
        "key": partial(host.backend.delete_deploy_key, repository.id, key.id),
        "invitation": partial(host.backend.cancel_invitation, repository.id, sent.id),
    }[thing]
    with pytest.raises((Retryable, Terminal)) as refused:
        await remove()
    assert refused.value.reason == "MissingPermission"
    assert (await control.grants(ORG, "web"))[MEMBER] == "write"
    assert len(await control.keys(ORG, "web")) == len(await control.invitations(ORG, "web")) == 1


async def test_a_removal_costs_one_request_and_is_looked_into_only_when_it_is_answered_with_404(
    simulator: Simulator,
) -> None:
    host, control = Host(await simulator.session(), ME), simulator.control
    repository = await host.create(name="web", owner=ORG)
    key = await host.backend.create_deploy_key(repository.id, "ci", public_key(), True)
    await host.backend.set_collaborator(repository.id, MEMBER, "push")

    async def asked() -> list[tuple[str, int]]:
        entries = (await control.journal()).entries
        await control.clear_journal()
        return [(entry.method, entry.status) for entry in entries]

    await asked()
    await host.backend.remove_collaborator(repository.id, MEMBER)
    await host.backend.delete_deploy_key(repository.id, key.id)
    assert await asked() == [("DELETE", 204)] * 2
    await host.backend.remove_collaborator(repository.id, "nobody")
    assert await asked() == [("DELETE", 404), ("GET", 404)]
    await host.backend.delete_deploy_key(repository.id, key.id)
    assert await asked() == [("DELETE", 404), ("GET", 200)]


async def test_the_daily_number_of_invitations_passes_by_itself(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    repository = await host.create(name="web")
    for _ in range(50):
        sent = await host.backend.set_collaborator(repository.id, "hubot", "pull")
        assert sent is not None
        await host.backend.cancel_invitation(repository.id, sent.id)
    with pytest.raises(Retryable) as refused:
        await host.backend.set_collaborator(repository.id, "hubot", "pull")
    assert (refused.value.reason, refused.value.after) == ("InvitationLimit", timedelta(hours=1))


async def test_an_archived_repository_refuses_access_to_change(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    repository = await host.create(name="web")
    await simulator.control.edit_repository(ME, "web", archived=True)
    for call in (
        host.backend.create_deploy_key(repository.id, "ci", public_key(), True),
        host.backend.set_collaborator(repository.id, "hubot", "pull"),
    ):
        with pytest.raises(Terminal) as refused:
            await call
        assert refused.value.reason == "RepositoryArchived"


async def test_an_id_that_is_no_number_is_never_sent(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    repository = await host.create(name="web")
    with pytest.raises(Terminal):
        await host.backend.delete_deploy_key(repository.id, "../..")
    with pytest.raises(Terminal):
        await host.backend.remove_collaborator(repository.id, "../..")
    assert isinstance(await host.backend.get_repository(repository.id), HostRepository)
