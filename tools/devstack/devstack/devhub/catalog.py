"""Follows a provider's CatalogEntry into the registry and writes back what the hub made of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import aiohttp

from devstack.cluster import Cluster
from devstack.devhub.registry import ProviderRecord, ProviderRegistry
from devstack.errors import ApiError
from devstack.resources import Manifest, condition

RETRY_DELAY = 1.0


async def follow_entry(workspace: Cluster, name: str, registry: ProviderRegistry) -> None:
    """Runs until cancelled; goes on where it was after the control plane has been away."""
    while True:
        try:
            async with aclosing(workspace.follow("catalogentries", name)) as states:
                async for entry in states:
                    if entry is None:
                        registry.remove(name)
                    else:
                        await _write_status(workspace, entry, registry.upsert(entry))
        except (ApiError, aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(RETRY_DELAY)


async def _write_status(workspace: Cluster, entry: Manifest, record: ProviderRecord) -> None:
    ready = condition(entry, "Ready")
    wanted = _ready_condition(record, entry["metadata"]["generation"])
    if ready is not None and all(ready.get(key) == value for key, value in wanted.items()):
        return
    if ready is not None and ready["status"] == wanted["status"]:
        changed_at = ready["lastTransitionTime"]
    else:
        changed_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    endpoints = {key: url for key, url in (("ui", record.ui_url), ("backend", record.backend_url)) if url}
    status = {
        "workspace": record.export_path,
        "endpoints": endpoints,
        "conditions": [{**wanted, "lastTransitionTime": changed_at}],
    }
    await workspace.patch("catalogentries", f"{record.name}/status", {"status": status})


def _ready_condition(record: ProviderRecord, generation: int) -> dict[str, Any]:
    if record.endpoints_valid:
        status, reason, message = "True", "EndpointsResolved", "endpoints resolved"
    elif record.ui_url or record.backend_url:
        status, reason, message = "False", "InvalidEndpoint", "an endpoint is not an absolute URL"
    else:
        status, reason, message = "False", "NoEndpoint", "neither a UI nor a backend is named"
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }
