"""On whose behalf the HTTP stack sends a request. Every layer reads it from the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import httpx

from codecommon.githost.address import HostAddress
from codecommon.githost.http.trust import Authorities

_EXTENSION: Final = "codecommon.sender"
REVALIDATED: Final = "codecommon.revalidated"
"""Extension of a response that stands for a 304 (``HostApi.not_modified_is_free``)."""


@dataclass(frozen=True, slots=True)
class Sender:
    """One credential at one host. ``credential_key``: its cache key (``HostTarget``). ``authorities``: to trust
    besides the well-known ones.

    ``issuer``: what makes the credential's tokens and has a budget of its own (``Credential.issuer``); None: nothing does.
    """

    address: HostAddress
    credential_key: tuple[str, str, str]
    authorities: Authorities
    issuer: str | None = None


def attach(request: httpx.Request, sender: Sender) -> None:
    request.extensions[_EXTENSION] = sender


def sender_of(request: httpx.Request) -> Sender:
    """The sender of a request that passed ``attach``."""
    return cast(Sender, request.extensions[_EXTENSION])
