"""Chromium for tests in a browser: the machine's own, or the distribution's package, which root installs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from devstack.errors import BinaryMissing
from devstack.processes import Process

WHAT_TO_INSTALL = "install Chromium (Debian: apt-get update && apt-get install chromium) or Google Chrome"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SNAPS = "/snap"
_PACKAGE = "chromium"
_UPDATE_TIMEOUT = 120.0
_INSTALL_TIMEOUT = 600.0
# Without these it looks up hosts of its maker, which a test must not.
_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
)


def find_chromium() -> Path | None:
    """The browser's program; None where there is none. A snap is none: it can write to no folder that it is given."""
    found = (Path(program) for name in _NAMES if (program := shutil.which(name)))
    return next((program for program in found if not _is_snap(program)), None)


def _is_snap(program: Path) -> bool:
    return Path(os.path.realpath(program)).is_relative_to(_SNAPS) or program.is_relative_to(_SNAPS)


def can_install_chromium() -> bool:
    """Whether `install_chromium` would try: for root, and with apt-get."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_chromium() -> str | None:
    """Installs the distribution's package. Returns why it did not work, in one line; None if the browser is there now."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another apt-get on the machine holds the lock while it works.
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    try:
        for command, timeout in (
            ([*apt, "update"], _UPDATE_TIMEOUT),
            ([*apt, "install", "--yes", "--no-install-recommends", _PACKAGE], _INSTALL_TIMEOUT),
        ):
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=timeout)
    except subprocess.CalledProcessError as problem:
        return (problem.stderr or problem.stdout).strip().rpartition("\n")[2] or f"exit code {problem.returncode}"
    except (subprocess.SubprocessError, OSError) as problem:
        return str(problem)
    return None if find_chromium() else "the package has no program of that name"


def chromium(folder: Path, temporary: Path, arguments: Sequence[str] = ()) -> Process:
    """A browser without windows, not started yet. It keeps its profile and its log in `folder`.

    It makes a socket in `temporary`, whose path has to be short: that of a socket has room for 107 bytes.
    Once it serves, it logs ``DevTools listening on <address>``. Raises `BinaryMissing` where there is no browser.
    """
    program = find_chromium()
    if program is None:
        raise BinaryMissing(f"there is no browser: {WHAT_TO_INSTALL}")
    # Its sandbox does not work for root.
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    return Process(
        "chromium",
        [
            program,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder / 'profile'}",
            # Containers have a small /dev/shm.
            "--disable-dev-shm-usage",
            "--disable-gpu",
            *_QUIET,
            *as_root,
            *arguments,
            "about:blank",
        ],
        log_file=folder / "chromium.log",
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(temporary)},
    )
