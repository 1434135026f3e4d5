"""Changing, renaming, transferring, archiving and deleting repositories."""

from __future__ import annotations

from typing import Any

import pytest

from devstack.githubsim import GithubSim, SimControl


@pytest.fixture
async def demo(control: SimControl, alice: Any) -> int:
    """alice/demo, private, with the branches main and dev. Its id."""
    return (await control.create_repository("alice", "demo", branches=["main", "dev"])).id


@pytest.mark.parametrize("by_id", [False, True])
async def test_settings_change_by_name_and_by_id(api: Any, alice: Any, demo: int, clock: Any, by_id: bool) -> None:
    path = f"/repositories/{demo}" if by_id else "/repos/alice/demo"
    clock.advance(60)
    wanted = {"description": "new", "visibility": "public", "default_branch": "dev", "has_wiki": False}
    changed = await api("PATCH", path, token=alice, json=wanted)
    assert changed.status == 200
    assert {name: changed.body[name] for name in wanted} == wanted
    assert changed.body["private"] is False
    assert changed.body["updated_at"] > changed.body["created_at"]
    assert (await api("GET", "/repos/alice/demo", token=alice)).body == changed.body


@pytest.mark.parametrize(("branches", "said"), [(["main"], "was not found"), ([], "empty repository")])
async def test_a_default_branch_that_does_not_exist_answers_422_and_changes_nothing(
    api: Any, alice: Any, control: SimControl, branches: list[str], said: str
) -> None:
    await control.create_repository("alice", "other", branches=branches, description="old")
    refused = await api(
        "PATCH", "/repos/alice/other", token=alice, json={"default_branch": "nope", "description": "new"}
    )
    assert refused.status == 422
    (error,) = refused.body["errors"]
    assert (error["field"], error["code"]) == ("default_branch", "invalid")
    assert said in error["message"]
    assert (await control.get_repository("alice", "other")).description == "old"


async def test_the_visibility_that_it_has_already_answers_422(api: Any, alice: Any, demo: int) -> None:
    refused = await api("PATCH", "/repos/alice/demo", token=alice, json={"visibility": "private"})
    assert (refused.status, refused.body["message"]) == (422, "Visibility is already private.")
    assert (await api("PATCH", "/repos/alice/demo", token=alice, json={"private": True})).status == 200


async def test_a_renamed_repository_redirects_until_the_old_name_is_reused(
    sim: GithubSim, api: Any, alice: Any, demo: int
) -> None:
    renamed = await api("PATCH", "/repos/alice/demo", token=alice, json={"name": "fresh"})
    assert (renamed.body["name"], renamed.body["id"]) == ("fresh", demo)

    location = f"{sim.url}/repositories/{demo}"
    for method, status in (("GET", 301), ("PATCH", 307), ("DELETE", 307)):
        moved = await api(method, "/repos/alice/DEMO", token=alice, json={} if method == "PATCH" else None)
        assert (moved.status, moved.headers["Location"], moved.body["url"]) == (status, location, location)
    below = await api("GET", "/repos/alice/demo/branches?per_page=5", token=alice)
    assert below.headers["Location"] == f"{location}/branches?per_page=5"
    assert (await api("GET", f"/repositories/{demo}/branches?per_page=5", token=alice)).status == 200

    reused = await api("POST", "/user/repos", token=alice, json={"name": "demo"})
    assert (await api("GET", "/repos/alice/demo", token=alice)).body["id"] == reused.body["id"] != demo
    await api("DELETE", "/repos/alice/demo", token=alice)
    assert (await api("GET", "/repos/alice/demo", token=alice)).status == 404


async def test_a_redirect_is_not_shown_to_who_may_not_see_the_repository(
    api: Any, alice: Any, demo: int, control: SimControl
) -> None:
    await api("PATCH", "/repos/alice/demo", token=alice, json={"name": "fresh"})
    await control.create_user("mallory")
    assert (await api("GET", "/repos/alice/demo", token=await control.create_token("mallory"))).status == 404


async def test_only_the_case_of_a_name_may_change_and_a_taken_name_may_not_be_given(
    api: Any, alice: Any, demo: int, control: SimControl
) -> None:
    await control.create_repository("alice", "other")
    taken = await api("PATCH", "/repos/alice/demo", token=alice, json={"name": "Other"})
    assert (taken.status, taken.body["errors"][0]["message"]) == (422, "name already exists on this account")
    assert (await api("PATCH", "/repos/alice/demo", token=alice, json={"name": "Demo"})).body["name"] == "Demo"
    assert (await api("GET", "/repos/alice/demo", token=alice)).status == 200


async def test_a_transferred_repository_keeps_its_id_and_redirects(
    sim: GithubSim, api: Any, alice: Any, demo: int, acme: str
) -> None:
    body = {"new_owner": acme, "new_name": "moved"}
    transferred = await api("POST", "/repos/alice/demo/transfer", token=alice, json=body)
    assert (transferred.status, transferred.body["full_name"], transferred.body["id"]) == (202, "acme/moved", demo)
    assert (await api("GET", "/repos/alice/demo", token=alice)).headers["Location"] == f"{sim.url}/repositories/{demo}"
    assert (await api("GET", "/repos/acme/moved", token=alice)).status == 200


async def test_an_archived_repository_is_read_only_until_it_is_unarchived(api: Any, alice: Any, demo: int) -> None:
    archived = await api("PATCH", "/repos/alice/demo", token=alice, json={"archived": True})
    assert archived.body["archived"] is True
    for method, path, body in (
        ("PATCH", "/repos/alice/demo", {"description": "x"}),
        ("PATCH", "/repos/alice/demo", {"archived": True}),
        ("POST", "/repos/alice/demo/transfer", {"new_owner": "alice"}),
    ):
        refused = await api(method, path, token=alice, json=body)
        assert (refused.status, refused.body["message"]) == (403, "Repository was archived so is read-only.")
    assert (await api("PATCH", "/repos/alice/demo", token=alice, json={"archived": False})).status == 200
    assert (await api("PATCH", "/repos/alice/demo", token=alice, json={"description": "x"})).status == 200


@pytest.mark.parametrize("archived", [False, True])
async def test_a_deleted_repository_is_gone_and_its_name_is_free(
    api: Any, alice: Any, demo: int, control: SimControl, archived: bool
) -> None:
    await control.edit_repository("alice", "demo", archived=archived)
    assert (await api("DELETE", f"/repositories/{demo}", token=alice)).status == 204
    assert (await api("GET", "/repos/alice/demo", token=alice)).status == 404
    assert (await api("GET", f"/repositories/{demo}", token=alice)).status == 404
    assert (await api("DELETE", "/repos/alice/demo", token=alice)).status == 404
    assert (await api("POST", "/user/repos", token=alice, json={"name": "demo"})).status == 201


async def test_an_organisation_may_forbid_its_members_to_delete(
    api: Any, alice: Any, acme: str, control: SimControl
) -> None:
    await control.edit_org(acme, members_can_delete_repositories=False)
    await control.create_repository(acme, "demo", grants={"bob": "admin"})
    refused = await api("DELETE", "/repos/acme/demo", token=await control.create_token("bob"))
    assert (refused.status, refused.body["message"]) == (403, "Organization members cannot delete repositories.")
    assert (await api("DELETE", "/repos/acme/demo", token=alice)).status == 204
