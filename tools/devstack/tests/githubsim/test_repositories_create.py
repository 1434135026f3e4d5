"""Creating repositories."""

from __future__ import annotations

from typing import Any

import pytest

from devstack.githubsim import GithubSim, SimControl

NAME_TAKEN = {
    "resource": "Repository",
    "code": "custom",
    "field": "name",
    "message": "name already exists on this account",
}


async def test_a_new_repository_is_in_the_callers_account_and_found_by_name_in_any_case_and_by_id(
    sim: GithubSim, api: Any, alice: Any
) -> None:
    created = await api("POST", "/user/repos", token=alice, json={"name": "Demo", "private": True, "description": "d"})
    assert created.status == 201
    assert created.headers["Location"] == f"{sim.url}/repos/alice/Demo"
    assert created.body["full_name"] == "alice/Demo"
    assert (created.body["private"], created.body["visibility"]) == (True, "private")
    assert created.body["description"] == "d"

    by_name = await api("GET", "/repos/ALICE/demo", token=alice)
    by_id = await api("GET", f"/repositories/{created.body['id']}", token=alice)
    assert by_name.status == by_id.status == 200
    assert by_name.body == by_id.body == created.body


async def test_created_at_and_the_date_header_are_the_hosts_clock(api: Any, alice: Any, clock: Any) -> None:
    clock.now = 1_800_000_000.7
    created = await api("POST", "/user/repos", token=alice, json={"name": "demo"})
    assert created.body["created_at"] == "2027-01-15T08:00:00Z"
    assert created.headers["Date"] == "Fri, 15 Jan 2027 08:00:00 GMT"


async def test_without_auto_init_there_is_no_branch_and_default_branch_says_main(api: Any, alice: Any) -> None:
    created = await api("POST", "/user/repos", token=alice, json={"name": "demo", "default_branch": "trunk"})
    assert created.body["default_branch"] == "main"
    assert (await api("GET", "/repos/alice/demo/branches", token=alice)).body == []
    missing = await api("GET", "/repos/alice/demo/branches/main", token=alice)
    assert (missing.status, missing.body["message"]) == (404, "Branch not found")


async def test_auto_init_makes_the_default_branch(api: Any, alice: Any) -> None:
    await api("POST", "/user/repos", token=alice, json={"name": "demo", "auto_init": True})
    listed = await api("GET", "/repos/alice/demo/branches", token=alice)
    branch = await api("GET", "/repos/alice/demo/branches/main", token=alice)
    assert [item["name"] for item in listed.body] == ["main"]
    assert branch.body["commit"]["sha"] == listed.body[0]["commit"]["sha"]


async def test_a_branch_with_a_slash_is_found(api: Any, alice: Any, control: SimControl) -> None:
    await control.create_repository("alice", "demo", branches=["main", "release/1.0"])
    for path in ("release/1.0", "release%2F1.0"):
        assert (await api("GET", f"/repos/alice/demo/branches/{path}", token=alice)).body["name"] == "release/1.0"


async def test_a_second_repository_of_a_name_in_any_case_answers_422(api: Any, alice: Any) -> None:
    await api("POST", "/user/repos", token=alice, json={"name": "demo"})
    second = await api("POST", "/user/repos", token=alice, json={"name": "DEMO"})
    assert second.status == 422
    assert second.body == {
        "message": "Repository creation failed.",
        "errors": [NAME_TAKEN],
        "documentation_url": (
            "https://docs.github.com/rest/repos/repos#create-a-repository-for-the-authenticated-user"
        ),
        "status": "422",
    }


@pytest.mark.parametrize(
    ("requested", "made"),
    [("my app", "my-app"), ("Åström", "-str-m"), ("a   b", "a-b"), (".github", ".github"), ("x_y.z-1", "x_y.z-1")],
)
async def test_each_run_of_other_characters_in_a_name_becomes_one_dash(
    api: Any, alice: Any, requested: str, made: str
) -> None:
    created = await api("POST", "/user/repos", token=alice, json={"name": requested})
    assert created.body["name"] == made
    assert (await api("GET", f"/repos/alice/{made}", token=alice)).status == 200


@pytest.mark.parametrize("requested", ["", ".", "..", "demo.git", "x" * 101])
async def test_a_reserved_empty_or_too_long_name_answers_422(api: Any, alice: Any, requested: str) -> None:
    refused = await api("POST", "/user/repos", token=alice, json={"name": requested})
    assert refused.status == 422
    assert refused.body["errors"][0]["field"] == "name"


@pytest.mark.parametrize("description", ["two\nlines", "x" * 351])
async def test_a_description_with_control_characters_or_too_long_answers_422(
    api: Any, alice: Any, description: str
) -> None:
    refused = await api("POST", "/user/repos", token=alice, json={"name": "demo", "description": description})
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, "description")
    assert (await api("GET", "/repos/alice/demo", token=alice)).status == 404


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"{", 400, "Problems parsing JSON"),
        (b"[]", 400, "Body should be a JSON object"),
        (b"{}", 422, 'Invalid request.\n\n"name" wasn\'t supplied.'),
        (
            b'{"name": "a", "private": "yes"}',
            422,
            "Invalid request.\n\nFor 'properties/private', yes is not a boolean.",
        ),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused(
    api: Any, alice: Any, data: bytes, status: int, message: str
) -> None:
    refused = await api("POST", "/user/repos", token=alice, data=data)
    assert (refused.status, refused.body["message"]) == (status, message)


async def test_in_an_organisation_a_member_becomes_administrator_of_what_it_creates(
    api: Any, acme: str, control: SimControl
) -> None:
    bob = await control.create_token("bob")
    created = await api("POST", f"/orgs/{acme}/repos", token=bob, json={"name": "demo", "visibility": "private"})
    assert created.status == 201
    assert created.body["owner"]["type"] == created.body["organization"]["type"] == "Organization"
    assert created.body["permissions"]["admin"] is True


async def test_members_cannot_create_where_the_organisation_forbids_it(
    api: Any, acme: str, control: SimControl
) -> None:
    await control.edit_org(acme, members_can_create_repositories=False)
    bob = await control.create_token("bob")
    refused = await api("POST", f"/orgs/{acme}/repos", token=bob, json={"name": "demo"})
    assert refused.status == 403
    assert refused.body["message"] == "You need admin access to the organization before adding a repository to it."


async def test_a_user_is_not_an_organisation_to_create_in(api: Any, alice: Any) -> None:
    assert (await api("POST", "/orgs/alice/repos", token=alice, json={"name": "demo"})).status == 404


async def test_internal_needs_an_enterprise(api: Any, acme: str, alice: Any, control: SimControl) -> None:
    body = {"name": "demo", "visibility": "internal"}
    refused = await api("POST", f"/orgs/{acme}/repos", token=alice, json=body)
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, "visibility")
    await control.edit_org(acme, enterprise=True)
    created = await api("POST", f"/orgs/{acme}/repos", token=alice, json=body)
    assert (created.body["visibility"], created.body["private"]) == ("internal", True)


async def test_a_created_repository_becomes_visible_to_gets_after_the_delay(
    api: Any, alice: Any, control: SimControl, clock: Any
) -> None:
    await control.set_switches(visibility_delay=10)
    created = await api("POST", "/user/repos", token=alice, json={"name": "demo"})
    by_id = f"/repositories/{created.body['id']}"
    assert (await api("GET", "/repos/alice/demo", token=alice)).status == 404
    assert (await api("GET", by_id, token=alice)).status == 404
    assert (await api("GET", "/user/repos", token=alice)).body == []
    assert (await api("POST", "/user/repos", token=alice, json={"name": "demo"})).status == 422
    clock.advance(10)
    assert (await api("GET", "/repos/alice/demo", token=alice)).status == 200
    assert (await api("GET", by_id, token=alice)).status == 200
