"""What ``ConnectionHost`` and ``RepositoryHost`` promise, held against each implementation (git_hosts.py)."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from git_hosts import ME, ORG, Host, Simulator, needs

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.protocol import Absent, AlreadyExists, Redirected, RepositoryChanges


async def test_the_credential_names_its_account(host: Host) -> None:
    account = await host.backend.validate_connection()
    assert account.login
    assert account.id.isdecimal()


async def test_users_and_organisations_are_told_apart(host: Host) -> None:
    assert await host.backend.get_owner_kind(needs(host.other)) == "User"
    assert await host.backend.get_owner_kind(needs(host.organization)) == "Organization"


async def test_an_account_that_does_not_exist_has_no_kind(host: Host) -> None:
    assert await host.backend.get_owner_kind(f"nobody-{uuid.uuid4().hex[:16]}") is None


async def test_a_repository_that_does_not_exist_is_absent_since_the_hosts_clock(host: Host) -> None:
    found = await host.backend.find_repository(host.owner, f"absent-{uuid.uuid4().hex}")
    assert isinstance(found, Absent)
    assert abs(found.since - datetime.now(UTC)) < timedelta(minutes=10)


async def test_what_is_created_after_an_absence_is_not_older_than_it(host: Host) -> None:
    request = await host.request()
    absent = await host.backend.find_repository(request.owner, request.name)
    created = await host.create(name=request.name)
    assert isinstance(absent, Absent)
    assert timedelta() <= created.created_at - absent.since < timedelta(minutes=2)


async def test_a_created_repository_is_found_by_name_in_any_case_and_by_id(host: Host) -> None:
    created = await host.create()
    assert await host.backend.find_repository(created.owner, created.name) == created
    assert await host.backend.find_repository(created.owner.upper(), created.name.upper()) == created
    assert await host.backend.get_repository(created.id) == created


@pytest.mark.parametrize("visibility", ["private", "public"])
async def test_a_repository_is_created_as_it_was_asked_for(host: Host, visibility: str) -> None:
    request = await host.request(visibility=visibility)
    created = await host.create(name=request.name, visibility=visibility)
    assert (created.name, created.visibility) == (request.name, visibility)
    assert created.description == request.description
    assert created.owner.lower() == request.owner.lower()
    assert created.html_url.endswith(f"/{request.name}")
    assert created.clone_url.endswith(f"/{request.name}.git")


async def test_a_repository_is_created_in_an_organisation(host: Host) -> None:
    created = await host.create(owner=needs(host.organization))
    assert created.owner == host.organization


async def test_a_taken_name_is_reported_as_such(host: Host) -> None:
    created = await host.create()
    with pytest.raises(AlreadyExists):
        await host.create(name=created.name)


async def test_nothing_is_created_in_another_users_account(host: Host) -> None:
    request = await host.request(owner=needs(host.other))
    with pytest.raises(Terminal) as refused:
        await host.backend.create_repository(request)
    assert refused.value.reason == "OwnerMismatch"
    assert isinstance(await host.backend.find_repository(host.owner, request.name), Absent)


async def test_an_organisation_that_cannot_be_seen_gets_nothing_and_neither_does_the_personal_account(
    host: Host,
) -> None:
    request = replace(await host.request(), owner=f"nobody-{uuid.uuid4().hex[:16]}", owner_kind="Organization")
    with pytest.raises(Terminal) as refused:
        await host.backend.create_repository(request)
    assert refused.value.reason == "NotFoundOrNoAccess"
    assert isinstance(await host.backend.find_repository(host.owner, request.name), Absent)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "café", "x.git", "x" * 101])
async def test_a_name_that_the_host_would_alter_is_refused(host: Host, name: str) -> None:
    with pytest.raises(Terminal) as refused:
        await host.create(name=name)
    assert refused.value.reason == "InvalidName"


async def test_only_the_changed_settings_are_changed(host: Host) -> None:
    created = await host.create()
    updated = await host.backend.update_repository(created.id, RepositoryChanges(description="another"))
    assert updated == replace(created, description="another")
    assert await host.backend.get_repository(created.id) == updated


async def test_a_change_can_be_made_twice(host: Host) -> None:
    created = await host.create()
    changes = RepositoryChanges(visibility="public", description="twice")
    first = await host.backend.update_repository(created.id, changes)
    assert first == await host.backend.update_repository(created.id, changes)
    assert first.visibility == "public"
    only_visibility = RepositoryChanges(visibility="public")
    assert await host.backend.update_repository(created.id, only_visibility) == first


async def test_no_change_answers_with_the_repository_as_it_is(host: Host) -> None:
    created = await host.create()
    assert await host.backend.update_repository(created.id, RepositoryChanges()) == created


async def test_an_initialised_repository_has_its_default_branch_and_no_other(host: Host) -> None:
    created = await host.create(auto_init=True)
    assert await host.backend.has_branch(created, created.default_branch)
    assert not await host.backend.has_branch(created, "feature/absent")


async def test_an_empty_repository_has_no_branch(host: Host) -> None:
    created = await host.create()
    assert not await host.backend.has_branch(created, created.default_branch or "main")


@pytest.mark.parametrize("branch", ["", ".", "..", "../..", "a b", "a?b", "a#b", "/a"])
async def test_what_git_does_not_take_as_a_branch_is_no_branch(host: Host, branch: str) -> None:
    created = await host.create(auto_init=True)
    assert not await host.backend.has_branch(created, branch)


async def test_the_default_branch_is_switched_to_one_that_exists(host: Host) -> None:
    push = needs(host.push)
    created = await host.create(auto_init=True)
    await push(created, "release/1.0")
    assert await host.backend.has_branch(created, "release/1.0")
    updated = await host.backend.update_repository(created.id, RepositoryChanges(default_branch="release/1.0"))
    assert updated.default_branch == "release/1.0"
    assert await host.backend.has_branch(created, created.default_branch)


async def test_a_default_branch_that_does_not_exist_is_refused(host: Host) -> None:
    created = await host.create(auto_init=True)
    with pytest.raises(Terminal) as refused:
        await host.backend.update_repository(created.id, RepositoryChanges(default_branch="absent"))
    assert refused.value.reason == "ValidationFailed"
    assert await host.backend.get_repository(created.id) == created


async def test_an_archived_repository_refuses_changes(host: Host) -> None:
    created = await host.create()
    await host.backend.update_repository(created.id, RepositoryChanges(archived=True))
    with pytest.raises(Terminal) as refused:
        await host.backend.update_repository(created.id, RepositoryChanges(description="late"))
    assert refused.value.reason == "RepositoryArchived"


async def test_settings_change_together_with_archiving_and_unarchiving(host: Host) -> None:
    created = await host.create()
    archived = await host.backend.update_repository(created.id, RepositoryChanges(description="1", archived=True))
    assert (archived.archived, archived.description) == (True, "1")
    revived = await host.backend.update_repository(created.id, RepositoryChanges(description="2", archived=False))
    assert (revived.archived, revived.description) == (False, "2")


async def test_a_change_of_a_repository_that_is_gone_is_refused(host: Host) -> None:
    created = await host.create()
    await host.backend.delete_repository(created.id)
    with pytest.raises(Terminal) as refused:
        await host.backend.update_repository(created.id, RepositoryChanges(description="late"))
    assert refused.value.reason == "NotFoundOrNoAccess"


async def test_a_deleted_repository_is_gone_and_can_be_deleted_again(host: Host) -> None:
    created = await host.create()
    await host.backend.delete_repository(created.id)
    assert await host.backend.get_repository(created.id) is None
    assert isinstance(await host.backend.find_repository(created.owner, created.name), Absent)
    await host.backend.delete_repository(created.id)


async def test_an_archived_repository_can_be_deleted(host: Host) -> None:
    created = await host.create()
    await host.backend.update_repository(created.id, RepositoryChanges(archived=True))
    await host.backend.delete_repository(created.id)
    assert await host.backend.get_repository(created.id) is None


async def test_a_renamed_repository_is_followed_by_id_and_not_by_its_old_name(host: Host) -> None:
    rename = needs(host.rename)
    created = await host.create()
    await rename(created, f"{created.name}-moved")
    found = await host.backend.find_repository(created.owner, created.name)
    assert isinstance(found, Redirected)
    assert found.location.endswith(f"/repositories/{created.id}")
    moved = await host.backend.get_repository(created.id)
    assert moved is not None
    assert moved.name == f"{created.name}-moved"
    updated = await host.backend.update_repository(created.id, RepositoryChanges(description="by id"))
    assert updated == replace(moved, description="by id")


async def test_a_repository_goes_with_an_account_that_is_renamed_and_nobody_gets_at_it_by_the_old_name(
    host: Host,
) -> None:
    rename, register = needs(host.rename_user), needs(host.register)
    created = await host.create()
    await rename(host.owner, "renamed")
    await register(host.owner)
    moved = await host.backend.get_repository(created.id)
    assert moved is not None
    assert (moved.id, moved.owner, moved.name) == (created.id, "renamed", created.name)
    assert await host.backend.find_repository("renamed", created.name) == moved
    assert isinstance(await host.backend.find_repository(host.owner, created.name), Absent)
    await host.backend.delete_repository(created.id)
    assert await host.backend.get_repository(created.id) is None


async def test_a_name_given_up_by_a_rename_can_be_used_again(host: Host) -> None:
    rename = needs(host.rename)
    created = await host.create()
    await rename(created, f"{created.name}-moved")
    again = await host.create(name=created.name)
    assert again.id != created.id
    assert await host.backend.find_repository(created.owner, created.name) == again


# What only GitHub answers, against the simulator.


async def test_an_enterprise_organisation_gets_an_internal_repository(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ORG)
    created = await host.create(visibility="internal")
    assert created.visibility == "internal"
    updated = await host.backend.update_repository(created.id, RepositoryChanges(visibility="private"))
    assert updated.visibility == "private"


async def test_an_organisation_without_an_enterprise_gets_no_internal_repository(simulator: Simulator) -> None:
    await simulator.control.create_org("plain", members={ME: "admin"})
    host = Host(await simulator.session(), "plain")
    with pytest.raises(Terminal, match="internal") as refused:
        await host.create(name="web", visibility="internal")
    assert refused.value.reason == "ValidationFailed"
    assert isinstance(await host.backend.find_repository("plain", "web"), Absent)

    created = await host.create(name="web")
    with pytest.raises(Terminal, match="internal") as refused:
        await host.backend.update_repository(created.id, RepositoryChanges(visibility="internal"))
    assert refused.value.reason == "ValidationFailed"
    assert await host.backend.get_repository(created.id) == created


async def test_a_revoked_credential_is_told_to_the_user(simulator: Simulator) -> None:
    token = await simulator.control.create_token(ME)
    backend = simulator.open(token.value)
    await simulator.control.revoke_token(token.id)
    with pytest.raises(Terminal) as refused:
        await backend.find_repository(ME, "web")
    assert refused.value.reason == "CredentialRejected"


async def test_an_organisation_hidden_from_the_token_is_not_replaced_by_the_personal_account(
    simulator: Simulator,
) -> None:
    host = Host(await simulator.session(hidden_orgs=[ORG]), ORG)
    assert await host.backend.get_owner_kind(ORG) is None
    with pytest.raises(Terminal) as refused:
        await host.create(owner_kind="Organization", name="web")
    assert refused.value.reason == "NotFoundOrNoAccess"
    assert await simulator.control.repositories() == []


async def test_a_delete_without_the_scope_names_it(simulator: Simulator) -> None:
    host = Host(await simulator.session(scopes=["repo"]), ME)
    created = await host.create()
    with pytest.raises(Terminal) as refused:
        await host.backend.delete_repository(created.id)
    assert refused.value.reason == "MissingPermission"
    assert "delete_repo" in refused.value.message
    assert len(await simulator.control.repositories()) == 1


async def test_a_fine_grained_token_without_the_permission_is_told_which(simulator: Simulator) -> None:
    host = Host(await simulator.session(kind="fine-grained", permissions={"metadata": "read"}), ME)
    with pytest.raises(Terminal) as refused:
        await host.create()
    assert refused.value.reason == "MissingPermission"
    assert "administration=write" in refused.value.message


async def test_a_token_without_scopes_that_is_answered_404_is_told_which_scope_it_lacks(simulator: Simulator) -> None:
    host = Host(await simulator.session(scopes=["user"]), ORG)
    with pytest.raises(Terminal) as refused:
        await host.create()
    assert refused.value.reason == "MissingPermission"
    assert "repo" in refused.value.message


async def test_a_used_up_quota_is_waited_for_until_the_time_the_host_names(simulator: Simulator) -> None:
    backend = await simulator.session()
    await simulator.control.set_switches(primary_quota=1, quota_window=1800)
    await backend.validate_connection()
    with pytest.raises(Retryable) as limited:
        await backend.validate_connection()
    assert limited.value.reason == "RateLimited"
    assert limited.value.after is not None
    assert timedelta(minutes=29) < limited.value.after <= timedelta(minutes=30, seconds=2)


async def test_a_delete_under_a_secondary_limit_is_not_taken_for_a_missing_scope(simulator: Simulator) -> None:
    host = Host(await simulator.session(), ME)
    created = await host.create()
    await simulator.control.add_fault("secondary_limit", method="DELETE", seconds=7)
    with pytest.raises(Retryable) as limited:
        await host.backend.delete_repository(created.id)
    assert (limited.value.reason, limited.value.after) == ("RateLimited", timedelta(seconds=7))


@pytest.mark.parametrize("action", ["html_502", "truncate", "reset"])
async def test_a_create_whose_answer_is_lost_is_not_repeated_blindly(simulator: Simulator, action: str) -> None:
    host = Host(await simulator.session(), ME)
    await simulator.control.add_fault(action, method="POST", applied=True)
    with pytest.raises(Retryable) as lost:
        await host.create(name="web")
    assert lost.value.reason == "HostUnavailable"
    with pytest.raises(AlreadyExists):
        await host.create(name="web")
    posts = [entry for entry in (await simulator.control.journal()).entries if entry.method == "POST"]
    assert len(posts) == 2


async def test_a_read_survives_one_broken_connection(simulator: Simulator) -> None:
    backend = await simulator.session()
    await simulator.control.add_fault("reset", method="GET")
    assert (await backend.validate_connection()).login == ME


@pytest.mark.parametrize("action", ["html_502", "reset", "truncate"])
async def test_a_broken_host_is_never_taken_for_an_absence(simulator: Simulator, action: str) -> None:
    backend = await simulator.session()
    await simulator.control.add_fault(action, count=None)
    for call in (backend.find_repository(ME, "web"), backend.get_repository("1"), backend.get_owner_kind(ORG)):
        with pytest.raises(Retryable) as broken:
            await call
        assert broken.value.reason == "HostUnavailable"


async def test_a_404_of_something_in_front_of_the_host_is_not_an_absence(simulator: Simulator) -> None:
    backend = await simulator.session()
    await simulator.control.add_fault("status", status=404, body="<html>no backend</html>", count=None)
    with pytest.raises(Retryable) as broken:
        await backend.get_repository("1")
    assert broken.value.reason == "HostUnavailable"


async def test_single_sign_on_is_asked_for_with_its_address(simulator: Simulator) -> None:
    backend = await simulator.session()
    url = f"https://github.com/orgs/{ORG}/sso?authorization_request=ABCDEF"
    body = {"message": "Resource protected by organization SAML enforcement."}
    headers = {"X-GitHub-SSO": f"required; url={url}"}
    await simulator.control.add_fault("status", status=403, body=body, headers=headers)
    with pytest.raises(Terminal) as refused:
        await backend.find_repository(ORG, "web")
    assert refused.value.reason == "SSORequired"
    assert url in refused.value.message
