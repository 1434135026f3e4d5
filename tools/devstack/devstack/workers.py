"""How the tests of one run are spread over xdist's workers, and the one kcp that all of them use.

The controller starts kcp as soon as a worker has collected a test that needs it, and stops it after the last worker.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

from devstack.errors import NotReady
from devstack.kcp import READY_FILE, START_TIMEOUT
from devstack.paths import RUNS

PREFIX: Final = "tests-"
_FOLDER: Final = "kcp_folder"
_STOP_TIMEOUT: Final = 30.0
# Besides what is shared by all (kcp), these need the installed provider and its services; the others bring their own.
_WITH_SERVICES: Final = ("tests/e2e/", "tools/devstack/tests/test_devhub.py")
_WITH_KCP_ONLY: Final = (
    "tests/contract/test_kcp_objects.py",
    "tests/e2e/test_adding_a_kind.py",
    "tests/e2e/test_cache.py",
    "tests/e2e/test_init.py",
    "tests/e2e/test_serve.py",
    "tests/e2e/test_traces.py",
    "tests/e2e/test_watcher.py",
    "tools/devstack/tests/test_kcp.py",
)


def scope(nodeid: str) -> str:
    """What runs on one worker in one go: all that share the services, all that need kcp besides, else a file."""
    if nodeid.startswith(_WITH_KCP_ONLY):
        return "kcp"
    return "services" if nodeid.startswith(_WITH_SERVICES) else nodeid.partition("::")[0]


class _ByWhatTheyNeed(LoadScopeScheduling):
    """xdist's own groups do not reach its scheduler with this pytest: they are written into an id that is no longer read."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


class _Controller:
    """Has kcp as a child, which ends when its standard input does: with this process, however that ends."""

    def __init__(self) -> None:
        self._run = RUNS / f"{PREFIX}{os.getpid()}"
        self._keeper: subprocess.Popen[bytes] | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> LoadScopeScheduling:
        return _ByWhatTheyNeed(config, log)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[_FOLDER] = str(self._run / "kcp")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        wanted = any(scope(nodeid) in ("kcp", "services") for nodeid in ids)
        if wanted and self._keeper is None and not os.environ.get("CODE_DEV_KUBECONFIG"):
            folder = self._run / "kcp"
            folder.mkdir(parents=True)
            self._keeper = subprocess.Popen([sys.executable, "-m", "devstack.kcp", folder], stdin=subprocess.PIPE)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._keeper is None:
            return
        self._keeper.communicate(timeout=_STOP_TIMEOUT)
        if not session.testsfailed:
            shutil.rmtree(self._run)


def share_kcp_among_workers(config: pytest.Config) -> None:
    """To be called from ``pytest_configure``; without workers it changes nothing."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Controller())


async def shared_kcp(config: pytest.Config) -> Path | None:
    """The kubeconfig of the kcp that the workers share, once it serves; None: there are no workers."""
    given: dict[str, Any] = getattr(config, "workerinput", {})
    if _FOLDER not in given:
        return None
    folder = Path(given[_FOLDER])
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while not (folder / READY_FILE).exists():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NotReady(f"kcp does not serve after {START_TIMEOUT:g} s; {folder / 'kcp.log'} says more") from None
    return folder / "admin.kubeconfig"
