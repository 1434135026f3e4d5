"""Renders the chart with the helm that `devstack.tools` has built."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from devstack.paths import REPOSITORY
from devstack.tools import require_chart_tool

CHART = REPOSITORY / "deploy/helm/kedge-code-provider"
EXAMPLES = {path.stem: path for path in sorted((CHART / "examples").glob("*.yaml"))}
KUBERNETES = "1.36.0"

Object = dict[str, Any]


class RefusedByHelm(Exception):
    """helm exits with another code than 0. The text is what it says."""


def run(*command: str | Path, check: bool = True) -> str:
    """The output of a command, stderr included. Raises `RefusedByHelm` if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    if check and done.returncode != 0:
        raise RefusedByHelm(done.stdout)
    return done.stdout


@functools.cache
def _environment() -> dict[str, str]:
    """helm finds no settings, plugins or clusters of whoever runs the tests."""
    empty = tempfile.mkdtemp(prefix="helm-")
    return {
        "PATH": os.environ["PATH"],
        "HOME": empty,
        "KUBECONFIG": f"{empty}/none",
        **{f"HELM_{name}_HOME": f"{empty}/{name.lower()}" for name in ("CACHE", "CONFIG", "DATA")},
    }


@functools.cache
def render(*arguments: str, release: str = "code", helm: str = "helm") -> str:
    """What ``helm template`` writes. ``arguments`` as for helm."""
    # helm that is built from source thinks of a very old Kubernetes.
    where = ("--namespace", "kedge", "--kube-version", KUBERNETES)
    return run(require_chart_tool(helm), "template", release, CHART, *where, *arguments)


@functools.cache
def objects(*arguments: str, release: str = "code") -> list[Object]:
    # The loader in Python takes ten times as long.
    return [found for found in yaml.load_all(render(*arguments, release=release), yaml.CSafeLoader) if found]


def example(name: str) -> list[str]:
    return ["--values", str(EXAMPLES[name])]


def one(found: Sequence[Object], kind: str, name: str) -> Object:
    (only,) = [o for o in found if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return only
