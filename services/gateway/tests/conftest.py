"""What the gateway's tests share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


class _SoonAwake:
    """asyncio, whose sleeps are short."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.005))


@pytest.fixture(autouse=True)
def servers_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn looks every 100 ms whether it is to end and whether its connections have ended: 0.25 s for each of 200 tests."""
    monkeypatch.setattr("uvicorn.server.asyncio", _SoonAwake())
