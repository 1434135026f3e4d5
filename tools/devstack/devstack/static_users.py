"""The users of the development stack: each has a token that the hub and kcp know from their start.

The hub calls them static tokens (hub-contract.md §4.4). kcp reads them from a file, once, when it starts. So there is a
fixed number of them, and every development hub of this checkout knows the same ones. Their tokens follow from a secret that
only the user of this checkout can read: others on the machine reach the loopback interface, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from devstack.kubeconfig import write_private
from devstack.paths import RUNS

TOKEN_FILE = "token-auth-file.csv"
"""The file in kcp's folder. Beside a kubeconfig it says that this kcp knows the users."""

SECRET_FILE = "static-users.secret"

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


@cache
def static_users() -> tuple[StaticUser, ...]:
    """All of them, in the same order in every process of this checkout."""
    secret = _secret(RUNS / SECRET_FILE)
    tokens = (hashlib.sha256(f"{secret}/{number}".encode()).hexdigest()[:32] for number in range(COUNT))
    return tuple(StaticUser(f"dev-{token}") for token in tokens)


@cache
def _by_token() -> dict[str, StaticUser]:
    return {user.token: user for user in static_users()}


def user_of(token: str | None) -> StaticUser | None:
    """Whose token this is; None for any other."""
    return _by_token().get(token or "")


def _secret(path: Path) -> str:
    """What the file says. The first process that asks writes it."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        mine = write_private(path.with_suffix(f".{os.getpid()}"), secrets.token_hex(32))
        # Another process may have been faster. Its secret counts then.
        with suppress(FileExistsError):
            path.hardlink_to(mine)
        mine.unlink()
    return path.read_text()


def write_token_file(folder: Path) -> Path:
    """Writes what kcp's ``--token-auth-file`` takes: token, user name, UID, groups. Returns the path."""
    lines = [f'{user.token},{user.kcp_name},{user.name},"system:authenticated"\n' for user in static_users()]
    return write_private(folder / TOKEN_FILE, "".join(lines))
