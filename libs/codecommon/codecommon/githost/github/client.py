"""Requests of one credential at one GitHub host: the token that goes with them, and what their answers mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Protocol

import httpx
import orjson
from githubkit import GitHub, Response, UnauthAuthStrategy
from githubkit.exception import RequestError

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.github.answer import Answer, date_in
from codecommon.githost.github.classify import Attempt, classify, unreachable
from codecommon.githost.http.network import ANSWER_LIMIT, CUT, LONGEST_ANSWER
from codecommon.githost.http.transport import Borrowed
from codecommon.process.redact import Redactor
from codecommon.process.secrets import SecretValue

# Every Enterprise Server in support knows this version. githubkit's own default is newer than some of them.
HEADERS: Final = {"X-GitHub-Api-Version": "2022-11-28"}
JSON: Final = "application/vnd.github+json"
_NO_EXTRA: Final[frozenset[int]] = frozenset()
_FOUND: Final = 302
_USER_AGENT: Final = "code-provider"


class TokenSource(Protocol):
    """Where the token of a request comes from."""

    async def token(self) -> SecretValue:
        """The token to send now."""
        ...

    async def after_rejection(self, rejected: SecretValue, told: datetime | None) -> SecretValue | None:
        """Another token, to be sent once; None when there is no other. ``told``: the host's clock when it answered 401."""
        ...

    def answered(self, token: SecretValue, status: int) -> None:
        """Take note of the status of an answer to a request with ``token``.

        Raises ``Retryable`` (``HostNotYetVisible``) where it may only say that the host does not know the token yet.
        """
        ...


class FixedToken:
    """The token of a Secret."""

    def __init__(self, token: SecretValue) -> None:
        self._token = token

    async def token(self) -> SecretValue:
        return self._token

    async def after_rejection(self, rejected: SecretValue, told: datetime | None) -> SecretValue | None:
        return None

    def answered(self, token: SecretValue, status: int) -> None:
        pass


class Authorized(httpx.AsyncBaseTransport):
    """Sends every request with the authority's token, and once more after a 401 if there is another token.

    It is a transport and not an ``httpx.Auth``, because the client's hook takes error answers before an auth flow sees them. A
    request that is answered 401 did nothing, so any request may be repeated. ``scrub`` learns each token that is sent.
    """

    def __init__(self, below: httpx.AsyncBaseTransport, token_source: TokenSource, scrub: Redactor) -> None:
        self._below = below
        self._authority = token_source
        self._scrub = scrub

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        token = await self._authority.token()
        response = await self._send(request, token)
        if response.status_code != 401:
            return response
        other = await self._authority.after_rejection(token, date_in(response.headers))
        if other is None:
            return response
        await response.aclose()
        return await self._send(request, other)

    async def aclose(self) -> None:
        await self._below.aclose()

    async def _send(self, request: httpx.Request, token: SecretValue) -> httpx.Response:
        self._scrub.register(token.reveal())
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        response = await self._below.handle_async_request(request)
        try:
            self._authority.answered(token, response.status_code)
        except Retryable:
            await response.aclose()
            raise
        return response


class AnswerCut(Retryable):
    """The answer is longer than what is read of it. It is what a tenant made, so it says nothing about the host."""

    def __init__(self, host: str, doing: str) -> None:
        super().__init__(Reason.UNEXPECTED_ANSWER, f"{host} answers with more than is read when asked to {doing}")


class Client:
    """githubkit over the process's transport. Every error answer becomes the exception that it means.

    ``host``: as pinned in status. ``rest``: githubkit's methods, whose calls go through ``send``. ``scrub`` removes the tokens
    that were sent from a text. A client is cheap to make and has nothing to close, because connections belong to ``transport``.
    """

    def __init__(self, address: HostAddress, token_source: TokenSource, transport: Borrowed) -> None:
        self.host = address.host
        self._api_base = address.api_base
        self.scrub = Redactor()
        self._borrowed = transport
        self._authorized = Authorized(transport, token_source, self.scrub)
        self._github = GitHub(
            # The transport puts the credential in; githubkit's own strategy shows the token in its repr.
            UnauthAuthStrategy(),
            base_url=address.api_base,
            async_transport=self._authorized,
            async_event_hooks={"response": [_refuse_what_is_no_success]},
            user_agent=_USER_AGENT,
            follow_redirects=False,
            trust_env=False,
            # Its cache grows without bound, and its retries repeat POST and sleep for up to an hour.
            http_cache=False,
            auto_retry=False,
            # The published description lacks values that GitHub takes, such as the visibility `internal`.
            rest_api_validate_body=False,
        )
        self.rest = self._github.rest

    def by_id(
        self,
        method: str,
        repo_id: str,
        tail: str = "",
        *,
        body: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
    ) -> Awaitable[Response[Any]]:
        """A call to ``/repositories/{id}{tail}``, the address that a rename does not change.

        GitHub's own redirects lead to it. Its documentation does not name it.
        """
        self._require_number(repo_id)
        return self._github.arequest(
            method, f"/repositories/{repo_id}{tail}", json=body, params=params, headers=HEADERS
        )

    def get(self, path: str, params: dict[str, Any] | None = None) -> Awaitable[Response[Any]]:
        """A call to ``path``, whose parts are quoted."""
        return self._github.arequest("GET", path, params=params, headers=HEADERS)

    async def exchange(
        self,
        attempt: Attempt,
        method: str,
        repo_id: str,
        tail: str,
        *,
        params: dict[str, str | int] | None = None,
        body: object = None,
        accept: str = JSON,
        most: int = LONGEST_ANSWER,
        also: frozenset[int] = _NO_EXTRA,
    ) -> Answer:
        """The answer of ``/repositories/{id}{tail}``, as of ``send``, of what tenants make as long as they like.

        Raises ``AnswerCut`` too, for an answer of more than ``most`` bytes. A redirect to another host counts as among ``also``
        if it is a 302. ``tail``: a path whose parts are quoted. ``body``: JSON if it is bytes, or else what becomes JSON.
        """
        self._require_number(repo_id)
        headers = {**HEADERS, "Accept": accept, "User-Agent": _USER_AGENT}
        content = b""
        if body is not None:
            content = body if isinstance(body, bytes) else orjson.dumps(body)
            headers["Content-Type"] = "application/json"
        url = httpx.URL(f"{self._api_base}/repositories/{repo_id}{tail}", params=params or {})
        request = httpx.Request(method, url, headers=headers, content=content, extensions={ANSWER_LIMIT: most})
        try:
            response = await self._authorized.handle_async_request(request)
            if CUT in response.extensions:
                raise AnswerCut(self.host, attempt.doing)
            await response.aread()
        except httpx.HTTPError as error:
            raise unreachable(self.host, error) from error
        answer = self._answer(response)
        leads_away = answer.status == _FOUND and answer.status in also
        if response.is_success or leads_away or (answer.status in also and _is_the_apis(answer)):
            return answer
        raise classify(answer, attempt, self.scrub)

    def download(self, answer: Answer) -> AbstractAsyncContextManager[AsyncIterator[bytes] | None]:
        """What a redirect leads to; as of ``Elsewhere.open``."""
        return self._borrowed.download(answer.location)

    async def send(
        self, attempt: Attempt, call: Awaitable[Response[Any]], *, also: frozenset[int] = _NO_EXTRA
    ) -> Answer:
        """The answer of ``call`` if it is a success or its status is among ``also``. Otherwise raises what the answer means.

        A 404 or a redirect counts as among ``also`` only if it is the API's own.
        """
        try:
            return self._answer((await call).raw_response)
        except RequestError as failure:
            cause: Exception = failure.exc
        if isinstance(cause, _Refused):
            answer = self._answer(cause.response)
            if answer.status in also and _is_the_apis(answer):
                return answer
            raise classify(answer, attempt, self.scrub)
        if isinstance(cause, httpx.HTTPError):
            raise unreachable(self.host, cause) from cause
        # A layer of the transport decided it, or it is a bug. Neither is an answer of the host.
        raise cause

    def _require_number(self, repo_id: str) -> None:
        if not (repo_id.isascii() and repo_id.isdecimal()):
            raise Terminal(Reason.VALIDATION_FAILED, "status.repoID is not the number of a repository")

    def _answer(self, response: httpx.Response) -> Answer:
        return Answer(self.host, response.status_code, response.headers, response.content, self._api_base)


def _is_the_apis(answer: Answer) -> bool:
    """Whether a 404 or a redirect is the API's own. For any other answer the status decides."""
    if answer.status == 404:
        return answer.says_not_found
    return answer.says_moved or not answer.is_redirect


class _Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(str(response.status_code))
        self.response = response


async def _refuse_what_is_no_success(response: httpx.Response) -> None:
    """Take every error answer out of githubkit's hands: its own check fails on a Retry-After that is not a number."""
    if not response.is_success:
        await response.aread()
        raise _Refused(response)
