"""``make tools``: builds the real control plane (kcp and the GraphQL gateway) once into ``.tools/bin``.

It also provides the OpenSSH server that tests of deploy keys use, see `devstack.openssh`. ``make test`` installs the browser
that the tests of tests/browser use, see `devstack.chromium`: ``python -m devstack.tools browser``.

What is built is fixed by ``tools/controlplane/go.mod`` and ``go.sum``; a second run finds the key of the first and does
nothing. Without Go, or with an older one than ``go.mod`` asks for, Go itself comes from the package index.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devstack.chromium import WHAT_TO_INSTALL, can_install_chromium, find_chromium, install_chromium
from devstack.errors import BinaryMissing, DiskFull, StackError
from devstack.openssh import fetch_openssh
from devstack.paths import CONTROLPLANE_MODULE, REPOSITORY, TOOLS_BIN

PACKAGES = {
    "kcp": "github.com/kcp-dev/kcp/cmd/kcp",
    "kubernetes-graphql-gateway": "github.com/platform-mesh/kubernetes-graphql-gateway",
}
BUILD_FLAGS = ("-trimpath", "-ldflags", "-s -w")
PROGRESS_INTERVAL = 5.0
NO_BROWSER = TOOLS_BIN.parent / "no-browser"
"""Why the browser could not be installed."""


def require_tool(name: str) -> Path:
    """The path of a built tool; raises `BinaryMissing` with the command that builds it."""
    path = TOOLS_BIN / name
    if not path.is_file():
        raise BinaryMissing(f"{name} is not built: run `make tools`")
    return path


def source_key(module: Path) -> str:
    """Hash of everything that decides what the binaries are, apart from the version of Go."""
    digest = hashlib.sha256(" ".join(BUILD_FLAGS).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((module / name).read_bytes())
    return digest.hexdigest()


def is_built(key: str, bin_dir: Path) -> bool:
    stamp = bin_dir / ".key"
    return stamp.is_file() and stamp.read_text() == key and all((bin_dir / name).is_file() for name in PACKAGES)


def parse_go_version(text: str) -> tuple[int, ...]:
    """``go1.26.8`` or ``1.26.8`` as ``(1, 26, 8)``; empty if it is neither."""
    match = re.match(r"(?:go)?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def wanted_go_version(module: Path) -> tuple[int, ...]:
    line = next(line for line in (module / "go.mod").read_text().splitlines() if line.startswith("go "))
    return parse_go_version(line.removeprefix("go "))


def build_environment(base: Mapping[str, str]) -> dict[str, str]:
    """The environment for ``go``: this checkout's own settings win over those of the machine.

    ``GOTOOLCHAIN=local`` because a missing version is provided by `find_go`, not by a download inside the build.
    Without ``HOME`` Go has no place for its caches; they then go into ``.tools``.
    """
    env = {**base, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}
    if not base.get("HOME"):
        caches = REPOSITORY / ".tools" / "go"
        env.setdefault("GOPATH", str(caches / "path"))
        env.setdefault("GOCACHE", str(caches / "cache"))
    return env


def find_go(wanted: tuple[int, ...], env: Mapping[str, str]) -> str:
    """A Go command of at least `wanted`: the machine's own, or the one from the package index in ``.tools``."""
    on_path = shutil.which("go", path=env.get("PATH"))
    if on_path:
        asked = subprocess.run([on_path, "env", "GOVERSION"], env=env, capture_output=True, text=True, check=False)
        found = parse_go_version(asked.stdout)
        if found >= wanted:
            return on_path
        say(f"{on_path} is {asked.stdout.strip() or 'not usable'}, go.mod asks for {'.'.join(map(str, wanted))}")
    return install_go()


def install_go() -> str:
    """Go from the package index, with its hash checked, in an environment of its own below ``.tools``."""
    home = REPOSITORY / ".tools" / "go-venv"
    go = home / "bin" / "go"
    requirements = CONTROLPLANE_MODULE / "requirements.txt"
    stamp = home / ".requirements"
    if go.is_file() and stamp.is_file() and stamp.read_bytes() == requirements.read_bytes():
        return str(go)
    uv = REPOSITORY / ".tools" / "uv-venv" / "bin" / "uv"
    if not uv.is_file():
        raise BinaryMissing("uv is missing: run `make setup`")
    say("installing Go from the package index into .tools/go-venv")
    env = {**os.environ, "UV_SYSTEM_CERTS": "1"}
    for command in (
        ["venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
        ["pip", "sync", "--quiet", "--python", str(home / "bin" / "python"), "--require-hashes", str(requirements)],
    ):
        if subprocess.run([str(uv), *command], env=env, check=False).returncode != 0:
            raise StackError("Go could not be installed; install Go yourself or check the package index, then run make")
    stamp.write_bytes(requirements.read_bytes())
    return str(go)


@contextmanager
def exclusive(lock_file: Path) -> Iterator[None]:
    """Holds `lock_file` against other builds on this machine; waits for its turn and says so."""
    with lock_file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Progress:
    """Prints what ``go build -v`` is doing every few seconds, with the time: a cold build takes minutes."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._downloaded = 0
        self._compiled = 0
        self._last = "resolving modules"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def note(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self._downloaded += 1
            self._last = line.removeprefix("go: ")
        elif re.fullmatch(r"[\w./~@+-]+", line):
            self._compiled += 1
            self._last = f"compiling {line}"

    def _run(self) -> None:
        while not self._done.wait(PROGRESS_INTERVAL):
            elapsed = int(time.monotonic() - self._started)
            counts = f"{self._downloaded} modules downloaded, {self._compiled} packages compiled"
            say(f"{elapsed // 60}:{elapsed % 60:02d}  {counts}, now {self._last}")


def build(module: Path, bin_dir: Path, env: Mapping[str, str]) -> None:
    """Builds every package of `PACKAGES`; all appear in `bin_dir` together or none does."""
    key = source_key(module)
    if is_built(key, bin_dir):
        return
    bin_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(bin_dir / ".lock"):
        if is_built(key, bin_dir):
            return
        go = find_go(wanted_go_version(module), env)
        say(f"building {' and '.join(PACKAGES)} with {go}; the first time this takes about five minutes")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=".new-", dir=bin_dir) as fresh:
            # The trailing slash makes go treat the target as a folder.
            compile_packages(
                [go, "build", "-v", *BUILD_FLAGS, "-o", f"{fresh}/", *PACKAGES.values()], module, env, started
            )
            for name in PACKAGES:
                (Path(fresh) / name).replace(bin_dir / name)
        (bin_dir / ".key").write_text(key)
        say(f"built in {time.monotonic() - started:.0f} s")


def compile_packages(command: list[str], module: Path, env: Mapping[str, str], started: float) -> None:
    problems: list[str] = []
    with (
        Progress(started) as progress,
        subprocess.Popen(command, cwd=module, env=env, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        try:
            for line in process.stderr:
                progress.note(line.rstrip())
                problems = [*problems[-30:], line.rstrip()]
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode != 0:
        text = "\n".join(problems)
        if "no space left on device" in text:
            raise DiskFull("the disk is full: a first build needs about 5 GB for Go's caches and 200 MB for the result")
        raise StackError(f"go build failed:\n{text}")


def provide_chromium() -> None:
    """Says in one line why there is no browser, if there is none. Nothing but the tests in a browser needs one."""
    if find_chromium() is not None:
        NO_BROWSER.unlink(missing_ok=True)
        return
    why = "only root installs it, with apt-get"
    if NO_BROWSER.is_file():
        why = f"{NO_BROWSER.read_text()}; remove {NO_BROWSER} to try again"
    elif can_install_chromium():
        say("installing the browser of the tests (package chromium) with apt-get")
        problem = install_chromium()
        if problem is None:
            return
        why = f"apt-get failed: {problem}"
        # Each try takes apt-get minutes where the network is away.
        NO_BROWSER.parent.mkdir(parents=True, exist_ok=True)
        NO_BROWSER.write_text(why)
    say(f"no browser ({why}): the tests in a browser will be skipped; {WHAT_TO_INSTALL}")


def say(message: str) -> None:
    print(f"tools: {message}", file=sys.stderr, flush=True)


def main() -> int:
    try:
        if sys.argv[1:] == ["browser"]:
            provide_chromium()
            return 0
        build(CONTROLPLANE_MODULE, TOOLS_BIN, build_environment(os.environ))
        if not fetch_openssh():
            say("no OpenSSH server, and none could be downloaded with apt-get: the tests over SSH will be skipped")
    except StackError as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        say("stopped; run `make tools` to go on where it was")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
