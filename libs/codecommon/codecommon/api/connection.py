"""Connection: a credential for one account on a git host."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from codecommon.api.meta import BaseStatus, Resource, Wire


class SecretRef(Wire):
    """``namespace`` None: the provider's namespace for credentials of tenants. ``key`` None: the entry ``token``."""

    name: str
    namespace: str | None = None
    key: str | None = None


class ConnectionSpec(Wire):
    """``owner``: the user or organisation whose repositories it is for. ``base_url`` None: github.com.

    ``ca_bundle``: PEM certificates of further authorities.
    """

    provider: str
    type: Literal["pat", "github-app", "oauth"]
    owner: str
    secret_ref: SecretRef
    base_url: str | None = Field(None, alias="baseURL")
    ca_bundle: str | None = None


class ConnectionCapability(Wire):
    """What the credential may do. ``message``: what it lacks."""

    name: str
    status: Literal["Yes", "No", "Unknown"]
    message: str | None = None


class ConnectionStatus(BaseStatus):
    """``observed_secret_version``: the resourceVersion of the Secret that all fields but ``host`` speak of.

    ``expires_at`` None: the credential does not expire, or the host does not tell.
    """

    login: str | None = None
    scopes: tuple[str, ...] | None = None
    host: str | None = None
    token_type: str | None = None
    expires_at: datetime | None = None
    capabilities: tuple[ConnectionCapability, ...] | None = None
    observed_secret_version: str | None = None


class Connection(Resource[ConnectionSpec, ConnectionStatus]):
    pass
