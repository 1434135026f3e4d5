"""What the layers of the transport know of who is calling."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final, cast

import httpx

from codecommon.githost.github.endpoint import HostEndpoint

_EXTENSION: Final = "codecommon.session"
REVALIDATED: Final = "codecommon.revalidated"
"""Extension of a response that stands for a 304, which costs nothing of the quota."""


@dataclass(frozen=True, slots=True)
class Sender:
    """One credential at one host. ``principal``: its cache key (``HostTarget``); ``tls``: the authorities to trust.

    ``app``: of which App it is an installation (``AppSecret.app``), None for a token.
    """

    endpoint: HostEndpoint
    principal: tuple[str, str, str]
    tls: ssl.SSLContext
    app: str | None = None


def attach(request: httpx.Request, sender: Sender) -> None:
    request.extensions[_EXTENSION] = sender


def sender_of(request: httpx.Request) -> Sender:
    """The session that a request belongs to."""
    return cast(Sender, request.extensions[_EXTENSION])
