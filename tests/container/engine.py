"""A Docker engine of this run, and images to build from that come from Debian's packages instead of a registry.

The engine is Debian's, started by hand. It gets no bridge, and neither iptables rules nor forwarding, so the host's networking
stays as it is: builds use the host's network, and Docker's own proxy publishes ports on loopback. Its data stays in
``.dev/container`` until `make clean`, so that a second run has the layers of the first.

Two sets of command lines lead to it: Docker's builder before BuildKit with docker-compose 1.29, both Debian's, and BuildKit with
buildx and Docker Compose v2, which are built like the tools of `make tools`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml

from devstack.paths import CONTAINER_MODULE, CONTROLPLANE_MODULE, REPOSITORY, RUNS, TOOLS_BIN
from devstack.tools import CONTAINER, build, build_environment, find_go, wanted_go_version

FOLDER: Final = RUNS / "container"
SUITE: Final = "bookworm"
"""Debian's release with Python 3.11."""

RUNTIME_IMAGE: Final = "code-provider-test-runtime:local"
BUILD_IMAGE: Final = "code-provider-test-build:local"
GO_IMAGE: Final = "code-provider-test-go:local"
GO: Final = """\
FROM {runtime}
COPY . /usr/local/go
ENV PATH=/usr/local/go/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 60.0
BUILD_TIMEOUT: Final = 3000.0
PROGRAMS: Final = ("dockerd", "docker", "docker-compose", "debootstrap", "iptables", "node", "npm")


def missing() -> str | None:
    """Why there can be no engine here; None if there can."""
    if os.geteuid() != 0 or not Path("/etc/debian_version").is_file():
        return "no container engine is started: that needs root on Debian"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return (
            f"no container engine is started: {', '.join(absent)} missing "
            "(apt install docker.io docker-compose debootstrap iptables; npm of Node.js 20 or later)"
        )
    asked = subprocess.run(["docker-compose", "version", "--short"], capture_output=True, text=True, check=False)
    if not asked.stdout.startswith("1.29."):
        return f"no container engine is started: docker-compose is {asked.stdout.strip() or 'broken'}, and the tests need 1.29"
    return None


def say(line: str) -> None:
    print(f"container: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Engine:
    """The running engine. `environ` leads the command lines to it, `compose` is the one that runs docker-compose.yaml."""

    environ: Mapping[str, str]
    compose: Sequence[str] = ("docker-compose",)

    def with_buildkit(self) -> Engine:
        """The same engine, by its BuildKit, with buildx and Compose v2 as plugins of `docker`."""
        build(CONTAINER_MODULE, TOOLS_BIN, build_environment(os.environ), CONTAINER)
        plugins = FOLDER / "cli" / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        for name in CONTAINER.packages:
            (plugins / name).unlink(missing_ok=True)
            (plugins / name).symlink_to(TOOLS_BIN / name)
        environ = {**self.environ, "DOCKER_CONFIG": str(plugins.parent), "DOCKER_BUILDKIT": "1"}
        return replace(self, environ=environ, compose=("docker", "compose"))

    def run(
        self,
        *command: str,
        check: bool = True,
        timeout: float = 120.0,
        environ: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command line at the repository's root. With `check`, its output is in the error if it fails."""
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**self.environ, **(environ or {})},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done

    def docker(self, *arguments: str, check: bool = True, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return self.run("docker", *arguments, check=check, timeout=timeout)

    def has(self, image: str) -> bool:
        return self.docker("image", "inspect", image, check=False).returncode == 0


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Starts the engine, and stops it by its process at the end."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    socket = FOLDER / "docker.sock"
    log = FOLDER / "dockerd.log"
    command = [
        "dockerd",
        f"--host=unix://{socket}",
        f"--data-root={FOLDER / 'docker'}",
        f"--exec-root={FOLDER / 'exec'}",
        f"--pidfile={FOLDER / 'docker.pid'}",
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
    ]
    environ = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        engine = Engine(environ)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while engine.docker("version", check=False).returncode != 0:
                assert process.poll() is None, f"dockerd ended:\n{log.read_text()[-3000:]}"
                assert time.monotonic() < deadline, f"dockerd did not start:\n{log.read_text()[-3000:]}"
            yield engine
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT)
            # What it leaves mounted would keep `make clean` from removing the folder.
            for leftover in (FOLDER / "exec" / "netns").glob("*"):
                engine.run("umount", str(leftover), check=False)


def provide_base_images(engine: Engine) -> None:
    """Makes the images to build from, unless the engine has them from an earlier run."""
    if not (engine.has(RUNTIME_IMAGE) and engine.has(BUILD_IMAGE)):
        _bootstrap(engine)
    if not engine.has(GO_IMAGE):
        # The Go that `make tools` builds with: Debian's is older than kcp needs.
        go = find_go(wanted_go_version(CONTROLPLANE_MODULE), build_environment(os.environ))
        root = engine.run(go, "env", "GOROOT").stdout.strip()
        engine.run(
            *("docker", "build", "-q", "--tag", GO_IMAGE, "--file", "-", root),
            stdin=GO.format(runtime=RUNTIME_IMAGE),
            timeout=BUILD_TIMEOUT,
        )


def _bootstrap(engine: Engine) -> None:
    root = FOLDER / "rootfs"
    shutil.rmtree(root, ignore_errors=True)
    mirrors = engine.run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").stdout.split()
    mirror = next(uri for uri in mirrors if "security" not in uri)
    say(f"making base images of Debian {SUITE} (a minute or more)")
    try:
        engine.run(
            *("debootstrap", "--variant=minbase", "--include=ca-certificates,python3", SUITE, str(root), mirror),
            timeout=BUILD_TIMEOUT,
        )
        # The machine's own authorities: that of a mirror of package indexes may be among them.
        shutil.copy(AUTHORITIES, root / AUTHORITIES.relative_to("/"))
        _import(engine, root, RUNTIME_IMAGE)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        engine.run(
            *("chroot", str(root), "apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-venv"),
            timeout=BUILD_TIMEOUT,
            environ={"DEBIAN_FRONTEND": "noninteractive"},
        )
        _add_node(root / "usr/local")
        _import(engine, root, BUILD_IMAGE)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _add_node(prefix: Path) -> None:
    """The machine's Node.js and npm: Debian's are older than the portal needs."""
    node, npm = (Path(path).resolve() for path in map(shutil.which, ("node", "npm")) if path)
    shutil.copy(node, prefix / "bin/node")
    # <prefix>/lib/node_modules/npm/bin/npm-cli.js
    shutil.copytree(npm.parents[1], prefix / "lib/npm", symlinks=True)
    (prefix / "bin/npm").symlink_to("../lib/npm/bin/npm-cli.js")


def _import(engine: Engine, root: Path, image: str) -> None:
    for package in root.glob("var/cache/apt/archives/*.deb"):
        package.unlink()
    path = "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as archive:
        subprocess.run(
            ["docker", "import", "--change", path, "-", image],
            env=dict(engine.environ),
            stdin=archive.stdout,
            stdout=subprocess.DEVNULL,
            timeout=BUILD_TIMEOUT,
            check=True,
        )


def build_images(engine: Engine) -> None:
    """Compose builds all that docker-compose.yaml names. Then `tools/images.sh` builds the provider's images on the same layers.

    The tests look at the latter.
    """
    options = _build_options()
    say(f"building all images with {' '.join(engine.compose)} (minutes, the first time)")
    services = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())["services"]
    on_host = {name: {"build": {"network": "host"}} for name, service in services.items() if "build" in service}
    network = FOLDER / "network.yaml"
    network.write_text(yaml.safe_dump({"services": on_host}))
    files = ("--file", "docker-compose.yaml", "--file", str(network))
    engine.run(*engine.compose, *files, "build", *options, timeout=BUILD_TIMEOUT)
    say("building the provider's images with tools/images.sh")
    engine.run(
        "tools/images.sh", timeout=BUILD_TIMEOUT, environ={"BUILD_OPTIONS": " ".join(["--network=host", *options])}
    )


def _build_options() -> Sequence[str]:
    """The images to build from, and what the network of this machine wants."""
    given = {
        "NODE_IMAGE": BUILD_IMAGE,
        "PYTHON_IMAGE": BUILD_IMAGE,
        "RUNTIME_IMAGE": RUNTIME_IMAGE,
        "GO_IMAGE": GO_IMAGE,
        "NODE_EXTRA_CA_CERTS": str(AUTHORITIES),
        "PIP_CERT": str(AUTHORITIES),
        # Mirrors of this machine.
        **{
            name: os.environ[name]
            for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "NPM_CONFIG_REGISTRY", "GOPROXY")
            if name in os.environ
        },
    }
    return [part for name, value in given.items() for part in ("--build-arg", f"{name}={value}")]


def networking() -> str:
    """What an engine usually changes on its host: rules, forwarding and bridges."""
    rules = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    bridges = sorted(path.name for path in Path("/sys/class/net").iterdir() if (path / "bridge").is_dir())
    return f"{rules}\nforwarding {forwarding}bridges {bridges}"
