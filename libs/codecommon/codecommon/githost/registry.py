"""The git hosts that a process can talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from codecommon.githost.budget.gate import Budgets
from codecommon.githost.budget.limits import Limits
from codecommon.githost.github.backend import open_github
from codecommon.githost.github.endpoint import AllowedHosts
from codecommon.githost.http.conditional import Conditional
from codecommon.githost.http.outage import Guarded
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import Registry
from codecommon.messaging.bus import Bus


@asynccontextmanager
async def open_registry(
    allowed: AllowedHosts, bus: Bus, limits: Mapping[str, Limits], proxies: ProxyRules
) -> AsyncIterator[Registry]:
    """Every provider we have, over connections that are closed when the block is left.

    ``limits``: by host, those that the operator knows of.
    """
    budgets = Budgets(bus, limits)
    # From the outside in. What a host in an outage is not sent must cost its account nothing.
    transport = HostTransport(layers=[Guarded, budgets.layer, Conditional], turns=budgets.await_turn, proxies=proxies)
    await budgets.open()
    try:
        yield Registry({"github": open_github(transport, allowed)})
    finally:
        await transport.aclose()
        await budgets.aclose()
