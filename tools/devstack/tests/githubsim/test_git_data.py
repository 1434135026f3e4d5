"""The Git database, single files, archives, and git itself over HTTP."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devstack.githubsim import GithubSim, SimControl

REPO = "/repos/alice/demo"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def git(*arguments: str, folder: Path) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "tester", f"GIT_{role}_EMAIL": "tester@example.com"}
    finished = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, check=False, timeout=60
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode()


def clone_url(sim: GithubSim, token: Any) -> str:
    return f"{sim.url.replace('://', f'://x:{token.value}@')}/alice/demo.git"


@pytest.fixture
async def head(control: SimControl, alice: Any) -> str:
    """A repository with an executable, a link, a submodule and bytes that are no text."""
    await control.create_repository("alice", "demo")
    files = {"run.sh": b"#!/bin/sh\n", "link": b"run.sh", "vendor/sub": b"1" * 40, "src/a.bin": b"\x00\xff"}
    modes = {"run.sh": "100755", "link": "120000", "vendor/sub": "160000"}
    return await control.push("alice", "demo", files, modes=modes)


async def test_a_commit_is_made_out_of_a_blob_a_tree_and_a_ref(
    api: Any, alice: Any, control: SimControl, head: str
) -> None:
    ref = await api("GET", f"{REPO}/git/ref/heads/main", token=alice)
    assert ref.body["object"]["sha"] == head
    base = (await api("GET", f"{REPO}/git/commits/{head}", token=alice)).body["tree"]["sha"]
    blob = await api("POST", f"{REPO}/git/blobs", token=alice, json={"content": encoded(b"\x01"), "encoding": "base64"})
    entries = [
        {"path": "src/b.bin", "mode": "100644", "type": "blob", "sha": blob.body["sha"]},
        {"path": "src/c.txt", "mode": "100644", "type": "blob", "content": "é\n"},
        {"path": "src/a.bin", "mode": "100644", "type": "blob", "sha": None},
    ]
    tree = await api("POST", f"{REPO}/git/trees", token=alice, json={"base_tree": base, "tree": entries})
    assert tree.status == 201
    body = {"message": "more", "tree": tree.body["sha"], "parents": [head]}
    commit = await api("POST", f"{REPO}/git/commits", token=alice, json=body)
    moved = await api("PATCH", f"{REPO}/git/refs/heads/main", token=alice, json={"sha": commit.body["sha"]})
    assert moved.status == 200
    files, modes = await control.files("alice", "demo"), await control.modes("alice", "demo")
    assert files["src/b.bin"] == b"\x01"
    assert files["src/c.txt"] == "é\n".encode()
    assert "src/a.bin" not in files
    assert (modes["run.sh"], modes["link"], modes["vendor/sub"]) == ("100755", "120000", "160000")


async def test_a_recursive_tree_names_everything_and_can_be_truncated(
    api: Any, alice: Any, control: SimControl, head: str
) -> None:
    whole = (await api("GET", f"{REPO}/git/trees/main?recursive=1", token=alice)).body
    assert [(entry["path"], entry["type"]) for entry in whole["tree"]] == [
        ("link", "blob"),
        ("run.sh", "blob"),
        ("src", "tree"),
        ("src/a.bin", "blob"),
        ("vendor", "tree"),
        ("vendor/sub", "commit"),
    ]
    assert whole["truncated"] is False
    await control.set_switches(tree_entries=2)
    cut = (await api("GET", f"{REPO}/git/trees/{head}?recursive=1", token=alice)).body
    assert (len(cut["tree"]), cut["truncated"]) == (2, True)


async def test_a_blob_is_had_as_json_or_as_it_is(
    api: Any, alice: Any, session: aiohttp.ClientSession, sim: GithubSim, head: str
) -> None:
    tree = (await api("GET", f"{REPO}/git/trees/main?recursive=1", token=alice)).body["tree"]
    sha = next(entry["sha"] for entry in tree if entry["path"] == "src/a.bin")
    blob = (await api("GET", f"{REPO}/git/blobs/{sha}", token=alice)).body
    assert base64.b64decode(blob["content"]) == b"\x00\xff"
    headers = {"Authorization": f"Bearer {alice.value}", "Accept": "application/vnd.github.raw+json"}
    async with session.get(f"{sim.url}{REPO}/git/blobs/{sha}", headers=headers) as response:
        assert await response.read() == b"\x00\xff"


async def test_a_ref_moves_forward_only(api: Any, alice: Any, head: str, control: SimControl) -> None:
    tree = (await api("GET", f"{REPO}/git/commits/{head}", token=alice)).body["tree"]["sha"]
    body = {"message": "aside", "tree": tree, "parents": [head]}
    aside = (await api("POST", f"{REPO}/git/commits", token=alice, json=body)).body["sha"]
    await control.push("alice", "demo", {"b": b""})
    refused = await api("PATCH", f"{REPO}/git/refs/heads/main", token=alice, json={"sha": aside})
    assert (refused.status, refused.body["message"]) == (422, "Update is not a fast forward")
    made = await api("POST", f"{REPO}/git/refs", token=alice, json={"ref": "refs/heads/aside", "sha": aside})
    assert made.status == 201
    again = await api("POST", f"{REPO}/git/refs", token=alice, json={"ref": "refs/heads/aside", "sha": aside})
    assert (again.status, again.body["message"]) == (422, "Reference already exists")


async def test_an_empty_repository_is_a_conflict_until_a_file_is_put_into_it(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.create_repository("alice", "demo")
    for method, path in (
        ("GET", "/git/ref/heads/main"),
        ("GET", "/commits"),
        ("POST", "/git/blobs"),
        ("POST", "/git/trees"),
    ):
        answer = await api(method, REPO + path, token=alice, json={} if method == "POST" else None)
        assert (answer.status, answer.body["message"]) == (409, "Git Repository is empty.")
    put = await api("PUT", f"{REPO}/contents/a/b.txt", token=alice, json={"message": "m", "content": encoded(b"x")})
    assert put.status == 201
    assert await control.files("alice", "demo") == {"a/b.txt": b"x"}


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"archived": True}, 403, "Repository was archived so is read-only."),
        (
            {"protected": ["main"]},
            422,
            "Repository rule violations found\n\nChanges must be made through a pull request.\n\n",
        ),
    ],
)
async def test_an_archived_repository_and_a_protected_branch_take_no_commit(
    api: Any, alice: Any, control: SimControl, head: str, change: dict[str, Any], status: int, message: str
) -> None:
    tree = (await api("GET", f"{REPO}/git/commits/{head}", token=alice)).body["tree"]["sha"]
    body = {"message": "m", "tree": tree, "parents": [head]}
    commit = (await api("POST", f"{REPO}/git/commits", token=alice, json=body)).body["sha"]
    await control.edit_repository("alice", "demo", **change)
    refused = await api("PATCH", f"{REPO}/git/refs/heads/main", token=alice, json={"sha": commit})
    assert (refused.status, refused.body["message"]) == (status, message)


async def test_workflow_files_want_a_scope_of_their_own(api: Any, alice: Any, control: SimControl, head: str) -> None:
    entry = {"path": ".github/workflows/build.yml", "mode": "100644", "type": "blob", "content": "on: push\n"}
    assert (await api("POST", f"{REPO}/git/trees", token=alice, json={"tree": [entry]})).status == 404
    able = await control.create_token("alice", scopes=["repo", "workflow"])
    assert (await api("POST", f"{REPO}/git/trees", token=able, json={"tree": [entry]})).status == 201


async def test_who_may_only_read_changes_nothing(api: Any, control: SimControl, alice: Any, head: str) -> None:
    await control.create_user("bob")
    await control.edit_repository("alice", "demo", grants={"bob": "read"})
    bob = await control.create_token("bob")
    assert (await api("GET", f"{REPO}/git/ref/heads/main", token=bob)).status == 200
    assert (await api("POST", f"{REPO}/git/blobs", token=bob, json={"content": ""})).status == 403


async def test_an_archive_is_on_another_host_which_wants_no_credential(
    api: Any, alice: Any, sim: GithubSim, session: aiohttp.ClientSession, control: SimControl, head: str
) -> None:
    redirect = await api("GET", f"{REPO}/tarball/{head}", token=alice)
    location = redirect.headers["Location"]
    assert redirect.status == 302
    assert location.startswith(sim.downloads_url)
    async with session.get(location, headers={"Authorization": f"Bearer {alice.value}"}) as refused:
        assert refused.status == 403
    async with session.get(location) as response:
        archive = await response.read()
    with tarfile.open(fileobj=BytesIO(archive)) as opened:
        assert f"alice-demo-{head[:7]}/run.sh" in opened.getnames()
    assert await control.downloads() == {"served": 1, "refused": 1}


async def test_git_clones_and_pushes_what_the_api_shows(
    api: Any, alice: Any, sim: GithubSim, control: SimControl, head: str, tmp_path: Path
) -> None:
    url = clone_url(sim, alice)
    await asyncio.to_thread(git, "clone", "-q", url, "copy", folder=tmp_path)
    copy = tmp_path / "copy"
    assert (copy / "src" / "a.bin").read_bytes() == b"\x00\xff"
    assert os.access(copy / "run.sh", os.X_OK)
    (copy / "new.txt").write_text("new\n")
    for command in (("add", "new.txt"), ("commit", "-qm", "by git"), ("push", "-q", "origin", "HEAD:main")):
        await asyncio.to_thread(git, *command, folder=copy)
    listed = (await api("GET", f"{REPO}/commits", token=alice)).body
    assert [commit["commit"]["message"] for commit in listed] == ["by git", "A change"]
    assert (await control.files("alice", "demo"))["new.txt"] == b"new\n"
    assert (await api("GET", f"{REPO}/git/commits/{listed[0]['sha']}", token=alice)).status == 200
    await asyncio.to_thread(git, "fsck", "--strict", folder=copy)


async def test_a_clone_of_a_private_repository_wants_a_token(
    sim: GithubSim, control: SimControl, alice: Any, head: str, session: aiohttp.ClientSession
) -> None:
    path = "/alice/demo.git/info/refs?service=git-upload-pack"
    async with session.get(sim.url + path) as response:
        assert response.status == 401
    await control.edit_repository("alice", "demo", visibility="public")
    async with session.get(sim.url + path) as response:
        assert response.status == 200
