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
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: .*; accepted: "):
        GatewaySettings.load({variable: value})
