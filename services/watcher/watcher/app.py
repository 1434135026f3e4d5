"""Composition root of the watcher: the only place that constructs clients."""

from __future__ import annotations

import asyncio
import os
import platform
import uuid
from contextlib import AsyncExitStack

from nats.js.kv import KeyValue

from codecommon.kcp.client import ProviderKcp
from codecommon.kcp.identity import ProviderIdentity
from codecommon.messaging.bundles import open_bundle_store
from codecommon.messaging.bus import LEASES, Bus
from codecommon.messaging.lease import Lease
from codecommon.process.service import Service
from codecommon.process.settings import ServiceSettings
from watcher import endpoint_watch
from watcher.endpoints import Endpoints


async def main(service: Service[ServiceSettings]) -> None:
    """Connect to NATS and kcp, wait for both to be available, and watch until the service is stopped."""
    settings = service.settings
    async with (
        ProviderIdentity(settings.kubeconfig) as provider,
        Bus.connect(settings.nats, service.name) as bus,
        AsyncExitStack() as exits,
    ):
        service.ping("nats", bus.ping)
        service.spawn(bus.keep_open(), "nats")
        service.ping("kcp", provider.ping)
        await provider.wait()
        service.readiness.complaint("streams", lambda: bus.complaint)
        await bus.require(service.name)
        kcp = ProviderKcp(provider)
        holder = f"{platform.node()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"

        async def open_leases() -> KeyValue:
            return await bus.bucket(LEASES)

        deps = endpoint_watch.Dependencies(
            kcp=kcp,
            bus=bus,
            bundles=await exits.enter_async_context(open_bundle_store(settings.commit_bundle_dir or bus)),
            lease=lambda url: Lease(open_leases, url, holder),
            resync_interval=settings.resync_interval,
            credentials_namespace=settings.credentials_namespace,
        )
        endpoints = Endpoints(lambda url: endpoint_watch.watch_endpoint(url, deps))
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(endpoints.run(kcp), name="endpoints")
            service.ready()
            await service.stopping.wait()
            # Releases the leases, so that a standby takes over at once.
            watching.cancel()
