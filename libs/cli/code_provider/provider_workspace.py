"""The provider's own workspace, as raw objects; keeps a list of what was written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

import aiohttp
import orjson

from code_provider.errors import InitError, NotPermitted
from codecommon.kcp.client import Conflict, Forbidden, Kcp, KcpError, NotFound
from codecommon.kcp.client import JsonObject as JsonObject

ATTEMPTS: Final = 5
"""How often to read and decide again because somebody else wrote in between: kcp's controllers, or a second init."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A cluster-scoped resource: ``api`` is its group and version, ``plural`` its name in URLs."""

    api: str
    plural: str

    def path(self, name: str | None = None) -> str:
        return f"/apis/{self.api}/{self.plural}" + (f"/{quote(name, safe=':')}" if name else "")


class Workspace(Protocol):
    """What the steps of init need. Every method raises ``InitError`` for an answer that is not one of those named."""

    async def get(self, resource: Resource, name: str) -> JsonObject | None:
        """The object, or None only where kcp says that there is none."""
        ...

    async def create(self, resource: Resource, body: JsonObject) -> bool:
        """False: an object of that name exists already."""
        ...

    async def replace(self, resource: Resource, body: JsonObject) -> bool:
        """False: it is no longer at the resourceVersion in ``body``, or gone."""
        ...

    async def delete(self, resource: Resource, name: str) -> None:
        """An object that is gone counts as deleted."""
        ...


async def ensure(
    workspace: Workspace, resource: Resource, name: str, wanted: Callable[[JsonObject | None], JsonObject]
) -> bool:
    """Create the object, or replace it where it is not what ``wanted`` makes of the existing one; True: it was created.

    Raises ``InitError`` when somebody else wins every time.
    """
    for _ in range(ATTEMPTS):
        existing = await workspace.get(resource, name)
        body = wanted(existing)
        if existing is None:
            if await workspace.create(resource, body):
                return True
        elif body == existing or await workspace.replace(resource, body):
            return False
    raise InitError(f"cannot update {resource.plural}/{name}: somebody else keeps changing it")


class KcpWorkspace:
    """``Workspace`` on kcp. ``writes`` names what was changed, in order: ``created apiexports/x``."""

    def __init__(self, kcp: Kcp) -> None:
        self._kcp = kcp
        self.writes: list[str] = []

    async def get(self, resource: Resource, name: str) -> JsonObject | None:
        request = self._kcp.request("GET", resource.path(name))
        try:
            return await _answered(request, f"read {resource.plural}/{name}")
        except NotFound:
            return None

    async def create(self, resource: Resource, body: JsonObject) -> bool:
        name = body["metadata"]["name"]
        request = self._kcp.request("POST", resource.path(), body=body)
        try:
            await _answered(request, f"create {resource.plural}/{name}")
        except Conflict:
            return False
        except NotFound as error:
            raise InitError(f"cannot create {resource.plural}/{name}: {error}") from error
        self.writes.append(f"created {resource.plural}/{name}")
        return True

    async def replace(self, resource: Resource, body: JsonObject) -> bool:
        name = body["metadata"]["name"]
        request = self._kcp.request("PUT", resource.path(name), body=body)
        try:
            await _answered(request, f"update {resource.plural}/{name}")
        except (Conflict, NotFound):
            return False
        self.writes.append(f"updated {resource.plural}/{name}")
        return True

    async def delete(self, resource: Resource, name: str) -> None:
        request = self._kcp.request("DELETE", resource.path(name))
        try:
            await _answered(request, f"delete {resource.plural}/{name}")
        except NotFound:
            return
        self.writes.append(f"deleted {resource.plural}/{name}")


async def _answered(request: Awaitable[JsonObject], action: str) -> JsonObject:
    """The answer; ``NotFound`` and ``Conflict`` pass, everything else is an ``InitError`` that names the action."""
    try:
        return await request
    except (NotFound, Conflict):
        raise
    except Forbidden as error:
        raise NotPermitted(f"cannot {action}: {error}") from error
    except KcpError as error:
        if error.status == 404:
            # Not that there is no such object, which is ``NotFound``: nobody knows the path.
            raise InitError(
                f"cannot {action}: 404, nothing serves that API there; does the kubeconfig name the provider's workspace, as the "
                "hub has made it?"
            ) from error
        raise InitError(f"cannot {action}: {error}") from error
    except TimeoutError as error:
        raise InitError(f"cannot {action}: no answer in time") from error
    except aiohttp.ClientError as error:
        raise InitError(f"cannot {action}: {error}") from error
    except orjson.JSONDecodeError as error:
        raise InitError(
            f"cannot {action}: the answer is not JSON; does the kubeconfig's server name a workspace?"
        ) from error
