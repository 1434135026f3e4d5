"""A GitHub App: the JWT that it signs, its installation on an account, and the tokens of that installation.

Tokens live in the memory of this process and nowhere else. githubkit's own strategy is not used, because its cache does not tell
servers apart, and it asks for as many tokens as there are first calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.exceptions import InternalError
from githubkit import Response
from pydantic import BaseModel, Field

from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, Retryable, Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.github.answer import AccountAnswer, Answer
from codecommon.githost.github.classify import Attempt, classify
from codecommon.githost.github.client import HEADERS, Client
from codecommon.githost.github.credential import AppSecret
from codecommon.githost.github.names import check_owner
from codecommon.githost.github.rsa_key import load_rsa_key
from codecommon.githost.http.metrics import HOST_BUSY
from codecommon.githost.http.transport import Borrowed
from codecommon.githost.protocol import CredentialRejected, HostBusy, OwnerKind
from codecommon.process.secrets import SecretValue

# GitHub accepts ten minutes at most, by its own clock. An iat in the past allows for our clock being a little ahead.
_JWT_BACKDATED_SECONDS: Final = 60
_JWT_SECONDS: Final = 540
# A JWT is up to 20 s old when it is rejected, the time that a request may take. Such a difference is not the reason.
_LEAST_OFFSET_SECONDS: Final = 30
# A clock in the wrong time zone is off by less. A host that tells another date must not get a JWT that is valid on that day.
_MOST_OFFSET_SECONDS: Final = 86400
_REFRESHED_AT: Final = 0.8
# GitHub's servers learn of a new token one after the other. Until then they answer 401, or 404 for what the token may see.
_UNKNOWN_SECONDS: Final = 10.0
_ASK_AGAIN: Final = timedelta(seconds=2)
# A host that takes none of its tokens is not asked for one after the other.
_REPLACED_AFTER_SECONDS: Final = 60.0
# Who waits for a token holds a slot of the process that no host's share counts, so the wait is short and the object comes back.
_LONGEST_WAIT_SECONDS: Final = 1.0
_COME_BACK_SECONDS: Final = 5.0
_MISSING: Final = frozenset({404})
_SUSPENDED_OR_MISSING: Final = frozenset({403, 404})
_UNKNOWN_OR_MISSING: Final = frozenset({401, 404})


class _Installation(BaseModel):
    id: int
    account: AccountAnswer
    app_slug: str
    permissions: dict[str, str] = Field(default_factory=dict)
    suspended_at: datetime | None = None


class _Minted(BaseModel):
    token: str = Field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Installation:
    """An App on an account. ``login``: as which it acts; ``permissions``: name to ``read``, ``write`` or ``admin``."""

    id: str
    login: str
    account: str
    account_kind: OwnerKind
    permissions: dict[str, str]


@dataclass(slots=True)
class _Token:
    """Times are of our own clock. ``accepted``: the host has taken it at least once."""

    value: SecretValue
    made_at: float
    refresh_at: float
    ends_at: float
    accepted: bool = False

    def is_younger(self, seconds: float, now: float) -> bool:
        """Whether it was made less than ``seconds`` ago, and lives still."""
        return self.seconds_left(seconds, now) > 0

    def seconds_left(self, seconds: float, now: float) -> float:
        """Until it was made ``seconds`` ago, or its life is over."""
        return min(self.made_at + seconds, self.ends_at) - now


class AppKey:
    """Signs as the App: by our clock, or by the host's clock once the host has rejected ours.

    Raises ``Terminal`` (``CredentialInvalid``) for a key that ``load_rsa_key`` does not take, or that cannot sign.
    """

    def __init__(self, secret: AppSecret) -> None:
        self._app_id = secret.app_id
        self._key = load_rsa_key(secret.private_key.reveal())
        # Seconds by which the host's clock is ahead of ours.
        self._offset = 0.0

    async def token(self) -> SecretValue:
        now = int(time.time() + self._offset)
        claims = {"iat": now - _JWT_BACKDATED_SECONDS, "exp": now + _JWT_SECONDS, "iss": self._app_id}
        # Off the event loop: a key of 4,096 bits needs some milliseconds.
        return SecretValue(await asyncio.to_thread(self._sign, claims))

    def _sign(self, claims: dict[str, Any]) -> str:
        try:
            return jwt.encode(claims, self._key, algorithm="RS256")
        except (ValueError, InternalError):
            # Without the library's text. Factors that are no primes are noticed here, if at all.
            raise _invalid_key() from None

    def answered(self, token: SecretValue, status: int) -> None:
        pass

    async def after_rejection(self, rejected: SecretValue, told: datetime | None) -> SecretValue | None:
        if told is None:
            return None
        claims = jwt.decode(rejected.reveal(), options={"verify_signature": False})
        signed = claims["iat"] + _JWT_BACKDATED_SECONDS
        offset = told.timestamp() - time.time()
        if abs(told.timestamp() - signed) < _LEAST_OFFSET_SECONDS or abs(offset) > _MOST_OFFSET_SECONDS:
            return None
        self._offset = offset
        return await self.token()


class _Turn:
    """Whose turn it is to ask a host for a token: one at a time, for the others wait."""

    def __init__(self, address: HostAddress) -> None:
        self._address = address
        self._lock = asyncio.Lock()
        # When the turn of who has it began, by the event loop's time.
        self._since = 0.0
        self._failures = 0
        self._failure: Interruption | None = None

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Have the turn while the body runs.

        Raises ``HostBusy`` once another one has had it for a second, and what the host told another one meanwhile: it would tell
        each of those who wait the same.
        """
        now, failures = asyncio.get_running_loop().time, self._failures
        try:
            async with asyncio.timeout_at((self._since if self._lock.locked() else now()) + _LONGEST_WAIT_SECONDS):
                await self._lock.acquire()
        except TimeoutError:
            HOST_BUSY.labels(self._address.label, "token").inc()
            # Whoever came first has the token then. Otherwise the others would miss their comparison each time.
            wait = timedelta(seconds=_COME_BACK_SECONDS)
            raise HostBusy(self._address.host, _COME_BACK_SECONDS, drift_after=wait) from None
        try:
            self._since = now()
            if self._failure is not None and self._failures > failures:
                raise self._failure.learned()
            yield
        except Interruption as failure:
            if self._failures == failures and _is_for_all(failure):
                self._failure = failure.learned()
                self._failures += 1
            raise
        finally:
            self._lock.release()


def _is_for_all(failure: Interruption) -> bool:
    """Whether it is the host's answer. A turn, or a reserved time, is one object's own."""
    return not isinstance(failure, HostBusy) and not (isinstance(failure, Retryable) and failure.exact)


class InstallationTokens:
    """The tokens of one installation, at one endpoint. However many tasks ask at once, the host is asked once.

    Every method that asks the host raises ``CredentialRejected`` (with that reason, ``AppNotInstalled`` or ``OwnerMismatch``).
    ``token`` and ``after_rejection`` raise ``HostBusy`` where others have asked for more than a second.
    """

    def __init__(
        self,
        address: HostAddress,
        secret: AppSecret,
        transport: Borrowed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = Client(address, AppKey(secret), transport)
        self._secret = secret
        self._clock = clock
        self._turn = _Turn(address)
        self._installation_id: str | None = None
        self._token: _Token | None = None

    @property
    def owner(self) -> str:
        """The login of the account that the installation has to be on."""
        return self._secret.owner

    async def token(self) -> SecretValue:
        if (token := self._current()) is not None:
            return token
        async with self._turn.take():
            return self._current() or await self._mint()

    async def after_rejection(self, rejected: SecretValue, told: datetime | None) -> SecretValue:
        async with self._turn.take():
            token = self._token
            if token is not None and token.value == rejected:
                if not token.accepted and token.is_younger(_REPLACED_AFTER_SECONDS, self._clock()):
                    # Says what is wrong with the installation, if something is.
                    await self.installation()
                    raise CredentialRejected(
                        f"{self._client.host} makes tokens for the App's installation on {self._secret.owner} and then does "
                        "not take them; the Secret may be right, so look at the host's own status first",
                    )
                self._token = None
            return self._current() or await self._mint()

    def answered(self, token: SecretValue, status: int) -> None:
        kept = self._token
        if kept is None or kept.value != token:
            return
        now = self._clock()
        if status in _UNKNOWN_OR_MISSING and kept.is_younger(_UNKNOWN_SECONDS, now):
            raise Retryable(
                Reason.HOST_NOT_YET_VISIBLE,
                f"{self._client.host} may not know yet the new token that it made for the App's installation on "
                f"{self._secret.owner}; asking again with the same token",
                after=_ASK_AGAIN,
                drift_after=timedelta(seconds=kept.seconds_left(_UNKNOWN_SECONDS, now)),
            )
        kept.accepted = kept.accepted or (status != 401 and status < 500)

    async def installation(self) -> Installation:
        """The installation as it is now; asks the host each time."""
        found = await self._find()
        if found.account.login.lower() != self._secret.owner.lower():
            raise CredentialRejected(
                f"the installation {found.id} is on the account {found.account.login}, not on {self._secret.owner}; "
                "put the id of the right installation into the Secret, or none to have it looked up; if the account was "
                f"renamed, make another Connection whose owner is {found.account.login}, and let spec.connectionRef of the "
                "Repositories name it",
                reason=Reason.OWNER_MISMATCH,
            )
        if found.suspended_at is not None:
            raise self._suspended()
        self._installation_id = str(found.id)
        return Installation(
            id=str(found.id),
            login=f"{found.app_slug}[bot]",
            account=found.account.login,
            account_kind="Organization" if found.account.type == "Organization" else "User",
            permissions=found.permissions,
        )

    def _current(self) -> SecretValue | None:
        return self._token.value if self._token is not None and self._clock() < self._token.refresh_at else None

    async def _mint(self) -> SecretValue:
        # The installation's account is checked first, so that no token of a wrong installation is ever made.
        remembered = self._installation_id
        number = remembered or (await self.installation()).id
        attempt = Attempt("make a token of the App's installation", write=True)
        asked = self._clock()
        answer = await self._send(
            attempt,
            self._client.rest.apps.async_create_installation_access_token(int(number), headers=HEADERS),
            also=_SUSPENDED_OR_MISSING,
        )
        if answer.status == 404:
            self._installation_id = None
            # An App that was uninstalled and installed again has another installation.
            if remembered is not None and (await self.installation()).id != number:
                return await self._mint()
            raise Retryable(
                Reason.HOST_NOT_YET_VISIBLE,
                f"{self._client.host} shows the App's installation {number} on {self._secret.owner} and makes no token for it "
                "yet; asking again",
            )
        if answer.status == 403:
            raise (
                self._suspended()
                if "suspended" in (answer.message or "")
                else classify(answer, attempt, self._client.scrub)
            )
        minted = answer.parse(_Minted)
        # By the host's own clock: ours may be wrong.
        life = (minted.expires_at - answer.date).total_seconds() if answer.date else 0.0
        self._token = _Token(
            SecretValue(minted.token), self._clock(), asked + _REFRESHED_AT * life, ends_at=asked + life
        )
        return self._token.value

    async def _find(self) -> _Installation:
        apps = self._client.rest.apps
        attempt = Attempt("look up the App's installation")
        if (number := self._secret.installation_id) is not None:
            answer = await self._send(attempt, apps.async_get_installation(int(number), headers=HEADERS), also=_MISSING)
        else:
            owner = self._secret.owner
            check_owner(owner)
            answer = await self._send(attempt, apps.async_get_org_installation(owner, headers=HEADERS), also=_MISSING)
            if answer.status == 404:
                answer = await self._send(
                    attempt, apps.async_get_user_installation(owner, headers=HEADERS), also=_MISSING
                )
        if answer.status == 404:
            raise self._not_installed()
        return answer.parse(_Installation)

    async def _send(self, attempt: Attempt, call: Awaitable[Response[Any]], *, also: frozenset[int]) -> Answer:
        try:
            return await self._client.send(attempt, call, also=also)
        except CredentialRejected:
            raise CredentialRejected(
                f"{self._client.host} rejected the App's key: check githubAppID and githubAppPrivateKey in the Secret "
                "(the key may have been deleted in the App's settings)",
            ) from None

    def _not_installed(self) -> CredentialRejected:
        where = (
            f"has no installation {self._secret.installation_id} of this App"
            if self._secret.installation_id is not None
            else f"has no installation of this App on {self._secret.owner}"
        )
        return CredentialRejected(
            f"{self._client.host} {where}; install the App on {self._secret.owner}", reason=Reason.APP_NOT_INSTALLED
        )

    def _suspended(self) -> CredentialRejected:
        return CredentialRejected(
            f"the App's installation on {self._secret.owner} is suspended; unsuspend it in the account's settings",
        )


def _invalid_key() -> Terminal:
    return Terminal(
        Reason.CREDENTIAL_INVALID,
        "githubAppPrivateKey of the Secret is no key that can sign; nothing was sent to the host. Generate another one in the "
        "App's settings",
    )
