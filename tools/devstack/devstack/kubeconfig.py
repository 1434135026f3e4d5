"""Reads and writes kubeconfig files, as far as a development stack needs it."""

from __future__ import annotations

import base64
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devstack.errors import StackError


@dataclass(frozen=True)
class Access:
    """Address of an API server, and the credentials of one user.

    `server` has no trailing slash and may end in ``/clusters/<cluster>``. `tls` is None for plain http.
    """

    server: str
    token: str | None = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)

    @property
    def base(self) -> str:
        """The server without ``/clusters/…``, from which every workspace is reached."""
        return self.server.split("/clusters/", 1)[0]


def load_access(path: Path, context: str | None = None) -> Access:
    """Reads `context`, or the current context, of a kubeconfig.

    Understands tokens and client certificates, inline or as files. Raises `StackError` for a file that is no kubeconfig.
    """
    try:
        content = yaml.safe_load(path.read_text())
        contexts = {entry["name"]: entry["context"] for entry in content["contexts"]}
        chosen = contexts[context or content["current-context"]]
        cluster = next(entry["cluster"] for entry in content["clusters"] if entry["name"] == chosen["cluster"])
        user = next(entry["user"] for entry in content["users"] if entry["name"] == chosen["user"])
        server = cluster["server"].rstrip("/")
    except OSError as problem:
        raise StackError(f"{path}: {problem.strerror}") from problem
    except (yaml.YAMLError, KeyError, TypeError, StopIteration) as problem:
        raise StackError(f"{path} is not a kubeconfig with a usable context ({type(problem).__name__})") from problem
    token = user.get("token")
    if token is None and "tokenFile" in user:
        token = (path.parent / user["tokenFile"]).read_text().strip()
    return Access(server=server, token=token, tls=_tls(path.parent, server, cluster, user))


def _tls(folder: Path, server: str, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext | None:
    if not server.startswith("https:"):
        return None
    authority = _content(folder, cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _content(folder, user, "client-certificate"), _content(folder, user, "client-key")
    if certificate and key:
        # ssl reads a client certificate only from a file.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _content(folder: Path, entry: dict[str, Any], name: str) -> bytes | None:
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"])
    return (folder / entry[name]).read_bytes() if name in entry else None


def kubeconfig(server: str, token: str, *, name: str = "kedge") -> str:
    """A kubeconfig as the hub mints it: one cluster, context and user with the same name, and the token inline."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
            "users": [{"name": name, "user": {"token": token}}],
        },
        sort_keys=False,
    )


def write_private(path: Path, text: str) -> Path:
    """Writes a file that only its owner can read, whatever the umask. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path
