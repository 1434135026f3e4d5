"""``code-provider init``: installs the provider's API in its workspace. It runs before ``serve``, or beside the services in it.

Each step needs the one before: the schemas, the APIExport that refers to them, the endpoint slice that refers to the export, the
grant to bind the export, and last the CatalogEntry, which offers the provider to tenants. A second run writes only what changed.

Where ``NATS_URL`` names a nats-server, init first declares there what the services keep in it. No other process declares
anything. One of the two is done, and the error reported, where the other fails.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nats.errors import Error as NatsError

from code_provider.apiexport import ensure_bind_grant, ensure_endpoint_slice, ensure_export
from code_provider.apiresourceschemas import ensure_schemas, read_schemas
from code_provider.catalogentry import ensure_catalog_entry, read_catalog_entry
from code_provider.init_settings import InitSettings
from code_provider.provider_workspace import InitError, ProviderWorkspace
from codecommon.kcp.client import ProviderKcp
from codecommon.kcp.identity import ProviderIdentity
from codecommon.kcp.kubeconfig import KubeconfigError
from codecommon.messaging.bus import Bus
from codecommon.messaging.topology import INIT
from codecommon.process import logs
from codecommon.process.service import EXIT_FAILED, EXIT_SETTINGS, CannotRun
from codecommon.process.settings import SettingsError

_NATS_SECONDS: Final = 60.0


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


async def declare(settings: InitSettings) -> None:
    """Create or update the streams, durables and buckets in NATS. Raises ``InitError``."""
    try:
        async with asyncio.timeout(_NATS_SECONDS), Bus.connect(settings.nats, INIT) as bus:
            await bus.declare()
    except CannotRun as error:
        raise InitError(str(error)) from error
    except TimeoutError as error:
        raise InitError(f"NATS has not answered within {_NATS_SECONDS:g} s; is NATS_URL right?") from error
    except NatsError as error:
        raise InitError(f"cannot declare the streams in NATS: {error}") from error


async def _all(settings: InitSettings) -> list[str]:
    """Neither part waits for the other's success: without NATS all services wait, whatever kcp says of a CatalogEntry."""
    problems: list[str] = []
    writes: list[str] = []
    if settings.external_nats is not None:
        try:
            await declare(settings)
        except InitError as error:
            problems.append(str(error))
    try:
        writes = await bootstrap(settings)
    except InitError as error:
        problems.append(str(error))
    if problems:
        raise InitError("; ".join(problems))
    return writes


def init(environ: Mapping[str, str]) -> int:
    """Install everything with the settings in ``environ`` and report on stderr.

    Returns the exit code: 0 done, 1 failed, 2 if a setting is wrong.
    """
    try:
        writes = asyncio.run(_all(InitSettings.from_environ(environ)))
    except (InitError, SettingsError) as error:
        return _refuse(error)
    for write in writes or ["nothing to do"]:
        print(f"init: {write}", file=sys.stderr)
    return 0


def init_once_possible() -> int:
    """Wait for the kubeconfig, then ``init``: a program that ``code-provider serve`` runs once. Returns the exit code."""
    try:
        asyncio.run(_wait_for_kubeconfig(InitSettings.from_environ(os.environ).kubeconfig))
    except SettingsError as error:
        return _refuse(error)
    return init(os.environ)


async def _wait_for_kubeconfig(path: Path | None) -> None:
    async with ProviderIdentity(path) as provider:
        await provider.wait()


def declare_streams() -> int:
    """``declare`` as a program that ``code-provider serve`` runs once in its own environment. Returns the exit code."""
    try:
        settings = InitSettings.from_environ(os.environ)
        logs.setup(INIT, settings.log_level, settings.log_format)
        asyncio.run(declare(settings))
    except (InitError, SettingsError) as error:
        return _refuse(error)
    return 0


def _refuse(error: Exception) -> int:
    print(f"init: {' '.join(str(error).split())}", file=sys.stderr)
    return EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED
