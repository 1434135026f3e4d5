from datetime import timedelta
from pathlib import Path

import limits
import pytest

from codecommon.process.secrets import SecretValue
from codecommon.process.settings import SettingsError
from gateway.settings import GatewaySettings


def test_by_default_it_listens_on_the_go_providers_port_and_sends_no_heartbeat() -> None:
    settings = GatewaySettings.load({})

    assert (settings.host, settings.port) == ("", 8083)
    assert settings.hub_url is None
    assert settings.hub_token is None
    assert settings.hub_insecure is False
    assert settings.provider_name == "code"


def test_the_go_providers_variables_keep_their_meaning() -> None:
    settings = GatewaySettings.load(
        {
            "PORT": "9000",
            "KEDGE_HUB_URL": "https://hub.example:9443/",
            "KEDGE_HUB_TOKEN": "dev-token\n",
            "KEDGE_HUB_INSECURE": "true",
            "KEDGE_PROVIDER_NAME": "code-2",
        }
    )

    assert settings.port == 9000
    assert settings.hub_url == "https://hub.example:9443"
    assert settings.hub_token == SecretValue("dev-token")
    assert settings.hub_insecure is True
    assert settings.provider_name == "code-2"


def test_by_default_only_mcp_takes_a_large_body_and_two_of_them_fit() -> None:
    settings = GatewaySettings.load({})

    assert (settings.most_head_bytes, settings.most_body_bytes, settings.most_mcp_body_bytes) == (
        1 << 16,
        1 << 16,
        48 << 20,
    )
    assert settings.most_large_bytes == 2 * settings.most_mcp_body_bytes
    assert settings.request_timeout == settings.answer_timeout == timedelta(seconds=30)
    assert settings.caller_rate == limits.parse("600/minute")
    assert settings.portal_folder is None
    assert settings.hub_token_file is None


def test_bounds_and_folders_come_from_the_environment(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch()
    settings = GatewaySettings.load(
        {
            "CODE_PORTAL_DIR": str(tmp_path),
            "CODE_HTTP_MAX_HEADER_BYTES": "8192",
            "CODE_HTTP_MAX_BODY_BYTES": "2048",
            "CODE_MCP_MAX_BODY_BYTES": "3000",
            "CODE_HTTP_MAX_BYTES_IN_FLIGHT": "4096",
            "CODE_HTTP_REQUEST_TIMEOUT": "5s",
            "CODE_HTTP_ANSWER_TIMEOUT": "6s",
            "CODE_CALLER_LIMIT": "5/second",
            "KEDGE_HUB_TOKEN_FILE": str(token),
        }
    )

    assert (settings.portal_folder, settings.hub_token_file) == (tmp_path, token)
    assert (settings.most_head_bytes, settings.most_body_bytes, settings.most_mcp_body_bytes) == (8192, 2048, 3000)
    assert settings.most_bytes_in_flight == 4096
    assert (settings.request_timeout.seconds, settings.answer_timeout.seconds) == (5, 6)
    assert settings.caller_rate == limits.parse("5/second")


@pytest.mark.parametrize("value", ["True", "1", "yes", " true"])
def test_only_the_exact_word_turns_off_verification(value: str) -> None:
    assert GatewaySettings.load({"KEDGE_HUB_INSECURE": value}).hub_insecure is False


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("KEDGE_HUB_URL", "hub.example:9443"),
        ("KEDGE_HUB_URL", "ftp://hub.example"),
        ("KEDGE_PROVIDER_NAME", "a/b"),
        ("CODE_PORTAL_DIR", "/nowhere"),
        ("CODE_HTTP_MAX_HEADER_BYTES", "0"),
        ("CODE_HTTP_MAX_BODY_BYTES", "0"),
        ("CODE_MCP_MAX_BODY_BYTES", "0"),
        ("CODE_HTTP_MAX_BYTES_IN_FLIGHT", "50331648"),
        ("CODE_HTTP_REQUEST_TIMEOUT", "0s"),
        ("CODE_HTTP_ANSWER_TIMEOUT", "soon"),
        ("CODE_CALLER_LIMIT", "often"),
        ("CODE_CALLER_LIMIT", "0/minute"),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: .*; accepted: "):
        GatewaySettings.load({variable: value})
