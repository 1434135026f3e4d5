"""A real browser for the tests in this folder. Without one they are skipped, in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from devstack.chromium import WHAT_TO_INSTALL, chromium, find_chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser

START_SECONDS = 60


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks here, and not in the modules, make pytest's summary tell of all tests that are skipped in one line."""
    marks = [pytest.mark.slow]
    if find_chromium() is None:
        marks.append(pytest.mark.skip(reason=f"no browser, so nothing is tested in one; {WHAT_TO_INSTALL}"))
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for mark in marks:
                item.add_marker(mark)


@pytest_asyncio.fixture(scope="session")
async def browser(run_dir: Path) -> AsyncIterator[Browser]:
    """Chromium, for which every name below ``.test`` is this machine."""
    # Each worker imports this module, and one of them uses Playwright.
    from playwright.async_api import async_playwright

    # The browser has to start in a clone at a long path, too.
    folder = run_dir / "chromium-in-a-clone-at-a-long-path".ljust(120, "-")
    resolving = "--host-resolver-rules=MAP *.test 127.0.0.1"
    # As a process of ours, so that it ends with us whatever happens; Playwright only talks to it.
    with TemporaryDirectory(prefix="chromium-") as temporary:
        async with chromium(folder, Path(temporary), [resolving]) as process:
            serving = await process.line(r"DevTools listening on (ws://\S+)", timeout=START_SECONDS)
            async with async_playwright() as playwright:
                browser = await playwright.chromium.connect_over_cdp(serving[1], timeout=START_SECONDS * 1000)
                yield browser
                await browser.close()
