"""The users of the development stack: each has a token that the hub and kcp know from their start.

The hub calls them static tokens (hub-contract.md §4.4). kcp reads them from a file, once, when it starts. So there is a
fixed number of them, and every development hub on that kcp knows the same ones. They open nothing outside of a
development stack, which listens on the loopback interface alone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from devstack.kubeconfig import write_private

TOKEN_FILE = "token-auth-file.csv"
"""The file in kcp's folder. Beside a kubeconfig it says that this kcp knows the users."""

COUNT = 256
"""A run of all tests needs about forty in one hub."""


@dataclass(frozen=True)
class StaticUser:
    """A user by their token. All names follow from it, as in the hub."""

    token: str = field(repr=False)

    @property
    def subject(self) -> str:
        """What the hub's User object is labelled with: 63 hexadecimal digits."""
        return hashlib.sha256(f"static-token/{self.token}".encode()).hexdigest()[:63]

    @property
    def name(self) -> str:
        """The name of the hub's User object, which ``X-Kedge-User`` carries."""
        return f"static-user-{self.subject[:16]}"

    @property
    def kcp_name(self) -> str:
        """The user name at kcp, which role bindings name."""
        return f"kedge:static:{self.subject[:16]}"

    @property
    def email(self) -> str:
        return f"static-{re.sub(r'[^a-z0-9.-]+', '-', self.token.lower())}@kedge.local"


STATIC_USERS = (StaticUser("dev-token"), *(StaticUser(f"dev-token-{number}") for number in range(1, COUNT)))

_BY_TOKEN = {user.token: user for user in STATIC_USERS}


def user_of(token: str | None) -> StaticUser | None:
    """Whose token this is; None for any other."""
    return _BY_TOKEN.get(token or "")


def write_token_file(folder: Path) -> Path:
    """Writes what kcp's ``--token-auth-file`` takes: token, user name, UID, groups. Returns the path."""
    lines = [f'{user.token},{user.kcp_name},{user.name},"system:authenticated"\n' for user in STATIC_USERS]
    return write_private(folder / TOKEN_FILE, "".join(lines))
