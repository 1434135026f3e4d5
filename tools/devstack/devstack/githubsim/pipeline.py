"""What happens to every API request: who is asking, what they have left, the operation, the headers, the record."""

from __future__ import annotations

import asyncio

from aiohttp import web

from devstack.githubsim import delivery, headers, refusals
from devstack.githubsim.areas.meta import ENTERPRISE_VERSION
from devstack.githubsim.calls import (
    API_VERSIONS,
    DEFAULT_API_VERSION,
    Answer,
    ApiError,
    Call,
    Moved,
    Operation,
    Urls,
    not_found,
)
from devstack.githubsim.delivery import Encoded
from devstack.githubsim.faults import Fault
from devstack.githubsim.identity import identify
from devstack.githubsim.journal import Entry
from devstack.githubsim.limits import RateFigures
from devstack.githubsim.simulation import Simulation

ENTERPRISE_PREFIX = "/api/v3"


def _nothing_here(call: Call) -> Answer:
    raise not_found()


UNSERVED = Operation(method="*", path="*", handler=_nothing_here, docs="", anonymous=True)
"""Stands in for every path and method without an operation."""


async def serve(simulation: Simulation, operation: Operation, request: web.Request) -> web.StreamResponse:
    """Serve one request and record it."""
    entry = simulation.journal.begin(request.method, _api_path(request), simulation.clock())
    if operation is not UNSERVED:
        entry.operation = operation.name
    try:
        body = await request.read()
        return await _Exchange(simulation, operation, request, entry).run(body)
    finally:
        simulation.journal.end(entry, simulation.clock())


class _Exchange:
    """One request whose body has been read."""

    def __init__(self, simulation: Simulation, operation: Operation, request: web.Request, entry: Entry) -> None:
        self._simulation = simulation
        self._operation = operation
        self._request = request
        self._entry = entry
        self._id = entry.request_id
        self._enterprise = request.path.startswith(ENTERPRISE_PREFIX)
        self._version = request.headers.get("X-GitHub-Api-Version", DEFAULT_API_VERSION)
        self._identity = identify(simulation.world, request.headers.get("Authorization"), simulation.clock())
        self._principal = self._identity.principal(request.remote)
        token = self._identity.caller.token
        self._switches = simulation.switches.effective(token.id if token else None)

    async def run(self, body: bytes) -> web.StreamResponse:
        """The response to send. The entry learns the login, the fault and the status."""
        simulation, request, login = self._simulation, self._request, self._identity.login
        if login is not None:
            simulation.journal.identify(self._entry, login)
        retry_after = simulation.secondary.enter(self._principal, request.method, self._switches, simulation.clock())
        try:
            if self._switches.latency:
                await asyncio.sleep(self._switches.latency)
            fault = simulation.faults.take(request.method, _api_path(request), login, request.query)
            if fault is None:
                return self._sent(self._perform(body, retry_after))
            self._entry.fault = fault.action
            return await self._under(fault, body, retry_after)
        finally:
            simulation.secondary.leave(self._principal)

    async def _under(self, fault: Fault, body: bytes, retry_after: int | None) -> web.StreamResponse:
        if fault.action == "slow":
            return await self._late(fault, body, retry_after)
        if fault.action == "truncate":
            performed = self._perform(body, retry_after)
            self._entry.status = performed.status
            return await delivery.truncate(self._request, performed)
        if fault.applied:
            self._perform(body, retry_after)
        match fault.action:
            case "reset":
                delivery.reset(self._request)
                return web.Response()
            case "hang":
                await delivery.hang(self._request)
                return web.Response()
            case "html_502":
                return self._sent(Encoded(502, {"Content-Type": "text/html"}, delivery.BAD_GATEWAY_PAGE))
            case "secondary_limit":
                answer = refusals.secondary_limit(int(fault.seconds), self._id).answer(self._docs(""))
            case "status":
                answer = Answer(fault.status, fault.body, fault.headers)
        return self._sent(self._framed(answer, self._rate()))

    async def _late(self, fault: Fault, body: bytes, retry_after: int | None) -> web.StreamResponse:
        if fault.applied:
            performed = self._perform(body, retry_after)
            await self._simulation.faults.delay(fault.seconds)
        else:
            await self._simulation.faults.delay(fault.seconds)
            performed = self._perform(body, retry_after)
        return self._sent(performed)

    def _perform(self, body: bytes, retry_after: int | None) -> Encoded:
        """Let the request take effect, unless something refuses it first."""
        if "User-Agent" not in self._request.headers:
            return Encoded(403, {"Content-Type": "text/html"}, refusals.NO_USER_AGENT)
        rate = self._rate()
        try:
            self._admit(rate, retry_after)
            answer = self._operation.handler(self._call(body, rate))
        except Moved as moved:
            answer = moved.answer(self._request.method)
        except ApiError as error:
            answer = error.answer(self._docs(self._operation.docs))
        return self._framed(answer, rate)

    def _admit(self, rate: RateFigures | None, retry_after: int | None) -> None:
        """Raises ApiError for a bad or suspended credential or a missing one, an unknown API version, or an exceeded limit."""
        if self._identity.refused:
            raise ApiError(401, "Bad credentials", documentation_url=self._docs(""))
        self._require_unsuspended()
        if self._version not in API_VERSIONS:
            raise refusals.unsupported_version(self._version)
        if retry_after is not None:
            raise refusals.secondary_limit(retry_after, self._id)
        caller = self._identity.caller
        if rate is not None and rate.remaining == 0 and self._operation.counted:
            status, remote = self._switches.rate_limit_status, self._request.remote
            raise refusals.primary_limit(status, caller, remote, self._id, self._simulation.clock())
        if self._operation.for_apps != (caller.app is not None):
            raise ApiError(401, "A JSON web token could not be decoded")
        if caller.user is None and caller.app is None and not self._operation.anonymous:
            raise ApiError(401, "Requires authentication")
        if self._operation.for_users and caller.token is not None and caller.token.kind == "installation":
            raise ApiError(403, "Resource not accessible by integration")

    def _require_unsuspended(self) -> None:
        world, token = self._simulation.world, self._identity.caller.token
        if token is None or token.installation_id is None:
            return
        installation = world.installations[token.installation_id]
        if installation.suspended_at is not None:
            login = world.accounts[installation.account_id].login
            raise refusals.suspended_installation(login, installation.suspended_at)

    def _framed(self, answer: Answer, rate: RateFigures | None) -> Encoded:
        """The answer as bytes under all of GitHub's headers, its cost taken from the quota."""
        caller, operation = self._identity.caller, self._operation
        encoded = delivery.encode(answer, self._request)
        # Only a request with a good credential gets its 304 for nothing.
        free = not operation.counted or (encoded.status == 304 and caller.user is not None)
        if rate is not None and rate.remaining and not free:
            self._simulation.quota.charge(self._principal)
            rate.used += 1
        encoded.headers |= headers.FIXED_HEADERS | headers.date_header(self._simulation.clock())
        encoded.headers |= {"X-GitHub-Request-Id": self._id, "X-GitHub-Api-Version-Selected": self._version}
        if self._enterprise:
            encoded.headers["X-GitHub-Enterprise-Version"] = ENTERPRISE_VERSION
        if "ETag" in encoded.headers:
            encoded.headers |= headers.cache_headers(caller)
        if rate is not None:
            encoded.headers |= headers.rate_headers(rate)
        if caller.token is not None:
            encoded.headers |= headers.token_headers(caller.token, operation)
        return encoded

    def _sent(self, encoded: Encoded) -> web.Response:
        self._entry.status = encoded.status
        self._entry.not_modified = encoded.status == 304
        return encoded.response()

    def _rate(self) -> RateFigures | None:
        """The principal's quota as it stands; None where rate limiting is not enabled."""
        switches = self._switches
        limit = switches.primary_quota
        if limit is None:
            return None
        caller = self._identity.caller
        if caller.user is None and caller.app is None:
            limit = switches.anonymous_quota
        quota, now = self._simulation.quota, self._simulation.clock()
        return quota.figures(self._principal, limit, switches.quota_window, now)

    def _call(self, body: bytes, rate: RateFigures | None) -> Call:
        request, path = self._request, _api_path(self._request)
        query = f"?{request.query_string}" if request.query_string else ""
        named_by = 3 if "repository_id" in request.match_info else 4
        return Call(
            method=request.method,
            path=request.rel_url.raw_path.removeprefix(ENTERPRISE_PREFIX) or "/",
            tail="".join(f"/{part}" for part in path.split("/")[named_by:]) + query,
            params=request.match_info,
            query=request.query,
            raw_body=body,
            accept=request.headers.get("Accept", ""),
            caller=self._identity.caller,
            urls=self._urls(),
            version=self._version,
            now=self._simulation.clock(),
            world=self._simulation.world,
            switches=self._switches,
            rate=rate,
            downloads=self._simulation.downloads,
        )

    def _urls(self) -> Urls:
        base = f"{self._request.scheme}://{self._request.host}"
        api = base + ENTERPRISE_PREFIX if self._enterprise else base
        return Urls(api=api, web=base, host=self._request.host.partition(":")[0])

    def _docs(self, page: str) -> str:
        edition = f"enterprise-server@{ENTERPRISE_VERSION.rpartition('.')[0]}/" if self._enterprise else ""
        return f"https://docs.github.com/{edition}rest/{page}".rstrip("/")


def _api_path(request: web.Request) -> str:
    """The path below the API's root, wherever that is."""
    return request.path.removeprefix(ENTERPRISE_PREFIX) or "/"
