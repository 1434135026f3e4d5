"""``code-provider init``: installs the provider's API in its workspace. It runs before ``serve``, or beside the services in it.

Each step needs the one before: the schemas, the APIExport that refers to them, the endpoint slice that refers to the export, the
grant to bind the export, and last the CatalogEntry, which offers the provider to tenants. A second run writes only what changed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from code_provider.apiexport import ensure_bind_grant, ensure_endpoint_slice, ensure_export
from code_provider.apiresourceschemas import ensure_schemas, read_schemas
from code_provider.catalogentry import ensure_catalog_entry, read_catalog_entry
from code_provider.init_settings import InitSettings
from code_provider.provider_workspace import InitError, ProviderWorkspace
from codecommon.kcp.client import ProviderKcp
from codecommon.kcp.identity import ProviderIdentity
from codecommon.kcp.kubeconfig import KubeconfigError


async def bootstrap(settings: InitSettings) -> list[str]:
    """Bring the provider's workspace up to date. Returns what was written, in order, as ``created apiexports/x``.

    Raises ``InitError`` at the first step that fails. All files are read before anything is written.
    """
    schemas = read_schemas(settings.schemas_dir)
    entry = read_catalog_entry(settings.catalog_entry) if settings.catalog_entry else None
    async with ProviderIdentity(settings.kubeconfig) as provider:
        try:
            await provider.session()
        except KubeconfigError as error:
            raise InitError(str(error)) from error
        workspace = ProviderWorkspace(ProviderKcp(provider))
        await ensure_schemas(workspace, schemas)
        await ensure_export(workspace, [schema["metadata"]["name"] for schema in schemas])
        await ensure_endpoint_slice(workspace, settings.workspace_path)
        await ensure_bind_grant(workspace)
        if entry is not None:
            await ensure_catalog_entry(workspace, entry)
        return workspace.writes


def init(environ: Mapping[str, str]) -> int:
    """Run ``bootstrap`` with the settings in ``environ`` and report on stderr. Returns the exit code: 0 done, 1 failed."""
    try:
        writes = asyncio.run(bootstrap(InitSettings.from_environ(environ)))
    except InitError as error:
        print(f"init: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    for write in writes or ["nothing to do"]:
        print(f"init: {write}", file=sys.stderr)
    return 0


def init_once_possible(environ: Mapping[str, str]) -> int:
    """Wait for the kubeconfig, then ``init``. Returns its exit code."""
    asyncio.run(_wait_for_kubeconfig(InitSettings.from_environ(environ).kubeconfig))
    return init(environ)


async def _wait_for_kubeconfig(path: Path | None) -> None:
    async with ProviderIdentity(path) as provider:
        await provider.wait()
