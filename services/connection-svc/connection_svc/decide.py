"""What a Connection's observations mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from codecommon.api.connection import Connection, ConnectionCapability, ConnectionStatus
from codecommon.api.meta import Condition
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, Ready, Terminal
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


_PACKAGES: Final = "packages"


def with_found_capability(status: ConnectionStatus, told: dict[str, Any], secret_version: str) -> dict[str, Any]:
    """``told`` (``account_status``), where the host does not tell whether the credential may read packages, and the crawler has
    found it out with this version of the Secret.
    """
    found = _capability_of(status)
    if found is None or found.status == "Unknown" or status.observed_secret_version != secret_version:
        return told
    kept = found.model_dump(by_alias=True, exclude_none=True)
    capabilities = [
        kept if c["name"] == _PACKAGES and c["status"] == "Unknown" else c for c in told["capabilities"] or ()
    ]
    return {**told, "capabilities": capabilities}


def learn(connection: Connection, finding: Condition) -> Ready:
    """What the crawler has found out about the credential, as the capability ``packages``."""
    status = connection.status
    if finding.type != ConditionType.PACKAGES_AVAILABLE or finding.status == "Unknown" or status.capabilities is None:
        return Ready()
    told = Capability(_PACKAGES, "Yes" if finding.status == "True" else "No", finding.message)
    others = [c.model_dump(by_alias=True, exclude_none=True) for c in status.capabilities if c.name != _PACKAGES]
    return Ready({"capabilities": [*others, _capability(told)]})


def _capability_of(status: ConnectionStatus) -> ConnectionCapability | None:
    return next((c for c in status.capabilities or () if c.name == _PACKAGES), None)


def require_owner(owner: str, kind: OwnerKind | None) -> None:
    """Raises ``Terminal`` (``OwnerNotFound``) when the host shows no such account."""
    if kind is None:
        raise Terminal(
            Reason.OWNER_NOT_FOUND,
            f"the host knows no user or organisation {owner!r}, or this credential may not see it; "
            "give the credential access, or make another Connection with the right owner and let spec.connectionRef of the "
            "Repositories name it; those of an account that was renamed are followed",
        )
