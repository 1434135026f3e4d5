"""Who a request comes from, by its Authorization header."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from devstack.githubsim import apps
from devstack.githubsim.calls import Caller
from devstack.githubsim.journal import UNKNOWN
from devstack.githubsim.limits import Principal
from devstack.githubsim.world import World


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, and what the journal may say of the credential.

    `login` is None without a credential, UNKNOWN for one that was never issued, and the user's for one
    that was, also if it has been revoked or has expired. `caller` is nobody unless the credential is good.
    """

    login: str | None
    caller: Caller

    @property
    def refused(self) -> bool:
        """Whether a credential came along that is no good."""
        return self.login is not None and self.caller.user is None and self.caller.app is None

    def principal(self, remote: str | None) -> Principal:
        """Whose quota the request uses: the user's, whichever token it is, the App's or installation's, or the address's."""
        if self.caller.app is not None:
            return f"app {self.caller.app.id}"
        if self.caller.token is not None and self.caller.token.installation_id is not None:
            return f"installation {self.caller.token.installation_id}"
        return self.caller.user.id if self.caller.user is not None else remote or "anonymous"


def identify(world: World, authorization: str | None, now: float) -> Identity:
    """Resolve an Authorization header. The credential itself goes no further."""
    if authorization is None:
        return Identity(None, Caller())
    credential = _credential(authorization)
    if credential.count(".") == 2:
        app = apps.signer(world, credential, now)
        return Identity(app.slug, Caller(app=app)) if app else Identity(UNKNOWN, Caller())
    token = world.token(credential)
    if token is None:
        return Identity(UNKNOWN, Caller())
    user = world.user(token.user_id)
    good = not token.revoked and (token.expires_at is None or now < token.expires_at)
    return Identity(user.login, Caller(token, user) if good else Caller())


def _credential(authorization: str) -> str:
    """The secret of a `Bearer` or `token` header, or the password (else the user name) of a Basic one."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "basic":
        return rest.strip()
    try:
        user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return password or user
