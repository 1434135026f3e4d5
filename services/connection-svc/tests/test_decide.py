"""What the portal is told about a Connection: three reasons of ``Validated``, detail in ``Ready``."""

from __future__ import annotations

import pytest

from codecommon.api.connection import ConnectionStatus
from codecommon.api.results import Interruption, NotReady, Terminal
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
