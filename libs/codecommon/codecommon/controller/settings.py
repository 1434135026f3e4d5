"""The settings of the services that reconcile objects against git hosts, on top of those of every process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from codecommon.githost.host_names import allowed_entry
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.limits import Limits, parse_host_limits
from codecommon.githost.registry import published_limits
from codecommon.process.settings import ServiceSettings


def _git_hosts(value: object) -> object:
    if not isinstance(value, str):
        return value
    return frozenset(allowed_entry(item.strip()) for item in value.split(",") if item.strip())


def _host_limits(value: object) -> object:
    return parse_host_limits(value, published_limits()) if isinstance(value, str) else value


def _proxies(value: object) -> object:
    return ProxyRules.from_environ(value) if isinstance(value, dict) else value


class ReconcilerSettings(ServiceSettings):
    """The settings of connection-svc, repository-svc and access-svc."""

    allowed_git_hosts: Annotated[frozenset[str], BeforeValidator(_git_hosts)] = Field(
        default=frozenset(),
        validation_alias="CODE_ALLOWED_GIT_HOSTS",
        description="host or host:port, or http://host:port for plain HTTP, without path, separated by commas",
    )
    """What `baseURL` of a Connection may name besides GitHub's own hosts. Also hosts with a private address that an Enterprise
    Server serves archives and logs from, unless they are its subdomains.
    """
    git_host_limits: Annotated[Mapping[str, Limits], BeforeValidator(_host_limits)] = Field(
        default_factory=dict[str, Limits],
        validation_alias="CODE_GIT_HOST_LIMITS",
        description="host=github, or host=creates:80/1m,creates:500/1h,points:900/1m,interval:1s,concurrent:100; "
        "several hosts separated by ;",
    )
    """Requests that a host allows one account. GitHub's own hosts have those that GitHub publishes; others have none."""
    proxies: Annotated[ProxyRules, BeforeValidator(_proxies)] = ProxyRules()
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY, for requests to git hosts."""
    max_in_flight: int = Field(
        default=64,
        ge=1,
        validation_alias="CODE_MAX_IN_FLIGHT",
        description="how many objects to work on at once, from 1",
    )
    """Objects that one replica works on at once."""
    max_in_flight_per_workspace: int = Field(
        default=16,
        ge=1,
        validation_alias="CODE_MAX_IN_FLIGHT_PER_WORKSPACE",
        description="how many objects of one workspace to work on at once, from 1",
    )
    """The same, of one workspace."""
