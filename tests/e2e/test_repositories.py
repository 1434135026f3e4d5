"""Repositories: made, edited, repaired, adopted, taken over."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from devstack.kcp import Kcp
from devstack.processes import Process
from devstack.resources import Manifest, condition, is_gone, is_ready
from devstack.scenario import Account, Scenario, app_secret, connection, has, repository, secret, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FINALIZER = "repositories.code.kedge.faros.sh/finalizer"
PAUSED = "code.kedge.faros.sh/paused"


async def test_a_repository_before_its_connection_is_made_once_the_connection_is_ready(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await tenant.apply(repository("site", "acme", description="hello", visibility="private"))
    waiting = await tenant.wait_for("repositories", "site", has("Ready", "False", "ConnectionNotFound"))
    assert condition(waiting, "Reconciling")["status"] == "True"

    await scenario.connect(tenant, account)
    ready = await tenant.wait_for("repositories", "site", is_ready, 5)
    made = (await scenario.repositories_of(account.login))["site"]
    assert ready["status"]["repoID"] == str(made.id)
    assert ready["status"]["origin"] == "Created"
    assert ready["status"]["htmlURL"].endswith(f"/{account.login}/site")
    assert (made.visibility, made.description) == ("private", "hello")
    assert FINALIZER in ready["metadata"]["finalizers"]


async def test_an_edit_of_description_and_visibility_reaches_the_host(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", description="before", visibility="private"))
    await tenant.wait_for("repositories", "site", is_ready)

    await tenant.apply(repository("site", "acme", description="after", visibility="public"))
    await tenant.wait_for("repositories", "site", is_ready)
    made = (await scenario.repositories_of(account.login))["site"]
    assert (made.visibility, made.description) == ("public", "after")


async def test_what_somebody_changes_on_the_host_is_repaired(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", description="as declared", visibility="private"))
    await tenant.wait_for("repositories", "site", is_ready)

    await scenario.control.edit_repository(account.login, "site", description="vandalised", visibility="public")
    await tenant.reconcile("repositories", "site", "now")
    made = (await scenario.repositories_of(account.login))["site"]
    assert (made.visibility, made.description) == ("private", "as declared")

    # And without anybody asking: the resync finds it.
    await scenario.control.clear_journal()
    await scenario.control.edit_repository(account.login, "site", description="again")
    await scenario.wait_until(
        lambda: _description(scenario, account), "as declared", timeout=40, what="the description on the host"
    )


async def _description(scenario: Scenario, account: Account) -> str | None:
    return (await scenario.repositories_of(account.login))["site"].description


async def test_a_description_that_ends_with_a_line_end_is_trimmed_and_does_not_differ(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", description="text\n"))
    await tenant.wait_for("repositories", "site", is_ready)
    assert await _description(scenario, account) == "text"

    await scenario.control.clear_journal()
    looked = await tenant.reconcile("repositories", "site", "now")
    assert is_ready(looked)
    assert condition(looked, "SettingsDiffer") is None
    assert await scenario.requests_of(account.login, writes_only=True) == []


@pytest.mark.parametrize("kind", ["user", "organisation"])
async def test_the_repositories_of_an_account_that_was_renamed_move_to_a_connection_with_its_new_name(
    services: Process, scenario: Scenario, tenant: Tenant, kind: str
) -> None:
    """A user with a token of its own, and an organisation with an App. The owner of a Connection cannot change."""
    control, new = scenario.control, unique("renamed")
    if kind == "user":
        account = await scenario.account()
        old, acting, means = account.login, new, "pat"
        await tenant.apply(secret("token", account.token.value))
    else:
        old, slug, means = unique("org"), unique("app"), "github-app"
        acting = f"{slug}[bot]"
        await control.create_org(old)
        app = await control.create_app(slug)
        await control.install_app(app.id, old)
        await tenant.apply(app_secret("token", app))
    await tenant.apply(connection("before", old, scenario.url, secret_name="token", type=means))
    await tenant.apply(repository("site", "before"))
    before = await tenant.wait_for("repositories", "site", is_ready)

    await (control.rename_user(old, new) if kind == "user" else control.rename_org(old, new))
    await control.clear_journal()
    await tenant.apply(connection("after", new, scenario.url, secret_name="token", type=means))
    await tenant.patch("repositories", "site", {"spec": {"connectionRef": "after"}})
    after = await tenant.wait_for("repositories", "site", lambda r: is_ready(r) and r["status"]["owner"] == new)

    assert (after["status"]["repoID"], after["status"]["origin"]) == (before["status"]["repoID"], "Created")
    assert set(await scenario.repositories_of(new)) == {"site"}
    assert await scenario.requests_of(acting) != []
    # A new installation token changes nothing of the account's.
    writes = await scenario.requests_of(acting, writes_only=True)
    assert [entry for entry in writes if not entry.path.endswith("/access_tokens")] == []


async def test_a_foreign_repository_is_adopted_its_visibility_untouched_and_survives_the_object(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    foreign = await scenario.control.create_repository(
        account.login, "legacy", visibility="public", description="made by hand"
    )
    await tenant.apply(repository("legacy", "acme", visibility="private", description="declared"))
    adopted = await tenant.wait_for("repositories", "legacy", is_ready)
    assert adopted["status"]["origin"] == "Adopted"
    assert adopted["status"]["repoID"] == str(foreign.id)
    assert "visibility" in condition(adopted, "SettingsDiffer")["message"]
    now = (await scenario.repositories_of(account.login))["legacy"]
    assert (now.visibility, now.description) == ("public", "declared")

    # An edit of something else does not change the visibility either; an edit of the visibility does.
    await tenant.apply(repository("legacy", "acme", visibility="private", description="edited"))
    await tenant.wait_for("repositories", "legacy", is_ready)
    now = (await scenario.repositories_of(account.login))["legacy"]
    assert (now.visibility, now.description) == ("public", "edited")

    await tenant.delete("repositories", "legacy")
    await tenant.wait_for("repositories", "legacy", is_gone)
    assert "legacy" in await scenario.repositories_of(account.login)


async def test_an_object_of_the_go_provider_is_taken_over_without_a_write_on_the_host(
    services: Process, scenario: Scenario, tenant: Tenant, kcp: Kcp
) -> None:
    account = await scenario.account()
    yesterday = time.time() - 86_400
    host = await scenario.control.create_repository(
        account.login, "old", description="on the host", created_at=yesterday
    )
    await tenant.apply(secret("acme-token", account.token.value))
    await tenant.apply(connection("acme", account.login, scenario.url))
    await tenant.wait_for("connections", "acme", is_ready)
    await scenario.control.clear_journal()
    left = await _as_the_go_provider_left_it(kcp, tenant, scenario, account, host.id)

    await tenant.patch("repositories", "old", {"metadata": {"annotations": {PAUSED: None}}})
    taken = await tenant.wait_for("repositories", "old", lambda r: is_ready(r) and "origin" in r["status"])
    assert taken["metadata"]["finalizers"] == left["metadata"]["finalizers"]
    assert taken["status"]["repoID"] == str(host.id)
    # It is older than the object, so the object did not make it.
    assert taken["status"]["origin"] == "Adopted"
    assert "description" in condition(taken, "SettingsDiffer")["message"]
    assert await scenario.requests_of(account.login, writes_only=True) == []

    await tenant.patch("repositories", "old", {"spec": {"description": "edited"}})
    await tenant.wait_for("repositories", "old", is_ready)
    assert (await scenario.repositories_of(account.login))["old"].description == "edited"


async def _as_the_go_provider_left_it(
    kcp: Kcp, tenant: Tenant, scenario: Scenario, account: Account, repo_id: int
) -> Manifest:
    """A Repository with that provider's finalizer and status; an edit of the description that it accepted and never sent."""
    manifest = repository("old", "acme", description="accepted, never sent")
    manifest["metadata"] |= {"annotations": {PAUSED: "true"}, "finalizers": [FINALIZER]}
    made = await tenant.create(manifest)
    url = f"{scenario.url}/{account.login}/old"
    status = {
        "repoID": str(repo_id),
        "htmlURL": url,
        "cloneURL": f"{url}.git",
        "sshURL": f"git@{scenario.authority}:{account.login}/old.git",
        "observedGeneration": made["metadata"]["generation"],
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "repository is ready",
                "lastTransitionTime": (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "observedGeneration": made["metadata"]["generation"],
            }
        ],
    }
    return await kcp.cluster(tenant.cluster).patch_status("repositories", "old", status)


async def test_a_finalizer_dropped_by_a_whole_object_write_comes_back(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme"))
    ready = await tenant.wait_for("repositories", "site", is_ready)
    # What the portal's applyYaml does: a PUT of the manifest with nothing but name, uid and resourceVersion.
    manifest = repository("site", "acme")
    manifest["metadata"] |= {key: ready["metadata"][key] for key in ("uid", "resourceVersion")}
    path = "/apis/code.kedge.faros.sh/v1alpha1/repositories/site"
    dropped = await tenant.request("PUT", path, manifest)
    assert "finalizers" not in dropped["metadata"]
    await tenant.wait_for("repositories", "site", lambda r: FINALIZER in r["metadata"].get("finalizers", []), 5)


async def test_two_objects_for_one_repository_the_younger_is_refused(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("first", "acme", name="shared"))
    await tenant.wait_for("repositories", "first", is_ready)
    await tenant.apply(repository("second", "acme", name="shared"))
    refused = await tenant.wait_for("repositories", "second", has("Ready", "False", "DuplicateRepository"))
    assert "first" in condition(refused, "Ready")["message"]

    await tenant.delete("repositories", "second")
    await tenant.wait_for("repositories", "second", is_gone)
    assert "shared" in await scenario.repositories_of(account.login)


@pytest.mark.parametrize("name", ["..", "with space", "ends.git"])
async def test_a_name_that_github_refuses_or_would_alter_is_refused_before_the_call(
    services: Process, scenario: Scenario, tenant: Tenant, name: str
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await scenario.control.clear_journal()
    await tenant.apply(repository("site", "acme", name=name))
    refused = await tenant.wait_for("repositories", "site", has("Ready", "False", "InvalidName"))
    assert "name" in condition(refused, "Ready")["message"]
    assert await scenario.requests_of(account.login, writes_only=True) == []
    await tenant.delete("repositories", "site")
    await tenant.wait_for("repositories", "site", is_gone)


async def test_a_repository_for_an_organisation_that_cannot_be_seen_is_made_nowhere(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", owner=unique("hidden-org")))
    refused = await tenant.wait_for("repositories", "site", has("Ready", "False", "OwnerNotFound"))
    assert "hidden-org" in condition(refused, "Ready")["message"]
    assert await scenario.repositories_of(account.login) == {}
