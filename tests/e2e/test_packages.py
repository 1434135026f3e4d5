"""Packages: published on the host, mirrored into objects, and gone with what they belong to."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from devstack.processes import Process
from devstack.resources import Manifest, condition, is_ready
from devstack.scenario import Account, Scenario, has, repository, secret, unique
from devstack.tenant import Tenant
from devstack.tenants import TenantPool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SCOPES = ["repo", "delete_repo", "user", "read:packages"]
LABEL = "code.kedge.faros.sh/repository"


async def an_account(scenario: Scenario, scopes: list[str] | None = None) -> Account:
    login = unique("publisher")
    await scenario.control.create_user(login)
    return Account(login, await scenario.control.create_token(login, scopes=scopes or SCOPES))


async def a_repository(scenario: Scenario, tenant: Tenant, account: Account, *names: str) -> None:
    await scenario.connect(tenant, account)
    for name in names:
        await tenant.apply(repository(name, "acme"))
    for name in names:
        await tenant.wait_for("repositories", name, is_ready)


async def packages(tenant: Tenant) -> dict[tuple[str, str, str], Manifest]:
    """By Repository, type and name of the package; of those that have a status."""
    found: dict[tuple[str, str, str], Manifest] = {}
    for raw in await tenant.list("packages"):
        status = raw.get("status") or {}
        if "packageName" in status:
            found[raw["spec"]["repositoryRef"], status["type"], status["packageName"]] = raw
    return found


async def wait_for(
    scenario: Scenario, tenant: Tenant, wanted: set[tuple[str, str, str]], timeout: float = 30
) -> dict[tuple[str, str, str], Manifest]:
    async def keys() -> set[tuple[str, str, str]]:
        return set(await packages(tenant))

    await scenario.wait_until(keys, wanted, timeout=timeout, what="the Packages")
    return await packages(tenant)


def tags_of(raw: Manifest) -> list[list[str]]:
    return [version["tags"] for version in (raw.get("status") or {}).get("versions") or []]


def named(package: tuple[str, str, str], found: dict[tuple[str, str, str], Manifest]) -> str:
    return str(found[package]["metadata"]["name"])


async def test_a_package_from_its_first_version_to_its_end(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await an_account(scenario)
    await a_repository(scenario, tenant, account, "site")
    control, login = scenario.control, account.login
    await control.set_switches(container_version_count=0)
    try:
        first = await control.publish_image(login, "site", tags=["v1", "latest"], repository="site")
        site = ("site", "container", "site")
        found = await wait_for(scenario, tenant, {site})
        name = named(site, found)
        shown = found[site]
        assert shown["metadata"]["labels"][LABEL] == "site"
        assert shown["status"]["imageRepository"] == f"containers.{scenario.authority}/{login}/site".lower()
        assert shown["status"]["versions"][0]["digest"] == first.index.name
        assert [set(tags) for tags in tags_of(shown)] == [{"v1", "latest"}]
        assert shown["status"]["versionCount"] == 7, "signatures and manifests of platforms are counted"
        assert condition(shown, "Ready")["status"] == "True"
        await tenant.wait_for("repositories", "site", has("PackagesAvailable", "True", "PackagesMirrored"))

        second = await control.publish_image(login, "site", tags=["v2", "latest"])

        def newest(digest: str, tags: set[str]) -> Any:
            def predicate(raw: Manifest | None) -> bool:
                versions = (raw or {}).get("status", {}).get("versions") or [{}]
                return versions[0].get("digest") == digest and set(versions[0].get("tags") or ()) == tags

            return predicate

        await tenant.wait_for("packages", name, newest(second.index.name, {"v2", "latest"}))
        await control.publish_version(login, "container", "site", second.index.name, tags=["v1"])
        moved = await tenant.wait_for("packages", name, newest(second.index.name, {"v1", "v2", "latest"}))
        assert len(tags_of(moved)) == 1

        await control.delete_package(login, "container", "site")
        await wait_for(scenario, tenant, set())
    finally:
        await control.set_switches(container_version_count=None)


async def test_repositories_types_and_odd_names_are_kept_apart_and_a_rename_loses_none(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await an_account(scenario)
    await a_repository(scenario, tenant, account, "site", "shop")
    control, login = scenario.control, account.login
    odd = ["with/slashes", "Capitals.And_more", "n" * 200]
    for name in odd:
        await control.publish_package(login, "container", name, repository="site")
        await control.publish_version(login, "container", name, tags=["v1"])
    for package_type, of in (("npm", "site"), ("maven", "shop")):
        await control.publish_package(login, package_type, "same", repository=of)
        await control.publish_version(login, package_type, "same")
    await control.publish_package(login, "container", "unlinked")
    wanted = {("site", "container", name) for name in odd} | {("site", "npm", "same"), ("shop", "maven", "same")}
    before = await wait_for(scenario, tenant, wanted)
    uids = {key: raw["metadata"]["uid"] for key, raw in before.items()}

    await control.edit_repository(login, "site", name="renamed")
    await control.publish_package(login, "npm", "later", repository="renamed")
    after = await wait_for(scenario, tenant, {*wanted, ("site", "npm", "later")})
    assert {key: after[key]["metadata"]["uid"] for key in wanted} == uids


async def test_with_a_repository_its_packages_are_collected(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await an_account(scenario)
    await a_repository(scenario, tenant, account, "site", "shop")
    for of in ("site", "shop"):
        await scenario.control.publish_package(account.login, "npm", f"of-{of}", repository=of)
    await wait_for(scenario, tenant, {("site", "npm", "of-site"), ("shop", "npm", "of-shop")})
    await tenant.delete("repositories", "site")
    await wait_for(scenario, tenant, {("shop", "npm", "of-shop")}, 60)


async def test_every_page_is_read_without_link_and_a_page_that_fails_keeps_what_was_there(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await an_account(scenario)
    await a_repository(scenario, tenant, account, "site")
    control, login = scenario.control, account.login
    await control.set_switches(package_links=False)
    try:
        await control.publish_many(login, 460, package_type="npm")
        await control.publish_package(login, "npm", "last", repository="site")
        last = ("site", "npm", "last")
        found = await wait_for(scenario, tenant, {last})

        path = f"/users/{login}/packages"
        fault = {"path": path, "query": {"page": "3", "package_type": "npm"}, "status": 502, "count": None}
        await control.add_fault("status", **fault)
        await control.publish_package(login, "npm", "later", repository="site")
        stale = await tenant.wait_for("packages", named(last, found), has("Stale", "True", "ListingIncomplete"), 60)
        assert condition(stale, "Ready")["status"] == "Unknown"
        assert "as of 20" in condition(stale, "Stale")["message"]
        assert set(await packages(tenant)) == {last}

        await control.clear_faults()
        await wait_for(scenario, tenant, {last, ("site", "npm", "later")}, 60)
        await tenant.wait_for("packages", named(last, found), has("Ready", "True"))
    finally:
        await control.clear_faults()
        await control.set_switches(package_links=True)


async def test_without_the_scope_nothing_is_asked_and_with_it_packages_appear(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await an_account(scenario, ["repo", "delete_repo", "user"])
    await a_repository(scenario, tenant, account, "site")
    await scenario.control.publish_package(account.login, "npm", "lib", repository="site")
    told = await tenant.wait_for("repositories", "site", has("PackagesAvailable", "False", "MissingPermission"))
    assert "read:packages" in condition(told, "PackagesAvailable")["message"]
    assert condition(told, "Ready")["status"] == "True"
    asked = [e for e in await scenario.requests_of(account.login) if "/packages" in e.path]
    assert asked == []

    token = await scenario.control.create_token(account.login, scopes=SCOPES)
    await tenant.apply(secret("acme-token", token.value))
    await wait_for(scenario, tenant, {("site", "npm", "lib")})
    await tenant.wait_for("repositories", "site", has("PackagesAvailable", "True", "PackagesMirrored"))


async def test_a_fine_grained_token_is_told_which_one_to_use(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    login = unique("publisher")
    await scenario.control.create_user(login)
    account = Account(login, await scenario.control.create_token(login, kind="fine-grained"))
    await a_repository(scenario, tenant, account, "site")
    told = await tenant.wait_for(
        "repositories", "site", has("PackagesAvailable", "False", "PackagesUnsupportedByToken")
    )
    assert "classic" in condition(told, "PackagesAvailable")["message"]
    assert [e for e in await scenario.requests_of(login) if "/packages" in e.path] == []


@pytest_asyncio.fixture
async def another_tenant(tenants: TenantPool) -> AsyncIterator[Tenant]:
    taken = await tenants.take()
    yield taken
    await tenants.give_back(taken)


async def test_two_workspaces_mirror_one_owner_each_for_its_own_repositories(
    services: Process, scenario: Scenario, tenant: Tenant, another_tenant: Tenant
) -> None:
    account = await an_account(scenario)
    await a_repository(scenario, tenant, account, "site")
    await a_repository(scenario, another_tenant, account, "shop")
    for of in ("site", "shop"):
        await scenario.control.publish_package(account.login, "npm", f"of-{of}", repository=of)
    await wait_for(scenario, tenant, {("site", "npm", "of-site")})
    await wait_for(scenario, another_tenant, {("shop", "npm", "of-shop")})


def _crawlers(pid: int) -> list[int]:
    children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    # Children are forked, and so show the command of their parent. Their name is that of their service.
    return [child for child in children if "package-crawler" in _shown(child)]


def _shown(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text() + Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


async def test_a_crawler_killed_in_the_middle_leaves_nothing_missing_and_nothing_doubled(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await an_account(scenario)
    await a_repository(scenario, tenant, account, "site")
    control, login = scenario.control, account.login
    await control.set_switches(latency=0.05)
    try:
        await control.publish_many(login, 60, repositories=["site"], tags=1)

        async def has_begun() -> bool:
            return len(await tenant.list("packages")) >= 10

        await scenario.wait_until(has_begun, True, timeout=60, what="the first Packages")
        begun = {raw["metadata"]["uid"] for raw in await tenant.list("packages")}
        (crawler,) = _crawlers(services.pid)
        os.kill(crawler, signal.SIGKILL)
        assert len(await tenant.list("packages")) < 60, "it was in the middle"
        wanted = {("site", "container", f"package-{number:05}") for number in range(60)}
        found = await wait_for(scenario, tenant, wanted, 90)
        assert len(await tenant.list("packages")) == 60
        assert begun <= {raw["metadata"]["uid"] for raw in found.values()}, "what was made is kept"
    finally:
        await control.set_switches(latency=0.0)
