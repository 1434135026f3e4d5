"""``code-provider rollback``: makes tenants' objects ready for the Go provider. Run it once ours is scaled to 0.

The Go provider releases Repositories, DeployKeys and Collaborators alone. A finalizer of ours on anything else would hold the
object for ever once somebody deletes it, so it is taken off. Nothing else is changed, and nothing is sent to a git host.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from code_provider.init_settings import InitSettings
from codecommon.api.kinds import KINDS, KindSpec
from codecommon.api.meta import Workspace
from codecommon.kcp.client import Conflict, KcpError, NotFound, ProviderKcp
from codecommon.kcp.endpoints import list_everywhere
from codecommon.kcp.identity import ProviderIdentity
from codecommon.kcp.kubeconfig import KubeconfigError
from codecommon.process.service import EXIT_SETTINGS
from codecommon.process.settings import SettingsError

GO_PROVIDER_RELEASES: Final = frozenset({"repositories", "deploykeys", "collaborators"})

_Found = tuple[str, dict[str, Any]]
"""The endpoint, and the object's metadata."""


async def release(settings: InitSettings) -> tuple[int, list[str]]:
    """How many objects were released, and a line for each that has to be looked at again.

    Raises ``KcpError``, ``KubeconfigError``, ``aiohttp.ClientError`` or ``TimeoutError`` where kcp cannot be asked. It can be
    run again.
    """
    released, left = 0, []
    async with ProviderIdentity(settings.kubeconfig) as provider:
        kcp = ProviderKcp(provider)
        for kind in KINDS.values():
            if kind.resource in GO_PROVIDER_RELEASES:
                continue
            finalizer = kind.finalizer

            def ours(endpoint: str, raw: dict[str, Any], finalizer: str = finalizer) -> _Found | None:
                return (endpoint, raw["metadata"]) if finalizer in raw["metadata"].get("finalizers", ()) else None

            for endpoint, metadata in await list_everywhere(kcp, kind.resource, ours):
                problem = await _release(kcp, kind, endpoint, metadata)
                if problem is None:
                    released += 1
                else:
                    left.append(problem)
    return released, left


async def _release(kcp: ProviderKcp, kind: KindSpec[Any], endpoint: str, metadata: dict[str, Any]) -> str | None:
    """None: the finalizer is gone. Otherwise what is the matter with the object."""
    name, cluster = metadata["name"], metadata["annotations"]["kcp.io/cluster"]
    where = f"{kind.resource}/{name} in workspace {cluster}"
    if metadata.get("deletionTimestamp"):
        return f"{where} is being deleted and waits for its objects; run this again once they are gone"
    rest = [finalizer for finalizer in metadata["finalizers"] if finalizer != kind.finalizer]
    guarded = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"], "finalizers": rest}
    try:
        await kcp.objects(Workspace(endpoint, cluster)).merge_patch(kind.resource, name, {"metadata": guarded})
    except NotFound:
        return None
    except Conflict:
        return f"{where} was written meanwhile; scale the provider to 0 and run this again"
    return None


def rollback(environ: Mapping[str, str]) -> int:
    """Run ``release`` and report on stderr. Returns the exit code: 0 all are released, 1 some are left or kcp cannot be
    asked, 2 if a setting is wrong.
    """
    try:
        released, left = asyncio.run(release(InitSettings.from_environ(environ)))
    except SettingsError as error:
        print(f"rollback: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except (KcpError, KubeconfigError, aiohttp.ClientError, TimeoutError) as error:
        print(f"rollback: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    for line in left:
        print(f"rollback: {line}", file=sys.stderr)
    print(f"rollback: took our finalizer off {released} objects", file=sys.stderr)
    return 1 if left else 0
