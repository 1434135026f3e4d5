"""Where the token of a request comes from, and the transport that puts it there."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import httpx

from codecommon.githost.github.answer import date_in
from codecommon.githost.github.token import Credential
from codecommon.process.redact import Redactor
from codecommon.process.secrets import SecretValue


class Authority(Protocol):
    async def token(self) -> SecretValue:
        """The token to send now."""
        ...

    async def after_rejection(self, rejected: SecretValue, told: datetime | None) -> SecretValue | None:
        """Another token to send once, None when there is no other. ``told``: the host's clock when it answered 401."""
        ...


class FixedToken:
    """The token of a Secret."""

    def __init__(self, credential: Credential) -> None:
        self._token = credential.token

    async def token(self) -> SecretValue:
        return self._token

    async def after_rejection(self, rejected: SecretValue, told: datetime | None) -> SecretValue | None:
        return None


class Authorized(httpx.AsyncBaseTransport):
    """Sends every request with the authority's token, and once more after a 401 if there is another one.

    A transport and not an ``httpx.Auth``: the client's hook takes error answers before an auth flow sees them. A request that is
    answered 401 did nothing, so any may be repeated. ``scrub`` learns each token that is sent.
    """

    def __init__(self, below: httpx.AsyncBaseTransport, authority: Authority, scrub: Redactor) -> None:
        self._below = below
        self._authority = authority
        self._scrub = scrub

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        token = await self._authority.token()
        response = await self._send(request, token)
        if response.status_code != 401:
            return response
        other = await self._authority.after_rejection(token, date_in(response.headers))
        if other is None:
            return response
        await response.aclose()
        return await self._send(request, other)

    async def aclose(self) -> None:
        await self._below.aclose()

    async def _send(self, request: httpx.Request, token: SecretValue) -> httpx.Response:
        self._scrub.register(token.reveal())
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        return await self._below.handle_async_request(request)
