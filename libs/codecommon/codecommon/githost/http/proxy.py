"""Which proxy a request goes through.

httpx reads HTTP(S)_PROXY only when it builds its own transport, and ours is shared. So the rules are applied here. They are those
of Go's net/http, because existing values files were written for the Go provider.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from codecommon.process.settings import is_url

if TYPE_CHECKING:
    import httpx


_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """``http`` and ``https``: URL of the proxy for each scheme, or None. ``direct``: entries of NO_PROXY."""

    http: str | None = None
    https: str | None = None
    direct: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProxyRules:
        """HTTP_PROXY, HTTPS_PROXY and NO_PROXY in either case. Raises ValueError for a proxy that cannot be used."""
        given = {name: environ.get(name.lower()) or environ.get(name) or "" for name in _VARIABLES}
        direct = tuple(entry.strip().lower() for entry in given["NO_PROXY"].split(",") if entry.strip())
        http, https = (_proxy_url(name, given[name]) for name in ("HTTP_PROXY", "HTTPS_PROXY"))
        return cls(http, https, direct)

    def proxy_for(self, url: httpx.URL) -> str | None:
        proxy = self.https if url.scheme == "https" else self.http
        return None if proxy is None or self._is_direct(url) else proxy

    def _is_direct(self, url: httpx.URL) -> bool:
        host, port = url.host, url.port or (443 if url.scheme == "https" else 80)
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(entry, host, port, address) for entry in self.direct)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(entry: str, host: str, port: int, address: _Address | None) -> bool:
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, wanted_port = entry.rpartition(":")
    if colon and wanted_port.isdecimal() and (":" not in name or name.endswith("]")):
        if int(wanted_port) != port:
            return False
        entry = name
    if address is not None:
        return _address(entry) == address
    domain = entry.removeprefix("*")
    return host == domain or host.endswith(domain if domain.startswith(".") else f".{domain}")


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _proxy_url(variable: str, value: str) -> str | None:
    if not value:
        return None
    url = value if "://" in value else f"http://{value}"
    if not is_url(url, ("http", "https")):
        # Without the value: it may hold the proxy's password.
        raise ValueError(f"{variable}: not the URL of a proxy; accepted: http://host:port or https://host:port")
    return url
