"""Connections: a credential that comes late, is wrong, or must not be sent anywhere."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from devstack.devhub import DevHub
from devstack.enterprise import EnterpriseSim
from devstack.errors import ApiError
from devstack.foreign_host import ForeignHost
from devstack.githubsim import SimControl
from devstack.githubsim.journal import Entry
from devstack.processes import Process
from devstack.resources import condition, is_gone, is_ready
from devstack.scenario import Scenario, app_secret, connection, deploy_key, has, repository, secret, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_a_secret_that_arrives_after_its_connection_is_noticed(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await tenant.apply(connection("late", account.login, scenario.url))
    waiting = await tenant.wait_for("connections", "late", has("Ready", "False", "CredentialUnavailable"))
    validated = condition(waiting, "Validated")
    assert validated is not None
    assert validated["reason"] == "CredentialUnavailable"
    assert "late-token" in condition(waiting, "Ready")["message"]

    await tenant.apply(secret("late-token", account.token.value))
    # The resync would come by after up to 10 s: five seconds can only be the Secret's own event.
    ready = await tenant.wait_for("connections", "late", is_ready, 5)
    assert ready["status"]["login"] == account.login
    assert set(ready["status"]["scopes"]) == {"repo", "delete_repo", "user"}


async def test_wrong_then_wrong_again_then_right_token_each_changes_the_verdict(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await tenant.apply(connection("acme", account.login, scenario.url))
    versions = set()
    for attempt in range(3):
        await tenant.apply(secret("acme-token", f"ghp_{'x' * 35}{attempt}"))
        stored = await tenant.get("secrets", "acme-token")
        refused = await tenant.wait_for(
            "connections",
            "acme",
            lambda c, version=stored["metadata"]["resourceVersion"]: (
                has("Ready", "False", "CredentialRejected")(c) and c["status"].get("observedSecretVersion") == version
            ),
            5,
        )
        assert condition(refused, "Validated")["reason"] == "ValidationFailed"
        assert condition(refused, "Stalled")["status"] == "True"
        versions.add(refused["status"]["observedSecretVersion"])
    assert len(versions) == 3

    await tenant.apply(secret("acme-token", account.token.value))
    ready = await tenant.wait_for("connections", "acme", is_ready, 5)
    assert condition(ready, "Stalled") is None
    assert condition(ready, "Validated")["status"] == "True"


async def test_a_credential_that_is_no_token_is_refused_without_a_request(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    cases = {
        "empty": ("", "empty"),
        "lines": ("ghp_first\nghp_second", "several lines"),
        "words": ("two words", "white space"),
    }
    account = await scenario.account()
    before = (await scenario.control.journal()).unknown_credentials
    for name, (token, _) in cases.items():
        await tenant.apply(secret(f"{name}-token", token))
        await tenant.apply(connection(name, account.login, scenario.url))
    for name, (token, says) in cases.items():
        refused = await tenant.wait_for("connections", name, has("Ready", "False", "CredentialInvalid"))
        assert says in condition(refused, "Ready")["message"]
        assert token == "" or token not in str(refused["status"])
    assert (await scenario.control.journal()).unknown_credentials == before


async def test_a_secret_of_another_kind_with_a_base_url_of_the_tenants_choosing_is_sent_nowhere(
    services: Process, scenario: Scenario, tenant: Tenant, foreign_host: ForeignHost
) -> None:
    await tenant.apply(secret("database", "postgres://app:hunter2@db/app", key="url"))
    evil = connection("evil", "acme", foreign_host.url, secret_name="database")
    evil["spec"]["secretRef"]["key"] = "url"
    await tenant.apply(evil)
    refused = await tenant.wait_for("connections", "evil", has("Ready", "False", "HostNotAllowed"))
    assert "CODE_ALLOWED_GIT_HOSTS" in condition(refused, "Ready")["message"]
    assert foreign_host.requests == []

    # To GitHub's own host, whatever does not look like a token of GitHub's is not sent either.
    evil["spec"].pop("baseURL")
    evil["metadata"]["name"] = "evil2"
    await tenant.apply(evil)
    refused = await tenant.wait_for("connections", "evil2", has("Ready", "False", "CredentialInvalid"))
    assert "hunter2" not in str(refused)


async def test_a_claim_on_secrets_that_was_not_accepted_is_named_with_the_way_to_accept_it(
    services: Process, scenario: Scenario, devhub: DevHub
) -> None:
    tenant = await devhub.create_tenant()
    await devhub.enable(tenant, accepted=())
    account = await scenario.account()
    await tenant.apply(secret("acme-token", account.token.value))
    await tenant.apply(connection("acme", account.login, scenario.url))
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", "SecretsClaimNotAccepted"))
    assert condition(refused, "Validated")["reason"] == "CredentialUnavailable"
    assert "APIBinding" in condition(refused, "Ready")["message"]
    await devhub.delete_tenant(tenant)


async def test_an_unknown_provider_is_refused_with_the_known_ones(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    with pytest.raises(ApiError, match="github"):
        await tenant.create(connection("acme", "acme", scenario.url, provider="gitlab"))


async def test_an_owner_that_does_not_exist_is_named(services: Process, scenario: Scenario, tenant: Tenant) -> None:
    account = await scenario.account()
    await tenant.apply(secret("acme-token", account.token.value))
    await tenant.apply(connection("acme", unique("nobody"), scenario.url))
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", "OwnerNotFound"))
    assert "nobody" in condition(refused, "Ready")["message"]
    assert condition(refused, "Validated")["reason"] == "ValidationFailed"


async def test_a_refused_connection_is_not_tried_again_and_again(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.control.revoke_token(account.token.id)
    await tenant.apply(secret("acme-token", account.token.value))
    await tenant.apply(connection("acme", account.login, scenario.url))
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("connections", "acme", has("Ready", "False", "CredentialRejected"))
    waiting = await tenant.wait_for("repositories", "site", has("Ready", "False", "ConnectionNotReady"))
    started = time.time()
    # The resync comes by every 10 s, and asks once; a retry storm would ask at least every second.
    await tenant.apply(repository("site", "acme", description="an edit wakes the object, not the host"))
    await tenant.wait_for(
        "repositories", "site", lambda r: r["status"]["observedGeneration"] > waiting["metadata"]["generation"]
    )
    journal = await scenario.control.journal()
    asked = [e for e in journal.entries if e.login == account.login and e.started >= started]
    assert len(asked) <= 1


async def test_a_connection_says_what_its_token_is_until_when_and_what_it_can_be_used_for(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    login = unique("user")
    await scenario.control.create_user(login)
    classic = await scenario.control.create_token(login, scopes=["repo"], expires_in=86400)
    fine = await scenario.control.create_token(login, kind="fine-grained")
    oauth = await scenario.control.create_token(login, kind="oauth", scopes=["repo", "delete_repo"])
    await tenant.apply(secret("classic-token", classic.value))
    await tenant.apply(secret("fine-token", fine.value))
    await tenant.apply(connection("classic", login, scenario.url))
    await tenant.apply(connection("fine", login, scenario.url))
    await tenant.apply(secret("flow-token", oauth.value))
    await tenant.apply(connection("flow", login, scenario.url, type="oauth"))

    status = (await tenant.wait_for("connections", "classic", is_ready))["status"]
    assert status["tokenType"] == "classic"
    assert 86000 < datetime.fromisoformat(status["expiresAt"]).timestamp() - time.time() < 86400
    found = {c["name"]: c for c in status["capabilities"]}
    assert [found[name]["status"] for name in ("createRepository", "deployKeys", "collaborators")] == ["Yes"] * 3
    assert (found["deleteRepository"]["status"], found["packages"]["status"]) == ("No", "No")
    assert "delete_repo" in found["deleteRepository"]["message"]

    status = (await tenant.wait_for("connections", "fine", is_ready))["status"]
    assert status["tokenType"] == "fine-grained"
    assert "scopes" not in status
    assert "expiresAt" not in status
    found = {c["name"]: c["status"] for c in status["capabilities"]}
    assert found.pop("packages") == "No"
    assert set(found.values()) == {"Unknown"}

    status = (await tenant.wait_for("connections", "flow", is_ready))["status"]
    assert (status["tokenType"], status["scopes"]) == ("oauth", ["delete_repo", "repo"])


async def test_an_app_creates_in_its_organisation_and_a_revoked_installation_token_is_replaced(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    control, org = scenario.control, unique("org")
    await control.create_org(org)
    app = await control.create_app(unique("app"))
    installation = await control.install_app(app.id, org)
    await tenant.apply(app_secret("acme-token", app))
    await tenant.apply(connection("acme", org, scenario.url, type="github-app"))
    ready = await tenant.wait_for("connections", "acme", is_ready)
    assert ready["status"]["tokenType"] == "installation"
    assert ready["status"]["login"].endswith("[bot]")

    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    assert set(await scenario.repositories_of(org)) == {"site"}

    assert await control.revoke_installation_tokens(installation) >= 1
    await tenant.apply(repository("second", "acme"))
    await tenant.wait_for("repositories", "second", is_ready)
    assert app.private_key.splitlines()[1] not in str(await tenant.get("connections", "acme"))


@pytest.mark.parametrize("status", [401, 404])
async def test_a_new_token_that_the_host_does_not_know_for_seconds_is_tried_again_and_is_the_only_one(
    services: Process, scenario: Scenario, tenant: Tenant, status: int
) -> None:
    control, org, slug = scenario.control, unique("org"), unique("app")
    await control.create_org(org)
    app = await control.create_app(slug)
    installation = await control.install_app(app.id, org)
    unknown = {"status": status, "body": {"message": "Bad credentials" if status == 401 else "Not Found"}}
    await tenant.apply(app_secret("acme-token", app))

    said: set[str] = set()

    async def note(resource: str, name: str) -> None:
        async for state in tenant.follow(resource, name):
            said.add(str(state and state.get("status")))

    async with asyncio.TaskGroup() as group:
        notes = [group.create_task(note("connections", "acme")), group.create_task(note("repositories", "site"))]
        for apply, resource in (
            (connection("acme", org, scenario.url, type="github-app"), "connections"),
            (repository("site", "acme"), "repositories"),
        ):
            # Each service makes a token of its own with its first request.
            await control.add_fault("status", **unknown, login=f"{slug}[bot]", count=2)
            await tenant.apply(apply)
            await tenant.wait_for(resource, apply["metadata"]["name"], is_ready)
        for task in notes:
            task.cancel()

    refused = [entry for entry in await scenario.requests_of(f"{slug}[bot]") if entry.fault == "status"]
    assert len(refused) == 4
    assert len(await _mints(control, installation)) == 2
    # No answer to it was taken for a verdict: of the token, of the owner or of the repository.
    assert [
        status for status in said if any(word in status for word in ("revoked", "CredentialRejected", "Stalled"))
    ] == []
    assert set(await scenario.repositories_of(org)) == {"site"}


async def test_an_apps_token_is_replaced_at_four_fifths_of_its_life_by_each_service(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because a token lives 30 s. The host tells its end in whole seconds, which would be too coarse for a short life."""
    control, org, life = scenario.control, unique("org"), 30.0
    await control.create_org(org)
    app = await control.create_app(unique("app"))
    installation = await control.install_app(app.id, org, token_lifetime=life)
    await tenant.apply(app_secret("acme-token", app))
    await tenant.apply(connection("acme", org, scenario.url, type="github-app"))
    ready = await tenant.wait_for("connections", "acme", is_ready)
    bot = ready["status"]["login"]
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)

    numbers = itertools.count()

    async def minted_while_both_work() -> bool:
        when = str(next(numbers))
        for kind, name in (("connections", "acme"), ("repositories", "site")):
            await tenant.reconcile(kind, name, when)
        return len(await _mints(control, installation)) >= 4

    await scenario.wait_until(minted_while_both_work, True, timeout=2 * life, what="a second token of each service")
    first, second, third, fourth = (entry.started for entry in (await _mints(control, installation))[:4])
    for age in (third - first, fourth - second):
        # The host says in whole seconds when a token ends.
        assert 0.8 * (life - 1) < age < life
    asked = await scenario.requests_of(bot)
    assert asked
    assert [entry for entry in asked if entry.status == 401] == []


async def _mints(control: SimControl, installation: int) -> list[Entry]:
    path = f"/app/installations/{installation}/access_tokens"
    return [entry for entry in (await control.journal()).entries if entry.path == path]


async def test_an_app_on_another_account_or_with_half_a_secret_is_refused_with_what_to_do(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    control, org = scenario.control, unique("org")
    await control.create_org(org)
    app = await control.create_app(unique("app"))
    await tenant.apply(app_secret("acme-token", app, githubAppPrivateKey=""))
    await tenant.apply(connection("acme", org, scenario.url, type="github-app"))
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", "CredentialUnavailable"))
    assert "githubAppPrivateKey" in condition(refused, "Ready")["message"]

    await tenant.apply(app_secret("acme-token", app))
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", "AppNotInstalled"))
    assert org in condition(refused, "Ready")["message"]

    other = unique("other")
    await control.create_org(other)
    elsewhere = await control.install_app(app.id, other)
    await tenant.apply(app_secret("acme-token", app, githubAppInstallationID=str(elsewhere)))
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", "OwnerMismatch"))
    assert other in condition(refused, "Ready")["message"]


async def test_an_app_serves_the_repositories_of_each_owner_by_its_installation_there(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    control, org, other = scenario.control, unique("org"), unique("other")
    app = await control.create_app(unique("app"))
    for login in (org, other):
        await control.create_org(login)
    await control.install_app(app.id, org)
    await tenant.apply(app_secret("acme-token", app))
    await tenant.apply(connection("acme", org, scenario.url, type="github-app"))
    await tenant.apply(repository("site", "acme", owner=other))
    refused = await tenant.wait_for("repositories", "site", has("Ready", "False", "AppNotInstalled"))
    assert other in condition(refused, "Ready")["message"]

    await control.install_app(app.id, other)
    # Nothing in the workspace tells of it; the resync comes by within 10 s.
    await tenant.wait_for("repositories", "site", is_ready)
    assert set(await scenario.repositories_of(other)) == {"site"}
    assert await scenario.repositories_of(org) == {}
    await tenant.apply(deploy_key("ci", "site"))
    await tenant.wait_for("deploykeys", "ci", is_ready)
    await tenant.delete("deploykeys", "ci")
    await tenant.wait_for("deploykeys", "ci", is_gone)
    await tenant.delete("repositories", "site")
    await tenant.wait_for("repositories", "site", is_gone)
    assert await scenario.repositories_of(other) == {}


async def test_single_sign_on_is_asked_for_with_the_address_to_authorise_the_token_at(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, org = await scenario.account(), unique("org")
    await scenario.control.create_org(org, members={account.login: "admin"}, saml=True)
    await tenant.apply(secret("acme-token", account.token.value))
    await tenant.apply(connection("acme", org, scenario.url))
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", "SSORequired"))
    assert f"/orgs/{org}/sso?" in condition(refused, "Ready")["message"]

    await scenario.control.edit_token(account.token.id, sso_orgs=[org])
    # Nothing in the workspace tells of it; the resync comes by within 10 s.
    await tenant.wait_for("connections", "acme", is_ready)


async def test_a_401_that_a_repository_meets_turns_its_connection_at_once(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)

    async def validations() -> int:
        return sum(entry.path == "/user" for entry in await scenario.requests_of(account.login))

    before = await validations()
    await scenario.wait_until(lambda: _more(validations, before), True, timeout=20, what="the resync")
    await scenario.control.revoke_token(account.token.id)
    await tenant.apply(repository("site", "acme"))
    # The resync has just come by, and does so every 10 s: five seconds can only be what the repository met.
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", "CredentialRejected"), 5)
    assert condition(refused, "Validated")["reason"] == "ValidationFailed"


async def _more(count: Callable[[], Awaitable[int]], than: int) -> bool:
    return await count() > than


async def test_an_enterprise_server_with_an_authority_of_its_own_is_trusted_by_its_ca_bundle(
    services: Process, enterprise_sim: EnterpriseSim, tenant: Tenant
) -> None:
    async with SimControl(enterprise_sim.url, ca=enterprise_sim.authority) as control:
        login = unique("user")
        await control.create_user(login)
        await tenant.apply(secret("ghes-token", (await control.create_token(login)).value))
        await tenant.apply(connection("ghes", login, enterprise_sim.url))
        waiting = await tenant.wait_for("connections", "ghes", has("Reconciling", "True", "HostUnavailable"))
        assert "caBundle" in condition(waiting, "Reconciling")["message"]

        await tenant.apply(connection("ghes", login, enterprise_sim.url, caBundle=enterprise_sim.authority))
        ready = await tenant.wait_for("connections", "ghes", is_ready)
        assert ready["status"]["host"] == enterprise_sim.host
        await tenant.apply(repository("site", "ghes"))
        await tenant.wait_for("repositories", "site", is_ready)
        assert [r.name for r in await control.repositories()] == ["site"]
