"""Whose budget a credential draws on: the account that the host itself names, remembered for all processes.

Only what a host answered counts. A status could be written by a tenant, who would then spend the budget of another.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from codecommon.githost.budget.look import Looks
from codecommon.githost.budget.shared import BudgetUnavailable
from codecommon.githost.http.sender import Sender, sender_of

_log = logging.getLogger(__name__)

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_MOST_KNOWN: Final = 4096
_LOOK_EVERY_SECONDS: Final = 10.0
# Well below the bucket's TTL, so that an account in use is never forgotten.
_STORE_EVERY_SECONDS: Final = 3600.0
_INSTALLATION_TOKEN: Final = re.compile(r"/app/installations/([0-9]{1,20})/access_tokens")
_AS_APP: Final = re.compile(r"/app(/.*)?|/(orgs|users)/[^/]+/installation")


@dataclass(slots=True)
class _Known:
    """``looked`` None: not yet."""

    account: str | None = None
    looked: float | None = None
    stored: float = float("-inf")
    looks: Looks = field(default_factory=Looks)


class Principals:
    def __init__(self, bucket: KeyValue, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def budget_of(self, sender: Sender) -> str:
        """The key of the budget; until the account is known, one that only this credential has.

        Raises ``BudgetUnavailable`` as long as there was no answer to any look.
        """
        credential = _credential(sender)
        known = self._entry(credential)
        if known.account is None:
            # Who comes while somebody looks waits too: with a budget of its own it would ask a host that wants a pause.
            async with known.looks.turn():
                looked = known.looked
                if known.account is None and (looked is None or self._clock() - looked > _LOOK_EVERY_SECONDS):
                    found = await self._look(credential, first=looked is None)
                    known.account, known.looked = known.account or found, self._clock()
        return _key(sender, known.account or f"credential:{credential}")

    async def learn(self, sender: Sender, request: httpx.Request, response: httpx.Response) -> None:
        """Take the account out of the answers that name it."""
        account = await _account(request, response)
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
        """``first``: a failure is raised, for nothing is known yet."""
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


def budget_of_app(sender: Sender) -> str:
    """The key for what an App asks as itself."""
    return _key(sender, f"app:{sender.app or _credential(sender)}")


def asked_as_app(request: httpx.Request) -> bool:
    """Whether an App asks as itself, with its JWT, and not as one of its installations."""
    return _AS_APP.fullmatch(_path(request)) is not None


def _path(request: httpx.Request) -> str:
    return request.url.path.removeprefix(urlsplit(sender_of(request).endpoint.api_base).path)


async def _account(request: httpx.Request, response: httpx.Response) -> str | None:
    path = _path(request)
    if response.status_code == 201 and request.method == "POST" and (match := _INSTALLATION_TOKEN.fullmatch(path)):
        return f"installation:{match[1]}"
    if response.status_code == 200 and request.method == "GET" and path == "/user":
        await response.aread()
        try:
            body: Any = response.json()
        except ValueError:
            return None
        number: object = cast(dict[str, Any], body).get("id") if isinstance(body, dict) else None
        return f"user:{number}" if isinstance(number, int) else None
    return None


def _credential(sender: Sender) -> str:
    return _digest(sender.endpoint.api_base, *sender.principal)


def _key(sender: Sender, account: str) -> str:
    parts = urlsplit(sender.endpoint.api_base)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    return _digest(parts.scheme, parts.hostname or "", str(port), account)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
