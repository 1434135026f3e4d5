"""Reads a kubeconfig, or the service account of the pod.

kubernetes_asyncio does the reading: it knows the forms that a kubeconfig may have, and refreshes tokens that expire.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, kube_config, load_incluster_config, load_kube_config

from codecommon.process.settings import KUBECONFIG_VARIABLES

_FILES: Final = ("tokenFile", "client-certificate", "client-key", "certificate-authority")
_SERVICE_ACCOUNT_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class KubeconfigError(Exception):
    """The kubeconfig cannot be used. The message names the file and what to do; it quotes nothing from the file."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """The ``cluster`` of a kubeconfig: where the API server is and how its certificate is verified. Holds no credential.

    ``url`` has no trailing slash and may end in ``/clusters/<cluster>``. ``verification`` is a TLS context without client
    certificate. ``tls_server_name`` None: the certificate is verified for the host in the URL.
    """

    url: str
    verification: ssl.SSLContext
    tls_server_name: str | None = None

    @property
    def root(self) -> str:
        """The URL without ``/clusters/…``, from which every logical cluster is reached."""
        return self.url.partition("/clusters/")[0]

    def server_hostname(self, url: str) -> str | None:
        """The name to verify the certificate for when ``url`` is requested; None: the host in ``url``.

        ``tls-server-name`` is the name of this server only. An APIExport's endpoint may be another one, with a name of its own.
        """
        return self.tls_server_name if urlsplit(url)[:2] == urlsplit(self.url)[:2] else None


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """One loaded kubeconfig: the server, and the credentials of its user.

    ``tls`` carries the user's client certificate, if there is one. ``authorization`` returns the value of the header of that
    name, empty if the user has no token; a token that expires is read anew.
    """

    server: ApiServer
    tls: ssl.SSLContext = field(repr=False)
    authorization: Callable[[], Awaitable[str]] = field(repr=False)


async def load(path: Path | None) -> Kubeconfig:
    """Read the kubeconfig at ``path``; None means the service account of the pod. Raises ``KubeconfigError``."""
    try:
        _require_something_to_read(path)
        return _kubeconfig(await _configuration(path))
    except OSError as error:
        # ssl's errors are among them: something in place of a certificate.
        raise KubeconfigError(f"cannot read {path} or what it refers to: {error.strerror or error.args[0]}") from None
    finally:
        # kubernetes_asyncio writes inline keys to temporary files. They are read by now. It would keep them until the process
        # ends in good order, and would rely on them even if somebody else has removed them.
        kube_config._cleanup_temp_files()  # pyright: ignore[reportPrivateUsage]


def referenced_files(path: Path) -> tuple[Path, ...]:
    """The files with tokens, keys and certificates that a kubeconfig names; none if it cannot be parsed."""
    try:
        content = yaml.safe_load(path.read_text())
        entries = [entry[kind] for kind in ("cluster", "user") for entry in content[f"{kind}s"]]
        return tuple(path.parent / entry[name] for entry in entries for name in _FILES if entry.get(name))
    except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError):
        return ()


def _require_something_to_read(path: Path | None) -> None:
    if path is None and not _SERVICE_ACCOUNT_TOKEN.exists():
        variable = KUBECONFIG_VARIABLES[0]
        raise KubeconfigError(f"no service account in this pod; set {variable} to the path of a kubeconfig")
    if path is not None and not path.exists():
        raise KubeconfigError(f"there is no file {path}")


async def _configuration(path: Path | None) -> Configuration:
    configuration = Configuration()
    try:
        if path is None:
            load_incluster_config(client_configuration=configuration)
            return configuration
        await load_kube_config(config_file=str(path), client_configuration=configuration, persist_config=False)
    except (yaml.YAMLError, ConfigException, ValueError, LookupError, TypeError, AttributeError) as error:
        # The text of a parse error quotes the line it failed on, which may be the token. A file that is still empty, or holds
        # no mapping, makes kubernetes_asyncio fail with the last four.
        raise KubeconfigError(f"{path or 'in-cluster configuration'} cannot be used ({type(error).__name__})") from None
    # A tokenFile is taken as it is; a header must not hold the line feed at its end.
    configuration.api_key = {name: token.strip() for name, token in configuration.api_key.items()}
    return configuration


def _kubeconfig(configuration: Configuration) -> Kubeconfig:
    verification = _verification(configuration)
    tls = verification
    if configuration.cert_file:
        tls = _verification(configuration)
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    server = ApiServer(str(configuration.host).rstrip("/"), verification, configuration.tls_server_name)

    async def authorization() -> str:
        return await configuration.get_api_key_with_prefix("BearerToken") or ""

    return Kubeconfig(server, tls, authorization)


def _verification(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
