"""Settings of the gateway. The variables have the names that the Go provider's chart sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints

from codecommon.process.settings import Exactly, Port, Secret, is_url
from gateway.http_settings import HttpSettings
from gateway.mcp_settings import McpSettings
from gateway.oauth.settings import OAuthSettings


def _http_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not is_url(value, ("http", "https")):
        raise ValueError("not an http or https URL")
    return value.rstrip("/")


class GatewaySettings(HttpSettings, McpSettings):
    """The gateway's own settings, besides those of every process."""

    host: str = Field(default="", validation_alias="CODE_GATEWAY_HOST", description="an address of this machine")
    """Where the gateway listens. Unset: on all interfaces."""
    port: Port = Field(
        default=8083, validation_alias="PORT", description="a port, 1 to 65535, or 0 for any free one, which is logged"
    )
    """The port that the gateway listens on."""
    hub_url: Annotated[str, BeforeValidator(_http_url)] | None = Field(
        default=None, validation_alias="KEDGE_HUB_URL", description="the hub's address such as https://hub.example:9443"
    )
    """The hub to report to. Unset: no heartbeat."""
    hub_token: Secret | None = Field(default=None, validation_alias="KEDGE_HUB_TOKEN")
    """Authenticates the heartbeat."""
    hub_token_file: Path | None = Field(
        default=None, validation_alias="KEDGE_HUB_TOKEN_FILE", description="the path of a file with the token"
    )
    """A file with the token, which may appear later. It is read for each heartbeat, and wins over ``KEDGE_HUB_TOKEN``."""
    hub_insecure: Exactly = Field(default=False, validation_alias="KEDGE_HUB_INSECURE")
    """``true`` alone turns off the verification of the hub's certificate."""
    provider_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")] = Field(
        default="code", validation_alias="KEDGE_PROVIDER_NAME", description="the name of the provider's CatalogEntry"
    )
    """The name to report to the hub under."""
    oauth: OAuthSettings = OAuthSettings()
