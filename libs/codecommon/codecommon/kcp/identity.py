"""Who asks kcp: the provider, or a caller on whose behalf the provider acts."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol, Self

import aiohttp

from codecommon.kcp import kubeconfig
from codecommon.kcp.kubeconfig import ApiServer, KubeconfigError
from codecommon.process.secrets import SecretValue

_log = logging.getLogger(__name__)

_CHECK_INTERVAL_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = 60.0

_FileVersions = tuple[tuple[int, int] | None, ...]


class AuthenticatedSession:
    """Requests to kcp that all carry the credentials of one identity."""

    def __init__(
        self,
        server: ApiServer,
        base: str,
        tls: ssl.SSLContext,
        authorization: Callable[[], Awaitable[str]],
        connector: aiohttp.BaseConnector | None = None,
    ) -> None:
        """``base`` is put before a URL that is only a path. ``authorization`` returns the header of that name, or empty.

        ``connector`` is left open when the session is closed. None: a pool of connections for this session alone.
        """
        self.server = server
        self.base = base
        self.authorization = authorization
        self._tls = tls
        self._http = aiohttp.ClientSession(
            # The watcher holds one stream per kind and endpoint open, so the pool has no bound.
            connector=connector or aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            connector_owner=connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**20,
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        timeout: aiohttp.ClientTimeout,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request to an absolute URL or to a path below ``base``. No redirect is followed."""
        target = url if "://" in url else self.base + url
        authorization = await self.authorization()
        async with self._http.request(
            method,
            target,
            params=params,
            data=data,
            headers={**({"Authorization": authorization} if authorization else {}), **(headers or {})},
            timeout=timeout,
            allow_redirects=False,
            ssl=self._tls,
            server_hostname=self.server.server_hostname(target),
        ) as response:
            yield response

    @property
    def closed(self) -> bool:
        return self._http.closed

    async def close(self) -> None:
        await self._http.close()


class KcpIdentity(Protocol):
    """Who asks kcp. Implemented by ``ProviderIdentity`` and ``CallerIdentity``."""

    async def session(self) -> AuthenticatedSession:
        """The session to use for the next request. Raises ``KubeconfigError`` while there is none."""
        ...


class ProviderIdentity:
    """The provider, by its kubeconfig. Use as an async context manager.

    The file may appear late. It is loaded anew when it, or a file that it names, is replaced. A file that cannot be used leaves
    the one loaded before in force.
    """

    def __init__(self, path: Path | None) -> None:
        """``path`` None means the service account of the pod."""
        self._path = path
        self._session: AuthenticatedSession | None = None
        self._referenced: tuple[Path, ...] = ()
        self._versions: _FileVersions = ()
        self._refused: _FileVersions = ()
        self._checked = 0.0
        self._lock = asyncio.Lock()
        self._retired: dict[AuthenticatedSession, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for session, closing in list(self._retired.items()):
            closing.cancel()
            await session.close()
        self._retired.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def wait(self) -> None:
        """Return once the kubeconfig can be loaded. Logs once a minute what it waits for."""
        logged = 0.0
        while True:
            try:
                await self.session()
            except KubeconfigError as error:
                if time.monotonic() - logged > 60 or not logged:
                    _log.warning("waiting for the kubeconfig: %s", error)
                    logged = time.monotonic()
                await asyncio.sleep(_CHECK_INTERVAL_SECONDS)
            else:
                return

    async def ping(self) -> None:
        """For readiness: raises unless kcp answers within two seconds."""
        session = await self.session()
        async with session.request("GET", "/version", timeout=aiohttp.ClientTimeout(total=2)) as response:
            response.raise_for_status()

    async def server(self) -> ApiServer:
        """The API server that the kubeconfig names. Raises ``KubeconfigError`` as ``session`` does."""
        return (await self.session()).server

    async def session(self) -> AuthenticatedSession:
        """The session to use for the next request.

        Raises ``KubeconfigError`` until the kubeconfig could be loaded once.
        """
        now = time.monotonic()
        if self._session is not None and now - self._checked < _CHECK_INTERVAL_SECONDS:
            return self._session
        async with self._lock:
            versions = self._current_versions()
            if self._session is not None and versions == self._versions:
                self._checked = now
                return self._session
            if self._path is not None:
                self._referenced = kubeconfig.referenced_files(self._path)
                versions = self._current_versions()
            try:
                loaded = await kubeconfig.load(self._path)
            except KubeconfigError as error:
                self._checked = now
                if self._session is None:
                    raise
                if versions != self._refused:
                    _log.warning("keeping the kubeconfig that was loaded before: %s", error)
                    self._refused = versions
                return self._session
            fresh = AuthenticatedSession(loaded.server, loaded.server.url, loaded.tls, loaded.authorization)
            old, self._session, self._versions, self._checked = self._session, fresh, versions, now
            self._refused = ()
            if old is not None:
                _log.info("the kubeconfig was rotated and is loaded anew")
                self._retire(old)
            return fresh

    def _current_versions(self) -> _FileVersions:
        """Differs from the result before once the file, or one that it names, was replaced or written."""
        return () if self._path is None else tuple(_version(file) for file in (self._path, *self._referenced))

    def _retire(self, session: AuthenticatedSession) -> None:
        """Close a session once the requests that began with it are over."""

        async def close() -> None:
            await asyncio.sleep(_GRACE_SECONDS)
            await session.close()
            self._retired.pop(session, None)

        self._retired[session] = asyncio.create_task(close())


def _version(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


class CallerConnections:
    """Connections to kcp for requests of callers, whoever they are. Close it when it is used no more.

    A connection says nothing about who uses it: it has no client certificate and no cookie, and kcp authenticates each request by
    its bearer token. It is used again only for a server with the same address, name and verification. An answer that is not read
    to its end closes its connection.
    """

    def __init__(self) -> None:
        # Made by the first request, because it belongs to the event loop.
        self._connector: aiohttp.TCPConnector | None = None

    def identity(self, server: ApiServer, token: SecretValue) -> CallerIdentity:
        """Raises what ``CallerIdentity`` raises."""
        if self._connector is None:
            # The gateway bounds the calls, and so the connections. An API server keeps an idle one for 90 s; one that it is
            # about to close must not be given a write.
            self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        return CallerIdentity(server, token, self._connector)

    async def close(self) -> None:
        if self._connector is not None:
            await self._connector.close()


class CallerIdentity:
    """A caller, by the bearer token of their request. Use as an async context manager.

    It is made from an ``ApiServer``, which holds no credential. So a caller shares nothing with the provider but the server's
    address and how its certificate is verified: no client certificate, no token, no connection.
    """

    def __init__(self, server: ApiServer, token: SecretValue, connector: aiohttp.BaseConnector | None = None) -> None:
        """``connector``: that of ``CallerConnections``. None: connections for this identity alone.

        Raises ``ValueError`` without a token: a request without identity must not be sent in anybody's name.
        """
        if not token:
            raise ValueError("a caller without a bearer token has no identity")

        async def authorization() -> str:
            return f"Bearer {token.reveal()}"

        self._session = AuthenticatedSession(server, server.root, server.verification, authorization, connector)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def session(self) -> AuthenticatedSession:
        return self._session
