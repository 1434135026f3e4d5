"""What can go wrong with the development stack, as sentences for the person who started it."""

from __future__ import annotations


class StackError(Exception):
    """Base of all of these; the message says what happened and, where there is something, what to do."""


class BinaryMissing(StackError):
    """A program that should be started is not there."""


class DiskFull(StackError):
    """There is no room for the run folder or a build."""


class PortTaken(StackError):
    """Another process listens on the port that was asked for."""


class ProcessDied(StackError):
    """A process ended by itself while it was expected to run."""


class NotReady(StackError):
    """A process runs but did not become ready within its time."""


class WaitTimeout(StackError):
    """An object did not reach the wanted state within its time; the message shows the state it was last seen in."""


class ApiError(StackError):
    """The API server answered with an error.

    `status` is the HTTP status, `reason` and `message` those of the Kubernetes ``Status`` object (empty if the body
    was none).
    """

    def __init__(self, request: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{request}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
