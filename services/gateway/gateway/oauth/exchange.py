"""What GitHub is asked: a token for a code, and whose it is."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp
import httpx

from codecommon.githost.host_names import SignInHost
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.trust import WELL_KNOWN, tls_context
from codecommon.process.secrets import SecretValue
from gateway.oauth.settings import OAuthSettings

_log = logging.getLogger(__name__)

_EXCHANGE_SECONDS: Final = 15.0
# The token is there already; its owner's name is only for display.
_PROBE_SECONDS: Final = 5.0
_LONGEST_ANSWER: Final = 64 * 1024
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_LOGIN: Final = re.compile(r"[A-Za-z0-9_-]{1,100}(\[bot\])?")
_SCOPES: Final = re.compile(r"[A-Za-z0-9_:,. -]{0,2048}")


class ExchangeFailed(Exception):
    """There is no token. The text is a sentence for the person in front of the popup. It may hold the host's words."""


@dataclass(frozen=True, slots=True)
class Grant:
    """``login``: empty if the host did not tell. ``scopes``: those that were granted, separated by a comma and a space."""

    token: SecretValue
    login: str
    scopes: str


class GitHubClient:
    """Sends the client secret and the code to the host of the settings, and nowhere else: no redirect is followed."""

    def __init__(self, session: aiohttp.ClientSession, host: SignInHost, proxies: ProxyRules) -> None:
        self._session = session
        self._host = host
        self._proxies = proxies

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: OAuthSettings) -> AsyncIterator[GitHubClient]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls_context(WELL_KNOWN)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session:
            yield cls(session, settings.host, settings.proxies)

    async def exchange(self, form: Mapping[str, str]) -> Grant:
        """The token that ``form`` is good for, and its owner. Raises ``ExchangeFailed``."""
        try:
            async with asyncio.timeout(_EXCHANGE_SECONDS):
                status, _, answer = await self._send("POST", f"{self._host.web}/login/oauth/access_token", data=form)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # By its type alone: the text of an error may hold what was sent.
            _log.warning("GitHub did not exchange a code: %s", type(error).__name__)
            raise ExchangeFailed("GitHub could not be reached, or did not answer in time. Try again.") from None
        token, refusal = answer.get("access_token"), answer.get("error")
        if isinstance(refusal, str):
            described = answer.get("error_description")
            raise ExchangeFailed(described if isinstance(described, str) and described else refusal)
        if status != 200 or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            _log.warning("GitHub did not exchange a code: status %d without a token", status)
            raise ExchangeFailed(f"GitHub answered with status {status} and no token. Try again.")
        login, header = await self._owner(token)
        return Grant(SecretValue(token), login, _as_list(answer.get("scope")) or _as_list(header))

    async def _owner(self, token: str) -> tuple[str, str]:
        """The login and the header with the scopes; empty where the host does not tell."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                status, headers, answer = await self._send(
                    "GET", f"{self._host.api}/user", headers={"Authorization": f"Bearer {token}"}
                )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            _log.warning("GitHub did not tell whose a new token is: %s", type(error).__name__)
            return "", ""
        login = answer.get("login")
        if status != 200 or not isinstance(login, str) or not _LOGIN.fullmatch(login):
            login = ""
        return login, headers.get("X-OAuth-Scopes", "")

    async def _send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, data: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        """Status, headers and body; an empty body for one that is not an object. Raises ValueError for one that is too long."""
        async with self._session.request(
            method,
            url,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "code-provider",
                **(headers or {}),
            },
            data=data,
            allow_redirects=False,
            proxy=self._proxies.proxy_for(httpx.URL(url)),
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _LONGEST_ANSWER:
                    raise ValueError("the answer is too long")
            return response.status, response.headers, _object(bytes(body))


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], answer) if isinstance(answer, dict) else {}


def _as_list(scopes: object) -> str:
    """``scopes`` as GitHub's header has them: ``a, b``."""
    if not isinstance(scopes, str) or not _SCOPES.fullmatch(scopes):
        return ""
    return ", ".join(scopes.replace(",", " ").split())
