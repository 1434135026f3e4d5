"""The virtual-workspace URLs of our APIExport, as its APIExportEndpointSlice lists them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from codecommon.kcp.client import JsonObject, KcpError, ProviderKcp, resource_path

EXPORT_NAME: Final = "code.providers.kedge.faros.sh"
SLICE_PATH: Final = f"/apis/apis.kcp.io/v1alpha1/apiexportendpointslices/{EXPORT_NAME}"

T = TypeVar("T")


def endpoint_urls(endpoint_slice: JsonObject) -> frozenset[str]:
    """The URLs in one APIExportEndpointSlice, without trailing slash; empty until kcp has published them."""
    endpoints = (endpoint_slice.get("status") or {}).get("endpoints") or []
    return frozenset(str(endpoint["url"]).rstrip("/") for endpoint in endpoints)


async def list_everywhere(kcp: ProviderKcp, resource: str, keep: Callable[[str, JsonObject], T | None]) -> list[T]:
    """What ``keep`` returns for the objects of a kind in all workspaces, but for None. ``keep`` also gets the endpoint.

    Read live, page after page; otherwise as ``Objects.list``. Raises ``KcpError`` while kcp lists no endpoint: an empty answer
    would pass for the truth.
    """
    endpoints = endpoint_urls(await kcp.request("GET", SLICE_PATH))
    if not endpoints:
        raise KcpError(503, "", "the APIExportEndpointSlice has no endpoint yet")
    found: list[T] = []
    for endpoint in sorted(endpoints):
        everywhere = f"{endpoint}/clusters/*"
        found += await kcp.lists.collect(
            everywhere, resource_path(resource), partial(keep, endpoint), fields={}, most=None
        )
    return found


class UnknownEndpoint(Exception):
    """A URL that is not in the APIExportEndpointSlice."""


class KnownEndpoints:
    """Checks the endpoint that an event names.

    Events come from the message bus. The provider's token is sent only to a URL that kcp itself lists.
    """

    def __init__(self, kcp: ProviderKcp) -> None:
        self._kcp = kcp
        self._urls: frozenset[str] = frozenset()

    async def require(self, url: str, *, live: bool = False) -> None:
        """Raises ``UnknownEndpoint`` unless kcp lists ``url``. Without ``live``, that it did so before is enough."""
        if live or url not in self._urls:
            self._urls = endpoint_urls(await self._kcp.request("GET", SLICE_PATH))
        if url not in self._urls:
            raise UnknownEndpoint
