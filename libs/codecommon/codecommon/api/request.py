"""Objects that ask for something once, such as a commit. What all of them have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from codecommon.api.meta import BaseStatus, Wire

PENDING: Final = "Pending"
RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"


_OVER: Final = frozenset({SUCCEEDED, FAILED})


def is_finished(status: Mapping[str, Any]) -> bool:
    """Whether a request with that status, as kcp has it, has been answered. Such a request is never run again."""
    return status.get("phase") in _OVER


class RequestSpec(Wire):
    """``repository_ref`` names the Repository object."""

    repository_ref: str


class RequestStatus(BaseStatus):
    """``phase``: one of the constants of this module, or None before anybody has looked at the request."""

    phase: str | None = None
    completed_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """As of ``is_finished``."""
        return self.phase in _OVER


class BundleRef(Wire):
    """A bundle in the bundle store. ``digest``: as ``algorithm:hex``; None: not given."""

    name: str
    digest: str | None = None
