"""What a Connection's Secret must hold, by type, and which tokens may be sent."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from codecommon.api.connection import ConnectionSpec
from codecommon.api.results import Interruption, Terminal
from codecommon.githost.github.credential import AppSecret, TokenSecret, judge, read_credential
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.protocol import Credential
from codecommon.process.secrets import SecretValue
from codecommon.testing.builders import connection_object

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIhidden\n-----END RSA PRIVATE KEY-----\n"
APP = {"githubAppID": "7", "githubAppPrivateKey": KEY}


def read(data: dict[str, Any], type_: str = "github-app") -> Credential:
    spec = ConnectionSpec.model_validate(connection_object(type=type_, owner="acme")["spec"])
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return read_credential(spec, encoded, "Secret default/app")


@pytest.mark.parametrize("type_", ["pat", "oauth"])
def test_an_oauth_token_is_read_like_a_personal_one(type_: str) -> None:
    assert read({"token": "t"}, type_) == TokenSecret(SecretValue("t"))


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


# ---- which tokens may be sent

GITHUB = GithubProvider().address("")
OWN = GithubProvider(["ghe.example"]).address("https://ghe.example")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("ghp_" + "a1" * 18, "classic"),
        ("gho_" + "a1" * 18, "oauth"),
        ("github_pat_" + "a1" * 40, "fine-grained"),
        ("ghs_" + "a1" * 18, "installation"),
        ("ghs_1_eyJhbGciOi.eyJzdWIi.c2ln-_", "installation"),
        ("ghu_" + "a1" * 18, "app-user"),
        ("ghr_" + "a1" * 18, "unknown"),
        ("0123456789abcdefABCD" * 2, "unknown"),
    ],
)
def test_the_kind_of_a_token_is_told_by_its_shape(value: str, kind: str) -> None:
    token = judge(SecretValue(value), GITHUB)
    assert (token.value.reveal(), token.kind) == (value, kind)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_newline_at_the_end_of_a_file_is_not_part_of_the_token(ending: str) -> None:
    assert judge(SecretValue("ghp_abcdefgh" + ending), GITHUB).value.reveal() == "ghp_abcdefgh"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "\n",
        "ghp_abcdefgh\n\n",
        "ghp_abcdefgh\nX-Injected: 1",
        "ghp_abc\rdefgh",
        " ghp_abcdefgh",
        "ghp_abcdefgh ",
        "ghp_abc\tdefgh",
        "ghp_abcdéfgh",
        "ghp_abc\x00defgh",
        "ghp_abc\u2028defgh",
        "ghp_" + "a" * 5000,
    ],
)
def test_what_would_break_or_cross_the_header_is_sent_to_no_host(value: str) -> None:
    for address in (GITHUB, OWN):
        with pytest.raises(Terminal) as refused:
            judge(SecretValue(value), address)
        assert refused.value.reason == "CredentialInvalid"


@pytest.mark.parametrize(
    "value", ["hunter2-hunter2", "ghp_", "eyJhbGciOi.eyJzdWIi.c2ln", "0" * 39, "AKIAIOSFODNN7EXAMPLE"]
)
def test_another_secret_of_the_workspace_is_not_sent_to_github(value: str) -> None:
    with pytest.raises(Terminal) as refused:
        judge(SecretValue(value), GITHUB)
    assert refused.value.reason == "CredentialInvalid"


def test_an_operators_host_may_have_tokens_of_its_own_shape() -> None:
    assert judge(SecretValue("hunter2-hunter2"), OWN).kind == "unknown"


@pytest.mark.parametrize("value", ["secretsecret\nsecretsecret", "secretsecret!", "secret secret", "s\xe9cretsecret"])
def test_no_part_of_the_value_is_in_the_message(value: str) -> None:
    with pytest.raises(Terminal) as refused:
        judge(SecretValue(value), GITHUB)
    assert "secretsecret" not in str(refused.value)
    assert "\xe9" not in str(refused.value)
