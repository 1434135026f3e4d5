"""GitHub as a provider: github.com, GitHub Enterprise Cloud with data residency, and GitHub Enterprise Server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from codecommon.api.connection import ConnectionSpec
from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.address import DEFAULT_PORTS, Address, AllowedHosts, HostAddress
from codecommon.githost.github import credential as credentials
from codecommon.githost.github.api import GITHUB_API
from codecommon.githost.github.backend import GithubBackend
from codecommon.githost.github.credential import AppSecret, TokenSecret
from codecommon.githost.github.holder import AppHolders, TokenHolder
from codecommon.githost.github.places import SERVER_API, api_of, own_host
from codecommon.githost.host_names import host_name
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.limits import Limits, Window
from codecommon.githost.protocol import Credential, GitBackend, HostTarget

# https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
# and, for the interval, its best practices.
LIMITS: Final = Limits((Window(80, 60.0), Window(500, 3600.0)), (Window(900, 60.0),), 1.0, 100)

_GITHUB_COM: Final = HostAddress(
    GITHUB_API, api_of("github.com"), "github.com", "github.com", limits=LIMITS, operator_named=False
)
# Tenants can name any subdomain, so all of them are one host in metrics.
_DATA_RESIDENCY_LABEL: Final = "*.ghe.com"


class GithubProvider:
    """``codecommon.githost.provider`` says what the members do.

    ``allowed_hosts``: Enterprise Servers that the operator listed, each ``host[:port]``. ``clock``: by which the tokens of Apps
    age, in seconds. Raises ValueError for another form.
    """

    def __init__(self, allowed_hosts: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = AllowedHosts(
            allowed_hosts, api=GITHUB_API, api_path=SERVER_API, brand="GitHub", own=_own_endpoint
        )
        self._apps = AppHolders(clock)

    @property
    def name(self) -> str:
        return "github"

    @property
    def limits(self) -> Limits:
        return LIMITS

    def address(self, base_url: str) -> HostAddress:
        return self._hosts.address(base_url) if base_url else _GITHUB_COM

    def credential_keys(self, spec: ConnectionSpec) -> str:
        return credentials.credential_keys(spec)

    def read_credential(self, spec: ConnectionSpec, data: Mapping[str, str], where: str) -> Credential:
        credential = credentials.read_credential(spec, data, where)
        if isinstance(credential, AppSecret):
            self._require_same_host(spec, credentials.named_base_urls(data, where), where)
        return credential

    def _require_same_host(self, spec: ConnectionSpec, named: Mapping[str, str], where: str) -> None:
        """Raises ``Terminal`` (``CredentialInvalid``) where the Secret names another host than the Connection.

        What signs as an App of one host must not be sent to another, least of all because ``baseURL`` was forgotten.
        """
        for key, url in named.items():
            host, ours = _host_of(url), self.address(spec.base_url or "").host
            if host is None:
                raise Terminal(
                    Reason.CREDENTIAL_INVALID,
                    f"{key} of {where} is not the URL of a host; write it as https://host, or leave it out",
                )
            if host != ours:
                raise Terminal(
                    Reason.CREDENTIAL_INVALID,
                    f"{key} of {where} names the host {host}, and the Connection the host {ours} by "
                    f"{'its spec.baseURL' if spec.base_url else 'leaving out spec.baseURL'}; nothing was sent. Make them the "
                    f"same, or take {key} out of the Secret",
                )

    def open(self, target: HostTarget, transport: HostTransport) -> GitBackend:
        address = self.address(target.base_url)
        borrowed = transport.borrow(address, target.credential_key, target.ca_bundle, target.credential.issuer)
        match target.credential:
            case AppSecret() as secret:
                holder = self._apps.holder(address, target, secret, borrowed)
            case TokenSecret(value):
                holder = TokenHolder(credentials.judge(value, address))
            case other:
                raise TypeError(f"not a credential that GithubProvider has read: {type(other).__name__}")
        return GithubBackend(address, holder, borrowed)


def _host_of(url: str) -> str | None:
    """The host in a URL, whatever its path, in the spelling of ``HostAddress.host``; None where there is none."""
    try:
        parts = urlsplit(url)
        address = Address(parts.scheme, host_name(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme])
    except (ValueError, KeyError):
        return None
    own = _own_endpoint(address)
    return own.host if own is not None else address.name


def _own_endpoint(address: Address) -> HostAddress | None:
    if address.scheme != "https" or not address.has_usual_port:
        return None
    own = own_host(address.host)
    if own is None or own == _GITHUB_COM.host:
        return _GITHUB_COM if own else None
    return HostAddress(GITHUB_API, api_of(own), own, _DATA_RESIDENCY_LABEL, limits=LIMITS, operator_named=False)
