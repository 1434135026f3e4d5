"""The git server over SSH lets each key do what a deploy key may, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from devstack.gitserver import GitServer, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


@dataclass(frozen=True)
class Key:
    repository: str
    key: str
    read_only: bool


@pytest.fixture
def keys() -> list[Key]:
    return []


@pytest_asyncio.fixture
async def server(keys: list[Key], tmp_path: Path) -> AsyncIterator[GitServer]:
    async def listed() -> list[Key]:
        return keys

    async with GitServer(listed, tmp_path) as running:
        await running.add_repository("acme", "site")
        yield running


def make_key(folder: Path, name: str) -> tuple[Path, str]:
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path, " ".join(path.with_suffix(".pub").read_text().split()[:2])


async def test_a_write_key_pushes_and_a_read_only_key_only_clones(
    server: GitServer, keys: list[Key], tmp_path: Path
) -> None:
    writer, writing = make_key(tmp_path, "writer")
    reader, reading = make_key(tmp_path, "reader")
    keys += [Key("acme/site", writing, False), Key("acme/site", reading, True)]
    url = server.url("acme", "site")

    assert (await server.git(writer, "clone", url, "one", folder=tmp_path)).code == 0
    commit = await server.git(writer, "commit", "--allow-empty", "--message=first", folder=tmp_path / "one")
    assert commit.code == 0, commit.output
    pushed = await server.git(writer, "push", "origin", "HEAD:main", folder=tmp_path / "one")
    assert pushed.code == 0, pushed.output

    assert (await server.git(reader, "clone", url, "two", folder=tmp_path)).code == 0
    await server.git(reader, "commit", "--allow-empty", "--message=second", folder=tmp_path / "two")
    refused = await server.git(reader, "push", "origin", "HEAD:main", folder=tmp_path / "two")
    assert refused.code != 0
    assert "marked as read only" in refused.output


async def test_a_key_opens_its_own_repository_only_and_only_while_it_is_registered(
    server: GitServer, keys: list[Key], tmp_path: Path
) -> None:
    other, public = make_key(tmp_path, "other")
    keys.append(Key("acme/docs", public, False))
    refused = await server.git(other, "ls-remote", server.url("acme", "site"), folder=tmp_path)
    assert "Repository not found" in refused.output

    keys.clear()
    refused = await server.git(other, "ls-remote", server.url("acme", "site"), folder=tmp_path)
    assert "Permission denied (publickey)" in refused.output
