"""The claim of what a list on the host does not show."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from access_svc.target import AccessT
from codecommon import claiming as common
from codecommon.claims import claim_for
from codecommon.githost.backend import GitBackend
from codecommon.passes import Pass


def claiming(
    run: Pass[AccessT],
    host: GitBackend,
    absent_at: datetime,
    *,
    bound: bool,
    timeless: bool = False,
    noted: Mapping[str, str] | None = None,
) -> AbstractAsyncContextManager[None]:
    """Around a create. Arguments as of ``claim_for`` and ``codecommon.claiming``."""
    return common.claiming(run, host, claim_for(run.object, absent_at, bound=bound), timeless=timeless, noted=noted)
