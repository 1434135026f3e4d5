"""Who a backend speaks for: the holder of a token, or an App's installation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.github import rights
from codecommon.githost.github.answer import AccountAnswer, token_expiry
from codecommon.githost.github.app import InstallationTokens
from codecommon.githost.github.classify import Attempt
from codecommon.githost.github.client import HEADERS, Client, FixedToken, TokenSource
from codecommon.githost.github.credential import AppSecret, Token, TokenKind
from codecommon.githost.github.rights import granted_scopes
from codecommon.githost.http.transport import Borrowed
from codecommon.githost.protocol import Account, HostTarget, OwnerKind
from codecommon.process.shared_cache import SharedCache

# As many as there are open connections (codecommon.controller.connections).
_MOST_APPS: Final = 2048
# More than a workspace's open connections: where each pass makes a token, every answer comes too early to count.
_MOST_OF_A_WORKSPACE: Final = 1024


class Holder(Protocol):
    @property
    def token_source(self) -> TokenSource: ...

    async def account(self, client: Client) -> Account:
        """Ask the host who the holder is. ``client``: the backend's own."""
        ...

    def require_creates_for(self, owner: str, kind: OwnerKind) -> None:
        """Raises ``Terminal`` where GitHub is known to create nothing in that account for such a credential."""
        ...


class TokenHolder:
    def __init__(self, token: Token) -> None:
        self._kind: TokenKind = token.kind
        self.token_source: TokenSource = FixedToken(token.value)

    async def account(self, client: Client) -> Account:
        if self._kind == "installation":
            raise Terminal(
                Reason.CREDENTIAL_INVALID,
                "the Secret holds a token of an App's installation, which ends after an hour; set spec.type to github-app and "
                "put the App's key into the Secret",
            )
        answer = await client.send(
            Attempt("read the account of the credential"), client.rest.users.async_get_authenticated(headers=HEADERS)
        )
        account, scopes = answer.parse(AccountAnswer), granted_scopes(answer.headers)
        return Account(
            login=account.login,
            id=str(account.id),
            scopes=scopes,
            token_type=self._kind,
            expires_at=token_expiry(answer.headers),
            capabilities=rights.of_token(self._kind, scopes),
        )

    def require_creates_for(self, owner: str, kind: OwnerKind) -> None:
        pass


class AppHolder:
    def __init__(self, tokens: InstallationTokens) -> None:
        self._tokens = tokens
        self.token_source: TokenSource = tokens

    async def account(self, client: Client) -> Account:
        installation = await self._tokens.installation()
        # Looking the installation up needs the App's key only. All other requests need a token, so one is made here.
        await self._tokens.token()
        return Account(
            login=installation.login,
            id=installation.id,
            scopes=None,
            token_type="installation",  # noqa: S106
            capabilities=rights.of_installation(installation.permissions, installation.account_kind),
        )

    def require_creates_for(self, owner: str, kind: OwnerKind) -> None:
        if owner.lower() != self._tokens.owner.lower():
            raise Terminal(
                Reason.OWNER_MISMATCH,
                f"the App's installation is on {self._tokens.owner} and creates nothing for {owner}; use a Connection whose "
                f"spec.owner is {owner}, with the App installed there",
            )
        if kind == "User":
            raise Terminal(
                Reason.APP_CANNOT_CREATE,
                "GitHub lets no App create a repository in a user's account: create it there yourself and it is adopted, use a "
                "Connection with a token, or install the App on an organisation",
            )


class AppHolders:
    """The Apps of a process. One that is opened again goes on with the tokens that it has.

    Kept per endpoint and ``HostTarget.credential_key``, so no two tenants and no two versions of a Secret share tokens.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known = SharedCache[tuple[str, tuple[str, str, str]], tuple[AppSecret, str | None, AppHolder]](
            _MOST_APPS, _MOST_OF_A_WORKSPACE, lambda key: key[1][0]
        )

    def holder(self, address: HostAddress, target: HostTarget, secret: AppSecret, transport: Borrowed) -> AppHolder:
        key = (address.api_base, target.credential_key)
        known = self._known.get(key)
        if known is None or known[:2] != (secret, target.ca_bundle):
            known = (secret, target.ca_bundle, AppHolder(InstallationTokens(address, secret, transport, self._clock)))
            self._known.put(key, known)
        return known[2]
