"""The provider's kubeconfig: may appear late, may be rotated, and so may the files that it names."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import aiohttp
import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, kube_config, load_incluster_config, load_kube_config

from codecommon.process.settings import KUBECONFIG_VARIABLES

_log = logging.getLogger(__name__)

_CHECK_INTERVAL_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = 60.0
_FILES: Final = ("tokenFile", "client-certificate", "client-key", "certificate-authority")
_SERVICE_ACCOUNT_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


_Stamp = tuple[tuple[int, int] | None, ...]


class KubeconfigError(Exception):
    """The kubeconfig cannot be used; the message names the file and what to do, and quotes nothing from it."""


class Access:
    """One loaded kubeconfig: ``server`` without a trailing slash, ``session`` with its TLS settings."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.server = str(configuration.host).rstrip("/")
        # One session for everything; the watcher holds a stream per kind open, so the pool is not bounded here.
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_ssl_context(configuration), keepalive_timeout=60),
            read_bufsize=2**20,
            auto_decompress=True,
        )

    async def headers(self) -> dict[str, str]:
        """Authentication headers; the token of a pod's service account is read anew before it expires."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token} if token else {}


class KubeAccess:
    """Keeps an ``Access`` current with its file. Use as an async context manager."""

    def __init__(self, path: Path | None) -> None:
        """``path`` None means the service account of the pod."""
        self._path = path
        self._access: Access | None = None
        self._named: tuple[Path, ...] = ()
        self._stamp: _Stamp = ()
        self._refused: _Stamp = ()
        self._checked = 0.0
        self._lock = asyncio.Lock()
        self._retired: dict[Access, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for access, closing in list(self._retired.items()):
            closing.cancel()
            await access.session.close()
        self._retired.clear()
        if self._access is not None:
            await self._access.session.close()
            self._access = None

    def _retire(self, access: Access) -> None:
        """Close a session once the requests that began with it are over."""

        async def close() -> None:
            await asyncio.sleep(_GRACE_SECONDS)
            await access.session.close()
            self._retired.pop(access, None)

        self._retired[access] = asyncio.create_task(close())

    async def wait(self) -> None:
        """Return once the kubeconfig can be loaded; says once a minute what it waits for."""
        said = 0.0
        while True:
            try:
                await self.current()
            except KubeconfigError as error:
                if time.monotonic() - said > 60 or not said:
                    _log.warning("waiting for the kubeconfig: %s", error)
                    said = time.monotonic()
                await asyncio.sleep(_CHECK_INTERVAL_SECONDS)
            else:
                return

    async def ping(self) -> None:
        """For readiness: raises unless kcp answers within two seconds."""
        access = await self.current()
        timeout = aiohttp.ClientTimeout(total=2)
        async with access.session.get(
            f"{access.server}/version", headers=await access.headers(), timeout=timeout
        ) as answer:
            answer.raise_for_status()

    async def current(self) -> Access:
        """The access to use for the next request. Raises ``KubeconfigError`` while there never was a usable file."""
        now = time.monotonic()
        if self._access is not None and now - self._checked < _CHECK_INTERVAL_SECONDS:
            return self._access
        async with self._lock:
            stamp = self._look()
            if self._access is not None and stamp == self._stamp:
                self._checked = now
                return self._access
            if self._path is not None:
                self._named = _named_in(self._path)
                stamp = self._look()
            try:
                fresh = await _open(self._path)
            except KubeconfigError as error:
                self._checked = now
                if self._access is None:
                    raise
                if stamp != self._refused:
                    _log.warning("keeping the kubeconfig that was loaded before: %s", error)
                    self._refused = stamp
                return self._access
            old, self._access, self._stamp, self._checked = self._access, fresh, stamp, now
            self._refused = ()
            if old is not None:
                _log.info("the kubeconfig was rotated and is loaded anew")
                self._retire(old)
            return fresh

    def _look(self) -> _Stamp:
        """Another one once the file, or one that it names, was replaced or written."""
        return () if self._path is None else tuple(_age(file) for file in (self._path, *self._named))


def _age(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


def _named_in(path: Path) -> tuple[Path, ...]:
    """The files with tokens, keys and certificates that a kubeconfig names; none in what is no kubeconfig."""
    try:
        content = yaml.safe_load(path.read_text())
        entries = [entry[kind] for kind in ("cluster", "user") for entry in content[f"{kind}s"]]
        return tuple(path.parent / entry[name] for entry in entries for name in _FILES if entry.get(name))
    except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError):
        return ()


async def _open(path: Path | None) -> Access:
    try:
        return Access(await _load(path))
    except OSError as error:
        # ssl's errors are among them: a certificate that is none.
        raise KubeconfigError(f"cannot read {path} or what it refers to: {error.strerror or error.args[0]}") from None
    finally:
        # The library writes inline keys to files, which are read by now. It keeps them till the process ends in good order,
        # and takes them for still there when somebody else has tidied up.
        kube_config._cleanup_temp_files()  # pyright: ignore[reportPrivateUsage]


async def _load(path: Path | None) -> Configuration:
    configuration = Configuration()
    try:
        if path is None:
            if not _SERVICE_ACCOUNT_TOKEN.exists():
                names: Sequence[str] = KUBECONFIG_VARIABLES
                raise KubeconfigError(f"no service account in this pod; set {names[0]} to the path of a kubeconfig")
            load_incluster_config(client_configuration=configuration)
            return configuration
        if _age(path) is None:
            raise KubeconfigError(f"there is no file {path}")
        await load_kube_config(config_file=str(path), client_configuration=configuration, persist_config=False)
    except (yaml.YAMLError, ConfigException, ValueError, LookupError, TypeError, AttributeError) as error:
        # The text of a parse error quotes the line it failed on, which may be the token. The library trips over YAML that
        # is no mapping, as a file is that is still empty.
        raise KubeconfigError(f"{path or 'in-cluster configuration'} cannot be used ({type(error).__name__})") from None
    # A tokenFile is read as it is; the line feed at its end is not allowed in a header.
    configuration.api_key = {name: token.strip() for name, token in configuration.api_key.items()}
    return configuration


def _ssl_context(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
