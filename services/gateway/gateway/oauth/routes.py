"""What the browser asks: ``config`` for the portal, ``start`` to begin in the popup, ``callback`` to end there."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from codecommon.messaging.bus import BusUnavailable
from codecommon.process.redact import cut, redact
from codecommon.process.secrets import SecretValue
from gateway.nats_connection import NatsConnection
from gateway.oauth.cookie import FLOW_SECONDS, Flow, FlowCookies, cookie_name, key_from
from gateway.oauth.exchange import ExchangeFailed, GitHubClient
from gateway.oauth.flows import Flows, TooManyFlows
from gateway.oauth.page import MESSAGE_TYPE, NEVER_STORED, result_page
from gateway.oauth.settings import OAuthSettings
from gateway.openapi import body, documented, in_query, text

_log = logging.getLogger(__name__)

_PATH: Final = "/oauth/github"
# 32 random bytes, as `secrets.token_urlsafe` writes them. PKCE wants 43 to 128 characters.
_RANDOM_BYTES: Final = 32
_FLOW_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_PORTAL_STATE: Final = re.compile(r"[\x21-\x7e]{1,256}")
_LONGEST_CODE: Final = 512
_LONGEST_ERROR: Final = 300

_ANSWERS: Final[Mapping[str, Mapping[int, dict[str, Any]]]] = {
    "config": {200: body(enabled={"type": "boolean"})},
    "start": {302: {}, **{status: text("text/plain") for status in (400, 404, 429, 503)}},
    "callback": {200: text("text/html"), 404: text("text/plain")},
}
_PARAMETERS: Final[Mapping[str, list[dict[str, Any]]]] = {
    "config": [],
    "start": [in_query("state", pattern="^[!-~]{1,256}$", required=True)],
    "callback": [in_query(name) for name in ("state", "code", "error", "error_description")],
}

_UNKNOWN: Final = "This sign-in did not begin in this browser, or it began more than ten minutes ago. Begin again."
_ANSWERED: Final = "This sign-in was answered before. Begin again."
_NO_STORE: Final = "Signing in does not work at the moment. Try again in a minute."
_TOO_MANY: Final = "Too many people sign in at the moment. Try again in a minute."
_NO_CODE: Final = "GitHub sent no code. Begin again."


class ConnectWithGitHub:
    """OAuth's web flow. While it is off, ``config`` says so and the other routes answer 404."""

    def __init__(self, settings: OAuthSettings, nats: NatsConnection) -> None:
        self._settings = settings
        self._flows = Flows(nats)
        self._client: GitHubClient | None = None
        self.enabled = settings.problem is None
        if settings.problem is None:
            assert settings.client_secret is not None
            self._cookies = FlowCookies(settings.cookie_keys or (key_from(settings.client_secret),))
        elif settings.wanted:
            _log.warning("Connect with GitHub is off: %s", settings.problem)

    def routes(self) -> list[Route]:
        handlers = {"config": self._config, "start": self._start, "callback": self._callback}
        return [
            route
            for name, handler in handlers.items()
            for route in documented(
                f"{_PATH}/{name}", handler, _ANSWERS[name], _PARAMETERS[name], changes=name != "config"
            )
        ]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep open what the routes need. They are called within."""
        async with AsyncExitStack() as stack:
            if self.enabled:
                self._client = await stack.enter_async_context(GitHubClient.open(self._settings))
            yield

    async def _config(self, request: Request) -> Response:
        return JSONResponse(self._configuration() if self.enabled else {"enabled": False}, headers=NEVER_STORED)

    def _configuration(self) -> dict[str, object]:
        settings = self._settings
        base_url = settings.host.connection_base_url
        return {
            "enabled": True,
            "startURL": settings.start_url,
            "scopes": ", ".join(settings.scopes),
            **({"baseURL": base_url} if base_url else {}),
        }

    async def _start(self, request: Request) -> Response:
        if not self.enabled:
            return _off()
        portal_state = request.query_params.get("state", "")
        if not _PORTAL_STATE.fullmatch(portal_state):
            return _sentence(400, "state is missing, or not 1 to 256 characters without spaces")
        flow = Flow(_random(), portal_state, SecretValue(_random()))
        try:
            await self._flows.begin(flow.id)
        except BusUnavailable:
            return _sentence(503, _NO_STORE)
        except TooManyFlows:
            return _sentence(429, _TOO_MANY, {"Retry-After": "60"})
        response = RedirectResponse(self._authorize_url(flow), 302, headers=NEVER_STORED)
        self._set_cookie(response, flow.cookie_name, self._cookies.seal(flow), FLOW_SECONDS)
        return response

    def _authorize_url(self, flow: Flow) -> str:
        settings = self._settings
        digest = hashlib.sha256(flow.verifier.reveal().encode()).digest()
        query = {
            "client_id": settings.client_id,
            "redirect_uri": settings.redirect_url,
            "scope": " ".join(settings.scopes),
            "state": flow.id,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return f"{settings.host.web}/login/oauth/authorize?{urlencode(query)}"

    async def _callback(self, request: Request) -> Response:
        if not self.enabled:
            return _off()
        flow = self._flow_of(request)
        message = {"type": MESSAGE_TYPE, "state": "", "token": "", "login": "", "scopes": "", "error": _UNKNOWN}
        if flow is not None:
            message |= {"state": flow.portal_state, **await self._outcome(flow, request)}
        response = result_page(message, self._settings.target_origin or "")
        if flow is not None:
            self._set_cookie(response, flow.cookie_name, "", 0)
        return response

    def _flow_of(self, request: Request) -> Flow | None:
        """The flow that the request is about, if it began in the same browser."""
        flow_id = request.query_params.get("state", "")
        if not _FLOW_ID.fullmatch(flow_id):
            return None
        flow = self._cookies.open(request.cookies.get(cookie_name(flow_id), ""))
        return flow if flow is not None and secrets.compare_digest(flow.id, flow_id) else None

    async def _outcome(self, flow: Flow, request: Request) -> dict[str, str]:
        """What the message says besides type and state."""
        query = request.query_params
        try:
            if not await self._flows.take(flow.id):
                return {"error": _ANSWERED}
        except BusUnavailable:
            return {"error": _NO_STORE}
        if refusal := query.get("error_description") or query.get("error"):
            return {"error": _readable(refusal)}
        code = query.get("code", "")
        if not code or len(code) > _LONGEST_CODE:
            return {"error": _NO_CODE}
        try:
            return await self._grant(flow, code)
        except ExchangeFailed as error:
            return {"error": _readable(str(error))}

    async def _grant(self, flow: Flow, code: str) -> dict[str, str]:
        settings = self._settings
        assert self._client is not None
        assert settings.client_secret is not None
        grant = await self._client.exchange(
            {
                "client_id": settings.client_id or "",
                "client_secret": settings.client_secret.reveal(),
                "code": code,
                "redirect_uri": settings.redirect_url or "",
                "code_verifier": flow.verifier.reveal(),
            }
        )
        return {"token": grant.token.reveal(), "login": grant.login, "scopes": grant.scopes, "error": ""}

    def _set_cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            # The hub strips a prefix of the path; the browser knows the whole.
            path=self._settings.callback_path,
            secure=not self._settings.is_loopback,
            httponly=True,
            samesite="lax",
        )


def _random() -> str:
    return secrets.token_urlsafe(_RANDOM_BYTES)


def _off() -> Response:
    return _sentence(404, "Connect with GitHub is not set up here")


def _sentence(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(text, status, headers={**NEVER_STORED, **(headers or {})})


def _readable(text: str) -> str:
    """What a host wrote, for people: short, without what cannot be seen or turns the direction of writing."""
    shown = "".join(character for character in cut(text, _LONGEST_ERROR) if unicodedata.category(character)[0] != "C")
    return redact(shown)
