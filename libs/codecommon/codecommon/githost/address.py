"""Which hosts a Connection may name, and where their APIs are.

Whoever may write a Connection chooses where a Secret of the workspace is sent. So ``baseURL`` may name a provider's own hosts and
those that the operator listed, and no others. The URL of the API is put together from the checked parts. The text that the user
wrote is never used as a URL, so no two parsers can disagree about it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit

import httpx

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.host_api import HostApi
from codecommon.githost.host_names import allowed_entry, host_name
from codecommon.githost.limits import Limits

_log = logging.getLogger(__name__)

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_NEVER_IN_A_URL: Final = re.compile(r"[\s\x00-\x1f\x7f\\]")
# A tenant can name any number of hosts; the log must not grow with them.
_MOST_HOSTS_LOGGED: Final = 256


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Where one host's API is, and how it is spoken.

    ``api_base``: URL of the API's root, without trailing slash. ``host``: the name that status pins, with the port if it is not
    the scheme's own (``github.com``, ``ghe.example``, ``127.0.0.1:8080``). ``label``: the host in metrics; hosts whose names
    tenants can invent share one. ``limits``: those that the host is known to enforce, None where they are not known.
    ``operator_named``: allowed by the operator; False for a host of the provider's own. ``entries``: of all that the operator
    allowed, as of ``allowed_entry``.
    """

    api: HostApi
    api_base: str
    host: str
    label: str
    limits: Limits | None
    operator_named: bool
    entries: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        parts = urlsplit(self.api_base)
        return parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)

    def path_of(self, url: httpx.URL) -> str:
        """The path of ``url`` below the API's root."""
        return url.path.removeprefix(urlsplit(self.api_base).path)

    def is_named(self, address: Address) -> bool:
        """Whether the operator named the host of ``address``: itself, or this host, of which it is a subdomain."""
        if address.is_among(self.entries):
            return True
        own = urlsplit(self.api_base).hostname or ""
        is_below = address.host.endswith(f".{own}") and address.has_usual_port and address.scheme == "https"
        return self.operator_named and is_below


@dataclass(frozen=True, slots=True)
class Address:
    """The checked parts of a ``baseURL``. ``host``: in the one spelling of ``host_name``."""

    scheme: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """The host, with the port if it is not the scheme's own."""
        return self.host if self.has_usual_port else f"{self.host}:{self.port}"

    @property
    def entry(self) -> str:
        """As the operator allows it. Plain HTTP shows the credential to everybody on the way, so it has to be said."""
        return f"{self.entry_scheme}{self.name}"

    @property
    def entry_scheme(self) -> str:
        return "" if self.scheme == "https" else f"{self.scheme}://"

    def is_among(self, entries: Collection[str]) -> bool:
        """Whether ``entries``, as of ``allowed_entry``, admit it. Without a port an entry is for the scheme's own."""
        return f"{self.entry_scheme}{self.host}:{self.port}" in entries or (
            self.has_usual_port and self.entry in entries
        )

    @property
    def has_usual_port(self) -> bool:
        return self.port == DEFAULT_PORTS[self.scheme]


class AllowedHosts:
    """The hosts that ``baseURL`` may name for one provider: the provider's own and ``entries``.

    ``entries``: the items of CODE_ALLOWED_GIT_HOSTS, as of ``allowed_entry``; without a port it is the scheme's own.
    ``own``: the endpoint of a host of the provider's own, None for any other. ``brand``: the provider in messages.
    ``api_path``: path of the API's root on a server that the operator named. Raises ValueError for an entry of another form.
    """

    def __init__(
        self,
        entries: Iterable[str],
        *,
        api: HostApi,
        api_path: str,
        brand: str,
        own: Callable[[Address], HostAddress | None],
    ) -> None:
        self._entries = frozenset(allowed_entry(entry) for entry in entries)
        self._api = api
        self._api_path = api_path
        self._brand = brand
        self._own = own
        self._logged: set[str] = set()

    def address(self, base_url: str) -> HostAddress:
        """Where the API of ``base_url`` is.

        Raises ``Terminal`` (``HostNotAllowed``). The first refusal of a host is logged for the operator, ready to paste.
        """
        address = self._parse(base_url)
        if (own := self._own(address)) is not None:
            return own
        if address.is_among(self._entries):
            root = f"{address.scheme}://{address.name}{self._api_path}"
            return HostAddress(
                self._api, root, address.name, address.name, limits=None, operator_named=True, entries=self._entries
            )
        self._log_refusal(address.entry)
        raise _not_allowed(
            f"baseURL names the host {address.name}, which is neither one of {self._brand}'s own nor allowed here; "
            f"ask the operator to add {address.entry} to CODE_ALLOWED_GIT_HOSTS"
        )

    def _parse(self, base_url: str) -> Address:
        if _NEVER_IN_A_URL.search(base_url):
            raise _not_allowed("baseURL holds white space, a control character or a backslash")
        try:
            parts = urlsplit(base_url)
            port = parts.port
            host = host_name(parts.hostname or "")
        except ValueError:
            raise _not_allowed("baseURL is not a URL; write it as https://host or https://host:port") from None
        _check_form(base_url, parts)
        if parts.path.rstrip("/") not in ("", self._api_path):
            raise _not_allowed(f"baseURL may end with the host or with {self._api_path}, not with another path")
        return Address(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port)

    def _log_refusal(self, host: str) -> None:
        if host in self._logged or len(self._logged) >= _MOST_HOSTS_LOGGED:
            return
        self._logged.add(host)
        value = ",".join((*sorted(self._entries), host))
        _log.warning("a Connection names a git host that is not allowed; to allow it: CODE_ALLOWED_GIT_HOSTS=%s", value)


def _check_form(base_url: str, parts: SplitResult) -> None:
    if parts.scheme not in DEFAULT_PORTS:
        raise _not_allowed("baseURL must begin with https:// (or http:// for a host that the operator named)")
    if "@" in parts.netloc:
        raise _not_allowed("baseURL must not hold a user name or password; the credential belongs into the Secret")
    if "?" in base_url or "#" in base_url:
        raise _not_allowed("baseURL must not hold a query or a fragment")


def _not_allowed(message: str) -> Terminal:
    return Terminal(Reason.HOST_NOT_ALLOWED, message)
