"""OpenSSH's server for tests of deploy keys: the machine's own, or the distribution's package unpacked into ``.tools``.

Nothing is installed and no account is made: libnss_wrapper shows the server a user ``git``, under the id that it runs as.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devstack.paths import TOOLS_OPENSSH

_WRAPPER = "libnss_wrapper.so"
_PACKAGES = ("libnss-wrapper",)
_SERVER_PACKAGES = ("openssh-server", "libwrap0")
_FETCH_TIMEOUT = 120.0


@dataclass(frozen=True)
class OpenSsh:
    """``libraries``: the folder with what the unpacked server and the wrapper need beyond the machine's libraries."""

    sshd: Path
    wrapper: Path

    @property
    def libraries(self) -> Path:
        return self.wrapper.parent


def find_openssh() -> OpenSsh | None:
    """The server and its wrapper; None where `fetch_openssh` has not been able to provide them."""
    wrapper = next(TOOLS_OPENSSH.glob(f"usr/lib/*/{_WRAPPER}"), None)
    sshd = _own_sshd() or TOOLS_OPENSSH / "usr" / "sbin" / "sshd"
    return OpenSsh(sshd, wrapper) if wrapper is not None and sshd.is_file() else None


def fetch_openssh() -> bool:
    """Unpack what is missing, as any user; returns whether it is there now. Without apt nothing is tried."""
    if find_openssh() is not None:
        return True
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return False
    wanted = [*_PACKAGES, *(() if _own_sshd() else _SERVER_PACKAGES)]
    TOOLS_OPENSSH.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".openssh-", dir=TOOLS_OPENSSH.parent) as folder:
        try:
            _run(["apt-get", "download", *wanted], folder)
            for package in Path(folder).glob("*.deb"):
                _run(["dpkg", "-x", str(package), f"{folder}/unpacked"], folder)
        except (subprocess.SubprocessError, OSError):
            return False
        shutil.rmtree(TOOLS_OPENSSH, ignore_errors=True)
        (Path(folder) / "unpacked").replace(TOOLS_OPENSSH)
    return find_openssh() is not None


def _own_sshd() -> Path | None:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_FETCH_TIMEOUT)
