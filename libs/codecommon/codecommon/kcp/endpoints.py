"""The virtual-workspace URLs of our APIExport, as its APIExportEndpointSlice lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from codecommon.kcp.client import JsonObject, KcpError, ProviderKcp, resource_path

EXPORT_NAME: Final = "code.providers.kedge.faros.sh"
SLICE_PATH: Final = f"/apis/apis.kcp.io/v1alpha1/apiexportendpointslices/{EXPORT_NAME}"

_PAGE: Final = 100
_TOKEN_REFUSED: Final = (400, 410)


def endpoint_urls(endpoint_slice: JsonObject) -> frozenset[str]:
    """The URLs in one APIExportEndpointSlice, without trailing slash; empty until kcp has published them."""
    endpoints = (endpoint_slice.get("status") or {}).get("endpoints") or []
    return frozenset(str(endpoint["url"]).rstrip("/") for endpoint in endpoints)


async def list_everywhere(kcp: ProviderKcp, resource: str) -> AsyncIterator[tuple[str, list[JsonObject]]]:
    """The objects of a kind in all workspaces, a page at a time, each with the endpoint that it came from.

    Read live. An object may come more than once. Raises what ``Kcp.request`` raises, and ``KcpError`` while kcp lists no
    endpoint: an empty answer would pass for the truth.
    """
    endpoints = endpoint_urls(await kcp.request("GET", SLICE_PATH))
    if not endpoints:
        raise KcpError(503, "", "the APIExportEndpointSlice has no endpoint yet")
    for endpoint in sorted(endpoints):
        params = {"limit": str(_PAGE)}
        while True:
            url = f"{endpoint}/clusters/*{resource_path(resource)}"
            try:
                answer = await kcp.request("GET", url, params=params)
            except KcpError as error:
                if "continue" not in params or error.status not in _TOKEN_REFUSED:
                    raise
                # The token is too old by now. A whole list needs none.
                answer = await kcp.request("GET", url)
            yield endpoint, answer["items"]
            token: str = (answer.get("metadata") or {}).get("continue") or ""
            if not token:
                break
            params = {"limit": str(_PAGE), "continue": token}


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
