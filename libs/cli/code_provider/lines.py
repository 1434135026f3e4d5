"""What children write, as whole lines in one stream."""

from __future__ import annotations

import logging
import os
import re
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from codecommon.process.redact import redact

if TYPE_CHECKING:
    from codecommon.process.settings import LogFormat

_log = logging.getLogger("output")

_CHUNK: Final = 65536
_LONGEST_LINE: Final = 1 << 20
_STDERR: Final = 2
_NATS_LINE: Final = re.compile(r"\[\d+\] \S+ \S+ \[(?P<level>[A-Z]{3})\] (?P<text>.*)")
_NATS_LEVELS: Final = {"WRN": logging.WARNING, "ERR": logging.ERROR, "FTL": logging.CRITICAL}
# The password is made anew at each start and lies in a file that only its owner reads.
_EXPECTED_OF_NATS: Final = "Plaintext passwords detected, use nkeys or bcrypt"


class Lines:
    """The reading end of a child's output, cut into lines (without the line feed) for ``sink``."""

    def __init__(self, fd: int, sink: Callable[[bytes], None]) -> None:
        self.fd = fd
        self._sink = sink
        self._rest = b""

    def read(self) -> bool:
        """Pass on what there is. Returns False once there will be no more."""
        while True:
            try:
                chunk = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._sink(line)
            if len(self._rest) > _LONGEST_LINE:
                self._flush()

    def finish(self) -> None:
        """Pass on what is left, even without an end of line, and close."""
        self.read()
        self._flush()
        self.close()

    def close(self) -> None:
        os.close(self.fd)

    def _flush(self) -> None:
        if self._rest:
            self._sink(self._rest)
            self._rest = b""


def service_log(service: str, log_format: LogFormat) -> Callable[[bytes], None]:
    """For a service, which writes records of its own in the same format, and now and then something that is none."""

    def pass_on(line: bytes) -> None:
        if log_format == "json" and not line.startswith(b"{"):
            _log.warning("%s", line.decode(errors="replace"), extra={"service": service})
        else:
            _write(redact(line.decode(errors="replace")))

    return pass_on


def nats_log(service: str) -> Callable[[bytes], None]:
    """For nats-server, whose lines about its start are of interest at debug level only."""

    def pass_on(line: bytes) -> None:
        match = _NATS_LINE.fullmatch(line.decode(errors="replace"))
        level, text = (match["level"], match["text"]) if match else ("WRN", line.decode(errors="replace"))
        if text != _EXPECTED_OF_NATS:
            _log.log(_NATS_LEVELS.get(level, logging.DEBUG), "%s", text, extra={"service": service})

    return pass_on


def _write(line: str) -> None:
    remaining = memoryview(f"{line}\n".encode())
    while remaining:
        try:
            remaining = remaining[os.write(_STDERR, remaining) :]
        except BlockingIOError:
            # A terminal or pipe that is shared with a process which made it so.
            select.select((), (_STDERR,), ())
        except OSError:
            # Nobody reads any more, or the disk is full; that is no reason to stop working.
            return
