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
    assert read(APP) == AppSecret("7", None, "acme", SecretValue(KEY.strip()))
    named = APP | {"githubAppInstallationID": "9\n", "githubAppInstallationOwner": "ACME"}
    assert read(named) == AppSecret("7", "9", "acme", SecretValue(KEY.strip()))


@pytest.mark.parametrize("around", ["{}\n", "\r\n {}\t\r\n", "\u00a0{}\u2028"])
def test_white_space_around_an_apps_values_is_not_part_of_them(around: str) -> None:
    values = APP | {"githubAppInstallationID": "9", "githubAppInstallationOwner": "acme"}
    assert read({key: around.format(value) for key, value in values.items()}) == read(values)


def test_an_optional_value_that_is_white_space_counts_as_left_out() -> None:
    blank = {"githubAppInstallationID": " \n", "githubAppInstallationOwner": "\n", "githubAppBaseURL": "\n"}
    assert read(APP | blank) == read(APP)


@pytest.mark.parametrize("client_id", ["Iv1.8a61f9b3a7aba766", "Iv23liABCDEFGHIJ0123"])
def test_an_app_may_be_named_by_its_client_id(client_id: str) -> None:
    app = read(APP | {"githubAppID": client_id + "\n"})
    assert isinstance(app, AppSecret)
    assert app.app_id == client_id


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        ({}, "CredentialUnavailable", "githubAppID"),
        ({"githubAppID": "7"}, "CredentialUnavailable", "githubAppPrivateKey"),
        (APP | {"githubAppPrivateKey": ""}, "CredentialUnavailable", "githubAppPrivateKey"),
        (APP | {"githubAppID": "seven"}, "CredentialInvalid", "githubAppID"),
        (APP | {"githubAppID": "seven"}, "CredentialInvalid", "client ID"),
        (APP | {"githubAppID": "Iv1.zz"}, "CredentialInvalid", "githubAppID"),
        (APP | {"githubAppID": "Iv1.8a61/../x"}, "CredentialInvalid", "githubAppID"),
        (APP | {"githubAppID": "Iv1." + "a" * 100}, "CredentialInvalid", "githubAppID"),
        (APP | {"githubAppID": "12 34"}, "CredentialInvalid", "white space inside"),
        (APP | {"githubAppID": "Iv1.8a61\nf9b3"}, "CredentialInvalid", "white space inside"),
        (APP | {"githubAppID": " \n"}, "CredentialInvalid", "githubAppID"),
        (APP | {"githubAppID": "7" * 100_000}, "CredentialInvalid", "too long"),
        (APP | {"githubAppInstallationID": "Iv1.8a61f9b3a7aba766"}, "CredentialInvalid", "githubAppInstallationID"),
        (APP | {"githubAppInstallationID": "9 8"}, "CredentialInvalid", "white space inside"),
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


# ---- the host that Flux's Secret names

PROVIDER = GithubProvider(["ghe.example", "ghe.example:8443", "other.example"])


def read_for(base_url: str | None, data: dict[str, str]) -> Credential:
    spec = ConnectionSpec.model_validate(connection_object(type="github-app", owner="acme")["spec"])
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (APP | data).items()}
    return PROVIDER.read_credential(spec.model_copy(update={"base_url": base_url}), encoded, "Secret default/app")


@pytest.mark.parametrize("key", ["githubAppBaseURL", "githubAppBaseUrl"])
@pytest.mark.parametrize(
    ("base_url", "named"),
    [
        (None, "https://api.github.com"),
        (None, "https://github.com/"),
        ("", "https://API.github.com:443/\n"),
        ("https://api.github.com", "https://github.com"),
        ("https://ghe.example", "https://ghe.example/api/v3"),
        ("https://ghe.example", "https://GHE.example/api/v3/"),
        ("https://ghe.example/api/v3", " https://ghe.example"),
        ("https://ghe.example:8443", "https://ghe.example:8443/api"),
        ("https://octo.ghe.com", "https://api.octo.ghe.com"),
    ],
)
def test_a_secret_may_name_the_host_of_its_connection(base_url: str | None, named: str, key: str) -> None:
    assert read_for(base_url, {key: named}) == read(APP)


@pytest.mark.parametrize("key", ["githubAppBaseURL", "githubAppBaseUrl"])
@pytest.mark.parametrize(
    ("base_url", "named", "hosts"),
    [
        (None, "https://ghe.example/api/v3", ("github.com", "ghe.example")),
        ("", "https://unknown.example", ("github.com", "unknown.example")),
        ("https://ghe.example", "https://api.github.com", ("ghe.example", "github.com")),
        ("https://ghe.example", "https://other.example/api/v3", ("ghe.example", "other.example")),
        ("https://ghe.example", "https://ghe.example:8443", ("host ghe.example ", "ghe.example:8443")),
        ("https://octo.ghe.com", "https://cat.ghe.com", ("octo.ghe.com", "cat.ghe.com")),
        (None, "https://github.com@ghe.example/", ("github.com", "ghe.example")),
        (None, "https://github.com.evil.example/", ("github.com", "github.com.evil.example")),
    ],
)
def test_a_secret_that_names_another_host_is_refused_with_both_hosts(
    base_url: str | None, named: str, hosts: tuple[str, str], key: str
) -> None:
    with pytest.raises(Terminal, match="nothing was sent") as refused:
        read_for(base_url, {key: named})
    assert refused.value.reason == "CredentialInvalid"
    assert all(host in refused.value.message for host in (key, *hosts))


def test_both_spellings_count_where_a_secret_has_both() -> None:
    both = {"githubAppBaseURL": "https://github.com", "githubAppBaseUrl": "https://ghe.example"}
    with pytest.raises(Terminal, match="githubAppBaseUrl"):
        read_for(None, both)


@pytest.mark.parametrize(
    "named",
    ["ghp_abcdefgh", "ghe.example", "ftp://ghe.example", "https://", "https://a b/", "https://x:y/", "https://[/"],
)
def test_a_base_url_that_is_none_is_refused_and_not_quoted(named: str) -> None:
    with pytest.raises(Terminal, match="githubAppBaseURL") as refused:
        read_for("https://ghe.example", {"githubAppBaseURL": named})
    assert refused.value.reason == "CredentialInvalid"
    assert named == "https://" or named not in refused.value.message.replace("Connection's ghe.example", "")


def test_a_token_is_none_of_an_apps_business() -> None:
    assert read({"token": "t", "githubAppBaseURL": "https://ghe.example"}, "pat") == TokenSecret(SecretValue("t"))


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


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", "{}\n\n", " {}", "\t{} ", "\r\n {}\u00a0", "{}\u2028"])
def test_white_space_around_a_token_is_not_part_of_it(around: str) -> None:
    for address in (GITHUB, OWN):
        assert judge(SecretValue(around.format("ghp_abcdefgh")), address).value.reveal() == "ghp_abcdefgh"


@pytest.mark.parametrize("value", ["ghp_abcd efgh", "ghp_abcd\tefgh", "ghp_abcd\u00a0efgh", "ghp_abcd\r\n efgh"])
def test_white_space_inside_a_token_is_refused_and_said(value: str) -> None:
    with pytest.raises(Terminal, match=r"white space inside|several lines"):
        judge(SecretValue(value), OWN)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "\n",
        " \t\r\n",
        "ghp_abcdefgh\nX-Injected: 1",
        "ghp_abc\rdefgh",
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
