"""``make tools``: builds the real control plane (kcp and the GraphQL gateway) once into ``.tools/bin``.

``python -m devstack.tools chart`` builds what the tests of the Helm chart use, in the same way: helm, kubeconform, helm-unittest
and promtool, and the schemas of Kubernetes' objects. ``chart-k8s`` and ``chart-helm3`` build what those targets of make need,
and `make test-container` builds Docker Compose v2 and buildx in this way.

It also provides the OpenSSH server that tests of deploy keys use, see `devstack.openssh`. ``make test`` installs the browser
that the tests of tests/browser use, see `devstack.chromium`: ``python -m devstack.tools browser``.

What is built is fixed by the ``go.mod`` and ``go.sum`` of a module in ``tools``; a second run finds the key of the first and
does nothing. Without Go, or with an older one than ``go.mod`` asks for, Go itself comes from the package index.
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
from dataclasses import dataclass
from pathlib import Path

from devstack.chromium import WHAT_TO_INSTALL, can_install_chromium, find_chromium, install_chromium
from devstack.errors import BinaryMissing, DiskFull, StackError
from devstack.kubernetes_schemas import write_schemas
from devstack.openssh import fetch_openssh
from devstack.paths import CHART_MODULES, CONTROLPLANE_MODULE, REPOSITORY, TOOLS_BIN, TOOLS_SCHEMAS


@dataclass(frozen=True)
class Toolset:
    """The tools of one Go module, which are built together.

    ``packages``: name of the binary → Go package. ``stamp``: the file beside the binaries that says what they were built from.
    ``minutes``: of a first build on two cores.
    """

    packages: Mapping[str, str]
    stamp: str = ".key"
    linker_flags: str = "-s -w"
    minutes: str = "five minutes"

    @property
    def build_flags(self) -> tuple[str, ...]:
        return ("-trimpath", "-ldflags", self.linker_flags)


CONTROL_PLANE = Toolset(
    {
        "kcp": "github.com/kcp-dev/kcp/cmd/kcp",
        "kubernetes-graphql-gateway": "github.com/platform-mesh/kubernetes-graphql-gateway",
    }
)
_VERSION = "k8s.io/component-base/version"
# By module. Each has a module graph of its own, because what they require does not fit together.
CHART = {
    "helm": Toolset(
        {"helm": "helm.sh/helm/v4/cmd/helm", "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
        stamp=".key-helm",
        minutes="four minutes",
    ),
    "helm-unittest": Toolset(
        {"helm-unittest": "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"},
        stamp=".key-helm-unittest",
        minutes="one minute",
    ),
    "promtool": Toolset(
        {"promtool": "github.com/prometheus/prometheus/cmd/promtool"},
        stamp=".key-promtool",
        minutes="four minutes",
    ),
}
CHART_HELM3 = {"helm3": Toolset({"helm3": "helm.sh/helm/v3/cmd/helm"}, stamp=".key-helm3", minutes="one minute")}
CHART_K8S = {
    "kubernetes": Toolset(
        {"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"},
        stamp=".key-kubernetes",
        # Without it the server says that its version is v0.0.0, which helm takes at its word.
        linker_flags=f"-s -w -X {_VERSION}.gitVersion=v1.36.0 -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36",
    )
}
CONTAINER = Toolset(
    {"docker-compose": "github.com/docker/compose/v2/cmd", "docker-buildx": "github.com/docker/buildx/cmd/buildx"},
    stamp=".key-container",
    # Compose asks buildx for its version.
    linker_flags="-s -w -X github.com/docker/compose/v2/internal.Version=v2.40.3"
    " -X github.com/docker/buildx/version.Version=v0.29.1",
    minutes="three minutes",
)
PROGRESS_INTERVAL = 5.0
SCHEMAS_SOURCE = Path(__file__).with_name("kubernetes_schemas.py")
NO_BROWSER = TOOLS_BIN.parent / "no-browser"
"""Why the browser could not be installed."""


def require_tool(name: str) -> Path:
    """The path of a built tool; raises `BinaryMissing` with the command that builds it."""
    path = TOOLS_BIN / name
    if not path.is_file():
        raise BinaryMissing(f"{name} is not built: run `make tools`")
    return path


def require_chart_tool(name: str) -> Path:
    """As `require_tool`, for a tool of the chart's tests."""
    path = TOOLS_BIN / name
    if not path.is_file():
        target = {"helm3": "chart-helm3", "kube-apiserver": "chart-k8s", "etcd": "chart-k8s"}.get(name, "chart")
        raise BinaryMissing(f"{name} is not built: run `python -m devstack.tools {target}`")
    return path


def source_key(module: Path, toolset: Toolset = CONTROL_PLANE) -> str:
    """Hash of everything that decides what the binaries are, apart from the version of Go."""
    digest = hashlib.sha256(" ".join(toolset.build_flags).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((module / name).read_bytes())
    return digest.hexdigest()


def is_built(key: str, bin_dir: Path, toolset: Toolset = CONTROL_PLANE) -> bool:
    stamp = bin_dir / toolset.stamp
    return stamp.is_file() and stamp.read_text() == key and all((bin_dir / name).is_file() for name in toolset.packages)


def go_name(package: str) -> str:
    """What ``go build`` calls the binary of a package: its last part that is not the version of a module."""
    *_, before, last = ("", *package.split("/"))
    return before if re.fullmatch(r"v\d+", last) else last


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


def build(module: Path, bin_dir: Path, env: Mapping[str, str], toolset: Toolset = CONTROL_PLANE) -> None:
    """Builds every package of the toolset; all appear in `bin_dir` together or none does."""
    key = source_key(module, toolset)
    if is_built(key, bin_dir, toolset):
        return
    bin_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(bin_dir / ".lock"):
        if is_built(key, bin_dir, toolset):
            return
        go = find_go(wanted_go_version(module), env)
        names = " and ".join(toolset.packages)
        say(f"building {names} with {go}; the first time this takes about {toolset.minutes}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=".new-", dir=bin_dir) as fresh:
            # The trailing slash makes go treat the target as a folder.
            compile_packages(
                [go, "build", "-v", *toolset.build_flags, "-o", f"{fresh}/", *toolset.packages.values()],
                module,
                env,
                started,
            )
            for name, package in toolset.packages.items():
                (Path(fresh) / go_name(package)).replace(bin_dir / name)
        (bin_dir / toolset.stamp).write_text(key)
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


def build_all(toolsets: Mapping[str, Toolset], env: Mapping[str, str]) -> None:
    for name, toolset in toolsets.items():
        build(CHART_MODULES / name, TOOLS_BIN, env, toolset)


def provide_schemas(env: Mapping[str, str]) -> None:
    """The JSON schemas of Kubernetes' objects in ``.tools/schemas``, made of the OpenAPI documents in its Go module."""
    module = CHART_MODULES / "kubernetes"
    stamp = TOOLS_SCHEMAS / ".key"
    key = hashlib.sha256((module / "go.mod").read_bytes() + SCHEMAS_SOURCE.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == key:
        return
    TOOLS_SCHEMAS.mkdir(parents=True, exist_ok=True)
    with exclusive(TOOLS_BIN / ".lock"):
        go = find_go(wanted_go_version(module), env)
        for command in (
            ["mod", "download", "k8s.io/kubernetes"],
            ["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"],
        ):
            done = subprocess.run([go, *command], cwd=module, env=env, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise StackError(f"go {command[0]} failed:\n{done.stderr}")
        write_schemas(Path(done.stdout.strip()) / "api/openapi-spec/v3", TOOLS_SCHEMAS)
        stamp.write_text(key)


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
        env = build_environment(os.environ)
        match sys.argv[1:]:
            case ["browser"]:
                provide_chromium()
                return 0
            case ["chart"]:
                build_all(CHART, env)
                provide_schemas(env)
                return 0
            case ["chart-helm3"]:
                build_all(CHART_HELM3, env)
                return 0
            case ["chart-k8s"]:
                build_all(CHART_K8S, env)
                return 0
        build(CONTROLPLANE_MODULE, TOOLS_BIN, env)
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
