"""The provider's own workspace as ``code-provider init`` sees it: plain objects, and a list of what was written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import aiohttp

from codecommon.kcp.client import Conflict, Forbidden, JsonObject, KcpError, NotFound, ProviderKcp

ATTEMPTS: Final = 5
"""How often to read and decide again because kcp's controllers, or a second init, wrote in between."""


class InitError(Exception):
    """Ends ``code-provider init``. The message is one line: what could not be done, and why."""


class NotPermitted(InitError):
    """kcp answers that the provider may not do it."""


@dataclass(frozen=True, slots=True)
class GroupVersionResource:
    """A cluster-scoped resource: ``api_version`` is its group and version, ``resource`` its plural name in URLs."""

    api_version: str
    resource: str

    def path(self, name: str | None = None) -> str:
        return f"/apis/{self.api_version}/{self.resource}" + (f"/{quote(name, safe=':')}" if name else "")


class ProviderWorkspace:
    """Reads and writes the workspace's objects. Every method raises ``InitError`` for an answer that it does not name.

    ``writes`` lists what was changed, in order, as ``created apiexports/x``.
    """

    def __init__(self, kcp: ProviderKcp) -> None:
        self._kcp = kcp
        self.writes: list[str] = []

    async def get(self, resource: GroupVersionResource, name: str) -> JsonObject | None:
        """The object. None only if kcp says that there is none."""
        request = self._kcp.request("GET", resource.path(name))
        try:
            return await _answered(request, f"read {resource.resource}/{name}")
        except NotFound:
            return None

    async def create(self, resource: GroupVersionResource, body: JsonObject) -> bool:
        """False: an object of that name exists already."""
        name = body["metadata"]["name"]
        request = self._kcp.request("POST", resource.path(), body=body)
        try:
            await _answered(request, f"create {resource.resource}/{name}")
        except Conflict:
            return False
        except NotFound as error:
            raise InitError(f"cannot create {resource.resource}/{name}: {error}") from error
        self.writes.append(f"created {resource.resource}/{name}")
        return True

    async def replace(self, resource: GroupVersionResource, body: JsonObject) -> bool:
        """False: the object is gone, or no longer at the resourceVersion in ``body``."""
        name = body["metadata"]["name"]
        request = self._kcp.request("PUT", resource.path(name), body=body)
        try:
            await _answered(request, f"update {resource.resource}/{name}")
        except (Conflict, NotFound):
            return False
        self.writes.append(f"updated {resource.resource}/{name}")
        return True

    async def delete(self, resource: GroupVersionResource, name: str) -> None:
        """An object that is gone already counts as deleted."""
        request = self._kcp.request("DELETE", resource.path(name))
        try:
            await _answered(request, f"delete {resource.resource}/{name}")
        except NotFound:
            return
        self.writes.append(f"deleted {resource.resource}/{name}")


async def ensure(
    workspace: ProviderWorkspace,
    resource: GroupVersionResource,
    name: str,
    wanted: Callable[[JsonObject | None], JsonObject],
) -> bool:
    """Create the object, or replace it if it differs from what ``wanted`` makes of it. True: it was created.

    Raises ``InitError`` if somebody else writes first every time.
    """
    for _ in range(ATTEMPTS):
        existing = await workspace.get(resource, name)
        body = wanted(existing)
        if existing is None:
            if await workspace.create(resource, body):
                return True
        elif body == existing or await workspace.replace(resource, body):
            return False
    raise InitError(f"cannot update {resource.resource}/{name}: somebody else keeps changing it")


async def _answered(request: Awaitable[JsonObject], action: str) -> JsonObject:
    """The answer. Raises ``NotFound`` and ``Conflict`` as they are, everything else as an ``InitError`` with the action."""
    try:
        return await request
    except (NotFound, Conflict):
        raise
    except Forbidden as error:
        raise NotPermitted(f"cannot {action}: {error}") from error
    except KcpError as error:
        if error.status == 404:
            # Unlike ``NotFound`` this 404 says that nothing serves the path.
            raise InitError(
                f"cannot {action}: 404, nothing serves that API there; does the kubeconfig name the provider's workspace, as the "
                "hub has made it?"
            ) from error
        raise InitError(f"cannot {action}: {error}") from error
    except TimeoutError as error:
        raise InitError(f"cannot {action}: no answer in time") from error
    except aiohttp.ClientError as error:
        raise InitError(f"cannot {action}: {error}") from error
