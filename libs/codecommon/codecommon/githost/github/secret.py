"""What a Connection's Secret must hold, by ``spec.type``. Pure; no value is ever in a message."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from codecommon.api.connection import ConnectionSpec
from codecommon.api.reasons import Reason
from codecommon.api.results import NotReady, Terminal
from codecommon.githost.protocol import AppSecret
from codecommon.process.secrets import SecretValue

CREDENTIAL_UNAVAILABLE: Final = Reason.CREDENTIAL_UNAVAILABLE

_DEFAULT_KEY: Final = "token"
# The names that Flux uses, so that one Secret serves both.
_APP_ID: Final = "githubAppID"
_INSTALLATION_ID: Final = "githubAppInstallationID"
_INSTALLATION_OWNER: Final = "githubAppInstallationOwner"
_PRIVATE_KEY: Final = "githubAppPrivateKey"
# A 16384-bit key has 13,000 characters; numbers of GitHub's fit into 64 bits.
_LONGEST_KEY: Final = 65536
_LONGEST_NUMBER: Final = 19


def wanted_keys(spec: ConnectionSpec) -> str:
    """For a message: the keys that the Secret needs."""
    if spec.type == "github-app":
        return f"the keys {_APP_ID!r} and {_PRIVATE_KEY!r}"
    return f"key {spec.secret_ref.key or _DEFAULT_KEY!r}"


def read_credential(spec: ConnectionSpec, data: Mapping[str, str], where: str) -> SecretValue | AppSecret:
    """The credential in a Secret's ``data`` (base64). ``where`` names the Secret in messages.

    Raises ``NotReady`` (``CredentialUnavailable``) for a missing key, ``Terminal``: ``CredentialInvalid``, ``OwnerMismatch``.
    """
    if spec.type == "github-app":
        return _app(spec, data, where)
    key = spec.secret_ref.key or _DEFAULT_KEY
    if key not in data:
        raise NotReady(CREDENTIAL_UNAVAILABLE, f"{where} has no key {key!r}; add it or set spec.secretRef.key")
    return SecretValue(_text(data, key, where))


def installed_on(secret: AppSecret, owner: str) -> AppSecret:
    """The same App by its installation on another account.

    Raises ``Terminal`` (``OwnerMismatch``) where the Secret names one installation: that one acts for nobody else.
    """
    if secret.installation_id is not None:
        raise Terminal(
            Reason.OWNER_MISMATCH,
            f"the Secret names the App's installation on {secret.owner}, which does nothing for {owner}; remove "
            f"{_INSTALLATION_ID} from it to have the installation looked up for each owner, or use a Connection for {owner}",
        )
    return replace(secret, owner=owner)


def _app(spec: ConnectionSpec, data: Mapping[str, str], where: str) -> AppSecret:
    missing = [key for key in (_APP_ID, _PRIVATE_KEY) if not data.get(key)]
    if missing:
        raise NotReady(
            CREDENTIAL_UNAVAILABLE,
            f"{where} has no key {' and no key '.join(map(repr, missing))}, which spec.type github-app needs; add it",
        )
    owner = _text(data, _INSTALLATION_OWNER, where).strip() or spec.owner
    if owner.lower() != spec.owner.lower():
        raise Terminal(
            Reason.OWNER_MISMATCH,
            f"{_INSTALLATION_OWNER} of {where} names another account than spec.owner, {spec.owner}; make them the same, or "
            "leave it out",
        )
    private_key = _text(data, _PRIVATE_KEY, where)
    if len(private_key) > _LONGEST_KEY:
        raise Terminal(Reason.CREDENTIAL_INVALID, f"{_PRIVATE_KEY} of {where} is too long to be a private key")
    return AppSecret(
        app_id=_number(data, _APP_ID, where),
        installation_id=_number(data, _INSTALLATION_ID, where) if data.get(_INSTALLATION_ID) else None,
        owner=spec.owner,
        private_key=SecretValue(private_key),
    )


def _number(data: Mapping[str, str], key: str, where: str) -> str:
    text = _text(data, key, where).strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        raise Terminal(Reason.CREDENTIAL_INVALID, f"{key} of {where} is not a number; copy it from the App's settings")
    return text


def _text(data: Mapping[str, str], key: str, where: str) -> str:
    try:
        return base64.b64decode(data.get(key) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Terminal(
            Reason.CREDENTIAL_INVALID, f"key {key!r} of {where} is not text; store the credential as text"
        ) from None
