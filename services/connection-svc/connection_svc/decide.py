"""What a Connection's observations mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from codecommon.api.connection import ConnectionStatus
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.conditions import condition
from codecommon.githost.protocol import Account, Capability, OwnerKind

VALIDATED: Final = ConditionType.VALIDATED

# The portal knows three reasons of Validated: these two and ValidationFailed. Ready has the precise reason.
_VALIDATED_REASONS: Final[Mapping[Reason, Reason]] = {
    Reason.CREDENTIAL_UNAVAILABLE: Reason.CREDENTIAL_UNAVAILABLE,
    Reason.SECRETS_CLAIM_NOT_ACCEPTED: Reason.CREDENTIAL_UNAVAILABLE,
    Reason.PROVIDER_NOT_FOUND: Reason.PROVIDER_NOT_FOUND,
}
_OF_THE_ACCOUNT: Final = ("login", "scopes", "tokenType", "expiresAt", "capabilities")


def not_validated(status: ConnectionStatus, refused: Interruption) -> Interruption:
    """``refused`` with ``Validated=False``.

    What ``status`` says of the account is true of one version of the Secret. It is removed if another version was refused.
    """
    reason = _VALIDATED_REASONS.get(refused.reason, Reason.VALIDATION_FAILED)
    version = refused.status.get("observedSecretVersion")
    outdated = version is not None and version != status.observed_secret_version
    return refused.learned(
        dict.fromkeys(_OF_THE_ACCOUNT) if outdated else {}, condition(VALIDATED, "False", reason, refused.message)
    )


def account_status(account: Account) -> dict[str, Any]:
    """Status fields, by wire name: whose the credential is and what it may do. None where the host does not tell."""
    return {
        "login": account.login,
        "scopes": list(account.scopes) if account.scopes is not None else None,
        "tokenType": account.token_type,
        "expiresAt": rfc3339(account.expires_at) if account.expires_at is not None else None,
        "capabilities": [_capability(capability) for capability in account.capabilities],
    }


def _capability(capability: Capability) -> dict[str, str]:
    told = {"name": capability.name, "status": capability.status}
    return {**told, "message": capability.message} if capability.message else told


def require_owner(owner: str, kind: OwnerKind | None) -> None:
    """Raises ``Terminal`` (``OwnerNotFound``) when the host shows no such account."""
    if kind is None:
        raise Terminal(
            Reason.OWNER_NOT_FOUND,
            f"the host knows no user or organisation {owner!r}, or this credential may not see it; "
            "give the credential access, or make another Connection with the right owner and let spec.connectionRef of the "
            "Repositories name it; those of an account that was renamed are followed",
        )
