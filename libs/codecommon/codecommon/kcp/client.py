"""Access to kcp: the provider workspace, and tenant workspaces through the APIExport virtual workspace.

Plain requests on aiohttp instead of the generated API classes: only unstructured objects travel here, and the generated
client adds a second JSON round trip to each. kubernetes_asyncio reads the kubeconfig and refreshes credentials
(``codecommon.kcp.kubeconfig``).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import orjson

from codecommon.api.group import API_VERSION
from codecommon.api.kinds import KINDS
from codecommon.api.meta import Workspace
from codecommon.kcp.kubeconfig import KubeAccess

JsonObject = dict[str, Any]

_REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)
# A GET at a version that kcp has not seen (a restored kcp, an event of another shard) hangs for 43 s; a live GET answers then.
_NOT_OLDER_TIMEOUT: Final = aiohttp.ClientTimeout(total=3, connect=3)
_MERGE_PATCH: Final = "application/merge-patch+json"


class KcpError(Exception):
    """kcp answered with an error. ``message`` is its Status message, never a body of another shape."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class NotFound(KcpError):
    """404: no such object, or no such resource in that workspace."""


class Conflict(KcpError):
    """409: another resourceVersion or uid than the write was guarded with, or the object exists already."""


class Forbidden(KcpError):
    """403: not exported, not claimed, or a claim that the tenant did not accept."""


class Invalid(KcpError):
    """422: refused by validation."""


_BY_REASON: Final[Mapping[tuple[int, str], type[KcpError]]] = {
    (404, "NotFound"): NotFound,
    (409, "Conflict"): Conflict,
    (409, "AlreadyExists"): Conflict,
    (403, "Forbidden"): Forbidden,
    (422, "Invalid"): Invalid,
}
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
"""A DNS-1123 subdomain, which the name of every object and namespace is."""


def resource_path(resource: str, name: str | None = None, namespace: str | None = None) -> str:
    """The API path of one of our kinds, or of ``secrets`` and ``apibindings``.

    Raises ``NotFound`` for a name that no object can have. Tenants write names of other objects into their own, and one with
    ``../`` in it would lead to another workspace, where the provider may read, too.
    """
    for given in (name, namespace):
        if given is not None and not _NAME.fullmatch(given):
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
    """HTTP to kcp with the provider's identity."""

    def __init__(self, access: KubeAccess) -> None:
        self._access = access

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout = _REQUEST_TIMEOUT,
    ) -> JsonObject:
        """One request to an absolute URL, or to a path of the provider workspace.

        Returns the decoded object. Raises a ``KcpError`` for an answer that is an error, ``aiohttp.ClientError`` or
        ``TimeoutError`` where there was no answer.
        """
        access = await self._access.current()
        target = url if "://" in url else access.server + url
        headers = await access.headers()
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = orjson.dumps(body)
        async with access.session.request(
            method, target, params=params, data=data, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            payload = await response.read()
            if response.status >= 300:
                raise _error(response.status, payload, response.headers.get("Retry-After"))
        try:
            decoded: JsonObject = orjson.loads(payload)
        except orjson.JSONDecodeError:
            pass
        else:
            return decoded
        # Raised outside the handler: __context__ would keep orjson's error, and with it what was to be decoded.
        raise KcpError(response.status, "", f"{len(payload)} bytes that are not JSON")

    @asynccontextmanager
    async def stream(
        self, url: str, *, params: Mapping[str, str], headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET whose body the caller reads; raises a ``KcpError`` when kcp refuses it."""
        access = await self._access.current()
        async with access.session.get(
            url, params=params, headers={**await access.headers(), **headers}, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status >= 300:
                raise _error(response.status, await response.read(), response.headers.get("Retry-After"))
            yield response

    def objects(self, workspace: Workspace) -> Objects:
        return Objects(self, workspace)


class Objects:
    """Objects of one tenant workspace. Every method raises ``KcpError``s as ``Kcp.request`` does."""

    def __init__(self, kcp: Kcp, workspace: Workspace) -> None:
        self._kcp = kcp
        self._base = f"{workspace.endpoint}/clusters/{workspace.cluster}"
        self.workspace = workspace

    async def get(self, resource: str, name: str, *, namespace: str | None = None, not_older: str = "") -> JsonObject:
        """Read one object: live, or, with ``not_older``, from kcp's cache at that resourceVersion or a later one."""
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

    async def list(self, resource: str, *, field_selector: str = "", not_older: str = "") -> list[JsonObject]:
        """All objects of a kind in the workspace, live unless ``not_older`` allows kcp's cache."""
        params: dict[str, str] = {}
        if field_selector:
            params["fieldSelector"] = field_selector
        if not_older and not_older != "0":
            params |= {"resourceVersion": not_older, "resourceVersionMatch": "NotOlderThan"}
        answer = await self._kcp.request("GET", self._base + resource_path(resource), params=params)
        items: list[JsonObject] = answer["items"]
        return items

    async def merge_patch(
        self, resource: str, name: str, patch: JsonObject, *, subresource: str = "", namespace: str | None = None
    ) -> JsonObject:
        """Merge-patch one object. The patch carries ``metadata.uid`` and ``metadata.resourceVersion`` as its guard."""
        url = self._base + resource_path(resource, name, namespace) + (f"/{subresource}" if subresource else "")
        return await self._kcp.request("PATCH", url, body=patch, content_type=_MERGE_PATCH)

    async def create(self, resource: str, body: JsonObject, *, namespace: str | None = None) -> JsonObject:
        return await self._kcp.request("POST", self._base + resource_path(resource, None, namespace), body=body)

    async def delete(self, resource: str, name: str, *, uid: str, namespace: str | None = None) -> None:
        """Delete the object with that uid; raises ``Conflict`` when the name belongs to another by now."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        await self._kcp.request("DELETE", self._base + resource_path(resource, name, namespace), body=body)


def _error(status: int, payload: bytes, retry_after: str | None) -> KcpError:
    reason, message = "", ""
    try:
        decoded: Any = orjson.loads(payload)
        # Only kcp's own Status is quoted: any other body may hold what was sent to it.
        if isinstance(decoded, dict) and decoded.get("kind") == "Status":  # pyright: ignore[reportUnknownMemberType]
            reason, message = str(decoded.get("reason", "")), str(decoded.get("message", ""))  # pyright: ignore
    except orjson.JSONDecodeError:
        message = f"{len(payload)} bytes that are not JSON"
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    # By kcp's own word: the 404 of something in front of it does not say that an object is gone.
    return _BY_REASON.get((status, reason), KcpError)(status, reason, message, seconds)
