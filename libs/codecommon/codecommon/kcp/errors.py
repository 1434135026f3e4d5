"""How a request to kcp fails when kcp answers."""

from __future__ import annotations


class KcpError(Exception):
    """kcp answered with an error.

    ``status`` is the HTTP status. ``reason`` and ``message`` are those of the Kubernetes ``Status`` in the body; no other body is
    quoted. ``retry_after`` is in seconds.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class NotFound(KcpError):
    """404: no such object, or no such resource in that workspace."""


class Conflict(KcpError):
    """409: the object has another resourceVersion or uid than the write names, or it exists already."""


class Forbidden(KcpError):
    """403: the identity may not do it. For the provider: not exported, not claimed, or a claim that the tenant did not accept."""


class Invalid(KcpError):
    """422: refused by validation."""


class AnswerTooLong(Exception):
    """The answer has more bytes than the caller takes. What had arrived of it is dropped."""
