"""What a credential may be used for, as far as its scopes or permissions tell. Pure.

``Yes`` speaks of the credential alone: what the account behind it may do in an organisation or repository shows when tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from codecommon.githost.github.scopes import with_contained
from codecommon.githost.github.token import TokenKind
from codecommon.githost.protocol import Capability, CapabilityName, OwnerKind


@dataclass(frozen=True, slots=True)
class _Need:
    """``scope``: of a classic or OAuth token; ``public``: ``public_repo`` does it for public repositories; ``permission``: of the
    other kinds."""

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
    """``scopes`` None: the host does not tell them."""
    if scopes is not None:
        held = with_contained(tuple(scopes))
        return (*(_by_scope(need, held) for need in _NEEDS), _packages_by_scope(held))
    return (*(_untold(need, kind) for need in _NEEDS), _packages_untold(kind))


def of_installation(permissions: Mapping[str, str], account: OwnerKind) -> tuple[Capability, ...]:
    """``permissions`` as the installation has them, name to level; ``account``: what it is installed on."""
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
