"""Where a GitHub has its sign-in and its API. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from codecommon.githost.host_names import host_name
from codecommon.process.settings import is_url

_DATA_RESIDENCY: Final = re.compile(r"(?:api\.)?([a-z0-9-]+\.ghe\.com)")
_SERVER_API: Final = "/api/v3"


@dataclass(frozen=True, slots=True)
class OAuthHost:
    """``web``: URL of the pages. ``api``: URL of the API's root. Both without trailing slash.

    ``connection_base_url``: the ``baseURL`` of a Connection to it; empty for github.com, which needs none.
    """

    web: str
    api: str
    connection_base_url: str

    @classmethod
    def of(cls, base_url: str) -> Self:
        """The host that ``spec.baseURL`` of a Connection would name so. Raises ValueError."""
        parts = urlsplit(base_url)
        if not is_url(base_url, ("http", "https")) or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("not the URL of a host")
        if parts.path.rstrip("/") not in ("", _SERVER_API):
            raise ValueError("its path is neither empty nor /api/v3")
        name = host_name(parts.hostname or "")
        if parts.scheme == "https" and parts.port in (None, 443):
            if name in ("github.com", "api.github.com"):
                return cls("https://github.com", "https://api.github.com", "")
            if match := _DATA_RESIDENCY.fullmatch(name):
                web = f"https://{match[1]}"
                return cls(web, f"https://api.{match[1]}", web)
        web = f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port else "")
        return cls(web, web + _SERVER_API, web)


GITHUB_COM: Final = OAuthHost.of("https://github.com")
