"""Requests to kcp and its objects as plain JSON.

The provider reaches its own workspace, and tenant workspaces through the virtual workspace of its APIExport (``ProviderKcp``).
A caller reaches logical clusters with their own permissions (``CallerKcp``).

These are plain aiohttp requests. The generated API classes of kubernetes_asyncio would parse every answer a second time, and only
unstructured objects travel here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, overload

import aiohttp
import orjson

from codecommon.api.group import API_VERSION
from codecommon.api.kinds import KINDS
from codecommon.api.meta import Workspace, is_cluster_id

# Callers find them beside what raises them.
from codecommon.kcp.errors import AnswerTooLong
from codecommon.kcp.errors import Conflict as Conflict
from codecommon.kcp.errors import Forbidden as Forbidden
from codecommon.kcp.errors import Invalid as Invalid
from codecommon.kcp.errors import KcpError as KcpError
from codecommon.kcp.errors import NotFound as NotFound
from codecommon.kcp.identity import CallerIdentity, KcpIdentity, ProviderIdentity
from codecommon.kcp.lists import Lists, Turns

T = TypeVar("T")

JsonObject = dict[str, Any]

_REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)
# A GET at a resourceVersion that kcp has not seen (a restored kcp, an event of another shard) hangs for 43 s. A live GET follows.
_NOT_OLDER_TIMEOUT: Final = aiohttp.ClientTimeout(total=3, connect=3)
_MERGE_PATCH: Final = "application/merge-patch+json"


_BY_REASON: Final[Mapping[tuple[int, str], type[KcpError]]] = {
    (404, "NotFound"): NotFound,
    (409, "Conflict"): Conflict,
    (409, "AlreadyExists"): Conflict,
    (403, "Forbidden"): Forbidden,
    (422, "Invalid"): Invalid,
}
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
"""A DNS-1123 subdomain. The name of every object and namespace is one."""
_LONGEST_NAME: Final = 253


def resource_path(resource: str, name: str | None = None, namespace: str | None = None) -> str:
    """The API path of one of our kinds, or of ``secrets`` and ``apibindings``.

    Raises ``NotFound`` for a name that no object can have. Tenants name other objects in theirs, and a name with ``../`` in it
    would lead to another workspace that the provider may read.
    """
    for given in (name, namespace):
        if given is not None and not (len(given) <= _LONGEST_NAME and _NAME.fullmatch(given)):
            raise NotFound(404, "NotFound", "no object can have such a name")
    if resource in KINDS:
        base = f"/apis/{API_VERSION}"
    elif resource == "apibindings":
        base = "/apis/apis.kcp.io/v1alpha2"
    else:
        base = "/api/v1"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{scope}/{resource}" + (f"/{name}" if name else "")


class Kcp:
    """HTTP to kcp as one identity."""

    def __init__(self, identity: KcpIdentity, turns: Turns | None = None) -> None:
        """``turns``: of its lists, shared with others. None: its own."""
        self._identity = identity
        self.lists = Lists(self, turns)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout = _REQUEST_TIMEOUT,
        most_bytes: int | None = None,
    ) -> JsonObject:
        """One request to an absolute URL, or to a path below the identity's server.

        Returns the decoded object. Raises a ``KcpError`` if kcp answers with an error, ``aiohttp.ClientError`` or
        ``TimeoutError`` if there is no answer, ``KubeconfigError`` if there is no kubeconfig, and ``AnswerTooLong`` for an
        answer of more than ``most_bytes``.
        """
        session = await self._identity.session()
        data = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": content_type}
        if most_bytes is not None:
            # A few compressed bytes could become a hundred times as many at once.
            headers["Accept-Encoding"] = "identity"
        async with session.request(method, url, params=params, data=data, headers=headers, timeout=timeout) as response:
            payload = await (response.read() if most_bytes is None else _read_at_most(most_bytes, response))
            if response.status >= 300:
                raise _error(response.status, payload, response.headers.get("Retry-After"))
        try:
            decoded: JsonObject = orjson.loads(payload)
        except orjson.JSONDecodeError:
            pass
        else:
            return decoded
        # Raised outside of the handler: as __context__, orjson's error would keep the text that it could not decode.
        raise KcpError(response.status, "", f"{len(payload)} bytes that are not JSON")

    @asynccontextmanager
    async def stream(
        self, url: str, *, params: Mapping[str, str], headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET whose body is read by whoever enters the context. Errors are those of ``request``."""
        session = await self._identity.session()
        async with session.request("GET", url, params=params, headers=headers, timeout=timeout) as response:
            if response.status >= 300:
                raise _error(response.status, await response.read(), response.headers.get("Retry-After"))
            yield response


class ProviderKcp(Kcp):
    """kcp as the provider."""

    def __init__(self, identity: ProviderIdentity) -> None:
        super().__init__(identity)

    def objects(self, workspace: Workspace) -> ProviderObjects:
        return ProviderObjects(self, workspace)


class CallerKcp(Kcp):
    """kcp as a caller, with the caller's permissions and nothing of the provider's."""

    def __init__(self, identity: CallerIdentity, turns: Turns | None = None) -> None:
        super().__init__(identity, turns)

    def objects(self, cluster: str) -> Objects:
        """The objects of the logical cluster with that ID. Raises ``ValueError`` for anything but an ID, such as a path."""
        if not is_cluster_id(cluster):
            raise ValueError("not the ID of a logical cluster")
        return Objects(self, f"/clusters/{cluster}")


class Objects:
    """The objects of one logical cluster. Every method raises what ``Kcp.request`` raises."""

    def __init__(self, kcp: Kcp, base: str) -> None:
        """``base`` is the cluster's URL, or its path below the identity's server, without trailing slash."""
        self._kcp = kcp
        self._base = base

    async def get(self, resource: str, name: str, *, namespace: str | None = None, not_older: str = "") -> JsonObject:
        """Read one object: live, or with ``not_older`` from kcp's cache, at that resourceVersion or a later one."""
        url = self._base + resource_path(resource, name, namespace)
        if not_older and not_older != "0":
            try:
                return await self._kcp.request(
                    "GET", url, params={"resourceVersion": not_older}, timeout=_NOT_OLDER_TIMEOUT
                )
            except TimeoutError:
                pass
            except KcpError as error:
                if error.status != 504:
                    raise
        return await self._kcp.request("GET", url)

    @overload
    async def list(self, resource: str, *, fields: Mapping[str, str] | None = None) -> list[JsonObject]: ...

    @overload
    async def list(
        self,
        resource: str,
        *,
        keep: Callable[[JsonObject], T | None],
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> list[T]: ...

    async def list(
        self,
        resource: str,
        *,
        keep: Callable[[JsonObject], Any] = lambda raw: raw,
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> list[Any]:
        """What ``keep`` returns for the objects of a kind in the cluster, but for None. Read live, page after page.

        ``fields``: only objects with these values, by path, such as ``{"spec.repositoryRef": "site"}``. ``most``: stop when so
        much was kept. Objects come without labels, and with the annotations that we read. Of many or big objects ``keep`` should
        keep little.
        """
        return await self._kcp.lists.collect(self._base, resource_path(resource), keep, fields=fields or {}, most=most)

    async def merge_patch(
        self,
        resource: str,
        name: str,
        patch: JsonObject,
        *,
        subresource: str = "",
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> JsonObject:
        """Merge-patch one object. ``metadata.uid`` and ``metadata.resourceVersion`` in the patch guard it.

        ``dry_run``: kcp refuses what it would refuse, and stores nothing.
        """
        params = {"dryRun": "All"} if dry_run else None
        url = self._base + resource_path(resource, name, namespace) + (f"/{subresource}" if subresource else "")
        return await self._kcp.request("PATCH", url, params=params, body=patch, content_type=_MERGE_PATCH)

    async def create(
        self, resource: str, body: JsonObject, *, namespace: str | None = None, dry_run: bool = False
    ) -> JsonObject:
        """Create the object, and return it as stored. ``dry_run``: kcp refuses what it would refuse, and stores nothing."""
        params = {"dryRun": "All"} if dry_run else None
        url = self._base + resource_path(resource, None, namespace)
        return await self._kcp.request("POST", url, params=params, body=body)

    async def delete(
        self,
        resource: str,
        name: str,
        *,
        uid: str,
        resource_version: str | None = None,
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> None:
        """Delete the object with that uid. Raises ``Conflict`` if another object has that name by now.

        ``resource_version``: raises ``Conflict`` if the object was changed since. ``dry_run``: kcp refuses what it would
        refuse, and deletes nothing.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        if dry_run:
            # Not a parameter of the URL: kcp does not read those of a DELETE that has a body, and would delete.
            body["dryRun"] = ["All"]
        await self._kcp.request("DELETE", self._base + resource_path(resource, name, namespace), body=body)


class ProviderObjects(Objects):
    """The objects of one tenant workspace, as the provider sees them through its APIExport's endpoint."""

    def __init__(self, kcp: ProviderKcp, workspace: Workspace) -> None:
        super().__init__(kcp, f"{workspace.endpoint}/clusters/{workspace.cluster}")
        self.workspace = workspace


def require_provider_identity(objects: Objects) -> None:
    """Raises ``TypeError`` unless ``objects`` are the provider's. For what only the provider's identity may reach."""
    if not isinstance(objects, ProviderObjects):
        raise TypeError("only the provider's identity may do this")


async def _read_at_most(most: int, response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > most:
            response.close()
            raise AnswerTooLong
        parts.append(part)
    return b"".join(parts)


def _error(status: int, payload: bytes, retry_after: str | None) -> KcpError:
    reason, message = "", ""
    try:
        decoded: Any = orjson.loads(payload)
        # Only kcp's own Status is quoted: any other body may repeat what was sent.
        if isinstance(decoded, dict) and decoded.get("kind") == "Status":  # pyright: ignore[reportUnknownMemberType]
            reason, message = str(decoded.get("reason", "")), str(decoded.get("message", ""))  # pyright: ignore
    except orjson.JSONDecodeError:
        message = f"{len(payload)} bytes that are not JSON"
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    # The reason decides, because it is kcp's own word: a 404 of a proxy in front of it does not say that an object is gone.
    return _BY_REASON.get((status, reason), KcpError)(status, reason, message, seconds)
