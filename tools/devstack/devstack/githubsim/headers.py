"""The headers that GitHub puts on every answer."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

from devstack.githubsim.calls import Caller, Operation
from devstack.githubsim.limits import RateFigures
from devstack.githubsim.records import Token

FIXED_HEADERS = {
    "Server": "github.com",
    "X-GitHub-Media-Type": "github.v3; format=json",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "ETag, Link, Location, Retry-After, X-GitHub-OTP, X-RateLimit-Limit, X-RateLimit-Remaining, "
        "X-RateLimit-Used, X-RateLimit-Resource, X-RateLimit-Reset, X-OAuth-Scopes, X-Accepted-OAuth-Scopes, "
        "X-Poll-Interval, X-GitHub-Media-Type, X-GitHub-SSO, X-GitHub-Request-Id, Deprecation, Sunset"
    ),
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding, X-Requested-With",
}


def cache_headers(caller: Caller) -> dict[str, str]:
    """Of an answer that may be stored."""
    return {"Cache-Control": f"{'public' if caller.user is None else 'private'}, max-age=60, s-maxage=60"}


def rate_headers(rate: RateFigures) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(rate.limit),
        "X-RateLimit-Remaining": str(rate.remaining),
        "X-RateLimit-Used": str(rate.used),
        "X-RateLimit-Reset": str(rate.reset),
        "X-RateLimit-Resource": "core",
    }


def token_headers(token: Token, operation: Operation) -> dict[str, str]:
    """What the token may do and what the operation asks: scopes of classic tokens, permissions of fine-grained ones."""
    if token.by_permissions:
        headers = {"X-Accepted-GitHub-Permissions": operation.permissions}
    else:
        headers = {"X-OAuth-Scopes": ", ".join(sorted(token.scopes)), "X-Accepted-OAuth-Scopes": operation.scopes}
    # An installation's token says when it ends only in the answer that it comes with.
    if token.expires_at is not None and token.kind != "installation":
        expires = datetime.fromtimestamp(token.expires_at, UTC)
        headers["github-authentication-token-expiration"] = f"{expires:%Y-%m-%d %H:%M:%S} UTC"
    return headers


def date_header(now: float) -> dict[str, str]:
    return {"Date": formatdate(now, usegmt=True)}
