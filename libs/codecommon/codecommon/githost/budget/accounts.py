"""The account whose budget a credential draws on, as the host named it (``HostApi.account``), stored for all processes.

Only answers of the host count. A status is no source: a tenant could write another tenant's account there and spend its budget.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from codecommon.githost.budget.shared import BudgetUnavailable, SingleFlight
from codecommon.githost.http.sender import Sender

_log = logging.getLogger(__name__)

_MOST_KNOWN: Final = 4096
_LOOK_EVERY_SECONDS: Final = 10.0
# Well below the bucket's TTL, so that an account in use is never forgotten.
_STORE_EVERY_SECONDS: Final = 3600.0


@dataclass(slots=True)
class _Known:
    """``looked``: when the bucket was last asked; None: not yet."""

    account: str | None = None
    looked: float | None = None
    stored: float = float("-inf")
    lookup: SingleFlight = field(default_factory=SingleFlight)


class CredentialAccounts:
    def __init__(self, bucket: KeyValue, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def budget_of(self, sender: Sender) -> str:
        """The key of the account's budget. Until the account is known, the credential has a key of its own.

        Raises ``BudgetUnavailable`` as long as no lookup has been answered.
        """
        credential = _credential(sender)
        known = self._entry(credential)
        if known.account is None:
            # Tasks that come during a lookup wait too. With a key of their own they would not see that the account is blocked.
            async with known.lookup.turn():
                looked = known.looked
                if known.account is None and (looked is None or self._clock() - looked > _LOOK_EVERY_SECONDS):
                    found = await self._look(credential, first=looked is None)
                    known.account, known.looked = known.account or found, self._clock()
        return _key(sender, known.account or f"credential:{credential}")

    async def learn(self, sender: Sender, request: httpx.Request, response: httpx.Response) -> None:
        """Store the account of an answer that names it."""
        address = sender.address
        account = await address.api.account(request.method, address.path_of(request.url), response)
        if account is None:
            return
        credential, now = _credential(sender), self._clock()
        known = self._entry(credential)
        if known.account == account and now - known.stored < _STORE_EVERY_SECONDS:
            return
        known.account, known.stored = account, now
        try:
            await self._bucket.put(credential, account.encode())
        except (NatsError, TimeoutError) as error:
            _log.warning("the account of a credential could not be stored: %s", type(error).__name__)

    async def _look(self, credential: str, *, first: bool) -> str | None:
        """The stored account. ``first``: nothing is known yet, so a failure raises ``BudgetUnavailable``."""
        try:
            return ((await self._bucket.get(credential)).value or b"").decode() or None
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            _log.warning("cannot look up the account of a credential: %s", type(error).__name__)
            if first:
                raise BudgetUnavailable(type(error).__name__) from None
            return None

    def _entry(self, credential: str) -> _Known:
        known = self._known.get(credential)
        if known is None:
            known = self._known[credential] = _Known()
        self._known.move_to_end(credential)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known


def budget_of_issuer(sender: Sender) -> str:
    """The key for what a credential's issuer asks in its own name."""
    return _key(sender, f"app:{sender.issuer or _credential(sender)}")


def _credential(sender: Sender) -> str:
    return _digest(sender.address.api_base, *sender.credential_key)


def _key(sender: Sender, account: str) -> str:
    scheme, host, port = sender.address.origin
    return _digest(scheme, host, str(port), account)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
