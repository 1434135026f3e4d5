"""A git server over SSH on the loopback interface: OpenSSH, bare repositories, and the deploy keys of the simulated host.

A key opens the one repository that it is registered for; a read-only key can fetch and not push, as on GitHub.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from devstack.errors import StackError
from devstack.openssh import OpenSsh, find_openssh
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process

_START_TIMEOUT = 20.0
_COMMAND_TIMEOUT = 60.0
_NOBODY = 65534
"""Under root the server runs as nobody: it then needs no account of its own for privilege separation."""

_SERVE = """#!/bin/sh
# serve <owner/name> <rw|ro>: the only thing that a deploy key may do.
case "$SSH_ORIGINAL_COMMAND" in
"git-upload-pack '/$1.git'") exec git-upload-pack "{repositories}/$1.git" ;;
"git-receive-pack '/$1.git'")
    if [ "$2" = rw ]; then exec git-receive-pack "{repositories}/$1.git"; fi
    echo "The key you are authenticating with has been marked as read only." >&2 ;;
*) echo "Repository not found." >&2 ;;
esac
exit 1
"""


def why_not() -> str | None:
    """Why there can be no git server on this machine; None: there can."""
    missing = [name for name in ("git", "ssh", "ssh-keygen", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"not installed here: {', '.join(missing)}"
    if find_openssh() is None:
        return "there is no OpenSSH server: `make tools` unpacks one where apt-get can download"
    return None


class DeployKey(Protocol):
    """A key as the host has it; ``repository`` is owner/name, ``key`` algorithm and base64."""

    @property
    def repository(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def read_only(self) -> bool: ...


ListKeys = Callable[[], Awaitable[Sequence[DeployKey]]]


@dataclass(frozen=True)
class Finished:
    """A git command: its exit code and everything that it said."""

    code: int
    output: str


class GitServer:
    """An async context manager. `keys` gives all deploy keys of the host, as ``SimControl.all_keys`` does."""

    def __init__(self, keys: ListKeys, log_folder: Path) -> None:
        found = find_openssh()
        if found is None:
            raise StackError(f"no git server: {why_not()}")
        self._openssh: OpenSsh = found
        self._keys = keys
        self._port = free_ports(1)[0]
        self._log_file = log_folder / "sshd.log"
        # Not below the checkout, which nobody may be unable to enter.
        self._folder = Path(tempfile.mkdtemp(prefix="gitserver-"))
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        folder = self._folder
        (folder / "repositories").mkdir()
        _write(folder / "serve", _SERVE.format(repositories=folder / "repositories"), 0o755)
        uid, gid = (_NOBODY, _NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())
        _write(folder / "passwd", f"git:x:{uid}:{gid}::{folder}:/bin/sh\n")
        _write(folder / "group", f"git:x:{gid}:\n")
        _write(folder / "authorized_keys", "")
        await _checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
        public = (folder / "host_key.pub").read_text()
        _write(folder / "known_hosts", f"[{LOOPBACK}]:{self._port} {public}")
        _write(folder / "config", self._config())
        if os.getuid() == 0:
            for path in (folder, *folder.iterdir()):
                os.chown(path, uid, gid)
        self._process = Process("sshd", self._command(), log_file=self._log_file)
        await self._process.start()
        await self._process.wait_ready(self._listening, timeout=_START_TIMEOUT)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, owner: str, name: str) -> str:
        return f"ssh://git@{LOOPBACK}:{self._port}/{owner}/{name}.git"

    async def add_repository(self, owner: str, name: str) -> None:
        """Make an empty bare repository."""
        path = self._folder / "repositories" / owner / f"{name}.git"
        await _checked(*_as_server(), "git", "init", "--quiet", "--bare", "--initial-branch=main", str(path))

    async def git(self, key: Path, *arguments: str, folder: Path) -> Finished:
        """Run git in `folder` with the private key in the file `key`, after the server has learned the host's keys."""
        await self._learn_keys()
        ssh = (
            f"ssh -F none -i {key} -o IdentitiesOnly=yes -o BatchMode=yes "
            f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={self._folder / 'known_hosts'}"
        )
        author = {"GIT_AUTHOR_NAME": "tester", "GIT_AUTHOR_EMAIL": "tester@example.com"}
        author |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in author.items()}
        environment = {**os.environ, **author, "GIT_SSH_COMMAND": ssh, "GIT_CONFIG_GLOBAL": os.devnull}
        return await _run(["git", *arguments], folder, environment)

    async def _learn_keys(self) -> None:
        lines: list[str] = []
        for key in await self._keys():
            access = "ro" if key.read_only else "rw"
            lines.append(f'restrict,command="{self._folder}/serve {key.repository} {access}" {key.key}\n')
        fresh = self._folder / "authorized_keys.new"
        _write(fresh, "".join(lines))
        if os.getuid() == 0:
            os.chown(fresh, _NOBODY, _NOBODY)
        fresh.replace(self._folder / "authorized_keys")

    def _config(self) -> str:
        options = {
            "Port": self._port,
            "ListenAddress": LOOPBACK,
            "HostKey": self._folder / "host_key",
            "AuthorizedKeysFile": self._folder / "authorized_keys",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
        }
        return "".join(f"{name} {value}\n" for name, value in options.items())

    def _command(self) -> list[str]:
        """sshd, which demands an absolute path, and what makes it see the user ``git``."""
        environment = [
            f"LD_LIBRARY_PATH={self._openssh.libraries}",
            f"LD_PRELOAD={self._openssh.wrapper}",
            f"NSS_WRAPPER_PASSWD={self._folder / 'passwd'}",
            f"NSS_WRAPPER_GROUP={self._folder / 'group'}",
        ]
        sshd = [str(self._openssh.sshd), "-D", "-e", "-f", str(self._folder / "config")]
        return [*_as_server(), "env", *environment, *sshd]

    async def _listening(self) -> bool:
        assert self._process is not None
        return "Server listening" in self._process.tail()


def _as_server() -> list[str]:
    """What comes before a command that the server's user is to run."""
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)


async def _checked(*command: str) -> None:
    finished = await _run(command, None, None)
    if finished.code != 0:
        raise StackError(f"{command[0]} failed: {finished.output}")


async def _run(command: Sequence[str], folder: Path | None, environment: dict[str, str] | None) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_COMMAND_TIMEOUT):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, output.decode(errors="replace"))
