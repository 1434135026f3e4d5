"""The git hosts that a process can talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from codecommon.githost.allow import AllowedHosts
from codecommon.githost.backend import Registry
from codecommon.githost.github.backend import open_github
from codecommon.githost.github.conditional import Conditional
from codecommon.githost.github.outage import Guarded
from codecommon.githost.github.transport import HostTransport


@asynccontextmanager
async def open_registry(allowed: AllowedHosts) -> AsyncIterator[Registry]:
    """Every provider we have, over connections that are closed when the block is left.

    Raises ValueError for a proxy in the environment that cannot be used.
    """
    transport = HostTransport(layers=[Conditional, Guarded])
    try:
        yield Registry({"github": open_github(transport, allowed)})
    finally:
        await transport.aclose()
