"""A plain client for one workspace of kcp: requests, server-side apply, and waiting on a watch.

It talks to the API server directly, as a tenant or administrator with kubectl would, and shares no code with the
provider: a mistake in the provider's own client cannot hide here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import aiohttp

from devstack.errors import ApiError, WaitTimeout
from devstack.kubeconfig import Access
from devstack.resources import DEFAULT_NAMESPACE, RECONCILE_REQUESTED_AT, Manifest, Resource, by_plural, of_manifest

APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
FIELD_MANAGER = "devstack"

MAX_WATCH_LINE = 8 << 20
"""Bytes of one watch event; the largest object that etcd takes is 1.5 MB."""

Predicate = Callable[[Manifest | None], bool]
"""Judges an object; gets None when it does not exist."""


def open_session() -> aiohttp.ClientSession:
    """A session for any number of `Cluster` clients; the caller closes it.

    No overall timeout, because watches stay open; `Cluster.request` bounds every other call.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        read_bufsize=MAX_WATCH_LINE,
    )


class Cluster:
    """Client for one logical cluster; `server` ends in ``/clusters/<id or path>``."""

    def __init__(self, session: aiohttp.ClientSession, access: Access) -> None:
        self._session = session
        self.access = access

    @property
    def server(self) -> str:
        return self.access.server

    def with_token(self, token: str) -> Cluster:
        """The same workspace for the holder of `token`."""
        return Cluster(self._session, replace(self.access, token=token))

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Any:
        """The decoded JSON answer to one call at `path` below the cluster; raises `ApiError` for an error status.

        `body` is sent as JSON, which is also YAML, so any of the patch content types goes. A 429 is waited for: kcp has not
        done anything then, and says so while it sets up an API that was just bound.
        """
        data = None if body is None else json.dumps(body)
        headers = self._headers() | ({"Content-Type": content_type} if data else {})
        async with asyncio.timeout(timeout):
            while True:
                async with self._session.request(
                    method, self.server + path, data=data, params=params, headers=headers, ssl=self.access.tls or True
                ) as response:
                    text = await response.text()
                    if response.status != 429:
                        _raise_for(response, text)
                        return json.loads(text) if response.content_type == "application/json" else text
                await asyncio.sleep(float(response.headers.get("Retry-After", "1")))

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply, taking over fields from other managers; returns the object as stored."""
        namespace = manifest["metadata"].get("namespace", DEFAULT_NAMESPACE)
        path = of_manifest(manifest).path(manifest["metadata"]["name"], namespace=namespace)
        return await self.request(
            "PATCH", path, manifest, APPLY, params={"fieldManager": FIELD_MANAGER, "force": "true"}
        )

    async def create(self, manifest: Manifest) -> Manifest:
        """Creates the object; raises `ApiError` 409 if it exists."""
        namespace = manifest["metadata"].get("namespace", DEFAULT_NAMESPACE)
        return await self.request("POST", of_manifest(manifest).path(namespace=namespace), manifest)

    async def get(self, resource: str, name: str, *, namespace: str = DEFAULT_NAMESPACE) -> Manifest | None:
        """The object, or None if there is none. `resource` is the plural: ``repositories``, ``secrets``."""
        try:
            return await self.request("GET", by_plural(resource).path(name, namespace=namespace))
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise

    async def list(self, resource: str, *, namespace: str = DEFAULT_NAMESPACE) -> list[Manifest]:
        """All objects of the resource in this workspace (in `namespace`, if it has namespaces)."""
        return (await self.request("GET", by_plural(resource).path(namespace=namespace)))["items"]

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Any,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        content_type: str = MERGE_PATCH,
    ) -> Manifest:
        return await self.request("PATCH", by_plural(resource).path(name, namespace=namespace), patch, content_type)

    async def patch_status(self, resource: str, name: str, status: Mapping[str, Any]) -> Manifest:
        """Merge `status` into the object's, as its controller or an earlier provider would have."""
        path = by_plural(resource).path(name) + "/status"
        return await self.request("PATCH", path, {"status": status}, MERGE_PATCH)

    async def request_reconcile(self, resource: str, name: str, when: str = "now") -> None:
        """Ask the provider to look at the object, as a user would who has just mended something on the host."""
        await self.patch(resource, name, {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: when}}})

    async def reconcile(self, resource: str, name: str, when: str, timeout: float = 30.0) -> Manifest:
        """Ask for a look at the object and return it as that look left it. `when` is new to the object."""
        await self.request_reconcile(resource, name, when)
        handled = await self.wait_for(
            resource, name, lambda o: o is not None and o["status"].get("lastHandledReconcileAt") == when, timeout
        )
        assert handled is not None
        return handled

    async def delete(self, resource: str, name: str, *, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Asks for the object's deletion; no error if it is gone. Does not wait for finalizers."""
        try:
            await self.request("DELETE", by_plural(resource).path(name, namespace=namespace))
        except ApiError as problem:
            if problem.status != 404:
                raise

    async def wait_for(
        self,
        resource: str,
        name: str,
        predicate: Predicate,
        timeout: float = 30.0,
        *,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> Manifest | None:
        """The object as soon as `predicate` accepts it; follows a watch.

        Raises `WaitTimeout` with the last state seen after `timeout` seconds.
        """
        last: Manifest | None = None
        try:
            async with asyncio.timeout(timeout), aclosing(self.follow(resource, name, namespace=namespace)) as states:
                async for last in states:
                    if predicate(last):
                        return last
        except TimeoutError:
            pass
        raise WaitTimeout(f"{resource}/{name} not as wanted after {timeout:g} s; last seen: {_summary(last)}")

    async def follow(
        self, resource: str, name: str, *, namespace: str = DEFAULT_NAMESPACE
    ) -> AsyncGenerator[Manifest | None]:
        """Every state of one object from now on, None while it does not exist; goes on until the caller stops."""
        kind = by_plural(resource)
        selector = {"fieldSelector": f"metadata.name={name}"}
        while True:
            found = await self.request("GET", kind.path(namespace=namespace), params=selector)
            yield found["items"][0] if found["items"] else None
            version = found["metadata"]["resourceVersion"]
            async with aclosing(self.watch(kind, version, selector, namespace=namespace)) as events:
                async for event, item in events:
                    if event == "ERROR":  # the version expired: look again
                        break
                    if event != "BOOKMARK":
                        yield None if event == "DELETED" else item

    async def watch(
        self,
        resource: Resource,
        resource_version: str,
        params: Mapping[str, str] | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> AsyncGenerator[tuple[str, Manifest]]:
        """``(type, object)`` of every watch event; ends when the server ends the watch."""
        async with self._session.get(
            self.server + resource.path(namespace=namespace),
            params={**(params or {}), "watch": "1", "resourceVersion": resource_version},
            headers=self._headers(),
            ssl=self.access.tls or True,
        ) as response:
            if response.status >= 400:
                _raise_for(response, await response.text())
            async for line in response.content:
                event = json.loads(line)
                yield event["type"], event["object"]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access.token}"} if self.access.token else {}


def _raise_for(response: aiohttp.ClientResponse, text: str) -> None:
    if response.status < 400:
        return
    reason, message = response.reason or "", text[:500]
    try:
        status = json.loads(text)
        reason, message = status.get("reason", reason), status.get("message", message)
    except (ValueError, AttributeError):
        pass  # a proxy's plain text answer: the text itself is the message
    raise ApiError(f"{response.method} {response.url.path}", response.status, reason, message)


def _summary(manifest: Manifest | None) -> str:
    if manifest is None:
        return "it does not exist"
    meta = manifest["metadata"]
    seen = {key: meta[key] for key in ("generation", "deletionTimestamp", "finalizers") if key in meta}
    return json.dumps(seen | {"status": manifest.get("status")})
