"""The create claim of an object: that something is about to be made for it on the git host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """``at``: the Date of the host's answer that showed nothing there, in whole seconds.

    ``key``: what is about to be made: a DeployKey's public key, or where a Repository's repository will be. None: the claim does
    not say. That is so for a Collaborator, and for a Repository whose claim an earlier version stored.
    """

    at: datetime
    key: str | None = None
