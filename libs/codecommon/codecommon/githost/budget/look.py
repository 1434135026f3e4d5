"""Looks into a bucket without whose answer no request may be sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from codecommon.githost.budget.shared import BudgetUnavailable


class Looks:
    """One look at a time. Who comes meanwhile waits for it, and shares its failure instead of waiting for another one."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._failures = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises ``BudgetUnavailable`` where the look that was waited for did."""
        failures = self._failures
        async with self._turn:
            if self._failures != failures:
                raise BudgetUnavailable
            try:
                yield
            except BudgetUnavailable:
                self._failures += 1
                raise
