"""The git hosts that a process can talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial

from codecommon.githost.budget.gate import Budgets
from codecommon.githost.github import places
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.host_names import SignInHost
from codecommon.githost.http.conditional import MOST_KEPT_BYTES, ETagLayer
from codecommon.githost.http.outage import BreakerLayer
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.shares import HostShares
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.limits import Limits
from codecommon.githost.provider import Provider, Registry
from codecommon.messaging.bus import Bus


def providers(allowed_hosts: Collection[str] = ()) -> tuple[Provider, ...]:
    """Every provider that we have. A new host is added here.

    ``allowed_hosts``: what ``baseURL`` may name besides each provider's own (CODE_ALLOWED_GIT_HOSTS).
    Raises ValueError for an entry of another form.
    """
    return (GithubProvider(allowed_hosts),)


def published_limits() -> Mapping[str, Limits]:
    """The limits that each provider publishes, by its name."""
    return {provider.name: provider.limits for provider in providers()}


def sign_in_host(base_url: str) -> SignInHost:
    """Where people sign in to the host that a Connection's ``baseURL`` names. GitHub alone has a sign-in so far.

    Raises ValueError for what is no such URL.
    """
    return places.sign_in_host(base_url)


@asynccontextmanager
async def open_registry(
    allowed_hosts: Collection[str],
    bus: Bus,
    limits: Mapping[str, Limits],
    proxies: ProxyRules,
    shares: HostShares | None = None,
    *,
    kept_bytes: int = MOST_KEPT_BYTES,
) -> AsyncIterator[Registry]:
    """Every provider, over connections that are closed when the block is left.

    ``allowed_hosts``: as of ``providers``. ``limits``: those that the operator states, by the host's name.
    ``shares``: as of ``HostTransport``. ``kept_bytes``: of answers that are kept for conditional requests.
    """
    budgets = Budgets(bus, limits)
    # From the outside in. A request that the breaker refuses must cost the account nothing.
    transport = HostTransport(
        layers=[BreakerLayer, budgets.layer, partial(ETagLayer, most_bytes=kept_bytes)],
        turns=budgets.await_turn,
        proxies=proxies,
        shares=shares,
    )
    await budgets.open()
    try:
        yield Registry(providers(allowed_hosts), transport)
    finally:
        await transport.aclose()
        await budgets.aclose()
