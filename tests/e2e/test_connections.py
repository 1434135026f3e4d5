"""Connections: a credential that comes late, is wrong, or must not be sent anywhere."""

from __future__ import annotations

import time

import pytest

from devstack.devhub import DevHub
from devstack.errors import ApiError
from devstack.foreign_host import ForeignHost
from devstack.processes import Process
from devstack.resources import condition, is_ready
from devstack.scenario import Scenario, connection, has, repository, secret, unique
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


@pytest.mark.parametrize(
    ("token", "reason", "says"),
    [
        ("", "CredentialInvalid", "empty"),
        ("ghp_first\nghp_second", "CredentialInvalid", "several lines"),
        ("two words", "CredentialInvalid", "white space"),
    ],
)
async def test_a_credential_that_is_no_token_is_refused_without_a_request(
    services: Process, scenario: Scenario, tenant: Tenant, token: str, reason: str, says: str
) -> None:
    account = await scenario.account()
    before = (await scenario.control.journal()).unknown_credentials
    await tenant.apply(secret("acme-token", token))
    await tenant.apply(connection("acme", account.login, scenario.url))
    refused = await tenant.wait_for("connections", "acme", has("Ready", "False", reason))
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
