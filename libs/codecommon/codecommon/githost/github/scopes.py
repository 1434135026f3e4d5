"""What a refused token lacks, as far as GitHub's headers tell."""

from __future__ import annotations

from typing import Final

import httpx

# https://docs.github.com/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps: a scope and those it contains.
_CONTAINS: Final[dict[str, tuple[str, ...]]] = {
    "repo": ("repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"),
    "admin:org": ("write:org", "read:org", "manage_runners:org"),
    "write:org": ("read:org",),
    "user": ("read:user", "user:email", "user:follow"),
    "write:packages": ("read:packages",),
    "admin:repo_hook": ("write:repo_hook", "read:repo_hook"),
    "write:repo_hook": ("read:repo_hook",),
}


def granted_scopes(headers: httpx.Headers) -> tuple[str, ...] | None:
    """The scopes of a classic or OAuth token; None for the other kinds, whose rights are not told."""
    value = headers.get("x-oauth-scopes")
    return None if value is None else tuple(_names(value))


def missing_rights(headers: httpx.Headers, scope: str) -> str:
    """A sentence on what the token lacks for a refused request, empty if that is not known.

    ``scope``: the classic scope that the request is known to need, empty if any of those that GitHub names will do.
    """
    granted = granted_scopes(headers)
    if granted is None:
        permissions = headers.get("x-accepted-github-permissions", "")
        if permissions:
            either = " or ".join(part.strip() for part in permissions.split(";"))
            return f"The token needs the permission {either}{_classic(scope)}"
        return f"The token needs the scope {scope}" if scope else ""
    held = with_contained(granted)
    accepted = [scope] if scope else _names(headers.get("x-accepted-oauth-scopes", ""))
    if not accepted or held.intersection(accepted):
        return ""
    return f"The token lacks the scope {' or '.join(accepted)}; it has {', '.join(granted) or 'none'}"


def _classic(scope: str) -> str:
    return f" (a classic token: the scope {scope})" if scope else ""


def with_contained(granted: tuple[str, ...]) -> set[str]:
    """The scopes themselves and those inside them."""
    return {*granted, *(contained for scope in granted for contained in _CONTAINS.get(scope, ()))}


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]
