"""GitHub's credentials: what a Connection's Secret must hold, by ``spec.type``, and which tokens may be sent. Pure.

A Secret that does not hold a token (the wrong key, a whole file, a kubeconfig) must not leave for a host. A token that breaks the
header it travels in must be refused. No message repeats any part of a value.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from codecommon.api.connection import ConnectionSpec
from codecommon.api.reasons import Reason
from codecommon.api.results import NotReady, Terminal
from codecommon.githost.address import HostAddress
from codecommon.process.secrets import SecretValue

TokenKind = Literal["classic", "oauth", "fine-grained", "installation", "app-user", "unknown"]

_DEFAULT_KEY: Final = "token"
# The names that Flux uses, so that one Secret serves both.
_APP_ID: Final = "githubAppID"
_INSTALLATION_ID: Final = "githubAppInstallationID"
_INSTALLATION_OWNER: Final = "githubAppInstallationOwner"
_PRIVATE_KEY: Final = "githubAppPrivateKey"
# Flux's name for the host; both spellings are in use.
_BASE_URLS: Final = ("githubAppBaseURL", "githubAppBaseUrl")
# In base64. A key of an App has 4,400 characters, and a Secret may hold a megabyte of something else.
_LONGEST_ENTRY: Final = 131072
# GitHub's numbers fit into 64 bits.
_LONGEST_NUMBER: Final = 19
# An App's client ID: Iv1.8a61f9b3a7aba766, or Iv23li… of 20 characters. GitHub takes it as the issuer of a JWT.
_CLIENT_ID: Final = re.compile(r"Iv[0-9A-Za-z.]{6,62}")

_KINDS: Final[dict[str, TokenKind]] = {
    "ghp_": "classic",
    "gho_": "oauth",
    "github_pat_": "fine-grained",
    "ghs_": "installation",
    "ghu_": "app-user",
    "ghr_": "unknown",
}
_PRINTABLE_LINE: Final = re.compile(r"[\x21-\x7e]+")
# Before 2021 a token was 40 hex digits, whatever its kind. Such tokens are still in force on old servers and accounts.
_OLD_SHAPE: Final = re.compile(r"[0-9a-fA-F]{40}")
# Several times the longest token known. A longer line is some other secret.
_LONGEST_TOKEN: Final = 4096


@dataclass(frozen=True, slots=True)
class TokenSecret:
    """A Secret's text, to be used as a token once ``judge`` has accepted it."""

    value: SecretValue

    @property
    def issuer(self) -> None:
        return None

    def for_owner(self, owner: str) -> TokenSecret:
        return self


@dataclass(frozen=True, slots=True)
class AppSecret:
    """A GitHub App's identity. It makes tokens of the App's installation on ``owner`` and of no other.

    ``app_id``: the number or the client ID, as the Secret has it. ``installation_id`` None: looked up by ``owner``.
    ``private_key``: as ``load_rsa_key`` takes it.
    """

    app_id: str
    installation_id: str | None
    owner: str
    private_key: SecretValue

    @property
    def issuer(self) -> str:
        """The App, as a digest of its id and its key."""
        return hashlib.sha256(f"{self.app_id}\0{self.private_key.reveal().strip()}".encode()).hexdigest()

    def for_owner(self, owner: str) -> AppSecret:
        """The same App by its installation on ``owner``.

        Raises ``Terminal`` (``OwnerMismatch``) where the Secret names one installation, because that acts for nobody else.
        """
        if owner.lower() == self.owner.lower():
            return self
        if self.installation_id is not None:
            raise Terminal(
                Reason.OWNER_MISMATCH,
                f"the Secret names the App's installation on {self.owner}, which does nothing for {owner}; remove "
                f"{_INSTALLATION_ID} from it to have the installation looked up for each owner, or use a Connection for {owner}",
            )
        return replace(self, owner=owner)


# ---- what the Secret holds


def credential_keys(spec: ConnectionSpec) -> str:
    """``Provider.credential_keys``."""
    if spec.type == "github-app":
        return f"the keys {_APP_ID!r} and {_PRIVATE_KEY!r}"
    return f"key {spec.secret_ref.key or _DEFAULT_KEY!r}"


def read_credential(spec: ConnectionSpec, data: Mapping[str, str], where: str) -> TokenSecret | AppSecret:
    """``Provider.read_credential``."""
    if spec.type == "github-app":
        return _app(spec, data, where)
    key = spec.secret_ref.key or _DEFAULT_KEY
    if key not in data:
        raise NotReady(Reason.CREDENTIAL_UNAVAILABLE, f"{where} has no key {key!r}; add it or set spec.secretRef.key")
    return TokenSecret(SecretValue(_text(data, key, where)))


def _app(spec: ConnectionSpec, data: Mapping[str, str], where: str) -> AppSecret:
    missing = [key for key in (_APP_ID, _PRIVATE_KEY) if not data.get(key)]
    if missing:
        raise NotReady(
            Reason.CREDENTIAL_UNAVAILABLE,
            f"{where} has no key {' and no key '.join(map(repr, missing))}, which spec.type github-app needs; add it",
        )
    owner = _text(data, _INSTALLATION_OWNER, where) or spec.owner
    if owner.lower() != spec.owner.lower():
        raise Terminal(
            Reason.OWNER_MISMATCH,
            f"{_INSTALLATION_OWNER} of {where} names another account than spec.owner, {spec.owner}; make them the same, or "
            "leave it out",
        )
    app_id, installation_id = _word(data, _APP_ID, where), _word(data, _INSTALLATION_ID, where)
    if not (_is_number(app_id) or _CLIENT_ID.fullmatch(app_id)):
        raise Terminal(
            Reason.CREDENTIAL_INVALID,
            f"{_APP_ID} of {where} is neither a number nor a client ID (Iv…); copy it from the App's settings",
        )
    if installation_id and not _is_number(installation_id):
        raise Terminal(
            Reason.CREDENTIAL_INVALID,
            f"{_INSTALLATION_ID} of {where} is not a number; copy it from the address of the installation's page, or leave it "
            "out",
        )
    return AppSecret(app_id, installation_id or None, spec.owner, SecretValue(_text(data, _PRIVATE_KEY, where)))


def named_base_urls(data: Mapping[str, str], where: str) -> dict[str, str]:
    """What the Secret of an App says of its host, by key. We do not need it; other tools do."""
    named = {key: _text(data, key, where) for key in _BASE_URLS}
    return {key: text for key, text in named.items() if text}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER


def _word(data: Mapping[str, str], key: str, where: str) -> str:
    text = _text(data, key, where)
    if _has_white_space(text):
        raise Terminal(Reason.CREDENTIAL_INVALID, f"{key} of {where} has white space inside; take it out")
    return text


def _has_white_space(text: str) -> bool:
    return any(character.isspace() for character in text)


def _text(data: Mapping[str, str], key: str, where: str) -> str:
    """The text of an entry, without what an editor or a copy put around it; empty where there is no such entry."""
    encoded = data.get(key) or ""
    if len(encoded) > _LONGEST_ENTRY:
        raise Terminal(Reason.CREDENTIAL_INVALID, f"key {key!r} of {where} is too long to be a credential")
    try:
        return base64.b64decode(encoded).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        raise Terminal(
            Reason.CREDENTIAL_INVALID, f"key {key!r} of {where} is not text; store the credential as text"
        ) from None


# ---- what may be sent


@dataclass(frozen=True, slots=True)
class Token:
    """A token that may be sent to the host that it was judged for."""

    value: SecretValue
    kind: TokenKind


def judge(secret: SecretValue, address: HostAddress) -> Token:
    """Accept a Secret's value as a token for ``address``, without the white space around it.

    Raises ``Terminal`` (``CredentialInvalid``).
    """
    # `kubectl create secret --from-file` keeps the newline that editors put at the end of a file.
    value = secret.reveal().strip()
    if not value:
        raise _invalid("the Secret's value is empty")
    if "\n" in value or "\r" in value:
        raise _invalid("the Secret's value has several lines; a token is one line")
    if len(value) > _LONGEST_TOKEN:
        raise _invalid("the Secret's value is too long to be a token")
    if _has_white_space(value):
        raise _invalid("the Secret's value has white space inside; a token has none")
    if not _PRINTABLE_LINE.fullmatch(value):
        raise _invalid("the Secret's value holds characters that no token has")
    prefix = _prefix(value)
    if not address.operator_named and prefix is None and not _OLD_SHAPE.fullmatch(value):
        known = ", ".join(sorted(_KINDS))
        raise _invalid(f"the Secret's value is not a GitHub token (one begins with {known}, or is 40 hex digits)")
    return Token(SecretValue(value), _KINDS[prefix] if prefix else "unknown")


def _prefix(value: str) -> str | None:
    return next((prefix for prefix in _KINDS if value.startswith(prefix) and len(value) > len(prefix)), None)


def _invalid(message: str) -> Terminal:
    return Terminal(Reason.CREDENTIAL_INVALID, f"{message}; nothing was sent to the host. Put a token into the Secret")
