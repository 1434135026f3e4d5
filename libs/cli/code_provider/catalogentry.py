"""The CatalogEntry with which the provider registers in the hub's catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from code_provider.apiresourceschemas import read_object
from code_provider.provider_workspace import GroupVersionResource, ProviderWorkspace, ensure
from codecommon.kcp.client import JsonObject

CATALOG_ENTRIES: Final = GroupVersionResource("providers.kedge.faros.sh/v1alpha1", "catalogentries")


def read_catalog_entry(path: Path) -> JsonObject:
    """The CatalogEntry in ``path``. Raises ``InitError`` unless the file holds exactly one, with a name."""
    return read_object(path, CATALOG_ENTRIES.api_version, "CatalogEntry")


async def ensure_catalog_entry(workspace: ProviderWorkspace, entry: JsonObject) -> None:
    """Create the entry, or give the existing one this spec and these labels and annotations. What the hub wrote stays."""

    def wanted(existing: JsonObject | None) -> JsonObject:
        if existing is None:
            return entry
        metadata = dict(existing["metadata"])
        for key in ("labels", "annotations"):
            if entry["metadata"].get(key):
                metadata[key] = {**metadata.get(key, {}), **entry["metadata"][key]}
        return {**existing, "metadata": metadata, "spec": entry["spec"]}

    await ensure(workspace, CATALOG_ENTRIES, entry["metadata"]["name"], wanted)
