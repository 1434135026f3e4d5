"""The rules of OAuth's web flow: who may be sent where with a code, and what a code is exchanged for."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from urllib.parse import SplitResult, urlencode, urlsplit

from devstack.githubsim.records import OAuthApp, OAuthCode, User
from devstack.githubsim.world import World

CODE_LIFE = 600.0
"""Seconds."""

_TROUBLESHOOTING = "https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps"
_REQUEST_ERRORS = f"{_TROUBLESHOOTING}/troubleshooting-authorization-request-errors"
_EXCHANGE_ERRORS = f"{_TROUBLESHOOTING}/troubleshooting-oauth-app-access-token-request-errors"
_MISMATCH = "The redirect_uri MUST match the registered callback URL for this application."
# GitHub takes any port of these for a registered loopback address; a program does not choose its port beforehand.
_LOOPBACK = ("127.0.0.1", "::1")


def register(world: World, callback_url: str) -> OAuthApp:
    app = OAuthApp(
        client_id=f"Ov23li{secrets.token_hex(7)}", client_secret=secrets.token_hex(20), callback_url=callback_url
    )
    world.oauth_apps[app.client_id] = app
    return app


def authorize(world: World, asked: Mapping[str, str]) -> str | None:
    """The address to send the browser to, with a code or an error in it; None for an app that is not known.

    `asked` is the query of the request. The user `login` agrees, or else the app's `approve_as`.
    """
    app = world.oauth_apps.get(asked.get("client_id", ""))
    if app is None:
        return None
    redirect_uri = asked.get("redirect_uri") or app.callback_url
    if not _within(redirect_uri, app.callback_url):
        # Never to the address that does not match.
        return _denied(app.callback_url, asked, "redirect_uri_mismatch", _MISMATCH)
    challenge = asked.get("code_challenge")
    if challenge is not None and asked.get("code_challenge_method") != "S256":
        return _denied(redirect_uri, asked, "invalid_request", "The code_challenge_method must be S256.")
    user = world.account(asked.get("login") or app.approve_as or "")
    if not isinstance(user, User):
        return _denied(redirect_uri, asked, "access_denied", app.denial)
    code = secrets.token_hex(10)
    world.oauth_codes[code] = OAuthCode(
        client_id=app.client_id,
        user_id=user.id,
        scopes=_scopes(asked.get("scope", "")),
        redirect_uri=redirect_uri,
        challenge=challenge,
        expires_at=world.clock() + CODE_LIFE,
    )
    return _with_query(redirect_uri, {"code": code} | _state(asked))


def exchange(world: World, sent: Mapping[str, str]) -> dict[str, str]:
    """What the answer says: a token, or an error, which GitHub too sends with status 200.

    An app's first attempt with a code uses the code up, whatever comes of it.
    """
    app = world.oauth_apps.get(sent.get("client_id", ""))
    if app is None or app.client_secret != sent.get("client_secret"):
        wrong = "The client_id and/or client_secret passed are incorrect."
        return _error("incorrect_client_credentials", wrong)
    code = world.oauth_codes.get(sent.get("code", ""))
    if code is None or code.client_id != app.client_id:
        return _bad_code()
    del world.oauth_codes[sent["code"]]
    if world.clock() >= code.expires_at or not _verified(code, sent.get("code_verifier")):
        return _bad_code()
    if sent.get("redirect_uri", code.redirect_uri) != code.redirect_uri:
        return _error("redirect_uri_mismatch", _MISMATCH)
    token = world.new_token(world.user(code.user_id), "oauth")
    token.scopes = code.scopes
    return {"access_token": token.value, "scope": ",".join(code.scopes), "token_type": "bearer"}


def _within(redirect_uri: str, callback_url: str) -> bool:
    """Whether it is the registered address, a path below it, or the same on a subdomain."""
    try:
        asked, own = urlsplit(redirect_uri), urlsplit(callback_url)
        same_port = asked.port == own.port or own.hostname in _LOOPBACK
    except ValueError:
        return False
    same_host = asked.hostname == own.hostname or (asked.hostname or "").endswith(f".{own.hostname}")
    path = own.path.rstrip("/")
    below = asked.path.rstrip("/") == path or asked.path.startswith(f"{path}/")
    return asked.scheme == own.scheme and same_host and same_port and below and not _climbs(asked)


def _climbs(url: SplitResult) -> bool:
    return ".." in url.path.lower().replace("%2e", ".").split("/")


def _verified(code: OAuthCode, verifier: str | None) -> bool:
    if code.challenge is None:
        return True
    digest = hashlib.sha256((verifier or "").encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == code.challenge


def _scopes(asked: str) -> list[str]:
    return sorted(set(asked.replace(",", " ").split()))


def _denied(to: str, asked: Mapping[str, str], error: str, description: str) -> str:
    page = f"{_REQUEST_ERRORS}#{error.replace('_', '-')}"
    return _with_query(to, {"error": error, "error_description": description, "error_uri": page} | _state(asked))


def _state(asked: Mapping[str, str]) -> dict[str, str]:
    return {"state": asked["state"]} if "state" in asked else {}


def _with_query(url: str, fields: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(fields)}"


def _bad_code() -> dict[str, str]:
    return _error("bad_verification_code", "The code passed is incorrect or expired.")


def _error(error: str, description: str) -> dict[str, str]:
    page = f"{_EXCHANGE_ERRORS}#{error.replace('_', '-')}"
    return {"error": error, "error_description": description, "error_uri": page}
