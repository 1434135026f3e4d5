"""A git host as a whole: what ``docs/adding-a-host.md`` asks of a package such as ``codecommon.githost.github``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from codecommon.api.connection import ConnectionSpec
from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.limits import Limits
from codecommon.githost.protocol import Credential, GitBackend, HostTarget


class Provider(Protocol):
    """One kind of git host: where it may be, what its credentials are, and how it is opened.

    How its API is spoken is in ``HostAddress.api``; what it can do is ``GitBackend``.
    """

    @property
    def name(self) -> str:
        """As in ``Connection.spec.provider``."""
        ...

    @property
    def limits(self) -> Limits:
        """The limits that the host publishes; ``host=<name>`` in CODE_GIT_HOST_LIMITS stands for them."""
        ...

    def address(self, base_url: str) -> HostAddress:
        """Where the API of ``base_url`` is, as written in a Connection; empty means the provider's public host.

        Raises ``Terminal`` (``HostNotAllowed``).
        """
        ...

    def credential_keys(self, spec: ConnectionSpec) -> str:
        """The keys that the Secret of such a Connection needs, for a message."""
        ...

    def read_credential(self, spec: ConnectionSpec, data: Mapping[str, str], where: str) -> Credential:
        """The credential in a Secret's ``data`` (base64). ``where`` names the Secret in messages.

        Raises ``NotReady`` (``CredentialUnavailable``) for a missing key, ``Terminal``: ``CredentialInvalid``,
        ``OwnerMismatch``; ``HostNotAllowed``, where the Secret says which host it is for. No value is ever in a message, but
        the name of that host.
        """
        ...

    def open(self, target: HostTarget, transport: HostTransport) -> GitBackend:
        """A backend for the host; sends nothing.

        Raises ``Terminal``: ``HostNotAllowed``, ``CredentialInvalid``, ``CABundleInvalid``.
        """
        ...


class Registry:
    """The providers of a process, by ``Connection.spec.provider``, over one transport."""

    def __init__(self, providers: Iterable[Provider], transport: HostTransport) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self._transport = transport

    def provider(self, name: str) -> Provider:
        """Raises ``Terminal`` (``ProviderNotFound``) for a provider that nobody registered."""
        try:
            return self._providers[name]
        except KeyError:
            known = ", ".join(sorted(self._providers))
            raise Terminal(
                Reason.PROVIDER_NOT_FOUND, f"provider {name!r} is not known here; use one of: {known}"
            ) from None

    def open(self, name: str, target: HostTarget) -> GitBackend:
        """A backend for a host of the provider ``name``. Raises as ``provider`` and ``Provider.open``."""
        return self.provider(name).open(target, self._transport)
