"""The simulator's switches: latency, eventual consistency and limits, for everybody or for one token."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Switches:
    """How the host behaves. Times are seconds.

    GETs do not find a repository, and lists show no deploy key and no invitation, within `visibility_delay` of its creation by
    the API.

    `primary_quota` None means that rate limiting is not enabled, as on an Enterprise Server by default.
    `rate_limit_status` is what an exhausted primary quota answers; GitHub uses both.
    The secondary limits count per user; exceeding one blocks the user for `secondary_retry_after`. Their minute
    and their hour, and the day of the limit of invitations, are as long as `secondary_minute`, `secondary_hour` and
    `invitation_day` say, so that a test can shorten them.

    Without `package_links` no list of packages or versions has a `Link` header. `container_version_count` is what the row of
    every container package says, whatever the number of its versions; None: that number.

    Without `actions` the host has none. A recursive tree is truncated after `tree_entries`.
    """

    latency: float = 0.0
    visibility_delay: float = 0.0
    primary_quota: int | None = 5000
    anonymous_quota: int = 60
    quota_window: float = 3600.0
    rate_limit_status: Literal[403, 429] = 403
    secondary_limits: bool = False
    secondary_concurrent: int = 100
    secondary_points_per_minute: int = 900
    secondary_writes_per_minute: int = 80
    secondary_writes_per_hour: int = 500
    secondary_retry_after: int = 60
    secondary_minute: float = 60.0
    secondary_hour: float = 3600.0
    invitation_day: float = 86400.0
    package_links: bool = True
    container_version_count: int | None = None
    actions: bool = True
    tree_entries: int = 100_000


SWITCH_NAMES = frozenset(f.name for f in fields(Switches))


@dataclass(slots=True)
class SwitchBoard:
    """The switches for everybody, and what single tokens (by id) have different."""

    everybody: Switches = field(default_factory=Switches)
    overrides: dict[int, dict[str, Any]] = field(default_factory=dict)

    def effective(self, token_id: int | None) -> Switches:
        override = self.overrides.get(token_id) if token_id is not None else None
        return replace(self.everybody, **override) if override else self.everybody

    def set(self, changes: dict[str, Any], token_id: int | None = None) -> None:
        """Change some switches. Raises KeyError with the name of one that does not exist."""
        for name in changes:
            if name not in SWITCH_NAMES:
                raise KeyError(name)
        if token_id is None:
            self.everybody = replace(self.everybody, **changes)
        else:
            self.overrides[token_id] = self.overrides.get(token_id, {}) | changes
