"""The layer of the transport below the breaker: a request goes on when its account's budget has room for it.

Where the limits are known ahead (GitHub's own hosts, and hosts that the operator describes), each request is entered in the
account's shared ledger. Everywhere else only the host's own answers count, and a request costs no message.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable
from codecommon.api.times import rfc3339
from codecommon.githost.budget.blocks import Blocks
from codecommon.githost.budget.ledger import Ask, Granted, Wait, points_of
from codecommon.githost.budget.limits import GITHUB, Limits
from codecommon.githost.budget.measure import Measures
from codecommon.githost.budget.principals import Principals, asked_as_app, budget_of_app
from codecommon.githost.budget.quota import Quota, Spending, quota_allows_at, quota_of
from codecommon.githost.budget.shared import BudgetUnavailable, SharedLedger
from codecommon.githost.github.answer import Answer
from codecommon.githost.github.classify import limit_of
from codecommon.githost.github.endpoint import HostEndpoint
from codecommon.githost.http.observe import host_label
from codecommon.githost.http.sender import REVALIDATED, Sender, sender_of
from codecommon.githost.work import Job, Urgency, current_job
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus

_MOST_ACCOUNTS: Final = 4096
# A handler holds a slot and a lock while it sleeps.
_LONGEST_SLEEP: Final = 1.0
_ASK_AGAIN: Final = timedelta(seconds=5)
_LIMITED: Final = frozenset({403, 429})


class Budgets:
    """What the gates of a process share. Open with ``open``, close with ``aclose``."""

    def __init__(self, bus: Bus, limits: Mapping[str, Limits], clock: Callable[[], float] = time.time) -> None:
        self._bus = bus
        self._limits = limits
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._by_host: dict[str, Measures] = {}
        process = uuid.uuid4().hex[:8]
        self._leases = (f"{process}-{number:x}" for number in itertools.count())

    async def open(self) -> None:
        """Look up the buckets, which ``Bus.declare`` has made."""
        self._bucket = await self._bus.bucket(bus_module.BUDGETS)
        self._blocks = Blocks(self._bus, self._bucket, self._clock)
        self._principals = Principals(await self._bus.bucket(bus_module.PRINCIPALS), self._clock)
        await self._blocks.start()

    async def aclose(self) -> None:
        await self._blocks.aclose()
        for account in self._accounts.values():
            if account.ledger is not None:
                await account.ledger.flush()

    def layer(self, below: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """The gate before ``below``, as a layer of ``HostTransport``."""
        return _Gate(self, below)

    # ---- before a request

    async def await_turn(self, sender: Sender) -> None:
        """``GitBackend.await_turn``: as ``admit`` would, for a request that follows soon."""
        await self._admit(sender, "POST", later=True)

    async def admit(self, request: httpx.Request) -> _Pass:
        """Let a request pass, after a second at most, or raise ``Retryable`` (``RateLimited``)."""
        granted = await self._admit(sender_of(request), request.method, as_app=asked_as_app(request))
        if not granted.account.app:
            granted.account.measures.passed(granted.urgency, points_of(request.method))
        return granted

    async def _admit(self, sender: Sender, method: str, *, later: bool = False, as_app: bool = False) -> _Pass:
        try:
            account = self._app(sender) if as_app else await self._account_of(sender)
            return await self._granted(account, method, later)
        except BudgetUnavailable:
            again = datetime.fromtimestamp(self._clock(), UTC) + _ASK_AGAIN
            raise Retryable(
                Reason.RATE_LIMITED,
                f"the budget of {sender.endpoint.host} cannot be asked; waiting until {rfc3339(again)}",
                after=_ASK_AGAIN,
            ) from None

    async def _granted(self, account: _Account, method: str, later: bool) -> _Pass:
        """Raises as ``admit``, and ``BudgetUnavailable``."""
        job = current_job()
        pause = _Pause(account, job, self._clock() + _LONGEST_SLEEP)
        while True:
            now = self._clock()
            blocked = (await self._blocks.get(account.key)).until
            if blocked > now:
                # When the pause is over not all may come at once, so this time is not exact.
                await self._wait(pause, now, blocked, exact=False)
                continue
            if account.ledger is None:
                until = quota_allows_at(job.urgency, account.quota, account.spending, now)
                if until <= now:
                    if not later:
                        account.spending.count(job.urgency, account.quota, now)
                    lease = None
                    break
                await self._wait(pause, now, until, exact=False)
                continue
            lease = next(self._leases)
            answer = await self._ask(account, Ask(lease, method, job, account.quota, later))
            if isinstance(answer, Granted):
                break
            await self._wait(pause, now, answer.until, exact=answer.reserved)
        return _Pass(account, lease, now, job.urgency)

    async def _ask(self, account: _Account, ask: Ask) -> Granted | Wait:
        assert account.ledger is not None
        try:
            return await account.ledger.ask(ask)
        finally:
            account.measures.reserved(account.published, account.ledger.reserved)
            account.published = account.ledger.reserved

    async def _wait(self, pause: _Pause, now: float, until: float, *, exact: bool) -> None:
        account, urgency = pause.account, pause.job.urgency
        asleep = until <= pause.deadline
        if not asleep and not exact:
            until = max(until, now + _LONGEST_SLEEP)
        account.measures.waits(urgency, until - now, again=pause.begun)
        pause.begun = True
        if asleep:
            await asyncio.sleep(max(until - now, 0.0))
            return
        whose, moment = "App" if account.app else "account", rfc3339(datetime.fromtimestamp(until, UTC))
        raise Retryable(
            Reason.RATE_LIMITED,
            f"the budget of this {whose} at {account.host} is used up for now; waiting until {moment}",
            after=timedelta(seconds=max(until - now, 0.0)),
            exact=exact,
        )

    # ---- after it

    async def note(self, granted: _Pass, request: httpx.Request, response: httpx.Response) -> None:
        """Learn from an answer: the quota, a refusal, whose credential it is."""
        account = granted.account
        quota = quota_of(response.headers)
        if quota is not None and not account.app:
            account.quota = quota
            account.measures.quota(account.key, quota, self._clock())
        if response.status_code not in _LIMITED or not await self._refused(granted, response):
            self._blocks.answered(account.key, granted.started)
        await self._principals.learn(sender_of(request), request, response)

    async def _refused(self, granted: _Pass, response: httpx.Response) -> bool:
        """Whether the answer is a refusal for a limit."""
        await response.aread()
        limit = limit_of(Answer(granted.account.host, response.status_code, response.headers, response.content))
        if limit is None:
            return False
        after = limit.named.total_seconds() if limit.named is not None else None
        await self._blocks.refused(granted.account.key, granted.started, after)
        return True

    def settle(self, granted: _Pass, *, free: bool) -> None:
        """The request is over, with or without an answer. ``free``: it cost nothing of the quota."""
        account = granted.account
        if account.ledger is None and free:
            account.spending.give_back(granted.urgency)
        elif account.ledger is not None and granted.lease is not None:
            account.ledger.settle(granted.lease, free=free)

    # ---- accounts

    def _app(self, sender: Sender) -> _Account:
        """The App itself. It is not paced: without its answers nothing can be asked for any account."""
        endpoint = sender.endpoint
        return _Account(budget_of_app(sender), endpoint.host, self._measures(endpoint), None, app=True)

    async def _account_of(self, sender: Sender) -> _Account:
        endpoint, key = sender.endpoint, await self._principals.budget_of(sender)
        account = self._accounts.get(key)
        if account is None:
            limits = self._limits.get(endpoint.host, GITHUB if endpoint.public else None)
            ledger = SharedLedger(self._bucket, key, limits, self._clock) if limits is not None else None
            account = self._accounts[key] = _Account(key, endpoint.host, self._measures(endpoint), ledger)
            if len(self._accounts) > _MOST_ACCOUNTS:
                _, forgotten = self._accounts.popitem(last=False)
                forgotten.measures.reserved(forgotten.published, 0)
        self._accounts.move_to_end(key)
        return account

    def _measures(self, endpoint: HostEndpoint) -> Measures:
        label = host_label(endpoint)
        return self._by_host.setdefault(label, Measures(label))


@dataclass(slots=True)
class _Account:
    """``ledger`` None: the host's limits are not known ahead. ``quota`` and ``spending`` as this process has seen them.

    ``published``: its part of the figure of reserved objects. ``app``: it is an App itself, of which only refusals count.
    """

    key: str
    host: str
    measures: Measures
    ledger: SharedLedger | None
    quota: Quota | None = None
    spending: Spending = field(default_factory=Spending)
    published: int = 0
    app: bool = False


@dataclass(frozen=True, slots=True)
class _Pass:
    account: _Account
    lease: str | None
    started: float
    urgency: Urgency


@dataclass(slots=True)
class _Pause:
    """``begun``: the request has waited already."""

    account: _Account
    job: Job
    deadline: float
    begun: bool = False


class _Gate(httpx.AsyncBaseTransport):
    def __init__(self, budgets: Budgets, below: httpx.AsyncBaseTransport) -> None:
        self._budgets = budgets
        self._below = below

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        granted = await self._budgets.admit(request)
        free = False
        try:
            response = await self._below.handle_async_request(request)
            free = REVALIDATED in response.extensions
            await self._budgets.note(granted, request, response)
            return response
        finally:
            self._budgets.settle(granted, free=free)

    async def aclose(self) -> None:
        await self._below.aclose()
