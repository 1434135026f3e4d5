"""The cookie that binds a flow to the browser in which it began. It is encrypted, so the PKCE verifier stays ours."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from codecommon.process.secrets import SecretValue

FLOW_SECONDS: Final = 600
"""From the start of a flow to its callback. GitHub's code lives for ten minutes, too."""


@dataclass(frozen=True, slots=True)
class Flow:
    """``id``: the ``state`` that GitHub sends back, URL-safe. ``portal_state``: the one that the portal waits for.

    ``verifier``: PKCE's.
    """

    id: str
    portal_state: str
    verifier: SecretValue

    @property
    def cookie_name(self) -> str:
        """Each flow has its own, so that two tabs do not disturb each other."""
        return cookie_name(self.id)


def cookie_name(flow_id: str) -> str:
    return f"kedge-code-oauth-{flow_id[:16]}"


class FlowCookies:
    """``keys``: of Fernet. The first one encrypts, all decrypt, so a key is rotated by putting a new one in front."""

    def __init__(self, keys: Sequence[SecretValue], now: Callable[[], float] = time.time) -> None:
        self._fernet = MultiFernet([Fernet(key.reveal()) for key in keys])
        self._now = now

    def seal(self, flow: Flow) -> str:
        plain = json.dumps([flow.id, flow.portal_state, flow.verifier.reveal()]).encode()
        # The padding is no character of a cookie's value.
        return self._fernet.encrypt_at_time(plain, int(self._now())).decode().rstrip("=")

    def open(self, value: str) -> Flow | None:
        """The flow of a cookie that was made here within ``FLOW_SECONDS``; None for any other text."""
        padded = value + "=" * (-len(value) % 4)
        try:
            plain = self._fernet.decrypt_at_time(padded.encode(), FLOW_SECONDS, int(self._now()))
        except InvalidToken:
            return None
        flow_id, portal_state, verifier = json.loads(plain)
        return Flow(flow_id, portal_state, SecretValue(verifier))


def key_from(client_secret: SecretValue) -> SecretValue:
    """A key that every replica derives alike, for an operator who has set none."""
    derive = HKDF(SHA256(), length=32, salt=None, info=b"code-provider: cookie of Connect with GitHub")
    return SecretValue(base64.urlsafe_b64encode(derive.derive(client_secret.reveal().encode())).decode())
