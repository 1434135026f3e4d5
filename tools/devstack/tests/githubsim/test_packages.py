"""Packages and their versions: what is listed, in which form, and how a person changes it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from devstack.githubsim import SimControl
from devstack.githubsim.control import ControlRefused
from devstack.githubsim.records import PACKAGE_TYPES

DIGEST = f"sha256:{'a' * 64}"
OTHER_DIGEST = f"sha256:{'b' * 64}"
CONTAINERS = "/orgs/acme/packages?package_type=container"
VERSIONS = "/orgs/acme/packages/container/web/versions"


@pytest.fixture
async def reader(control: SimControl, acme: str) -> Any:
    """A classic token of alice, who owns acme, that may read packages."""
    return await control.create_token("alice", scopes=["read:packages", "repo"])


@pytest.fixture
async def web(control: SimControl, acme: str) -> int:
    """acme's container package `web`, linked to its repository `shop`. The repository's id."""
    repository = await control.create_repository(acme, "shop")
    await control.publish_package(acme, "container", "web", repository="shop")
    return repository.id


def names(reply: Any) -> list[str]:
    return [row["name"] for row in reply.body]


@pytest.mark.parametrize("package_type", PACKAGE_TYPES)
async def test_a_package_of_each_type_is_listed_under_its_type_alone(
    api: Any, reader: Any, acme: str, control: SimControl, package_type: Any
) -> None:
    await control.create_repository(acme, "shop")
    for each in PACKAGE_TYPES:
        await control.publish_package(acme, each, "web", repository="shop")
    made = await control.publish_version(acme, package_type, "web")
    listed = await api("GET", f"/orgs/acme/packages?package_type={package_type}", token=reader)
    assert [(row["name"], row["package_type"], row["version_count"]) for row in listed.body] == [
        ("web", package_type, 1)
    ]
    (version,) = (await api("GET", f"/orgs/acme/packages/{package_type}/web/versions", token=reader)).body
    assert (version["name"], version["metadata"]["package_type"]) == (made.name, package_type)


async def test_a_row_tells_of_owner_and_repository(api: Any, reader: Any, web: int) -> None:
    (row,) = (await api("GET", CONTAINERS, token=reader)).body
    assert (row["owner"]["login"], row["visibility"], row["version_count"]) == ("acme", "private", 0)
    repository = row["repository"]
    assert (repository["id"], repository["name"], repository["full_name"]) == (web, "shop", "acme/shop")
    assert row["html_url"].endswith("/orgs/acme/packages/container/package/web")
    assert row["url"].endswith("/orgs/acme/packages/container/web")
    assert (await api("GET", "/orgs/acme/packages/container/web", token=reader)).body == row


async def test_a_package_without_a_repository_has_no_such_property(
    api: Any, reader: Any, acme: str, control: SimControl
) -> None:
    await control.publish_package(acme, "npm", "lib")
    (row,) = (await api("GET", "/orgs/acme/packages?package_type=npm", token=reader)).body
    assert "repository" not in row


async def test_a_container_version_has_digest_and_tags(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    await control.publish_version(acme, "container", "web", DIGEST, tags=["1.0", "latest"])
    await control.publish_version(acme, "container", "web", OTHER_DIGEST)
    newest, first = (await api("GET", VERSIONS, token=reader)).body
    assert (newest["name"], newest["metadata"]["container"]) == (OTHER_DIGEST, {"tags": []})
    assert first["metadata"] == {"package_type": "container", "container": {"tags": ["1.0", "latest"]}}
    assert first["package_html_url"].endswith("/orgs/acme/packages/container/package/web")
    one = await api("GET", f"{VERSIONS}/{first['id']}", token=reader)
    assert one.body == first
    assert (await api("GET", f"{VERSIONS}/1", token=reader)).status == 404


async def test_an_enterprise_server_leads_to_its_own_addresses(
    api: Any, reader: Any, acme: str, control: SimControl
) -> None:
    await control.publish_many(acme, 1, versions=2, prefix="shop/web")
    listed = await api("GET", CONTAINERS, token=reader, enterprise=True)
    one = "/api/v3/orgs/acme/packages/container/shop%2Fweb-00000"
    assert listed.body[0]["url"].endswith(one)
    path = f"{one.removeprefix('/api/v3')}/versions?per_page=1"
    versions = await api("GET", path, token=reader, enterprise=True)
    assert f"{one}/versions?per_page=1&page=2>; " in versions.headers["Link"]


async def test_a_tag_moves_to_the_digest_that_it_is_published_with(
    api: Any, reader: Any, web: int, acme: str, control: SimControl, clock: Any
) -> None:
    await control.publish_version(acme, "container", "web", DIGEST, tags=["1.0", "latest"])
    before = (await api("GET", CONTAINERS, token=reader)).body[0]["updated_at"]
    clock.advance(60)
    await control.publish_version(acme, "container", "web", OTHER_DIGEST, tags=["latest"])
    rows = (await api("GET", VERSIONS, token=reader)).body
    assert [row["metadata"]["container"]["tags"] for row in rows] == [["latest"], ["1.0"]]
    between = (await api("GET", CONTAINERS, token=reader)).body[0]["updated_at"]
    assert between > before
    clock.advance(60)
    await control.publish_version(acme, "container", "web", DIGEST, tags=["latest"])
    assert (await api("GET", CONTAINERS, token=reader)).body[0]["updated_at"] > between
    rows = (await api("GET", VERSIONS, token=reader)).body
    assert [(row["name"], row["metadata"]["container"]["tags"]) for row in rows] == [
        (OTHER_DIGEST, []),
        (DIGEST, ["1.0", "latest"]),
    ]


async def test_a_deleted_version_is_listed_only_among_the_deleted(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    await control.publish_version(acme, "container", "web", DIGEST)
    await control.publish_version(acme, "container", "web", OTHER_DIGEST)
    await control.delete_version(acme, "container", "web", DIGEST)
    assert names(await api("GET", VERSIONS, token=reader)) == [OTHER_DIGEST]
    (deleted,) = (await api("GET", f"{VERSIONS}?state=deleted", token=reader)).body
    assert (deleted["name"], "deleted_at" in deleted) == (DIGEST, True)
    assert (await api("GET", CONTAINERS, token=reader)).body[0]["version_count"] == 1


async def test_a_deleted_package_is_gone(api: Any, reader: Any, web: int, acme: str, control: SimControl) -> None:
    await control.delete_package(acme, "container", "web")
    assert (await api("GET", CONTAINERS, token=reader)).body == []
    gone = await api("GET", VERSIONS, token=reader)
    assert (gone.status, gone.body["message"]) == (404, "Package not found.")


@pytest.mark.parametrize("name", ["shop/web/api", "Com.Example.Shop", "@acme/ui", "x" * 200, "a b%2F+c"])
async def test_any_name_is_found_percent_encoded(
    api: Any, reader: Any, acme: str, control: SimControl, name: str
) -> None:
    await control.publish_package(acme, "npm", name)
    for number in range(3):
        await control.publish_version(acme, "npm", name, f"1.0.{number}")
    one = f"/orgs/acme/packages/npm/{quote(name, safe='')}"
    found = await api("GET", one, token=reader)
    assert (found.status, found.body["name"]) == (200, name)
    assert found.body["url"].endswith(one)
    first = await api("GET", f"{one}/versions?per_page=2", token=reader)
    following = first.headers["Link"].partition(">")[0].partition("/orgs")
    assert names(await api("GET", "".join(following[1:]), token=reader)) == ["1.0.0"]
    await control.delete_package(acme, "npm", name)
    assert (await api("GET", one, token=reader)).status == 404


async def test_packages_come_in_pages_of_at_most_a_hundred(
    api: Any, reader: Any, acme: str, control: SimControl
) -> None:
    await control.publish_many(acme, 201)
    seen: list[str] = []
    for number, length in ((1, 100), (2, 100), (3, 1)):
        listed = await api("GET", f"{CONTAINERS}&per_page=200&page={number}", token=reader)
        assert len(listed.body) == length
        assert ('rel="next"' in listed.headers["Link"]) == (number < 3)
        seen += names(listed)
    assert len(set(seen)) == 201
    assert len((await api("GET", CONTAINERS, token=reader)).body) == 30
    assert (await api("GET", f"{CONTAINERS}&per_page=100&page=4", token=reader)).body == []
    assert (await api("GET", f"{CONTAINERS}&per_page=100&page=101", token=reader)).status == 400


async def test_versions_come_in_pages_the_newest_first(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    made = [(await control.publish_version(acme, "container", "web")).name for _ in range(101)]
    first = await api("GET", f"{VERSIONS}?per_page=100", token=reader)
    second = await api("GET", f"{VERSIONS}?per_page=100&page=2", token=reader)
    assert names(first) + names(second) == made[::-1]


async def test_an_unchanged_list_answers_304_for_nothing(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    await control.publish_version(acme, "container", "web", DIGEST, tags=["1.0"])
    for path in (CONTAINERS, VERSIONS):
        first = await api("GET", path, token=reader)
        condition = {"If-None-Match": first.headers["ETag"]}
        again = await api("GET", path, token=reader, headers=condition)
        assert (again.status, again.body) == (304, None)
        assert again.headers["X-RateLimit-Used"] == first.headers["X-RateLimit-Used"]
        await control.publish_version(acme, "container", "web")
        assert (await api("GET", path, token=reader, headers=condition)).status == 200


async def test_lists_may_come_without_a_link(api: Any, reader: Any, acme: str, control: SimControl) -> None:
    await control.publish_many(acme, 2, versions=2)
    await control.set_switches(package_links=False)
    listed = await api("GET", f"{CONTAINERS}&per_page=1", token=reader)
    versions = await api("GET", "/orgs/acme/packages/container/package-00000/versions?per_page=1", token=reader)
    assert (len(listed.body), "Link" in listed.headers) == (1, False)
    assert (len(versions.body), "Link" in versions.headers) == (1, False)


async def test_a_container_may_state_a_wrong_number_of_versions(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    await control.publish_version(acme, "container", "web")
    await control.publish_package(acme, "npm", "lib")
    await control.publish_version(acme, "npm", "lib")
    await control.set_switches(container_version_count=0)
    assert (await api("GET", CONTAINERS, token=reader)).body[0]["version_count"] == 0
    assert (await api("GET", "/orgs/acme/packages?package_type=npm", token=reader)).body[0]["version_count"] == 1
    assert len((await api("GET", VERSIONS, token=reader)).body) == 1


async def test_a_fault_may_hit_one_page(api: Any, reader: Any, acme: str, control: SimControl) -> None:
    await control.publish_many(acme, 5)
    await control.add_fault("status", path="/orgs/acme/packages", query={"page": "3"}, status=503)
    statuses = [
        (await api("GET", f"{CONTAINERS}&per_page=1&page={number}", token=reader)).status for number in (1, 2, 3, 4, 3)
    ]
    assert statuses == [200, 200, 503, 200, 200]
    await control.add_fault("status", path="/orgs/acme/packages", query={"page": "|1"})
    assert (await api("GET", CONTAINERS, token=reader)).status == 500


async def test_an_image_is_published_with_what_belongs_to_it(api: Any, reader: Any, control: SimControl) -> None:
    image = await control.publish_image("acme", "web", tags=["1.0", "latest"])
    rows = (await api("GET", VERSIONS, token=reader)).body
    tag = image.digest.replace(":", "-")
    assert [row["metadata"]["container"]["tags"] for row in rows] == [
        [tag],
        [f"{tag}.sbom"],
        [f"{tag}.att"],
        [f"{tag}.sig"],
        ["1.0", "latest"],
        [],
        [],
    ]
    again = await control.publish_image("acme", "web", tags=["latest"], platforms=0)
    versions = {version.name: version.tags for version in await control.versions("acme", "container", "web")}
    assert (versions[image.digest], versions[again.digest]) == (["1.0"], ["latest"])


async def test_very_many_are_made_in_one_call(api: Any, reader: Any, acme: str, control: SimControl) -> None:
    for name in ("shop", "blog"):
        await control.create_repository(acme, name)
    assert await control.publish_many(acme, 5000, repositories=["shop", "blog"]) == 5000
    await control.publish_many(acme, 1, versions=10_000, tags=500, prefix="big")
    last = await api("GET", f"{CONTAINERS}&per_page=100&page=50", token=reader)
    assert [row["repository"]["name"] for row in last.body[-2:]] == ["shop", "blog"]
    versions = await api("GET", "/orgs/acme/packages/container/big-00000/versions?per_page=100", token=reader)
    assert len(versions.body[0]["metadata"]["container"]["tags"]) == 500
    assert 'page=100>; rel="last"' in versions.headers["Link"]


async def test_a_renamed_repository_keeps_its_packages_under_the_same_id(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    await control.edit_repository(acme, "shop", name="store")
    repository = (await api("GET", CONTAINERS, token=reader)).body[0]["repository"]
    assert (repository["id"], repository["full_name"]) == (web, "acme/store")


async def test_a_transfer_leaves_granular_packages_with_the_account_and_takes_the_others_along(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    await control.publish_package(acme, "maven", "com.example", repository="shop")
    await control.edit_repository(acme, "shop", owner="alice")
    (row,) = (await api("GET", CONTAINERS, token=reader)).body
    assert (row["name"], row["owner"]["login"], "repository" in row) == ("web", "acme", False)
    assert (await api("GET", "/orgs/acme/packages?package_type=maven", token=reader)).body == []
    (moved,) = (await api("GET", "/user/packages?package_type=maven", token=reader)).body
    assert (moved["owner"]["login"], moved["repository"]["full_name"]) == ("alice", "alice/shop")


async def test_a_transfer_onto_a_package_of_the_same_name_is_refused(web: int, acme: str, control: SimControl) -> None:
    await control.create_repository("alice", "own")
    for owner, repository in ((acme, "shop"), ("alice", "own")):
        await control.publish_package(owner, "maven", "com.example", repository=repository)
    with pytest.raises(ControlRefused):
        await control.edit_repository(acme, "shop", owner="alice")
    assert (await control.get_repository(acme, "shop")).id == web


async def test_a_deleted_repository_leaves_granular_packages_without_one(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    await control.publish_package(acme, "maven", "com.example", repository="shop")
    await control.delete_repository(acme, "shop")
    (row,) = (await api("GET", CONTAINERS, token=reader)).body
    assert "repository" not in row
    assert [package.name for package in await control.packages(acme)] == ["web"]


async def test_a_package_moves_to_another_repository(
    api: Any, reader: Any, web: int, acme: str, control: SimControl
) -> None:
    other = await control.create_repository(acme, "blog")
    moved = await control.edit_package(acme, "container", "web", repository="blog")
    assert moved.repository == "acme/blog"
    assert (await api("GET", CONTAINERS, token=reader)).body[0]["repository"]["id"] == other.id
    assert (await control.edit_package(acme, "container", "web", repository=None)).repository is None


async def test_the_control_api_refuses_what_makes_no_sense(web: int, acme: str, control: SimControl) -> None:
    for attempt, said in (
        (control.publish_package(acme, "container", "WEB"), "WEB is taken"),
        (control.publish_package(acme, "maven", "lib"), "needs a repository"),
        (control.publish_package(acme, "cargo", "lib"), "no such type of package: cargo"),  # pyright: ignore[reportArgumentType]
        (control.publish_package(acme, "npm", "lib", repository="nowhere"), "no such repository: acme/nowhere"),
        (control.publish_version(acme, "container", "nothing"), "no such package: acme/container/nothing"),
        (control.publish_version(acme, "container", "web", "1.0"), "not a digest: 1.0"),
        (control.delete_version(acme, "container", "web", DIGEST), f"no such version: {DIGEST}"),
    ):
        with pytest.raises(ControlRefused, match=said):
            await attempt
