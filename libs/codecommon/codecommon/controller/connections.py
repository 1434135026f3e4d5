"""From a Connection to the git host behind it, opened with its credential.

An open connection is kept per workspace, Connection and owner, so no two tenants share one, and none takes the places of all. It
is used only where it was read at or after the versions that the event names; otherwise Connection and Secret are read again.
Nothing here polls.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar

from codecommon.api.connection import Connection
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, NotReady, Terminal
from codecommon.githost.protocol import Credential, CredentialRejected, GitBackend, HostTarget
from codecommon.githost.provider import Registry
from codecommon.kcp.client import Forbidden, NotFound, ProviderObjects, require_provider_identity
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.messaging.events import Versions, connection_event
from codecommon.process.shared_cache import SharedCache

R = TypeVar("R")

_log = logging.getLogger(__name__)

_MOST_CONNECTIONS: Final = 2048
# Whoever has more pays for them with reads of their own, and not with those of others.
_MOST_OF_A_WORKSPACE: Final = 256
_REVALIDATE_EVERY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class FoundCredential:
    """What a Connection's Secret holds. ``version``: the Secret's resourceVersion."""

    value: Credential
    version: str


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A Connection as it was read, and its host, opened with its credential. ``owner``: as given to ``Connections.open``."""

    connection: Connection
    owner: str
    secret_version: str
    backend: GitBackend


# The connection that the running task took last. By the time it is rejected, the cache may hold that of another task.
_used: Final[ContextVar[OpenConnection | None]] = ContextVar("used connection", default=None)


class Connections:
    """Opens Connections and keeps them open."""

    def __init__(
        self,
        registry: Registry,
        *,
        bus: Bus,
        credentials_namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._bus = bus
        self._namespace = credentials_namespace
        self._clock = clock
        self._cache = SharedCache[tuple[str, str, str, str], OpenConnection](
            _MOST_CONNECTIONS, _MOST_OF_A_WORKSPACE, lambda key: key[1]
        )
        self._revalidated: OrderedDict[str, float] = OrderedDict()

    async def credential(
        self, objects: ProviderObjects, connection: Connection, *, not_older: str = ""
    ) -> FoundCredential:
        """Read the Secret of a Connection; live unless ``not_older`` names a resourceVersion.

        Raises ``NotReady`` (``CredentialUnavailable``) while the Secret or a key of it is missing, or the Secret is being
        deleted; ``Terminal``: ``SecretsClaimNotAccepted`` where the tenant does not let us read Secrets, ``ProviderNotFound``,
        ``CredentialInvalid``, ``OwnerMismatch``.
        """
        require_provider_identity(objects)
        spec = connection.spec
        ref = spec.secret_ref
        namespace = ref.namespace or self._namespace
        try:
            secret = await objects.get("secrets", ref.name, namespace=namespace, not_older=not_older)
        except NotFound:
            provider = self._registry.provider(spec.provider)
            raise NotReady(
                Reason.CREDENTIAL_UNAVAILABLE,
                f"Secret {namespace}/{ref.name} does not exist; create it with {provider.credential_keys(spec)}",
            ) from None
        except Forbidden:
            raise Terminal(
                Reason.SECRETS_CLAIM_NOT_ACCEPTED,
                "this workspace has not accepted the provider's claim on secrets; accept it in the APIBinding "
                "(disable the provider and enable it again with the claim ticked)",
            ) from None
        version = str(secret["metadata"]["resourceVersion"])
        if secret["metadata"].get("deletionTimestamp"):
            raise NotReady(
                Reason.CREDENTIAL_UNAVAILABLE, f"Secret {namespace}/{ref.name} is being deleted; create it again"
            )
        try:
            git_provider = self._registry.provider(spec.provider)
            value = git_provider.read_credential(spec, secret.get("data") or {}, f"Secret {namespace}/{ref.name}")
        except Interruption as refused:
            raise refused.learned({"observedSecretVersion": version}) from None
        return FoundCredential(value, version)

    def open(self, connection: Connection, found: FoundCredential, owner: str = "") -> GitBackend:
        """Open the host of a Connection with a credential. No request is made.

        ``owner``: whose repositories it is for, the Connection's own account if empty. A credential may act differently for each
        (``Credential.for_owner``).
        Raises ``Terminal``: ``ProviderNotFound``, ``HostNotAllowed``, ``CredentialInvalid``, ``CABundleInvalid``,
        ``OwnerMismatch``.
        """
        spec = connection.spec
        # A Secret may hold the credentials of several accounts.
        value, whose = found.value, f"{connection.metadata.uid}/{spec.type}/{spec.secret_ref.key or ''}"
        if owner and (owned := value.for_owner(owner)) is not value:
            value, whose = owned, f"{whose}/{owner.lower()}"
        credential_key = (connection.workspace.cluster, whose, found.version)
        return self._registry.open(
            spec.provider, HostTarget(spec.base_url or "", value, spec.ca_bundle, credential_key)
        )

    async def for_object(
        self, objects: ProviderObjects, connection_ref: str, versions: Versions, *, owner: str = "", live: bool = False
    ) -> OpenConnection:
        """The connection that an object uses through ``connection_ref`` for repositories of ``owner``, as of ``open``.

        ``live``: read Connection and Secret uncached; required before anything is deleted on the host.
        Raises ``NotReady`` while the Connection or its credential is missing, and as ``open``.
        """
        require_provider_identity(objects)
        key = (objects.workspace.endpoint, objects.workspace.cluster, connection_ref, owner.lower())
        cached = self._cache.get(key)
        if cached is not None and not live and _covers(cached, versions):
            _used.set(cached)
            return cached
        self._cache.drop(key)
        connection = await self._connection(objects, connection_ref, "" if live else versions.connection or "")
        found = await self.credential(objects, connection, not_older="" if live else versions.secret or "")
        if cached is not None and _same_credential(cached, connection, found):
            opened = OpenConnection(connection, owner, found.version, cached.backend)
        else:
            opened = OpenConnection(connection, owner, found.version, self.open(connection, found, owner))
        self._cache.put(key, opened)
        _used.set(opened)
        return opened

    async def with_fresh_credential(
        self, objects: ProviderObjects, connection_ref: str, work: Callable[[], Awaitable[R]]
    ) -> R:
        """Run ``work``. When the host rejects its credential, run it once more if the Secret holds another one by now.

        If it is the same, ask for the Connection to be validated again, at most once a minute.
        """
        require_provider_identity(objects)
        _used.set(None)
        try:
            return await work()
        except CredentialRejected:
            used = _used.get()
            if used is None:
                raise
            key = (objects.workspace.endpoint, objects.workspace.cluster, connection_ref, used.owner.lower())
            if self._cache.get(key) is used:
                self._cache.drop(key)
            now = await self.for_object(objects, connection_ref, Versions(), live=True)
            if now.secret_version != used.secret_version or now.connection.spec != used.connection.spec:
                return await work()
            await self._revalidate(now.connection)
            raise

    async def _connection(self, objects: ProviderObjects, name: str, not_older: str) -> Connection:
        try:
            raw = await objects.get("connections", name, not_older=not_older)
        except NotFound:
            raise NotReady(
                Reason.CONNECTION_NOT_FOUND,
                f"Connection {name!r} does not exist; create it or change spec.connectionRef",
            ) from None
        return Connection.parse(raw, objects.workspace)

    async def _revalidate(self, connection: Connection) -> None:
        uid = connection.metadata.uid
        now = self._clock()
        if now - self._revalidated.get(uid, float("-inf")) < _REVALIDATE_EVERY_SECONDS:
            return
        self._revalidated[uid] = now
        if len(self._revalidated) > _MOST_CONNECTIONS:
            self._revalidated.popitem(last=False)
        try:
            await self._bus.publish(connection_event(connection, "revalidate"))
        except BusUnavailable:
            _log.warning("could not ask for the Connection to be validated again; its resync will")


def require_validated(connection: Connection) -> None:
    """Raises ``NotReady`` unless the Connection was validated in its current form and is not being deleted."""
    validated = connection.status.condition(ConditionType.VALIDATED)
    if connection.deleting:
        raise NotReady(Reason.CONNECTION_NOT_READY, f"Connection {connection.name!r} is being deleted")
    if validated is None or connection.status.observed_generation != connection.metadata.generation:
        raise NotReady(Reason.CONNECTION_NOT_READY, f"Connection {connection.name!r} is not validated yet")
    if validated.status != "True":
        ready = connection.status.condition(ConditionType.READY) or validated
        raise NotReady(
            Reason.CONNECTION_NOT_READY, f"Connection {connection.name!r} is not ready: {ready.reason}: {ready.message}"
        )


def _covers(opened: OpenConnection, versions: Versions) -> bool:
    """Whether the connection was read at or after ``versions``. Nothing covers unknown versions."""
    if versions.connection is None or versions.secret is None:
        return False
    return int(opened.connection.metadata.resource_version) >= int(versions.connection) and int(
        opened.secret_version
    ) >= int(versions.secret)


def _same_credential(opened: OpenConnection, connection: Connection, found: FoundCredential) -> bool:
    old = opened.connection
    return (
        old.metadata.uid == connection.metadata.uid
        and old.spec == connection.spec
        and opened.secret_version == found.version
    )
