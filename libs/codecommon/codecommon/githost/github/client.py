"""Requests of one credential at one GitHub host, and what their answers mean."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

import httpx
from githubkit import GitHub, Response, UnauthAuthStrategy
from githubkit.exception import RequestError

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.github.answer import Answer
from codecommon.githost.github.authority import Authority, Authorized
from codecommon.githost.github.classify import Attempt, classify, unreachable
from codecommon.githost.github.endpoint import HostEndpoint
from codecommon.process.redact import Redactor

# The version that every Enterprise Server in support knows; githubkit's own default is newer than some of them.
HEADERS: Final = {"X-GitHub-Api-Version": "2022-11-28"}
_NO_EXTRA: Final[frozenset[int]] = frozenset()


class Client:
    """githubkit over the process's transport, with every error answer turned into what it means to us.

    ``host``: as pinned in status. ``rest``: githubkit's methods, whose calls go through ``send``. ``scrub`` takes the tokens
    that were sent out of a text. Cheap to make and without anything to close: connections belong to ``transport``.
    """

    def __init__(self, endpoint: HostEndpoint, authority: Authority, transport: httpx.AsyncBaseTransport) -> None:
        self.host = endpoint.host
        self._api_base = endpoint.api_base
        self.scrub = Redactor()
        self._github = GitHub(
            # The transport puts the credential in; githubkit's own strategy shows the token in its repr.
            UnauthAuthStrategy(),
            base_url=endpoint.api_base,
            async_transport=Authorized(transport, authority, self.scrub),
            async_event_hooks={"response": [_refuse_what_is_no_success]},
            user_agent="code-provider",
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
        """A call to ``/repositories/{id}{tail}``: the address that a rename does not change; GitHub's own redirects lead to it,
        its documentation does not name it."""
        if not (repo_id.isascii() and repo_id.isdecimal()):
            raise Terminal(Reason.VALIDATION_FAILED, "status.repoID is not the number of a repository")
        return self._github.arequest(
            method, f"/repositories/{repo_id}{tail}", json=body, params=params, headers=HEADERS
        )

    async def send(
        self, attempt: Attempt, call: Awaitable[Response[Any]], *, also: frozenset[int] = _NO_EXTRA
    ) -> Answer:
        """The answer of ``call`` if it is a success or its status is among ``also``; otherwise raises what it means.

        A 404 or a redirect must be the API's own to be among them.
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
        # Decided by a layer of the transport, or a bug: either way not the host's answer.
        raise cause

    def _answer(self, response: httpx.Response) -> Answer:
        return Answer(self.host, response.status_code, response.headers, response.content, self._api_base)


def _is_the_apis(answer: Answer) -> bool:
    """Whether a 404 or a redirect is; of others the status tells."""
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
