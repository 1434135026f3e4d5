"""What a credential may be used for, as far as its scopes or permissions tell. Pure.

A capability ``Yes`` speaks of the credential alone. Whether the account behind it may do the same in an organisation or a
repository shows only when it is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from codecommon.githost.github.credential import TokenKind
from codecommon.githost.protocol import Capability, CapabilityName, OwnerKind

# A scope and those it contains: https://docs.github.com/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps.
_CONTAINS: Final[dict[str, tuple[str, ...]]] = {
    "repo": ("repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"),
    "admin:org": ("write:org", "read:org", "manage_runners:org"),
    "write:org": ("read:org",),
    "user": ("read:user", "user:email", "user:follow"),
    "write:packages": ("read:packages",),
    "admin:repo_hook": ("write:repo_hook", "read:repo_hook"),
    "write:repo_hook": ("read:repo_hook",),
}


# ---- scopes and what a refused request lacks


def granted_scopes(headers: httpx.Headers) -> tuple[str, ...] | None:
    """The scopes of a classic or OAuth token; None for the other kinds, whose rights GitHub does not tell."""
    value = headers.get("x-oauth-scopes")
    return None if value is None else tuple(_names(value))


def missing_rights(headers: httpx.Headers, scope: str) -> str:
    """A sentence on what the token lacks for a refused request; empty where that is not known.

    ``scope``: the classic scope that the request is known to need; empty: any of those that GitHub names.
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


# ---- capabilities


@dataclass(frozen=True, slots=True)
class _Need:
    """What a capability needs. ``scope``: of a classic or OAuth token. ``permission``: of every other credential.

    ``public``: the scope ``public_repo`` is enough for public repositories.
    """

    name: CapabilityName
    scope: str
    permission: str
    public: bool = False


# Deploy keys are not under admin:public_key: that scope is for the keys of a user.
_NEEDS: Final = (
    _Need("createRepository", "repo", "administration", public=True),
    _Need("deleteRepository", "delete_repo", "administration"),
    _Need("deployKeys", "repo", "administration", public=True),
    _Need("collaborators", "repo", "administration", public=True),
)
_PACKAGES_SCOPE: Final = "read:packages"
_NO_PACKAGES: Final = (
    f"GitHub serves packages to classic tokens only; use one with {_PACKAGES_SCOPE} in another Connection"
)


def of_token(kind: TokenKind, scopes: Iterable[str] | None) -> tuple[Capability, ...]:
    """The capabilities of a token. ``scopes`` None: the host does not tell them."""
    if scopes is not None:
        held = with_contained(tuple(scopes))
        return (*(_by_scope(need, held) for need in _NEEDS), _packages_by_scope(held))
    return (*(_untold(need, kind) for need in _NEEDS), _packages_untold(kind))


def of_installation(permissions: Mapping[str, str], account: OwnerKind) -> tuple[Capability, ...]:
    """The capabilities of an installation. ``permissions``: name to level. ``account``: what it is installed on."""
    return (
        *(_by_permission(need, permissions, account) for need in _NEEDS),
        Capability("packages", "No", _NO_PACKAGES),
    )


def _by_scope(need: _Need, held: set[str]) -> Capability:
    if need.scope in held:
        return Capability(need.name, "Yes")
    if need.public and "public_repo" in held:
        return Capability(need.name, "Yes", f"for public repositories; others need the scope {need.scope}")
    return Capability(need.name, "No", f"the token lacks the scope {need.scope}; grant it in the token's settings")


def _packages_by_scope(held: set[str]) -> Capability:
    if _PACKAGES_SCOPE in held:
        return Capability("packages", "Yes")
    return Capability(
        "packages", "No", f"the token lacks the scope {_PACKAGES_SCOPE}; grant it in the token's settings"
    )


def _untold(need: _Need, kind: TokenKind) -> Capability:
    wanted = (
        f"the scope {need.scope}"
        if kind in ("classic", "oauth")
        else f"the permission {need.permission}: write"
        if kind != "unknown"
        else f"the scope {need.scope} or the permission {need.permission}: write"
    )
    return Capability(need.name, "Unknown", f"needs {wanted}; the host does not tell whether the token has it")


def _packages_untold(kind: TokenKind) -> Capability:
    if kind in ("fine-grained", "installation", "app-user"):
        return Capability("packages", "No", _NO_PACKAGES)
    return Capability(
        "packages", "Unknown", f"needs the scope {_PACKAGES_SCOPE}; the host does not tell whether the token has it"
    )


def _by_permission(need: _Need, permissions: Mapping[str, str], account: OwnerKind) -> Capability:
    if need.name == "createRepository" and account == "User":
        return Capability(
            need.name,
            "No",
            "GitHub lets no App create in a user's account; use a token, or install it on an organisation",
        )
    if permissions.get(need.permission) == "write":
        return Capability(need.name, "Yes")
    return Capability(
        need.name,
        "No",
        f"the installation lacks the permission {need.permission}: write; add it to the App and accept it for the installation",
    )
