"""What ``PackagesHost`` promises, held against each implementation (git_hosts.py)."""

from __future__ import annotations

import pytest
from git_hosts import ME, ORG, PRINCIPAL, Host, Simulator, needs

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.protocol import GitBackend, HostPackage, HostTarget, PackageVersion
from codecommon.process.secrets import SecretValue


async def listed(backend: GitBackend, package_type: str, owner: str = ME) -> list[HostPackage]:
    return [row async for page in backend.list_packages(owner, package_type) for row in page]


async def versions_of(backend: GitBackend, package: HostPackage) -> list[PackageVersion]:
    return [version async for page in backend.list_versions(package) for version in page]


async def test_a_type_has_a_list_of_its_own_and_a_row_names_the_repository_by_its_id(host: Host) -> None:
    publish, repository = needs(host.publish), await host.create()
    await publish("container", "site", ("v1",), repository=repository)
    await publish("npm", "site", (), repository=repository)
    await publish("container", "alone", ("v1",))
    assert {"container", "npm", "maven", "rubygems", "nuget", "docker"} == set(host.backend.package_types)
    rows = {row.name: row for row in await listed(host.backend, "container")}
    assert (rows["site"].type, rows["site"].repository_id) == ("container", repository.id)
    assert rows["alone"].repository_id is None
    (npm,) = await listed(host.backend, "npm")
    assert (npm.type, npm.repository_id, npm.image_repository) == ("npm", repository.id, None)
    assert await listed(host.backend, "maven") == []


async def test_a_row_changes_with_a_new_version_and_its_image_is_named_in_lower_case(host: Host) -> None:
    publish, repository = needs(host.publish), await host.create()
    await publish("container", "Team/Site", ("v1",), repository=repository)
    (before,) = await listed(host.backend, "container")
    assert before.image_repository is not None
    assert before.image_repository.endswith(f"/{ME}/team/site")
    assert before.name == "Team/Site"
    await publish("container", "Team/Site", ("v2",))
    (after,) = await listed(host.backend, "container")
    assert (after.updated_at, after.version_count) != (before.updated_at, before.version_count)


async def test_versions_come_newest_first_with_their_tags_whatever_the_name(host: Host) -> None:
    publish = needs(host.publish)
    for name in ("plain", "with/slashes/in-it", "Capitals.And_more", "n" * 200):
        await publish("container", name, ("v1",), (), ("v2", "latest"))
    for row in await listed(host.backend, "container"):
        assert [set(v.tags) for v in await versions_of(host.backend, row)] == [{"v2", "latest"}, set(), {"v1"}]
        assert await host.backend.get_package(ME, row.type, row.name) == row


async def test_a_package_that_is_not_there_is_none_and_has_no_versions(host: Host) -> None:
    publish = needs(host.publish)
    await publish("container", "site", ("v1",))
    (row,) = await listed(host.backend, "container")
    assert await host.backend.get_package(ME, "npm", "site") is None
    assert await host.backend.get_package(ME, "container", "..") is None
    gone = HostPackage(row.owner, row.type, "gone", "", "", "", 0, None, None)
    assert await versions_of(host.backend, gone) == []


async def test_an_owner_that_is_not_shown_is_refused(host: Host) -> None:
    with pytest.raises(Terminal) as refused:
        await listed(host.backend, "container", "nobody-of-this-name")
    assert refused.value.reason == "NotFoundOrNoAccess"


@pytest.mark.parametrize("links", [True, False])
async def test_pages_are_read_while_a_page_is_full(simulator: Simulator, links: bool) -> None:
    await simulator.control.set_switches(package_links=links)
    await simulator.control.publish_many(ORG, 500, prefix="image")
    session = await simulator.session(scopes=["repo", "read:packages"])
    pages = [len(page) async for page in session.list_packages(ORG, "container")]
    assert sum(pages) == 500
    assert pages[:5] == [100] * 5


async def test_a_page_that_fails_ends_the_list_with_an_error(simulator: Simulator) -> None:
    await simulator.control.publish_many(ORG, 250)
    await simulator.control.add_fault(
        "status", path=f"/orgs/{ORG}/packages", query={"page": "3"}, status=502, count=None
    )
    session, seen = await simulator.session(scopes=["repo", "read:packages"]), 0
    pages = session.list_packages(ORG, "container")
    for _ in range(2):
        seen += len(await anext(pages))
    with pytest.raises(Retryable):
        await anext(pages)
    assert seen == 200


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ({"scopes": ["repo"]}, "MissingPermission"),
        ({"kind": "fine-grained"}, "PackagesUnsupportedByToken"),
    ],
)
async def test_a_credential_that_packages_are_not_shown_to_is_refused_for_good(
    simulator: Simulator, token: dict[str, object], reason: str
) -> None:
    session = await simulator.session(**token)
    with pytest.raises(Terminal) as refused:
        await listed(session, "container")
    assert refused.value.reason == reason
    assert "read:packages" in refused.value.message


@pytest.mark.parametrize(
    ("base_url", "registry"),
    [
        ("", "ghcr.io"),
        ("https://acme.ghe.com", "containers.acme.ghe.com"),
        ("https://ghe.example", "containers.ghe.example"),
    ],
)
async def test_images_are_pulled_from_the_registry_of_the_host(
    simulator: Simulator, base_url: str, registry: str
) -> None:
    from codecommon.githost.github.backend import GithubBackend

    target = HostTarget(base_url, TokenSecret(SecretValue("ghp_" + "a" * 36)), None, PRINCIPAL)
    backend = GithubProvider(["ghe.example"]).open(target, simulator.transport)
    assert isinstance(backend, GithubBackend)
    assert backend.registry == registry
