"""Connection: a credential for one account on a git host."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from codecommon.api.meta import BaseStatus, Resource, Wire


class SecretRef(Wire):
    name: str
    namespace: str | None = None
    key: str | None = None


class ConnectionSpec(Wire):
    provider: str
    type: Literal["pat", "github-app", "oauth"]
    owner: str
    secret_ref: SecretRef
    base_url: str | None = Field(None, alias="baseURL")
    ca_bundle: str | None = None


class ConnectionCapability(Wire):
    name: str
    status: Literal["Yes", "No", "Unknown"]
    message: str | None = None


class ConnectionStatus(BaseStatus):
    login: str | None = None
    scopes: tuple[str, ...] | None = None
    host: str | None = None
    token_type: str | None = None
    expires_at: datetime | None = None
    capabilities: tuple[ConnectionCapability, ...] | None = None
    observed_secret_version: str | None = None


class Connection(Resource[ConnectionSpec, ConnectionStatus]):
    pass
