"""What a Connection's observations mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from codecommon.api.connection import ConnectionStatus
from codecommon.api.meta import Condition
from codecommon.api.results import Interruption, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.conditions import condition
from codecommon.githost.protocol import Account, Capability, OwnerKind

VALIDATED: Final = "Validated"

# The portal knows three reasons of Validated; the precise one is in Ready.
_UNAVAILABLE: Final = frozenset({"CredentialUnavailable", "SecretsClaimNotAccepted"})
_OF_THE_ACCOUNT: Final = ("login", "scopes", "tokenType", "expiresAt", "capabilities")


def not_validated(refused: Interruption) -> Condition:
    """``Validated=False`` for a Connection that could not be validated."""
    if refused.reason in _UNAVAILABLE:
        reason = "CredentialUnavailable"
    elif refused.reason == "ProviderNotFound":
        reason = "ProviderNotFound"
    else:
        reason = "ValidationFailed"
    return condition(VALIDATED, "False", reason, refused.message)


def account_status(account: Account) -> dict[str, Any]:
    """Whom the credential speaks for and what it can be used for; None where the host does not tell."""
    return {
        "login": account.login,
        "scopes": list(account.scopes) if account.scopes is not None else None,
        "tokenType": account.token_type,
        "expiresAt": rfc3339(account.expires_at) if account.expires_at is not None else None,
        "capabilities": [_capability(capability) for capability in account.capabilities],
    }


def refused_status(status: ConnectionStatus, learned: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is written of ``learned`` (wire names) by a pass that was refused.

    The account that another version of the Secret speaks for leaves status, so that it is not taken for that of this one.
    """
    version = learned.get("observedSecretVersion")
    if version is None or version == status.observed_secret_version:
        return learned
    return {**dict.fromkeys(_OF_THE_ACCOUNT), **learned}


def _capability(capability: Capability) -> dict[str, str]:
    told = {"name": capability.name, "status": capability.status}
    return {**told, "message": capability.message} if capability.message else told


def require_owner(owner: str, kind: OwnerKind | None) -> None:
    """Raises ``Terminal`` (``OwnerNotFound``) when the host shows no such account."""
    if kind is None:
        raise Terminal(
            "OwnerNotFound",
            f"the host knows no user or organisation {owner!r}, or this credential may not see it; "
            "correct spec.owner (delete the Connection and create it anew) or give the credential access",
        )
