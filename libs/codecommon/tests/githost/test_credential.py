from __future__ import annotations

import pytest

from codecommon.api.results import Terminal
from codecommon.githost.github.endpoint import AllowedHosts
from codecommon.githost.github.token import judge
from codecommon.process.secrets import SecretValue

GITHUB = AllowedHosts().endpoint("")
OWN = AllowedHosts(["ghe.example"]).endpoint("https://ghe.example")


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
    credential = judge(SecretValue(value), GITHUB)
    assert (credential.token.reveal(), credential.kind) == (value, kind)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_newline_at_the_end_of_a_file_is_not_part_of_the_token(ending: str) -> None:
    assert judge(SecretValue("ghp_abcdefgh" + ending), GITHUB).token.reveal() == "ghp_abcdefgh"


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
    for endpoint in (GITHUB, OWN):
        with pytest.raises(Terminal) as refused:
            judge(SecretValue(value), endpoint)
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
