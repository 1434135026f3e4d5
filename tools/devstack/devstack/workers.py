"""Spreads the tests of a run over xdist's workers, and starts the one kcp that all workers use.

The controller starts kcp as soon as a worker has collected a test with the mark ``e2e``, and stops it after the last worker.

A worker runs one test file after the other. Most end-to-end tests use an installation of the provider, which a worker
starts once and keeps. At most `INSTALLATIONS` workers have one; they run the files that need it first. The other workers
run everything else, and begin with the files that need kcp alone. End-to-end tests mostly wait, so there are more
workers than processors.
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

from devstack.devhub.provisioning import HUB_PATH
from devstack.errors import NotReady
from devstack.kcp import READY_FILE, START_TIMEOUT
from devstack.paths import RUNS

PREFIX: Final = "tests-"
INSTALLATIONS: Final = 3
"""Each is a dozen processes, and a provider workspace that kcp has to set up: more of them cost more than they save."""

_FOLDER: Final = "kcp_folder"
_WANTED: Final = "wanted"
"""The file beside kcp's folder by which a worker says that it has collected a test that needs kcp."""
_STOP_TIMEOUT: Final = 30.0
# These need kcp, and start whatever else they need themselves.
WITH_KCP: Final = (
    "tests/e2e/test_adding_a_kind.py",
    "tests/e2e/test_serve.py",
    "tests/e2e/test_env_file.py",
    "tests/e2e/test_migration.py",
    "tests/e2e/test_rolling_restart.py",
    "tests/e2e/test_traces.py",
    "tests/e2e/test_watcher.py",
    "tests/e2e/test_init.py",
    "tests/contract/test_kcp_objects.py",
    "tools/devstack/tests/test_kcp.py",
)
# These need the worker's installation. The longest come first, so that the workers finish at about the same time.
WITH_INSTALLATION: Final = (
    "tests/e2e/test_portal.py",
    "tests/e2e/test_outage.py",
    "tests/e2e/test_crashes.py",
    "tests/e2e/test_budget.py",
    "tests/security/test_attacks.py",
    "tests/e2e/",
    "tools/devstack/tests/test_devhub.py",
    "tools/devstack/tests/test_devhub_tenants.py",
)
# The tests of these files share nothing, so any free worker can run the next one. They are slow, because kcp sets up a
# provider workspace with eight schemas, and tenants that bind it, for each.
TEST_BY_TEST: Final = ("tests/e2e/test_init.py",)


def needs_installation(file: str) -> bool:
    return file.startswith(WITH_INSTALLATION) and not file.startswith(WITH_KCP)


def _rank(file: str) -> int:
    """The place in the order of files: a low one starts early."""
    order = (*WITH_KCP, *WITH_INSTALLATION)
    return next((place for place, prefix in enumerate(order) if file.startswith(prefix)), len(order))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class _ByWhatTheyNeed(LoadScopeScheduling):
    """Hands out whole files. Marks of xdist (`xdist_group`) cannot say this: it writes them into an id that pytest ignores."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(TEST_BY_TEST) else _file(nodeid)

    def _next_for(self, node: Any) -> str | None:
        """The file or test that the worker is to run next, None if nothing is left that it may run."""
        may_install = int(node.gateway.id.removeprefix("gw")) < min(INSTALLATIONS, max(1, self.numnodes - 1))
        possible = [scope for scope in self.workqueue if may_install or not needs_installation(scope)]
        return min(
            possible, key=lambda scope: (may_install and not needs_installation(scope), _rank(scope)), default=None
        )

    def _assign_work_unit(self, node: Any) -> None:
        scope = self._next_for(node)
        if scope is None:
            # A worker runs its last test only when it knows that no other follows.
            node.shutdown()
            return
        self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)


class _Controller:
    """Keeps kcp as a child process. kcp ends when its standard input closes, so it never outlives this process."""

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
    def pytest_xdist_node_collection_finished(self) -> None:
        wanted = (self._run / _WANTED).exists()
        if wanted and self._keeper is None and not os.environ.get("CODE_DEV_KUBECONFIG"):
            folder = self._run / "kcp"
            folder.mkdir()
            self._keeper = subprocess.Popen([sys.executable, "-m", "devstack.kcp", folder], stdin=subprocess.PIPE)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._keeper is not None:
            self._keeper.communicate(timeout=_STOP_TIMEOUT)
        if not session.testsfailed:
            shutil.rmtree(self._run, ignore_errors=True)


class _Worker:
    """Says whether kcp is needed. The name of a test does not tell: some need it with one of their parameters alone."""

    def __init__(self, kcp: Path) -> None:
        self._run = kcp.parent

    # Before xdist's hook, which tells the controller that the collection is finished.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if any(item.get_closest_marker("e2e") for item in session.items):
            self._run.mkdir(parents=True, exist_ok=True)
            (self._run / _WANTED).touch()


def share_kcp_among_workers(config: pytest.Config) -> None:
    """Makes the controller start kcp for its workers. Call it from ``pytest_configure``. Without workers it has no effect."""
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    if given is None:
        config.pluginmanager.register(_Controller())
    elif _FOLDER in given:
        config.pluginmanager.register(_Worker(Path(given[_FOLDER])))


async def shared_kcp(config: pytest.Config) -> Path | None:
    """The kubeconfig of the kcp that the workers share, once it serves; None without workers.

    Raises `NotReady` after `START_TIMEOUT` seconds.
    """
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


def hub_path(config: pytest.Config) -> str:
    """The workspace below which the worker's development hub makes its own."""
    given: dict[str, Any] = getattr(config, "workerinput", {})
    return f"{HUB_PATH}-{given['workerid']}" if given else HUB_PATH
