"""Whether kcp narrows lists by the fields that our schemas declare.

It does not while the APIExport serves schemas that are not ours: the Go provider's ``init`` ran again, or an older catalog entry
was provisioned. Lists are read whole then and compared by ``codecommon.kcp.lists``. That costs more and gives the same answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Protocol

import aiohttp
from prometheus_client import Gauge

from codecommon.api.kinds import KINDS
from codecommon.kcp.errors import KcpError
from codecommon.kcp.kubeconfig import KubeconfigError

_log = logging.getLogger(__name__)

UNSERVED: Final = Gauge(
    "code_kcp_unserved_field_selectors",
    "Kinds whose lists kcp does not narrow, because the APIExport serves schemas that are not ours.",
)

ASK_AGAIN_SECONDS: Final = 5.0

FOREIGN_SCHEMAS: Final = "the APIExport serves schemas that are not ours: run `code-provider init` again"


class Requests(Protocol):
    """What asks kcp again: a ``Kcp``."""

    async def request(self, method: str, url: str, *, params: Mapping[str, str] | None = None) -> dict[str, Any]: ...


class FieldSelectors:
    """What one process knows of it. ``path`` is the API path of a kind, without the workspace."""

    def __init__(self, kcp: Requests) -> None:
        self._kcp = kcp
        self._refused: dict[str, tuple[str, str]] = {}
        """The URL and the selector that were refused last, by path. There is one path per kind of ours at most."""

    @property
    def complaint(self) -> str | None:
        """What an operator has to do; None: nothing."""
        return FOREIGN_SCHEMAS if self._refused else None

    def selector(self, path: str, fields: Mapping[str, str]) -> str:
        """The field selector for ``fields``; empty while kcp refuses it."""
        return "" if path in self._refused else ",".join(f"{name}={_escaped(value)}" for name, value in fields.items())

    @staticmethod
    def are_ours(path: str, fields: Mapping[str, str]) -> bool:
        """Whether our schema of the kind declares all ``fields``, so that kcp should know them."""
        kind = KINDS.get(path.rpartition("/")[2])
        return kind is not None and set(fields) <= {"metadata.name", *kind.selectable_fields}

    def refused(self, path: str, url: str, selector: str) -> None:
        """kcp answered with 400 to ``selector``, and without it with a list."""
        if not self._refused:
            _log.warning("%s. Until then lists are read whole, which takes longer", FOREIGN_SCHEMAS)
        self._refused[path] = (url, selector)
        UNSERVED.set(len(self._refused))

    async def keep_asking(self) -> NoReturn:
        """Find out that our schemas are back, also when nobody lists anything."""
        while True:
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            await self.ask_again()

    async def ask_again(self) -> None:
        """Ask for each list that was refused once more, for one object of it."""
        for path, (url, selector) in list(self._refused.items()):
            if await self._is_refused(url, selector):
                continue
            del self._refused[path]
            UNSERVED.set(len(self._refused))
            if not self._refused:
                _log.info("kcp narrows lists by our fields again: the APIExport serves our schemas")

    async def _is_refused(self, url: str, selector: str) -> bool:
        try:
            await self._kcp.request("GET", url, params={"fieldSelector": selector, "limit": "1"})
        except KcpError as error:
            # A workspace that is gone cannot be asked any more. The next list finds out in another one.
            return error.status not in (403, 404)
        except (aiohttp.ClientError, TimeoutError, KubeconfigError):
            return True
        return False


def _escaped(value: str) -> str:
    """A value is what a tenant wrote, and must stay one term of the selector."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
