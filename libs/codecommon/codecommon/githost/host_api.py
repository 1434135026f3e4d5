"""What the HTTP stack and the budget must know of a git host's API.

``codecommon.githost.http`` and ``codecommon.githost.budget`` serve every host. Each request carries its host's ``HostApi``
(``HostAddress.api``), and what differs between hosts is asked of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import httpx

from codecommon.githost.limits import Quota


@dataclass(frozen=True, slots=True)
class LimitRefusal:
    """The host refused a request because of a limit. ``after``: how long to wait, None where the host names no time to come."""

    after: timedelta | None


class HostApi(Protocol):
    """A ``path`` is the path of a request below the root of the API, such as ``/user``."""

    @property
    def issuer_noun(self) -> str:
        """What the host calls an issuer (``Sender.issuer``), for messages."""
        ...

    @property
    def not_modified_is_free(self) -> bool:
        """Whether an answer 304 takes nothing from the quota."""
        ...

    def url_template(self, url_path: str) -> str:
        """The path of a whole URL for traces, with names and ids replaced: few values, and no names of tenants."""
        ...

    def is_answer(self, response: httpx.Response) -> bool:
        """Whether this is an answer of the API. Anything else counts as a failure of the host: a 5xx, a proxy's page."""
        ...

    def is_momentary(self, header: str) -> bool:
        """Whether ``header`` (lower case), one of the host's own, speaks of one answer or of the moment, not of the content."""
        ...

    def quota(self, headers: Mapping[str, str]) -> Quota | None:
        """The quota of the account as an answer tells it; None where the answer does not."""
        ...

    async def limit_refusal(self, response: httpx.Response) -> LimitRefusal | None:
        """None: the answer is no refusal because of a limit. Reads the body where it must."""
        ...

    async def account(self, method: str, path: str, response: httpx.Response) -> str | None:
        """A name for the account whose budget the credential draws on, where this answer tells it; reads the body where it must.

        Only an answer that the host alone can give counts. Two credentials of one account must get the same name.
        """
        ...

    def is_sent_by_issuer(self, path: str) -> bool:
        """Whether such a request is sent in the name of the credential's issuer, whose budget is not the credential's."""
        ...
