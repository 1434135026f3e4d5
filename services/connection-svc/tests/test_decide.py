"""What the portal is told about a Connection: three reasons of ``Validated``, detail in ``Ready``."""

from __future__ import annotations

import pytest

from codecommon.api.connection import Connection, ConnectionStatus
from codecommon.api.meta import Condition
from codecommon.api.results import Interruption, NotReady, Terminal
from codecommon.testing.builders import connection_object, parse_connection
from connection_svc import decide

VALIDATED = {
    "the Secret is missing": (NotReady("CredentialUnavailable", "m"), "CredentialUnavailable"),
    "the claim on Secrets was not accepted": (Terminal("SecretsClaimNotAccepted", "m"), "CredentialUnavailable"),
    "the provider is not known": (Terminal("ProviderNotFound", "m"), "ProviderNotFound"),
    "the host refuses the token": (Terminal("CredentialRejected", "m"), "ValidationFailed"),
    "the Secret holds no token": (Terminal("CredentialInvalid", "m"), "ValidationFailed"),
    "the host is not allowed": (Terminal("HostNotAllowed", "m"), "ValidationFailed"),
    "the owner does not exist": (Terminal("OwnerNotFound", "m"), "ValidationFailed"),
}


@pytest.mark.parametrize(("refused", "reason"), VALIDATED.values(), ids=VALIDATED)
def test_validated_keeps_the_three_reasons_that_the_portal_knows(refused: Interruption, reason: str) -> None:
    (condition,) = decide.not_validated(ConnectionStatus(), refused).conditions
    assert (condition.type, condition.status, condition.reason) == ("Validated", "False", reason)
    assert condition.message == "m"


def test_an_owner_that_the_host_does_not_show_is_for_the_user_to_correct() -> None:
    with pytest.raises(Terminal) as refused:
        decide.require_owner("acme", None)
    assert refused.value.reason == "OwnerNotFound"
    assert "'acme'" in refused.value.message


@pytest.mark.parametrize("kind", ["User", "Organization"])
def test_an_owner_of_either_kind_will_do(kind: decide.OwnerKind) -> None:
    decide.require_owner("acme", kind)


# ---- what the crawler finds out about packages


def _with_packages(status: str, version: str = "5") -> Connection:
    capabilities = [{"name": "deployKeys", "status": "Yes"}, {"name": "packages", "status": status, "message": "m"}]
    return parse_connection(connection_object(status={"capabilities": capabilities, "observedSecretVersion": version}))


def _finding(status: str, type_: str = "PackagesAvailable") -> Condition:
    return Condition(type=type_, status=status, reason="MissingPermission", message="use a classic token")


def test_a_finding_of_the_crawler_becomes_the_capability_packages() -> None:
    learnt = decide.learn(_with_packages("Unknown"), _finding("False"))
    assert learnt.status == {
        "capabilities": [
            {"name": "deployKeys", "status": "Yes"},
            {"name": "packages", "status": "No", "message": "use a classic token"},
        ]
    }
    assert learnt.conditions == ()
    learnt = decide.learn(_with_packages("Unknown"), _finding("True"))
    assert learnt.status["capabilities"][1]["status"] == "Yes"
    assert decide.learn(_with_packages("Unknown"), _finding("False", "Ready")).status == {}


def test_what_was_found_out_is_kept_while_the_host_does_not_tell_and_the_secret_is_the_same() -> None:
    told = {"login": "octocat", "capabilities": [{"name": "packages", "status": "Unknown", "message": "not told"}]}
    found = [{"name": "packages", "status": "No", "message": "m"}]
    assert decide.with_found_capability(_with_packages("No").status, told, "5")["capabilities"] == found
    assert decide.with_found_capability(_with_packages("No").status, told, "6") == told
    yes = {"capabilities": [{"name": "packages", "status": "Yes"}]}
    assert decide.with_found_capability(_with_packages("No").status, yes, "5") == yes
