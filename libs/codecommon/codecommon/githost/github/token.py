"""Judge a credential before it is sent anywhere.

A Secret that does not hold a token (the wrong key, a whole file, a kubeconfig) must not leave for a host; and a token that
breaks the header it travels in must be refused with words that do not repeat it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.github.endpoint import HostEndpoint
from codecommon.process.secrets import SecretValue

TokenKind = Literal["classic", "oauth", "fine-grained", "installation", "app-user", "unknown"]

_KINDS: Final[dict[str, TokenKind]] = {
    "ghp_": "classic",
    "gho_": "oauth",
    "github_pat_": "fine-grained",
    "ghs_": "installation",
    "ghu_": "app-user",
    "ghr_": "unknown",
}
_PRINTABLE_LINE: Final = re.compile(r"[\x21-\x7e]+")
# Before 2021 a token was 40 hex digits, whatever its kind; such tokens are still in force on old servers and accounts.
_OLD_SHAPE: Final = re.compile(r"[0-9a-fA-F]{40}")
# Several times the longest token known; a longer line is some other secret.
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Credential:
    """A token that may be sent to the host it was judged for."""

    token: SecretValue
    kind: TokenKind


def judge(secret: SecretValue, endpoint: HostEndpoint) -> Credential:
    """Accept a Secret's value as a token for ``endpoint``, without its one trailing newline.

    Raises ``Terminal`` (``CredentialInvalid``); no part of the value is in the message.
    """
    # `kubectl create secret --from-file` keeps the newline that editors put at the end of a file.
    value = secret.reveal().removesuffix("\n").removesuffix("\r")
    if not value:
        raise _invalid("the Secret's value is empty")
    if "\n" in value or "\r" in value:
        raise _invalid("the Secret's value has several lines; a token is one line")
    if len(value) > _LONGEST:
        raise _invalid("the Secret's value is too long to be a token")
    if not _PRINTABLE_LINE.fullmatch(value):
        raise _invalid("the Secret's value holds white space or characters that no token has")
    prefix = _prefix(value)
    if not endpoint.operator_named and prefix is None and not _OLD_SHAPE.fullmatch(value):
        known = ", ".join(sorted(_KINDS))
        raise _invalid(f"the Secret's value is not a GitHub token (one begins with {known}, or is 40 hex digits)")
    return Credential(SecretValue(value), _KINDS[prefix] if prefix else "unknown")


def _prefix(value: str) -> str | None:
    return next((prefix for prefix in _KINDS if value.startswith(prefix) and len(value) > len(prefix)), None)


def _invalid(message: str) -> Terminal:
    return Terminal(Reason.CREDENTIAL_INVALID, f"{message}; nothing was sent to the host. Put a token into the Secret")
