"""Which hosts a Connection may name.

Whoever may write a Connection chooses where a Secret of the workspace is sent, so ``baseURL`` is not free: GitHub's own hosts,
and what the operator listed. The API root is put together again from the checked parts; the text that the user wrote is
never used as a URL, so no two parsers can disagree about it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.host_names import host_entry, host_name

_log = logging.getLogger(__name__)

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_ENTERPRISE_ROOT: Final = "/api/v3"
_DATA_RESIDENCY: Final = re.compile(r"(?:api\.)?(?!api\.)([a-z0-9-]+\.ghe\.com)")
_NEVER_IN_A_URL: Final = re.compile(r"[\s\x00-\x1f\x7f\\]")
# A tenant can name any number of hosts; the log must not grow with them.
_MOST_HOSTS_LOGGED: Final = 256


@dataclass(frozen=True, slots=True)
class HostEndpoint:
    """Where one host's API is.

    ``api_base``: URL of the API root, without trailing slash. ``host``: the name that status pins, with the port if it is not
    the scheme's own (``github.com``, ``ghe.example``, ``127.0.0.1:8080``). ``public``: run by GitHub.
    ``operator_named``: allowed by the operator, not by us.
    """

    api_base: str
    host: str
    public: bool
    operator_named: bool


_GITHUB: Final = HostEndpoint("https://api.github.com", "github.com", public=True, operator_named=False)


@dataclass(frozen=True, slots=True)
class _Address:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        return self.host if self.port == _DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def usual_port(self) -> bool:
        return self.port == _DEFAULT_PORTS[self.scheme]


class AllowedHosts:
    """The hosts that ``baseURL`` may name: GitHub's own and ``entries``, each ``host[:port]``.

    Those are the items of CODE_ALLOWED_GIT_HOSTS. One without a port stands for the scheme's own port. Raises ValueError for
    an entry of another form.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._entries = tuple(sorted({host_entry(entry) for entry in entries}))
        self._logged: set[str] = set()

    def endpoint(self, base_url: str | None) -> HostEndpoint:
        """Where the API of ``base_url`` is; empty or None means github.com.

        Raises ``Terminal`` (``HostNotAllowed``). The first refusal of a host is logged for the operator, ready to paste.
        """
        if not base_url:
            return _GITHUB
        address = _parse(base_url)
        if (own := _own_endpoint(address)) is not None:
            return own
        exact = f"{address.host}:{address.port}"
        if exact in self._entries or (address.usual_port and address.host in self._entries):
            root = f"{address.scheme}://{address.name}{_ENTERPRISE_ROOT}"
            return HostEndpoint(root, address.name, public=False, operator_named=True)
        self._log_refusal(address.name)
        raise _not_allowed(
            f"baseURL names the host {address.name}, which is neither one of GitHub's own nor allowed here; "
            f"ask the operator to add {address.name} to CODE_ALLOWED_GIT_HOSTS"
        )

    def _log_refusal(self, host: str) -> None:
        if host in self._logged or len(self._logged) >= _MOST_HOSTS_LOGGED:
            return
        self._logged.add(host)
        value = ",".join((*self._entries, host))
        _log.warning("a Connection names a git host that is not allowed; to allow it: CODE_ALLOWED_GIT_HOSTS=%s", value)


def _own_endpoint(address: _Address) -> HostEndpoint | None:
    if address.scheme != "https" or not address.usual_port:
        return None
    if address.host in ("github.com", "api.github.com"):
        return _GITHUB
    if match := _DATA_RESIDENCY.fullmatch(address.host):
        return HostEndpoint(f"https://api.{match[1]}", match[1], public=True, operator_named=False)
    return None


def _parse(base_url: str) -> _Address:
    if _NEVER_IN_A_URL.search(base_url):
        raise _not_allowed("baseURL holds white space, a control character or a backslash")
    try:
        parts = urlsplit(base_url)
        port = parts.port
        host = host_name(parts.hostname or "")
    except ValueError:
        raise _not_allowed("baseURL is not a URL; write it as https://host or https://host:port") from None
    _check_form(base_url, parts)
    path = parts.path.rstrip("/")
    if path not in ("", _ENTERPRISE_ROOT):
        raise _not_allowed(f"baseURL may end with the host or with {_ENTERPRISE_ROOT}, not with another path")
    return _Address(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port, path)


def _check_form(base_url: str, parts: SplitResult) -> None:
    if parts.scheme not in _DEFAULT_PORTS:
        raise _not_allowed("baseURL must begin with https:// (or http:// for a host that the operator named)")
    if "@" in parts.netloc:
        raise _not_allowed("baseURL must not hold a user name or password; the credential belongs into the Secret")
    if "?" in base_url or "#" in base_url:
        raise _not_allowed("baseURL must not hold a query or a fragment")


def _not_allowed(message: str) -> Terminal:
    return Terminal(Reason.HOST_NOT_ALLOWED, message)
