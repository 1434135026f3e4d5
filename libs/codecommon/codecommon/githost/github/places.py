"""Where a GitHub has its pages, its sign-in and its API. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from codecommon.githost.host_names import SignInHost, host_name
from codecommon.process.settings import is_url

SERVER_API: Final = "/api/v3"
"""Path of the API's root on an Enterprise Server."""

_PUBLIC: Final = "github.com"
_DATA_RESIDENCY: Final = re.compile(r"(?:api\.)?(?!api\.)([a-z0-9-]+\.ghe\.com)")


def own_host(name: str) -> str | None:
    """The host of GitHub's own that ``name`` or the name of its API stands for; None for any other.

    ``name``: in the spelling of ``host_name``, of a host that is asked over HTTPS at the usual port.
    """
    if name in (_PUBLIC, f"api.{_PUBLIC}"):
        return _PUBLIC
    match = _DATA_RESIDENCY.fullmatch(name)
    return match[1] if match is not None else None


def api_of(own: str) -> str:
    """URL of the API's root of a host that ``own_host`` returned."""
    return f"https://api.{own}"


def sign_in_host(base_url: str) -> SignInHost:
    """The host that ``spec.baseURL`` of a Connection would name so. Raises ValueError."""
    parts = urlsplit(base_url)
    if not is_url(base_url, ("http", "https")) or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("not the URL of a host")
    if parts.path.rstrip("/") not in ("", SERVER_API):
        raise ValueError(f"its path is neither empty nor {SERVER_API}")
    name = host_name(parts.hostname or "")
    own = own_host(name) if parts.scheme == "https" and parts.port in (None, 443) else None
    if own is not None:
        web = f"https://{own}"
        return SignInHost(web, api_of(own), "" if own == _PUBLIC else web)
    web = f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port else "")
    return SignInHost(web, web + SERVER_API, web)
