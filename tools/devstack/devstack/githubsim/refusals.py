"""Refusals that come before any operation: limits, versions, a suspended installation, a missing User-Agent."""

from __future__ import annotations

from datetime import UTC, datetime

from devstack.githubsim.calls import API_VERSIONS, ApiError, Caller
from devstack.githubsim.views_account import timestamp

NO_USER_AGENT = (
    b"\r\nRequest forbidden by administrative rules. Please make sure your request has a User-Agent header.\r\n"
)

_LIMIT_DOCS = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api"
_SUPPORT = "If you reach out to GitHub Support for help, please include the request ID"


def primary_limit(status: int, caller: Caller, remote: str | None, request_id: str, now: float) -> ApiError:
    """The principal's quota is used up until `X-RateLimit-Reset`."""
    if caller.user is None and caller.app is None:
        message = (
            f"API rate limit exceeded for {remote}. (But here's the good news: Authenticated requests get a higher "
            "rate limit. Check out the documentation for more details.)"
        )
    else:
        whose = f"user ID {caller.user.id}" if caller.user is not None else "installation ID 0"
        if caller.token is not None and caller.token.installation_id is not None:
            whose = f"installation ID {caller.token.installation_id}"
        message = (
            f"API rate limit exceeded for {whose}. {_SUPPORT} {request_id} "
            f"and timestamp {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC."
        )
    return ApiError(status, message, documentation_url=_LIMIT_DOCS)


def secondary_limit(retry_after: int, request_id: str) -> ApiError:
    return ApiError(
        403,
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
        f"{_SUPPORT} {request_id}.",
        documentation_url=f"{_LIMIT_DOCS}#about-secondary-rate-limits",
        headers={"Retry-After": str(retry_after)},
    )


def suspended_installation(login: str, at: float) -> ApiError:
    """What a token is told of an installation on the account `login`; who asks for a token is told in other words."""
    return ApiError(403, f"Sorry. This installation owned by {login} suspended your access at {timestamp(at)}.")


def unsupported_version(version: str) -> ApiError:
    known = ", ".join(f'"{known}"' for known in API_VERSIONS)
    return ApiError(
        400,
        f'Bad Request: The version you specified in the "X-GitHub-API-Version" request header, "{version}", '
        f"is not a supported version. The following versions are currently supported: {known}",
    )
