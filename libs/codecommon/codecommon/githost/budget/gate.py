"""The gate: the layer of the transport, below the breaker, that sends a request once its account's budget has room for it.

Where the limits are known (``HostAddress.limits``, or CODE_GIT_HOST_LIMITS), each request is entered in the account's shared
ledger. Everywhere else only the host's own answers count, and a request costs no message.
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
from codecommon.githost.address import HostAddress
from codecommon.githost.budget.accounts import CredentialAccounts, budget_of_issuer
from codecommon.githost.budget.blocks import Blocks
from codecommon.githost.budget.ledger import Ask, Granted, Spending, Wait, points_of, quota_allows_at
from codecommon.githost.budget.metrics import HostMetrics
from codecommon.githost.budget.shared import BudgetUnavailable, SharedLedger
from codecommon.githost.http.sender import REVALIDATED, Sender, sender_of
from codecommon.githost.job import Job, Urgency, current_job
from codecommon.githost.limits import Limits, Quota
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus

_MOST_ACCOUNTS: Final = 4096
# A handler keeps its slot and its lock while it sleeps.
_LONGEST_SLEEP: Final = 1.0
_ASK_AGAIN: Final = timedelta(seconds=5)


class Budgets:
    """The budgets of all accounts that a process uses. Call ``open`` first and ``aclose`` last."""

    def __init__(self, bus: Bus, limits: Mapping[str, Limits], clock: Callable[[], float] = time.time) -> None:
        self._bus = bus
        self._limits = limits
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._metrics: dict[str, HostMetrics] = {}
        process = uuid.uuid4().hex[:8]
        self._tickets = (f"{process}-{number:x}" for number in itertools.count())

    async def open(self) -> None:
        """Bind the buckets, which ``Bus.declare`` has made, and listen for blocks."""
        self._bucket = await self._bus.bucket(bus_module.BUDGETS)
        self._blocks = Blocks(self._bus, self._bucket, self._clock)
        self._credential_accounts = CredentialAccounts(await self._bus.bucket(bus_module.ACCOUNTS), self._clock)
        await self._blocks.start()

    async def aclose(self) -> None:
        await self._blocks.aclose()
        for account in self._accounts.values():
            if account.ledger is not None:
                await account.ledger.flush()

    def layer(self, below: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """The gate above ``below``, as a layer of ``HostTransport``."""
        return BudgetLayer(self, below)

    # ---- before a request

    async def await_turn(self, sender: Sender) -> None:
        """``GitBackend.await_turn``: wait as ``admit`` does, for a write that follows soon."""
        await self._admit(sender, "POST", later=True)

    async def admit(self, request: httpx.Request) -> _Permit:
        """Wait for the budget, a second at most, or raise ``Retryable`` (``RateLimited``)."""
        sender = sender_of(request)
        by_issuer = sender.address.api.is_sent_by_issuer(sender.address.path_of(request.url))
        permit = await self._admit(sender, request.method, by_issuer=by_issuer)
        if not by_issuer:
            permit.account.metrics.passed(permit.urgency, points_of(request.method))
        return permit

    async def _admit(self, sender: Sender, method: str, *, later: bool = False, by_issuer: bool = False) -> _Permit:
        try:
            account = self._issuer(sender) if by_issuer else await self._account_of(sender)
            return await self._permit(account, method, later)
        except BudgetUnavailable:
            again = datetime.fromtimestamp(self._clock(), UTC) + _ASK_AGAIN
            raise Retryable(
                Reason.RATE_LIMITED,
                f"the budget of {sender.address.host} cannot be asked; waiting until {rfc3339(again)}",
                after=_ASK_AGAIN,
            ) from None

    async def _permit(self, account: _Account, method: str, later: bool) -> _Permit:
        """Raises as ``admit``, and ``BudgetUnavailable``."""
        job = current_job()
        pause = _Pause(account, job, self._clock() + _LONGEST_SLEEP)
        while True:
            now = self._clock()
            blocked = (await self._blocks.get(account.key)).until
            if blocked > now:
                # When the block is over, not all may come at the same moment, so this time is not exact.
                await self._wait(pause, now, blocked, exact=False)
                continue
            if account.ledger is None:
                until = quota_allows_at(job.urgency, account.quota, account.spending, now)
                if until <= now:
                    if not later:
                        account.spending.count(job.urgency, account.quota, now)
                    ticket = None
                    break
                await self._wait(pause, now, until, exact=False)
                continue
            ticket = next(self._tickets)
            answer = await self._ask(account, Ask(ticket, method, job, account.quota, later))
            if isinstance(answer, Granted):
                break
            await self._wait(pause, now, answer.until, exact=answer.reserved)
        return _Permit(account, ticket, now, job.urgency)

    async def _ask(self, account: _Account, ask: Ask) -> Granted | Wait:
        assert account.ledger is not None
        try:
            return await account.ledger.ask(ask)
        finally:
            account.metrics.reserved(account.published, account.ledger.reserved)
            account.published = account.ledger.reserved

    async def _wait(self, pause: _Pause, now: float, until: float, *, exact: bool) -> None:
        account, urgency = pause.account, pause.job.urgency
        asleep = until <= pause.deadline
        if not asleep and not exact:
            until = max(until, now + _LONGEST_SLEEP)
        account.metrics.waited(urgency, until - now, again=pause.begun)
        pause.begun = True
        if asleep:
            await asyncio.sleep(max(until - now, 0.0))
            return
        moment = rfc3339(datetime.fromtimestamp(until, UTC))
        raise Retryable(
            Reason.RATE_LIMITED,
            f"the budget of this {account.noun} at {account.host} is used up for now; waiting until {moment}",
            after=timedelta(seconds=max(until - now, 0.0)),
            exact=exact,
        )

    # ---- after it

    async def learn(self, permit: _Permit, request: httpx.Request, response: httpx.Response) -> None:
        """Learn the quota, a refusal or the account from an answer."""
        account, sender = permit.account, sender_of(request)
        told = sender.address.api.quota(response.headers)
        if told is not None and not account.is_issuer:
            now = self._clock()
            account.quota = told.renewed_soon(now)
            account.metrics.quota(account.key, account.quota, now)
        refusal = await sender.address.api.limit_refusal(response)
        if refusal is None:
            self._blocks.answered(account.key, permit.started)
        else:
            after = refusal.after.total_seconds() if refusal.after is not None else None
            await self._blocks.refused(account.key, permit.started, after)
        await self._credential_accounts.learn(sender, request, response)

    def finish(self, permit: _Permit, *, free: bool) -> None:
        """The request is over, with or without an answer. ``free``: it took nothing from the quota."""
        account = permit.account
        if account.ledger is None and free:
            account.spending.give_back(permit.urgency)
        elif account.ledger is not None and permit.ticket is not None:
            account.ledger.finish(permit.ticket, free=free)

    # ---- accounts

    def _issuer(self, sender: Sender) -> _Account:
        """The issuer of the credential. It is not paced, because without its tokens nothing can be asked for any account."""
        address = sender.address
        key, noun = budget_of_issuer(sender), address.api.issuer_noun
        return _Account(key, address.host, self._metrics_of(address), None, noun=noun, is_issuer=True)

    async def _account_of(self, sender: Sender) -> _Account:
        address, key = sender.address, await self._credential_accounts.budget_of(sender)
        account = self._accounts.get(key)
        if account is None:
            limits = self._limits.get(address.host, address.limits)
            ledger = SharedLedger(self._bucket, key, limits, self._clock) if limits is not None else None
            account = self._accounts[key] = _Account(key, address.host, self._metrics_of(address), ledger)
            if len(self._accounts) > _MOST_ACCOUNTS:
                _, forgotten = self._accounts.popitem(last=False)
                forgotten.metrics.reserved(forgotten.published, 0)
        self._accounts.move_to_end(key)
        return account

    def _metrics_of(self, address: HostAddress) -> HostMetrics:
        return self._metrics.setdefault(address.label, HostMetrics(address.label))


@dataclass(slots=True)
class _Account:
    """``ledger`` None: the host's limits are not known. ``quota`` and ``spending`` as this process has seen them.

    ``published``: its part of the metric of reserved objects. ``noun``: what a message calls it. ``is_issuer``: it stands for the
    issuer of credentials, and only refusals count.
    """

    key: str
    host: str
    metrics: HostMetrics
    ledger: SharedLedger | None
    quota: Quota | None = None
    spending: Spending = field(default_factory=Spending)
    published: int = 0
    noun: str = "account"
    is_issuer: bool = False


@dataclass(frozen=True, slots=True)
class _Permit:
    """A request may be sent. ``ticket``: its entry in the ledger, None where there is no ledger. ``started``: epoch seconds."""

    account: _Account
    ticket: str | None
    started: float
    urgency: Urgency


@dataclass(slots=True)
class _Pause:
    """The wait of one request. ``deadline``: until when it may sleep. ``begun``: it has waited already."""

    account: _Account
    job: Job
    deadline: float
    begun: bool = False


class BudgetLayer(httpx.AsyncBaseTransport):
    def __init__(self, budgets: Budgets, below: httpx.AsyncBaseTransport) -> None:
        self._budgets = budgets
        self._below = below

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        permit = await self._budgets.admit(request)
        free = False
        try:
            response = await self._below.handle_async_request(request)
            free = REVALIDATED in response.extensions and sender_of(request).address.api.not_modified_is_free
            await self._budgets.learn(permit, request, response)
            return response
        finally:
            self._budgets.finish(permit, free=free)

    async def aclose(self) -> None:
        await self._below.aclose()
