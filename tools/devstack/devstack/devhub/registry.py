"""The hub's in-memory registry of providers: who is in the catalogue and who is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from devstack.resources import Manifest

HEARTBEAT_TTL = 90.0
SWEEP_INTERVAL = 30.0
"""A provider that stops beating is noticed by the first sweep after the TTL: 90 to 120 s later."""

Clock = Callable[[], float]


@dataclass
class ProviderRecord:
    """One provider as the hub knows it. The heartbeat fields live as long as the hub, not in any object."""

    name: str
    spec: dict[str, Any]
    endpoints_valid: bool
    providers_path: str
    last_heartbeat: float | None = None
    heartbeat_stale: bool = False
    reported_version: str = field(default="")

    @property
    def ready(self) -> bool:
        """A provider that has never sent a heartbeat is not asked for one."""
        return self.endpoints_valid and not (self.last_heartbeat is not None and self.heartbeat_stale)

    @property
    def ui_url(self) -> str | None:
        return self.spec.get("ui", {}).get("url")

    @property
    def backend_url(self) -> str | None:
        return self.spec.get("backend", {}).get("url")

    @property
    def export_name(self) -> str | None:
        return self.spec.get("apiExport", {}).get("name")

    @property
    def export_path(self) -> str:
        return f"{self.providers_path}:{self.name}"

    @property
    def dependencies(self) -> list[str]:
        """Names of the providers that a workspace must have enabled before this one."""
        return [entry["name"] for entry in self.spec.get("dependencies", [])]

    @property
    def claims(self) -> list[dict[str, Any]]:
        return self.spec.get("apiExport", {}).get("permissionClaims", [])


class ProviderRegistry:
    """Keyed by the CatalogEntry's name, as in the hub: the last one to be reconciled wins."""

    def __init__(self, clock: Clock = time.monotonic, *, providers_path: str = "root:kedge:providers") -> None:
        self._clock = clock
        self._providers_path = providers_path
        self._records: dict[str, ProviderRecord] = {}

    def get(self, name: str) -> ProviderRecord | None:
        return self._records.get(name)

    def upsert(self, entry: Manifest) -> ProviderRecord:
        """Takes over a CatalogEntry; what heartbeats have told so far is kept."""
        name, spec = entry["metadata"]["name"], entry["spec"]
        valid = endpoints_valid(spec)
        record = self._records.get(name)
        if record is None:
            record = self._records[name] = ProviderRecord(name, spec, valid, self._providers_path)
        record.spec, record.endpoints_valid = spec, valid
        return record

    def ready_backends(self) -> list[ProviderRecord]:
        """The providers that are ready and have a backend, by name."""
        found = (record for _, record in sorted(self._records.items()))
        return [record for record in found if record.ready and record.backend_url]

    def remove(self, name: str) -> None:
        self._records.pop(name, None)

    def beat(self, name: str, version: str) -> bool:
        """Notes a heartbeat; False for a provider that is not in the catalogue."""
        record = self._records.get(name)
        if record is None:
            return False
        record.last_heartbeat, record.heartbeat_stale = self._clock(), False
        record.reported_version = version or record.reported_version
        return True

    def sweep(self) -> None:
        """Marks the providers whose last heartbeat is older than `HEARTBEAT_TTL`."""
        for record in self._records.values():
            if record.last_heartbeat is not None and self._clock() - record.last_heartbeat > HEARTBEAT_TTL:
                record.heartbeat_stale = True

    def catalogue(self) -> dict[str, Any]:
        """The body of ``GET /api/providers``."""
        return {
            "items": [_item(record) for _, record in sorted(self._records.items())],
            "categories": [
                {"name": "Edges", "icon": "Server", "order": 10},
                {"name": "AI", "icon": "Sparkles", "order": 20},
                {"name": "Demo", "icon": "Package", "order": 90},
            ],
        }


def endpoints_valid(spec: dict[str, Any]) -> bool:
    """At least one of UI and backend is named, and every URL that is named has a scheme and a host."""
    ui, backend = spec.get("ui", {}), spec.get("backend", {})
    urls = [url for url in (ui.get("url"), backend.get("url")) if url]
    return bool(urls or ui.get("builtinRoute")) and all(urlsplit(url).scheme and urlsplit(url).netloc for url in urls)


def _item(record: ProviderRecord) -> dict[str, Any]:
    spec, ui = record.spec, record.spec.get("ui", {})
    always = {
        "name": record.name,
        "displayName": spec["displayName"],
        "ready": record.ready,
        "hasUI": bool(record.ui_url or ui.get("builtinRoute")),
        "hasBackend": bool(record.backend_url),
    }
    optional = {
        "version": spec.get("version"),
        "iconURL": spec.get("iconURL") or (f"/ui/providers/{record.name}/icon.svg" if record.ui_url else None),
        "builtinRoute": ui.get("builtinRoute"),
        "children": ui.get("children"),
        "category": spec.get("category"),
        "dependencies": spec.get("dependencies"),
        "apiExportPath": record.export_path if record.export_name else None,
        "apiExportName": record.export_name,
        "permissionClaims": record.claims,
        "edgeProxyAccess": spec.get("edgeProxyAccess"),
    }
    return always | {key: value for key, value in optional.items() if value}
