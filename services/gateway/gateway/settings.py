"""Settings of the gateway, with the names that today's chart sets."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StringConstraints

from codecommon.settings import Exactly, Port, Secret, ServiceSettings


def _http_url(value: object) -> object:
    if isinstance(value, str):
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("not an http or https URL")
        return value.rstrip("/")
    return value


class GatewaySettings(ServiceSettings):
    """What the gateway understands besides what every process does."""

    host: str = Field(default="", validation_alias="CODE_GATEWAY_HOST", description="an address of this machine")
    """Empty: all interfaces."""
    port: Port = Field(
        default=8083, validation_alias="PORT", description="a port, 1 to 65535, or 0 for any free one, which is logged"
    )
    hub_url: Annotated[str, BeforeValidator(_http_url)] | None = Field(
        default=None, validation_alias="KEDGE_HUB_URL", description="the hub's address such as https://hub.example:9443"
    )
    """None: no heartbeat."""
    hub_token: Secret | None = Field(default=None, validation_alias="KEDGE_HUB_TOKEN")
    hub_insecure: Exactly = Field(default=False, validation_alias="KEDGE_HUB_INSECURE")
    """``true``: the hub's certificate is not verified."""
    provider_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")] = Field(
        default="code", validation_alias="KEDGE_PROVIDER_NAME", description="the name of the provider's CatalogEntry"
    )
