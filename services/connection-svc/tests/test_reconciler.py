"""Connection: state in, one pass, state out. The workspace and the host are in memory, everything between is real."""

from __future__ import annotations

from typing import Any

import pytest

from codecommon.api.connection import Connection
from codecommon.api.group import API_VERSION
from codecommon.api.kinds import CONNECTIONS, DEPLOY_KEYS, REPOSITORIES
from codecommon.api.results import NotReady, Ready, Released, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostUnavailable
from codecommon.kcp.client import JsonObject
from codecommon.messaging.events import Versions
from codecommon.testing.builders import (
    api_binding,
    connection_object,
    deleting,
    repository_object,
    secret_object,
    validated_connection,
)
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World, conditions, message
from connection_svc.decide import VALIDATED
from connection_svc.reconciler import ConnectionReconciler


@pytest.fixture
def world() -> World:
    return World(StubBackend("octocat", organizations=["acme"], scopes=("repo",)))


@pytest.fixture
def controller(world: World) -> Controller[Connection]:
    return Controller(CONNECTIONS, ConnectionReconciler(world.connections), frozenset({VALIDATED}))


# ---- validation


async def test_a_credential_that_works_is_reported_with_its_account(
    world: World, controller: Controller[Connection]
) -> None:
    secret = world.add(secret_object())
    world.add(connection_object())

    assert isinstance(await world.reconcile(controller, "main"), Ready)

    main = world.stored("connections", "main")
    assert conditions(main) == {"Ready": ("True", "Reconciled"), "Validated": ("True", "Validated")}
    assert {name: main["status"][name] for name in ("login", "scopes", "host", "observedGeneration")} == {
        "login": "octocat", "scopes": ["repo"], "host": "git.example", "observedGeneration": 1,
    }  # fmt: skip
    assert main["status"]["observedSecretVersion"] == secret["metadata"]["resourceVersion"]
    assert main["metadata"]["finalizers"] == [CONNECTIONS.finalizer]


async def test_what_the_credential_is_and_can_be_used_for_is_reported(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(secret_object())
    world.add(connection_object())
    await world.reconcile(controller, "main")
    assert world.stored("connections", "main")["status"]["tokenType"] == "classic"
    assert world.stored("connections", "main")["status"]["capabilities"] == [
        {"name": "createRepository", "status": "Yes"},
        {"name": "packages", "status": "No", "message": "the scope is missing"},
    ]


@pytest.mark.parametrize("key", ["githubAppBaseURL", "githubAppBaseUrl"])
async def test_an_app_of_another_host_is_refused_before_the_host_is_asked(
    world: World, controller: Controller[Connection], key: str
) -> None:
    app = {"githubAppID": "7", "githubAppPrivateKey": "key", key: "https://ghe.example/api/v3"}
    secret = world.add(secret_object(**app))
    world.add(connection_object(type="github-app"))
    world.host.raise_next("validate_connection", AssertionError("the host was asked"))
    assert isinstance(await world.reconcile(controller, "main"), Terminal)
    main = world.stored("connections", "main")
    assert conditions(main)["Ready"] == ("False", "CredentialInvalid")
    assert all(host in message(main, "Ready") for host in ("ghe.example", "github.com"))
    assert main["status"]["observedSecretVersion"] == secret["metadata"]["resourceVersion"]


async def test_an_organisation_that_does_not_admit_the_credential_is_told(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(secret_object())
    world.add(connection_object(owner="acme"))
    world.host.raise_next("verify_access", Terminal("SSORequired", "open https://git.example/sso"))
    assert isinstance(await world.reconcile(controller, "main"), Terminal)
    assert conditions(world.stored("connections", "main"))["Validated"] == ("False", "ValidationFailed")
    assert "https://git.example/sso" in message(world.stored("connections", "main"))


async def test_a_settled_connection_costs_no_write(world: World, controller: Controller[Connection]) -> None:
    world.add(secret_object())
    world.add(connection_object())
    await world.reconcile(controller, "main")
    world.kcp.requests.clear()

    await world.reconcile(controller, "main")

    assert world.kcp.writes("connections") == []


async def test_a_missing_secret_is_named_and_its_event_is_waited_for(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(connection_object(secretRef={"name": "nowhere", "namespace": "team", "key": "pat"}))

    assert isinstance(await world.reconcile(controller, "main"), NotReady)

    assert conditions(world.stored("connections", "main")) == {
        "Ready": ("False", "CredentialUnavailable"),
        "Reconciling": ("True", "CredentialUnavailable"),
        "Validated": ("False", "CredentialUnavailable"),
    }
    assert "team/nowhere" in message(world.stored("connections", "main"))
    assert "'pat'" in message(world.stored("connections", "main"))


async def test_a_missing_key_is_named(world: World, controller: Controller[Connection]) -> None:
    secret = world.add(secret_object(other="x"))
    world.add(connection_object())
    await world.reconcile(controller, "main")
    assert "'token'" in message(world.stored("connections", "main"))
    assert (
        world.stored("connections", "main")["status"]["observedSecretVersion"] == secret["metadata"]["resourceVersion"]
    )


async def test_a_claim_that_was_not_accepted_says_what_to_do(world: World, controller: Controller[Connection]) -> None:
    world.kcp.refused.add("secrets")
    world.add(connection_object())

    assert isinstance(await world.reconcile(controller, "main"), Terminal)

    assert conditions(world.stored("connections", "main"))["Ready"] == ("False", "SecretsClaimNotAccepted")
    assert conditions(world.stored("connections", "main"))["Validated"] == ("False", "CredentialUnavailable")
    assert "APIBinding" in message(world.stored("connections", "main"))


REFUSED: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "the host refuses the token": (
        "validate_connection",
        Terminal("CredentialRejected", "401"),
        {},
        "CredentialRejected",
    ),
    "the owner does not exist": ("", None, {"owner": "nobody"}, "OwnerNotFound"),
}


@pytest.mark.parametrize(("method", "error", "spec", "reason"), REFUSED.values(), ids=REFUSED)
async def test_what_the_user_must_correct_is_in_ready_and_validated(
    world: World, controller: Controller[Connection], method: str, error: Any, spec: dict[str, Any], reason: str
) -> None:
    secret = world.add(secret_object())
    world.add(connection_object(**spec))
    if error is not None:
        world.host.raise_next(method, error)

    assert isinstance(await world.reconcile(controller, "main"), Terminal)

    assert conditions(world.stored("connections", "main")) == {
        "Ready": ("False", reason),
        "Stalled": ("True", reason),
        "Validated": ("False", "ValidationFailed"),
    }
    assert (
        world.stored("connections", "main")["status"]["observedSecretVersion"] == secret["metadata"]["resourceVersion"]
    )


async def test_a_provider_that_is_not_known_is_the_third_reason(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(secret_object())
    world.add(connection_object(provider="gitea"))
    await world.reconcile(controller, "main")
    assert conditions(world.stored("connections", "main"))["Validated"] == ("False", "ProviderNotFound")


async def test_a_host_that_is_down_does_not_unmake_a_validated_connection(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(secret_object())
    world.add(connection_object())
    await world.reconcile(controller, "main")
    world.host.raise_next("validate_connection", HostUnavailable("502"))

    assert isinstance(await world.reconcile(controller, "main"), Retryable)

    assert conditions(world.stored("connections", "main")) == {
        "Ready": ("True", "Reconciled"),
        "Reconciling": ("True", "HostUnavailable"),
        "Validated": ("True", "Validated"),
    }


ACCOUNT: dict[str, Any] = {
    "login": "octocat",
    "scopes": ["repo"],
    "tokenType": "classic",
    "expiresAt": "2027-01-01T00:00:00Z",
    "capabilities": [{"name": "packages", "status": "Yes"}],
}


def account_in(raw: JsonObject) -> dict[str, Any]:
    return {name: raw["status"][name] for name in ACCOUNT if name in raw["status"]}


def add_validated(world: World, secret_version: str, **spec: Any) -> None:
    """A Connection that was validated with ``ACCOUNT`` at that version of its Secret."""
    main = validated_connection(**spec)
    main["status"] |= {**ACCOUNT, "observedSecretVersion": secret_version}
    world.add(main)


@pytest.mark.parametrize(
    "refused",
    [
        Terminal("CredentialRejected", "401"),
        Terminal("SSORequired", "open https://git.example/sso"),
        Terminal("AppNotInstalled", "install the App"),
    ],
    ids=lambda refused: refused.reason,
)
async def test_a_new_credential_that_is_refused_is_not_shown_with_the_account_of_the_one_before(
    world: World, controller: Controller[Connection], refused: Terminal
) -> None:
    add_validated(world, "before")
    secret = world.add(secret_object())
    world.host.raise_next("validate_connection", refused)

    await world.reconcile(controller, "main")

    assert account_in(world.stored("connections", "main")) == {}
    assert (
        world.stored("connections", "main")["status"]["observedSecretVersion"] == secret["metadata"]["resourceVersion"]
    )


async def test_a_new_secret_that_holds_no_credential_is_not_shown_with_the_account_of_the_one_before(
    world: World, controller: Controller[Connection]
) -> None:
    add_validated(world, "before")
    world.add(secret_object(other="x"))
    await world.reconcile(controller, "main")
    assert account_in(world.stored("connections", "main")) == {}


async def test_a_credential_that_was_taken_once_is_still_shown_with_its_account_when_it_is_refused(
    world: World, controller: Controller[Connection]
) -> None:
    secret = world.add(secret_object())
    add_validated(world, secret["metadata"]["resourceVersion"])
    world.host.raise_next("validate_connection", Terminal("CredentialRejected", "401"))

    assert isinstance(await world.reconcile(controller, "main"), Terminal)

    assert account_in(world.stored("connections", "main")) == ACCOUNT


async def test_a_new_credential_that_works_is_shown_with_its_account_where_the_owner_does_not_admit_it(
    world: World, controller: Controller[Connection]
) -> None:
    add_validated(world, "before", owner="acme")
    secret = world.add(secret_object())
    world.host = StubBackend("hubot", organizations=["acme"], host="git2.example", scopes=None)
    world.host.raise_next("verify_access", Terminal("SSORequired", "open https://git.example/sso"))

    assert isinstance(await world.reconcile(controller, "main"), Terminal)

    status = world.stored("connections", "main")["status"]
    assert (status["login"], status["host"]) == ("hubot", "git2.example")
    assert account_in(world.stored("connections", "main")).keys() == {"login", "tokenType", "capabilities"}
    assert status["observedSecretVersion"] == secret["metadata"]["resourceVersion"]


@pytest.mark.parametrize("method", ["validate_connection", "get_owner_kind"])
async def test_in_an_outage_status_goes_on_speaking_of_the_secret_before(
    world: World, controller: Controller[Connection], method: str
) -> None:
    add_validated(world, "before")
    world.add(secret_object())
    world.host.raise_next(method, HostUnavailable("502"))

    assert isinstance(await world.reconcile(controller, "main"), Retryable)
    assert account_in(world.stored("connections", "main")) == ACCOUNT
    assert world.stored("connections", "main")["status"]["observedSecretVersion"] == "before"

    world.host.raise_next("validate_connection", Terminal("CredentialRejected", "401"))
    await world.reconcile(controller, "main")
    assert account_in(world.stored("connections", "main")) == {}


async def test_every_look_asks_the_host_so_that_a_revoked_token_turns_red_and_one_that_works_again_green(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(secret_object())
    world.add(connection_object())
    await world.reconcile(controller, "main")
    world.host.raise_next("validate_connection", Terminal("CredentialRejected", "401"))
    await world.reconcile(controller, "main")
    assert conditions(world.stored("connections", "main"))["Ready"] == ("False", "CredentialRejected")
    assert conditions(world.stored("connections", "main"))["Validated"] == ("False", "ValidationFailed")

    await world.reconcile(controller, "main")
    assert conditions(world.stored("connections", "main")) == {
        "Ready": ("True", "Reconciled"),
        "Validated": ("True", "Validated"),
    }


async def test_a_recovered_connection_shows_nothing_of_its_failure(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(connection_object())
    await world.reconcile(controller, "main")
    world.add(secret_object())

    await world.reconcile(controller, "main")

    assert conditions(world.stored("connections", "main")) == {
        "Ready": ("True", "Reconciled"),
        "Validated": ("True", "Validated"),
    }


async def test_the_secret_is_read_at_the_version_of_the_event(world: World, controller: Controller[Connection]) -> None:
    secret = world.add(secret_object())
    world.add(connection_object())
    version = secret["metadata"]["resourceVersion"]

    await world.reconcile(controller, "main", world.start(controller, "main", Versions(secret=version)))

    read = next(r for r in world.kcp.requests if r.resource == "secrets")
    assert read.params == {"resourceVersion": version}


# ---- deletion


def held(kind: str, name: str, finalizers: list[str], **spec: Any) -> JsonObject:
    metadata = {"name": name, "finalizers": finalizers}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


async def test_a_connection_that_nobody_needs_goes_without_a_call(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(deleting(validated_connection(), CONNECTIONS))
    assert isinstance(await world.reconcile(controller, "main"), Released)
    assert world.kcp.stored("connections", "main") is None


async def test_a_connection_stays_while_a_repository_of_ours_refers_to_it(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(repository_object(metadata={"finalizers": [REPOSITORIES.finalizer]}))
    world.add(deleting(validated_connection(), CONNECTIONS))

    await world.reconcile(controller, "main")

    assert conditions(world.stored("connections", "main"))["Ready"] == ("False", "DeletionBlocked")
    assert "Repository/site" in message(world.stored("connections", "main"))


async def test_a_connection_stays_while_a_child_of_its_repository_needs_it(
    world: World, controller: Controller[Connection]
) -> None:
    """The repository itself may have lost our finalizer: the portal's applyYaml drops it."""
    world.add(repository_object())
    world.add(held("DeployKey", "key", [DEPLOY_KEYS.finalizer], repositoryRef="site"))
    world.add(deleting(validated_connection(), CONNECTIONS))

    await world.reconcile(controller, "main")

    assert "DeployKey/key" in message(world.stored("connections", "main"))


@pytest.mark.parametrize(
    "other",
    [
        repository_object(),
        repository_object(metadata={"finalizers": ["somebody/else"]}),
        repository_object(metadata={"finalizers": [REPOSITORIES.finalizer]}, connectionRef="other"),
        held("DeployKey", "key", [DEPLOY_KEYS.finalizer], repositoryRef="elsewhere"),
    ],
    ids=["no finalizer", "another's finalizer", "another connection", "key of another repository"],
)
async def test_what_needs_no_clean_up_does_not_hold_a_connection(
    world: World, controller: Controller[Connection], other: JsonObject
) -> None:
    world.add(other, deleting(validated_connection(), CONNECTIONS))
    await world.reconcile(controller, "main")
    assert world.kcp.stored("connections", "main") is None


async def test_a_connection_goes_after_its_repositories_when_the_workspace_leaves(
    world: World, controller: Controller[Connection]
) -> None:
    world.add(api_binding(terminating=True))
    world.add(repository_object(metadata={"finalizers": [REPOSITORIES.finalizer]}))
    world.add(deleting(validated_connection(), CONNECTIONS))
    assert isinstance(await world.reconcile(controller, "main"), NotReady)

    world.kcp.edit("repositories", "site", {"metadata": {"finalizers": None}})
    assert isinstance(await world.reconcile(controller, "main"), Released)
