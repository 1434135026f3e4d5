"""Settings of a process. They come from the environment only, are read once, and do not change.

A service adds its own variables in a subclass. ``validation_alias`` names the variable. ``description`` completes "accepted: …"
in the error line. A validator quotes a value in its message only if the value can never hold a secret. For example:

    class CrawlerSettings(ServiceSettings):
        crawl_interval: Interval = Field(
            default=timedelta(minutes=2), validation_alias="CODE_PACKAGE_CRAWL_INTERVAL", description=INTERVAL
        )
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from codecommon.api.durations import parse_duration
from codecommon.process.redact import redact
from codecommon.process.secrets import SecretValue

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]

DURATION: Final = "a Go duration such as 90s, 2m or 1h30m"
INTERVAL: Final = f"{DURATION}, longer than zero"
_PROBLEMS: Final = {"int_parsing": "not a whole number", "int_from_float": "not a whole number"}
_NATS_SCHEMES: Final = ("nats", "tls", "ws", "wss")


DEFAULT_WORKSPACE_PATH: Final = "root:kedge:providers:code"
KUBECONFIG_VARIABLES: Final = ("KEDGE_PROVIDER_KUBECONFIG", "CODE_KUBECONFIG", "KUBECONFIG")


class SettingsError(Exception):
    """A variable has a wrong value. The text is one line for the operator and never holds the value of a secret."""


def is_url(text: str, schemes: Collection[str]) -> bool:
    """Whether ``text`` is a URL with one of the ``schemes`` and a host, and without the port 0, which nobody can listen on."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _interval(value: object) -> object:
    duration = _duration(value)
    if isinstance(duration, timedelta) and duration <= timedelta():
        raise ValueError("not longer than zero")
    return duration


def _secret(value: object) -> object:
    # A Secret is often made from a file, and the file often ends with a line feed.
    return SecretValue(value.rstrip("\r\n")) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _existing_file(value: object) -> object:
    # Unlike pathlib it takes a text that can be no path for a file that is not there.
    if isinstance(value, str) and not os.path.isfile(value):
        raise ValueError(f"there is no file {value}")
    return value


def _existing_path(value: object) -> object:
    if isinstance(value, str) and not os.path.exists(value):
        raise ValueError(f"there is nothing at {value}")
    return value


def _absolute(value: object) -> object:
    if isinstance(value, str) and not Path(value).is_absolute():
        raise ValueError("not an absolute path")
    return value


def _nats_urls(value: object) -> object:
    """The servers as a tuple. No message quotes one, because it may hold a password."""
    if not isinstance(value, str):
        return value
    urls = tuple(item.strip() for item in value.split(",") if item.strip())
    if not urls:
        raise ValueError("names no server")
    if not all(is_url(url if "://" in url else f"nats://{url}", _NATS_SCHEMES) for url in urls):
        raise ValueError("one of its servers is not a NATS URL")
    return urls


Interval = Annotated[timedelta, BeforeValidator(_interval)]
Secret = Annotated[SecretValue, BeforeValidator(_secret)]
ExistingFile = Annotated[Path, BeforeValidator(_existing_file)]
ExistingPath = Annotated[Path, BeforeValidator(_existing_path)]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Exactly = Annotated[bool, BeforeValidator(lambda value: value == "true" if isinstance(value, str) else value)]
"""A switch that only the value ``true`` turns on."""
Port = Annotated[int, Field(ge=0, le=65535)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
    )


class NatsSettings(_Settings):
    """Servers of NATS, authentication, TLS, and replicas of what is stored there."""

    url: Annotated[tuple[str, ...], BeforeValidator(_nats_urls)] = Field(
        default=("nats://127.0.0.1:4222",),
        validation_alias="NATS_URL",
        description="servers such as nats://nats.example:4222, separated by commas",
    )
    """The NATS servers. `code-provider serve` runs a nats-server of its own while it is unset."""
    nkey: ExistingPath | None = Field(
        default=None,
        validation_alias="NATS_NKEY",
        description="the path of a file with an nkey's seed, or of a folder with one for each service, such as watcher.nk",
    )
    """The process's NATS user, by its key, as `code-provider nats-auth` writes it."""
    creds: ExistingFile | None = Field(
        default=None, validation_alias="NATS_CREDS", description="the path of a .creds file"
    )
    """The process's NATS user, as `nsc` writes it."""
    user: str | None = Field(default=None, validation_alias="NATS_USER")
    """The process's NATS user, by name."""
    password: Secret | None = Field(default=None, validation_alias="NATS_PASSWORD")
    """Goes with `NATS_USER`."""
    ca: ExistingFile | None = Field(
        default=None, validation_alias="NATS_CA", description="the path of a PEM file with the authorities to trust"
    )
    """The authorities that may have signed the certificate of the NATS servers. Unset: the well-known ones."""
    cert: ExistingFile | None = Field(
        default=None,
        validation_alias="NATS_CERT",
        description="the path of a PEM file with the certificate to show to the server",
    )
    """A certificate, for servers that ask for one."""
    key: ExistingFile | None = Field(
        default=None, validation_alias="NATS_KEY", description="the path of a PEM file with that certificate's key"
    )
    """Goes with `NATS_CERT`."""
    replicas: int = Field(
        default=1,
        ge=1,
        le=5,
        validation_alias="CODE_NATS_REPLICAS",
        description="how many servers keep a message, 1 to 5",
    )
    """Replicas of streams and buckets."""

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        for one, other in (("user", "password"), ("cert", "key")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                missing = f"NATS_{(one if getattr(self, one) is None else other).upper()}"
                pair = f"NATS_{one.upper()} and NATS_{other.upper()}"
                raise ValueError(f"{missing}: not set; accepted: {pair} together, or neither")
        ways = {"NATS_NKEY": self.nkey, "NATS_CREDS": self.creds, "NATS_USER": self.user}
        if len(named := [name for name, value in ways.items() if value is not None]) > 1:
            raise ValueError(f"{named[1]}: set besides {named[0]}; accepted: one way to authenticate")
        return self


class TelemetrySettings(_Settings):
    """Whether there is tracing. The OpenTelemetry SDK reads all other ``OTEL_*`` variables itself."""

    endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    )
    exporter: str = Field(default="otlp", validation_alias="OTEL_TRACES_EXPORTER")
    disabled: Annotated[Exactly, BeforeValidator(_lower)] = Field(default=False, validation_alias="OTEL_SDK_DISABLED")

    @property
    def enabled(self) -> bool:
        return self.endpoint is not None and self.exporter == "otlp" and not self.disabled


class ServiceSettings(_Settings):
    """Settings of every process of the provider."""

    nats: NatsSettings = NatsSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    kubeconfig: Path | None = None
    """None means the service account of the pod."""
    workspace_path: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*(:[a-z0-9][a-z0-9-]*)*$")] = Field(
        default=DEFAULT_WORKSPACE_PATH,
        validation_alias="CODE_WORKSPACE_PATH",
        description="a workspace path such as root:kedge:providers:code",
    )
    """The provider's workspace. The APIExportEndpointSlice refers to the export by it."""
    credentials_namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] = Field(
        default="default", validation_alias="KEDGE_TENANT_CREDENTIALS_NAMESPACE", description="the name of a namespace"
    )
    """Where Secrets are when `secretRef` names no namespace, and where generated key pairs are put. It must exist in the
    workspace.
    """
    resync_interval: Interval = Field(
        default=timedelta(minutes=10), validation_alias="CODE_RESYNC_INTERVAL", description=INTERVAL
    )
    """How often each object is compared with the host."""
    commit_bundle_dir: AbsolutePath | None = Field(
        default=None,
        validation_alias="CODE_COMMIT_BUNDLE_DIR",
        description="the absolute path of a directory that all processes share",
    )
    """Where the files of commits and checkouts are kept. Unset: in NATS."""
    health_host: str = Field(default="", validation_alias="CODE_HEALTH_HOST", description="an address of this machine")
    """Unset: all interfaces if ``CODE_HEALTH_PORT`` is fixed, loopback if it is 0."""
    health_port: Port = Field(
        default=0, validation_alias="CODE_HEALTH_PORT", description="a port, 1 to 65535, or 0 for any free one"
    )
    """Where `/livez`, `/readyz` and `/metrics` are. 0: any free port, which is logged. Under `serve` each service has a free
    one.
    """
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = Field(
        default="info", validation_alias="CODE_LOG_LEVEL", description="debug, info, warning or error"
    )
    """What is logged."""
    log_format: Annotated[LogFormat, BeforeValidator(_lower)] | None = Field(
        default=None, validation_alias="CODE_LOG_FORMAT", description="json or text"
    )
    """Unset: text on a terminal, JSON elsewhere."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read ``environ``, or this process's environment if it is None. An empty variable counts as unset.

        Raises ``SettingsError`` for the first variable with a wrong value.
        """
        variables = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
        source: dict[str, Any] = {
            **variables,
            # A field without a variable of its own is made of several.
            **{name: variables for name, field in cls.model_fields.items() if field.validation_alias is None},
            "kubeconfig": kubeconfig_path(variables),
        }
        try:
            return cls.model_validate(source, by_alias=True, by_name=False)
        except ValidationError as error:
            raise SettingsError(redact(_line(cls, error))) from None


def kubeconfig_path(environ: Mapping[str, str]) -> Path | None:
    """The path in the first kubeconfig variable that is set. None means the service account of the pod."""
    return next((Path(environ[name]) for name in KUBECONFIG_VARIABLES if environ.get(name)), None)


def _line(settings: type[BaseModel], error: ValidationError) -> str:
    """The first problem, as ``VARIABLE: what is wrong; accepted: what is right``."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    own = first["type"] == "value_error"
    problem = (
        first["msg"].removeprefix("Value error, ") if own else _PROBLEMS.get(first["type"], "not an accepted value")
    )
    variable = next((part for part in reversed(first["loc"]) if isinstance(part, str) and part.isupper()), None)
    if variable is None:
        return problem
    accepted = _accepted(settings, variable)
    return f"{variable}: {problem}" + (f"; accepted: {accepted}" if accepted else "")


def _accepted(settings: type[BaseModel], variable: str) -> str | None:
    for field in settings.model_fields.values():
        if field.validation_alias == variable:
            return field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found = _accepted(field.annotation, variable)
            if found:
                return found
    return None
