"""What a Connection's Secret must hold, by type."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from codecommon.api.connection import ConnectionSpec
from codecommon.api.results import Interruption
from codecommon.githost.github.secret import read_credential
from codecommon.githost.protocol import AppSecret
from codecommon.process.secrets import SecretValue
from codecommon.testing.builders import connection_object

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIhidden\n-----END RSA PRIVATE KEY-----\n"
APP = {"githubAppID": "7", "githubAppPrivateKey": KEY}


def read(data: dict[str, Any], type_: str = "github-app") -> SecretValue | AppSecret:
    spec = ConnectionSpec.model_validate(connection_object(type=type_, owner="acme")["spec"])
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return read_credential(spec, encoded, "Secret default/app")


@pytest.mark.parametrize("type_", ["pat", "oauth"])
def test_an_oauth_token_is_read_like_a_personal_one(type_: str) -> None:
    assert read({"token": "t"}, type_) == SecretValue("t")


def test_an_app_is_read_under_the_names_that_flux_uses() -> None:
    assert read(APP) == AppSecret("7", None, "acme", SecretValue(KEY))
    named = APP | {"githubAppInstallationID": "9\n", "githubAppInstallationOwner": "ACME"}
    assert read(named) == AppSecret("7", "9", "acme", SecretValue(KEY))


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        ({}, "CredentialUnavailable", "githubAppID"),
        ({"githubAppID": "7"}, "CredentialUnavailable", "githubAppPrivateKey"),
        (APP | {"githubAppPrivateKey": ""}, "CredentialUnavailable", "githubAppPrivateKey"),
        (APP | {"githubAppID": "seven"}, "CredentialInvalid", "githubAppID"),
        (APP | {"githubAppInstallationID": "9/../8"}, "CredentialInvalid", "githubAppInstallationID"),
        (APP | {"githubAppPrivateKey": KEY * 2000}, "CredentialInvalid", "githubAppPrivateKey"),
        (APP | {"githubAppInstallationOwner": "elsewhere"}, "OwnerMismatch", "githubAppInstallationOwner"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_is_quoted(data: dict[str, str], reason: str, says: str) -> None:
    with pytest.raises(Interruption) as refused:
        read(data)
    assert refused.value.reason == reason
    assert says in refused.value.message
    assert not any(value and value in refused.value.message for value in data.values() if value != "7")


def test_nothing_that_can_be_printed_shows_the_key() -> None:
    assert "hidden" not in repr(read(APP)).replace("<hidden>", "")
