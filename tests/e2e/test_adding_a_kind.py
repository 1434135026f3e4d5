"""docs/adding-a-kind.md, followed to the letter in a copy of the repository: the new kind works, and nothing else has changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from devstack.cluster import Cluster
from devstack.devhub.provisioning import provision_provider
from devstack.errors import ApiError
from devstack.kcp import SECRETS_CLAIM, Kcp
from devstack.nats import NatsServer
from devstack.own_instance import EXPORT
from devstack.paths import REPOSITORY
from devstack.processes import Process
from devstack.provider import install_provider, run_init
from devstack.resources import CODE_API, Manifest, Resource, condition, is_gone, is_ready
from devstack.scenario import repository, unique
from devstack.settings import Settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

DOCUMENT = REPOSITORY / "docs/adding-a-kind.md"
COPIED = (
    "crds",
    "docs",
    "libs",
    "services",
    "tests",
    "tools",
    "portal/src",
    "manifest.yaml",
    "manifest-inline.yaml",
    "pyproject.toml",
)
NOTES = Resource(CODE_API, "Note", "notes")

_BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S)
_CACHES = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", "node_modules")


class Checkout:
    """A copy of the repository that runs with the packages of this virtual environment and with its own sources."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=_CACHES)
            else:
                shutil.copy(source, root / name)
        sources = [root / "libs/codecommon", root / "libs/cli", root / "tools/devstack", *(root / "services").iterdir()]
        self.environment = {"PYTHONPATH": os.pathsep.join(map(str, sources)), "PYTHONDONTWRITEBYTECODE": "1"}

    def files(self) -> dict[str, str]:
        """Every file with a digest of its content."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.root.rglob("*")
            if path.is_file()
        }

    def apply(self, document: str) -> None:
        """Do what the blocks of the document say."""
        for block in _BLOCK.finditer(document):
            if block["language"] == "diff":
                self._patch(block["text"])
            else:
                path = self.root / block["title"]
                assert not path.exists(), path
                path.parent.mkdir(exist_ok=True)
                path.write_text(block["text"])

    def _patch(self, diff: str) -> None:
        header, *hunks = re.split(r"^@@\n", diff, flags=re.M)
        path = self.root / header.removeprefix("--- ").strip()
        text = path.read_text()
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            assert f"\n{text}".count(f"\n{before}") == 1, f"{path.name} does not have these lines once:\n{before}"
            text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
        path.write_text(text)

    async def run(self, *command: str | Path) -> None:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.root,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 90)
        assert process.returncode == 0, output.decode()


@pytest_asyncio.fixture(scope="module")
async def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The copy before the document is applied."""
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest_asyncio.fixture(scope="module")
async def changed(checkout: Checkout) -> set[str]:
    """The files that the document, and ``make gen`` after it, have added or changed in the copy."""
    before = checkout.files()
    checkout.apply(DOCUMENT.read_text())
    await checkout.run(sys.executable, "tools/gen.py")
    after = checkout.files()
    assert before.keys() <= after.keys()
    return {path for path, digest in after.items() if before.get(path) != digest}


def test_only_the_files_that_the_document_names_are_added_or_changed(changed: set[str]) -> None:
    document = DOCUMENT.read_text()
    by_hand = {block["title"] or block["text"].split()[1] for block in _BLOCK.finditer(document)}
    generated = changed - by_hand
    assert by_hand <= changed
    assert generated == {
        "crds/kcp/notes.code.kedge.faros.sh.yaml",
        "libs/cli/code_provider/schemas/notes.code.kedge.faros.sh.yaml",
        "manifest-inline.yaml",
        "docs/api.md",
    }
    assert all(f"`{path}`" in document for path in generated)


async def test_the_result_passes_the_checks_that_hold_for_every_kind(checkout: Checkout, changed: set[str]) -> None:
    python = sorted(path for path in changed if path.endswith(".py"))
    ruff = Path(sys.executable).with_name("ruff")
    await checkout.run(ruff, "check", "--no-cache", *python)
    await checkout.run(ruff, "format", "--no-cache", "--check", *python)
    await checkout.run(sys.executable, "tools/gen.py", "--check")
    await checkout.run(
        *(sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"),
        *(
            "tests/contract/test_crds_api.py",
            "tests/contract/test_crds_kinds.py",
            "services/access-svc/tests/test_note.py",
        ),
    )


@pytest_asyncio.fixture(scope="module")
async def tenant(
    kcp: Kcp, run_dir: Path, dev_settings: Settings, checkout: Checkout, changed: set[str]
) -> AsyncIterator[Cluster]:
    """A workspace with the new API, on which a watcher and an access-svc from the copy act."""
    provisioned = await provision_provider(kcp, unique("notes"), kcp.url)
    inherited = {**dev_settings.environment, **checkout.environment}
    installation = install_provider(provisioned, run_dir / "notes", hub_url="", inherited=inherited)
    environment = {**installation.environment, "KEDGE_SCHEMAS_DIR": str(checkout.root / "crds/kcp")}
    cluster = await kcp.create_workspace(f"root:{unique('notes-tenant')}")
    async with AsyncExitStack() as stack:
        nats_server = await stack.enter_async_context(NatsServer(installation.folder / "nats"))
        # The server's users know nothing of the new kind, which only the copy has. Its administrator may do everything.
        environment["NATS_URL"] = nats_server.url
        await run_init(replace(installation, environment=environment))
        await kcp.bind(cluster, provisioned.workspace_path, EXPORT, [SECRETS_CLAIM])
        for package in ("watcher", "access_svc"):
            process = Process(
                package,
                [sys.executable, "-m", package],
                log_file=installation.folder / f"{package}.log",
                env=environment,
                cwd=installation.folder,
            )
            await stack.enter_async_context(process)
        yield kcp.cluster(cluster)


async def get(tenant: Cluster, name: str) -> Manifest | None:
    try:
        return await tenant.request("GET", NOTES.path(name))
    except ApiError as problem:
        if problem.status == 404:
            return None
        raise


async def wait(tenant: Cluster, name: str, wanted: Callable[[Manifest | None], bool]) -> Manifest | None:
    found = None
    try:
        async with asyncio.timeout(30):
            while not wanted(found := await get(tenant, name)):
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"the last state seen: {found}")
    return found


def waits_for_its_repository(note: Manifest | None) -> bool:
    ready = condition(note, "Ready") if note is not None else None
    return ready is not None and (ready["status"], ready["reason"]) == ("False", "RepositoryNotReady")


async def make_ready(tenant: Cluster, plural: str, name: str) -> None:
    """What the service of another kind would write."""
    ready: dict[str, Any] = {
        **{"type": "Ready", "status": "True", "reason": "Reconciled", "message": ""},
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await tenant.patch_status(plural, name, {"observedGeneration": 1, "conditions": [ready]})


async def test_an_object_of_the_new_kind_waits_for_its_parent_becomes_ready_and_is_released(tenant: Cluster) -> None:
    await tenant.create(repository("site", "nowhere"))
    note = {
        "apiVersion": CODE_API,
        "kind": "Note",
        "metadata": {"name": "hello"},
        "spec": {"repositoryRef": "site", "text": "Hello"},
    }
    await tenant.request("POST", NOTES.path(), note)
    await wait(tenant, "hello", waits_for_its_repository)

    await make_ready(tenant, "repositories", "site")
    ready = await wait(tenant, "hello", is_ready)
    assert ready is not None
    assert ready["status"]["text"] == "Hello"
    assert ready["metadata"]["finalizers"] == ["notes.code.kedge.faros.sh/finalizer"]

    await tenant.request("DELETE", NOTES.path("hello"))
    await wait(tenant, "hello", is_gone)
