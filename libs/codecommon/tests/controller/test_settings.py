from datetime import timedelta
from pathlib import Path

import pytest

from codecommon.controller.settings import ReconcilerSettings
from codecommon.githost.github.provider import LIMITS as GITHUB
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.limits import Limits, Window
from codecommon.process.secrets import SecretValue
from codecommon.process.settings import SettingsError

SECRET = "hunter2-hunter2"


def test_nothing_set_gives_the_documented_defaults() -> None:
    settings = ReconcilerSettings.load({})

    assert settings.nats.url == ("nats://127.0.0.1:4222",)
    assert settings.nats.replicas == 1
    assert settings.kubeconfig is None
    assert settings.workspace_path == "root:kedge:providers:code"
    assert settings.credentials_namespace == "default"
    assert settings.resync_interval == timedelta(minutes=10)
    assert settings.allowed_git_hosts == frozenset()
    assert (settings.max_in_flight, settings.max_in_flight_per_workspace) == (64, 16)
    assert (settings.health_host, settings.health_port) == ("", 0)
    assert (settings.log_level, settings.log_format) == ("info", None)
    assert not settings.telemetry.enabled


@pytest.mark.parametrize(
    ("variable", "value", "read", "expected"),
    [
        ("NATS_URL", "nats://a:4222, tls://b", lambda s: s.nats.url, ("nats://a:4222", "tls://b")),
        ("NATS_URL", "nats.example:4222", lambda s: s.nats.url, ("nats.example:4222",)),
        ("CODE_NATS_REPLICAS", "3", lambda s: s.nats.replicas, 3),
        ("CODE_RESYNC_INTERVAL", "1h30m", lambda s: s.resync_interval, timedelta(minutes=90)),
        (
            "CODE_ALLOWED_GIT_HOSTS",
            "GHE.example.com, git.internal:8443,127.0.0.1:3000,[::1]:80,",
            lambda s: s.allowed_git_hosts,
            frozenset({"ghe.example.com", "git.internal:8443", "127.0.0.1:3000", "[::1]:80"}),
        ),
        (
            "CODE_GIT_HOST_LIMITS",
            "GHE.example:443=github; 127.0.0.1:8080=creates:80/1m,creates:500/1h,points:9/1s,interval:500ms,concurrent:7",
            lambda s: s.git_host_limits,
            {
                "ghe.example": GITHUB,
                "127.0.0.1:8080": Limits((Window(80, 60.0), Window(500, 3600.0)), (Window(9, 1.0),), 0.5, 7),
            },
        ),
        ("HTTPS_PROXY", "proxy.corp:3128", lambda s: s.proxies, ProxyRules(https="http://proxy.corp:3128")),
        ("CODE_LOG_LEVEL", "DEBUG", lambda s: s.log_level, "debug"),
        ("CODE_LOG_FORMAT", "text", lambda s: s.log_format, "text"),
        ("CODE_WORKSPACE_PATH", "root:acme:code", lambda s: s.workspace_path, "root:acme:code"),
        ("KEDGE_TENANT_CREDENTIALS_NAMESPACE", "git", lambda s: s.credentials_namespace, "git"),
        ("CODE_KUBECONFIG", "/etc/kube", lambda s: s.kubeconfig, Path("/etc/kube")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318", lambda s: s.telemetry.enabled, True),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://otel:4318", lambda s: s.telemetry.enabled, True),
    ],
)
def test_a_variable_is_read(variable: str, value: str, read, expected: object) -> None:
    assert read(ReconcilerSettings.load({variable: value})) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NATS_URL", "http://nats.example"),
        ("CODE_GIT_HOST_LIMITS", "ghe.example"),
        ("CODE_GIT_HOST_LIMITS", "ghe.example=fast"),
        ("CODE_GIT_HOST_LIMITS", "ghe.example=creates:80"),
        ("CODE_GIT_HOST_LIMITS", "ghe.example=creates:0/1m"),
        ("CODE_GIT_HOST_LIMITS", "ghe.example=interval:1"),
        ("CODE_GIT_HOST_LIMITS", "ghe.example=github;ghe.example=github"),
        ("NATS_URL", ","),
        ("NATS_URL", "nats://host:port"),
        ("NATS_CREDS", "/does/not/exist"),
        ("NATS_CA", "/does/not/exist"),
        ("CODE_NATS_REPLICAS", "0"),
        ("CODE_RESYNC_INTERVAL", "600"),
        ("CODE_RESYNC_INTERVAL", "0"),
        ("CODE_RESYNC_INTERVAL", "-1m"),
        ("CODE_ALLOWED_GIT_HOSTS", "https://ghe.example.com"),
        ("CODE_ALLOWED_GIT_HOSTS", "ghe.example.com/api"),
        ("CODE_ALLOWED_GIT_HOSTS", "*.example.com"),
        ("CODE_ALLOWED_GIT_HOSTS", "ghe.example.com:70000"),
        ("HTTPS_PROXY", "socks5://proxy.corp:3128"),
        ("CODE_MAX_IN_FLIGHT", "many"),
        ("CODE_MAX_IN_FLIGHT", "0"),
        ("CODE_MAX_IN_FLIGHT_PER_WORKSPACE", "1.5"),
        ("CODE_HEALTH_PORT", "65536"),
        ("CODE_LOG_LEVEL", "loud"),
        ("CODE_LOG_FORMAT", "xml"),
        ("CODE_WORKSPACE_PATH", "root/kedge"),
        ("KEDGE_TENANT_CREDENTIALS_NAMESPACE", "Not_A_Namespace"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_variable_and_what_is_accepted(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        ReconcilerSettings.load({variable: value})

    line = str(refused.value)
    assert line.startswith(f"{variable}: ")
    assert "; accepted: " in line
    assert "\n" not in line


@pytest.mark.parametrize("variable", ["CODE_RESYNC_INTERVAL", "CODE_LOG_LEVEL", "NATS_URL", "CODE_HEALTH_PORT"])
def test_an_empty_variable_counts_as_unset(variable: str) -> None:
    assert ReconcilerSettings.load({variable: ""}) == ReconcilerSettings.load({})


@pytest.mark.parametrize(("given", "missing"), [("NATS_USER", "NATS_PASSWORD"), ("NATS_PASSWORD", "NATS_USER")])
def test_a_nats_user_without_password_or_the_reverse_is_refused(given: str, missing: str) -> None:
    with pytest.raises(SettingsError, match=f"^{missing}: not set") as refused:
        ReconcilerSettings.load({given: SECRET})

    assert SECRET not in str(refused.value)


def test_a_password_in_a_refused_url_is_not_quoted() -> None:
    with pytest.raises(SettingsError) as refused:
        ReconcilerSettings.load({"NATS_URL": f"http://user:{SECRET}@nats.example"})

    assert SECRET not in str(refused.value)


def test_a_password_is_hidden_and_loses_the_line_feed_of_its_file() -> None:
    settings = ReconcilerSettings.load({"NATS_USER": "me", "NATS_PASSWORD": f"{SECRET}\n"})

    assert settings.nats.password == SecretValue(SECRET)
    assert SECRET not in repr(settings)


def test_a_field_name_is_not_a_variable() -> None:
    assert ReconcilerSettings.load({"max_in_flight": "1", "nats": "x", "kubeconfig": "x"}) == ReconcilerSettings.load(
        {}
    )


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "True"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_tracing_can_be_switched_off_in_the_standard_ways(off: dict[str, str]) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318", **off}

    assert not ReconcilerSettings.load(environ).telemetry.enabled
