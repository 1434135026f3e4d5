"""The create claim of an object: that something is about to be made for it on the git host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """``at``: the Date of the host's answer that showed nothing there, in whole seconds.

    ``key``: the public key that is about to be registered, of a DeployKey's claim.
    """

    at: datetime
    key: str | None = None
