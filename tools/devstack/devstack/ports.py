"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from devstack.errors import PortTaken

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = (LOOPBACK, "localhost")
"""By which names clients may call what listens there."""

CANDIDATES = range(20000, 32000)
"""Below the range from which Linux takes the local ports of outgoing connections (32768 and up): one of those could
otherwise take the port between our look and the start of the server."""


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now; the caller starts its servers at once."""
    found: list[int] = []
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise PortTaken(f"no {count} free ports between {CANDIDATES.start} and {CANDIDATES.stop} on {LOOPBACK}")


@contextmanager
def held_ports(count: int) -> Iterator[list[socket.socket]]:
    """Sockets that keep `count` free ports from others. Close one, and start the server of its port at once."""
    with ExitStack() as exits:
        # Without SO_REUSEADDR nobody else may bind the port, though nobody listens there.
        held = [exits.enter_context(socket.socket()) for _ in range(count)]
        for one, port in zip(held, free_ports(count), strict=True):
            one.bind((LOOPBACK, port))
        yield held


def require_free(port: int, what: str) -> None:
    if not is_free(port):
        raise PortTaken(f"port {port} for {what} is in use by another process on {LOOPBACK}")
