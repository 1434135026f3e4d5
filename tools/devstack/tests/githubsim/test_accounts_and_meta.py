"""Users, organisations, lists, and the API about itself."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from devstack.githubsim import GithubSim, SimControl
from devstack.githubsim.control import ControlRefused


async def test_the_authenticated_user_with_and_without_a_profile_scope(
    api: Any, alice: Any, control: SimControl
) -> None:
    own = await api("GET", "/user", token=alice)
    assert (own.body["login"], own.body["type"], own.body["name"]) == ("alice", "User", "Alice")
    assert own.body["total_private_repos"] == 0
    narrow = await control.create_token("alice", scopes=["repo"])
    assert "total_private_repos" not in (await api("GET", "/user", token=narrow)).body


async def test_users_and_organisations_are_told_apart_by_type(api: Any, acme: str, alice: Any) -> None:
    assert (await api("GET", "/users/ALICE", token=alice)).body["type"] == "User"
    assert (await api("GET", "/users/acme", token=alice)).body["type"] == "Organization"
    assert (await api("GET", "/users/nobody", token=alice)).status == 404
    assert (await api("GET", "/orgs/acme", token=alice)).body["login"] == "acme"
    assert (await api("GET", "/orgs/alice", token=alice)).status == 404


async def test_ids_do_not_change_with_the_account_that_asks(api: Any, acme: str, alice: Any) -> None:
    org = (await api("GET", "/orgs/acme", token=alice)).body
    assert (await api("GET", "/users/acme")).body["id"] == org["id"]
    assert org["node_id"].startswith("O_kgDO")


async def test_a_user_who_takes_another_login_keeps_id_and_token_and_the_old_one_is_free(
    api: Any, control: SimControl, alice: Any
) -> None:
    before = (await api("GET", "/users/alice", token=alice)).body["id"]
    await control.rename_user("alice", "alicia")
    assert (await api("GET", "/user", token=alice)).body["login"] == "alicia"
    assert (await api("GET", "/users/Alicia", token=alice)).body["id"] == before
    assert (await api("GET", "/users/alice", token=alice)).status == 404
    assert await control.create_user("alice") != before
    with pytest.raises(ControlRefused, match="alice is taken"):
        await control.rename_user("alicia", "alice")


async def test_an_organisation_that_takes_another_login_keeps_id_and_repositories(
    api: Any, acme: str, control: SimControl, alice: Any
) -> None:
    before = (await api("GET", "/users/acme")).body["id"]
    made = (await api("POST", "/orgs/acme/repos", token=alice, json={"name": "site"})).body
    await control.rename_org("acme", "acme-inc")
    assert (await api("GET", "/users/acme-inc")).body["id"] == before
    assert (await api("GET", "/users/acme")).status == 404
    assert (await api("GET", "/repos/acme-inc/site", token=alice)).body["id"] == made["id"]


async def test_lists_come_in_pages_with_links(sim: GithubSim, api: Any, acme: str, alice: Any) -> None:
    for number in range(5):
        await api("POST", "/orgs/acme/repos", token=alice, json={"name": f"r{number}"})
    first = await api("GET", "/orgs/acme/repos?per_page=2&sort=full_name", token=alice)
    assert [item["name"] for item in first.body] == ["r0", "r1"]
    base = f"<{sim.url}/orgs/acme/repos?per_page=2&sort=full_name"
    assert first.headers["Link"] == f'{base}&page=2>; rel="next", {base}&page=3>; rel="last"'
    last = await api("GET", "/orgs/acme/repos?per_page=2&sort=full_name&page=3", token=alice)
    assert [item["name"] for item in last.body] == ["r4"]
    assert last.headers["Link"] == f'{base}&page=2>; rel="prev", {base}&page=1>; rel="first"'
    assert "Link" not in (await api("GET", "/orgs/acme/repos", token=alice)).headers


async def test_a_users_list_holds_what_it_owns_and_what_it_reaches_through_organisations(
    api: Any, acme: str, alice: Any, control: SimControl
) -> None:
    await control.create_user("carol")
    await control.create_repository("alice", "mine")
    await control.create_repository(acme, "ours", visibility="public")
    await control.create_repository("carol", "shared", grants={"alice": "write"})
    await control.create_repository("carol", "foreign", visibility="public")

    async def names(query: str) -> list[str]:
        return [item["full_name"] for item in (await api("GET", f"/user/repos{query}", token=alice)).body]

    assert await names("") == ["acme/ours", "alice/mine", "carol/shared"]
    assert await names("?affiliation=owner") == ["alice/mine"]
    assert await names("?affiliation=collaborator,owner") == ["alice/mine", "carol/shared"]
    assert await names("?visibility=public") == ["acme/ours"]
    assert await names("?type=private&direction=desc") == ["carol/shared", "alice/mine"]
    assert (await api("GET", "/user/repos?type=all&visibility=all", token=alice)).status == 422


async def test_the_rate_limit_is_told_without_using_it(api: Any, alice: Any) -> None:
    for _ in range(3):
        reply = await api("GET", "/rate_limit", token=alice)
    assert reply.body["resources"]["core"]["used"] == reply.body["rate"]["used"] == 0
    await api("GET", "/user", token=alice)
    assert (await api("GET", "/rate_limit", token=alice)).body["resources"]["core"]["used"] == 1


async def test_where_rate_limiting_is_not_enabled_there_are_no_figures(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.set_switches(primary_quota=None)
    reply = await api("GET", "/rate_limit", token=alice)
    assert (reply.status, reply.body["message"]) == (404, "Rate limiting is not enabled.")
    assert not [name for name in reply.headers if name.lower().startswith("x-ratelimit")]


@pytest.mark.parametrize("enterprise", [False, True])
async def test_absolute_urls_use_the_base_that_was_addressed(
    sim: GithubSim, api: Any, alice: Any, control: SimControl, enterprise: bool
) -> None:
    base = sim.url + ("/api/v3" if enterprise else "")
    repository = await control.create_repository("alice", "demo")
    reply = await api("GET", f"/repositories/{repository.id}", token=alice, enterprise=enterprise)
    assert reply.body["url"] == f"{base}/repos/alice/demo"
    assert reply.body["owner"]["url"] == f"{base}/users/alice"
    assert reply.body["html_url"] == f"{sim.url}/alice/demo"
    assert reply.body["clone_url"] == f"{sim.url}/alice/demo.git"
    assert reply.body["ssh_url"] == "git@127.0.0.1:alice/demo.git"
    assert ("X-GitHub-Enterprise-Version" in reply.headers) is enterprise
    root = await api("GET", "/", enterprise=enterprise)
    assert root.body["repository_url"] == f"{base}/repos/{{owner}}/{{repo}}"
    missing = await api("GET", "/repos/alice/nope", token=alice, enterprise=enterprise)
    edition = "enterprise-server@3.19/" if enterprise else ""
    assert missing.body["documentation_url"] == (f"https://docs.github.com/{edition}rest/repos/repos#get-a-repository")


async def test_only_an_enterprise_server_tells_its_version(
    sim: GithubSim, api: Any, session: aiohttp.ClientSession
) -> None:
    assert "installed_version" not in (await api("GET", "/meta")).body
    # Not through `api`: the description of the public host does not know the field.
    async with session.get(f"{sim.url}/api/v3/meta") as response:
        assert (await response.json())["installed_version"] == response.headers["X-GitHub-Enterprise-Version"]


async def test_a_path_that_is_not_served_is_404(api: Any, alice: Any) -> None:
    reply = await api("GET", "/nowhere", token=alice)
    assert (reply.status, reply.body["documentation_url"]) == (404, "https://docs.github.com/rest")


async def test_an_unknown_api_version_is_refused(api: Any, alice: Any) -> None:
    reply = await api("GET", "/user", token=alice, version="1999-01-01")
    assert reply.status == 400
    assert '"1999-01-01", is not a supported version' in reply.body["message"]


async def test_the_selected_version_is_said_and_takes_fields_away(api: Any, alice: Any, control: SimControl) -> None:
    await control.create_repository("alice", "demo")
    old = await api("GET", "/repos/alice/demo", token=alice)
    new = await api("GET", "/repos/alice/demo", token=alice, version="2026-03-10")
    assert old.headers["X-GitHub-Api-Version-Selected"] == "2022-11-28"
    assert new.headers["X-GitHub-Api-Version-Selected"] == "2026-03-10"
    assert set(old.body) - set(new.body) == {"has_downloads", "use_squash_pr_title_as_default"}
    assert (await api("GET", "/rate_limit", token=alice, version="2026-03-10")).body.keys() == {"resources"}
    assert "hub_url" not in (await api("GET", "/", token=alice, version="2026-03-10")).body
