"""What is GitHub's own in commits and snapshots: requests that are saved, races, answers that are lost, archives that lie."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from git_hosts import ME, ORG, Simulator

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.contents import CommitRequest, Committed, FileChange, SnapshotCaps
from codecommon.githost.protocol import GitBackend, HostBusy, HostRepository
from codecommon.testing.engine import until

CAPS = SnapshotCaps(files=500, file_bytes=256 * 1024, total_bytes=16 * 1024 * 1024)
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
async def backend(simulator: Simulator) -> GitBackend:
    return await simulator.session(scopes=["repo"])


@pytest.fixture
async def repo(simulator: Simulator, backend: GitBackend) -> HostRepository:
    await simulator.control.create_repository(ME, "demo")
    await simulator.control.push(ME, "demo", {"README.md": b"# demo\n"})
    found = await backend.find_repository(ME, "demo")
    assert isinstance(found, HostRepository)
    return found


async def commit(
    backend: GitBackend,
    repo: HostRepository,
    files: dict[str, bytes | None],
    *,
    uid: str = "uid-1",
    made: dict[str, str] | None = None,
) -> Committed:
    changes = tuple(FileChange(path, content) for path, content in files.items())
    request = CommitRequest("main", "Change", changes, uid)
    return await backend.contents.commit(repo.id, request, {} if made is None else made)


async def operations(simulator: Simulator) -> list[str]:
    """What was asked since the journal was cleared, without the repository's part."""
    entries = (await simulator.control.journal()).entries
    return [(entry.operation or "").replace("/repos/{owner}/{repo}", "") for entry in entries]


async def asked(simulator: Simulator, operation: str) -> None:
    """Return once the host was asked for it."""

    async def was() -> bool:
        return operation in await operations(simulator)

    await until(was)


async def test_a_commit_of_texts_is_six_requests(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    await simulator.control.clear_journal()
    await commit(backend, repo, {f"n{number}": b"text" for number in range(100)} | {"README.md": None})
    assert await operations(simulator) == [
        "GET /git/ref/{ref}",
        "GET /commits",
        "GET /git/trees/{tree_sha}",
        "POST /git/trees",
        "POST /git/commits",
        "PATCH /git/refs/{ref}",
    ]


async def test_what_is_there_already_is_not_written(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    await simulator.control.clear_journal()
    await commit(backend, repo, {"README.md": b"# demo\n", "gone": None})
    assert not WRITES & {operation.split()[0] for operation in await operations(simulator)}


async def test_git_clones_exactly_the_files(
    simulator: Simulator, backend: GitBackend, repo: HostRepository, tmp_path: Path
) -> None:
    files: dict[str, bytes | None] = {
        "a/b.txt": b"x\r\n",
        "ü": b"\xc3\xbc",
        "bin": b"\x00\xff",
        "README.md": None,
        "e": b"",
    }
    await commit(backend, repo, files)
    token = (await simulator.control.create_token(ME)).value
    url = f"{simulator.url.replace('://', f'://x:{token}@')}/{ME}/demo.git"
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "clone", "-q", url, str(tmp_path / "copy")]
    await asyncio.to_thread(subprocess.run, command, env=environment, check=True, timeout=60)
    copy = tmp_path / "copy"
    shown = {
        str(path.relative_to(copy)): path.read_bytes()
        for path in copy.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    assert shown == {path: content for path, content in files.items() if content is not None}


async def test_who_loses_a_race_decides_again_on_the_new_head(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    # The branch moves after it was read: the first try to move it is late.
    await simulator.control.add_fault("slow", method="PATCH", path=".*/git/refs/heads/main", seconds=0.3)
    await simulator.control.clear_journal()
    ours = asyncio.create_task(commit(backend, repo, {"ours": b"1"}))
    await asked(simulator, "POST /git/commits")
    await simulator.control.push(ME, "demo", {"theirs": b"2"})
    assert (await ours).made is True
    files = await simulator.control.files(ME, "demo")
    assert {"ours", "theirs", "README.md"} == files.keys()
    assert [len(commit.parents) for commit in await simulator.control.commits(ME, "demo")] == [1, 1, 0]


async def test_who_loses_every_race_comes_back(simulator: Simulator, backend: GitBackend, repo: HostRepository) -> None:
    await simulator.control.add_fault(
        "status",
        method="PATCH",
        path=".*/git/refs/.*",
        status=422,
        count=None,
        body={"message": "Update is not a fast forward"},
    )
    with pytest.raises(Retryable) as lost:
        await commit(backend, repo, {"ours": b"1"})
    assert lost.value.reason == Reason.HOST_CONFLICT


@pytest.mark.parametrize("path", [".*/git/ref/.*", ".*/commits", ".*/git/trees.*", ".*/git/blobs", ".*/git/refs/.*"])
@pytest.mark.parametrize("applied", [False, True])
async def test_an_answer_that_is_lost_at_any_step_makes_no_second_commit(
    simulator: Simulator, backend: GitBackend, repo: HostRepository, path: str, applied: bool
) -> None:
    files: dict[str, bytes | None] = {"a": b"1", "b": b"\x00"}
    await simulator.control.add_fault("reset", path=path, applied=applied, count=2)
    made: dict[str, str] = {}
    for _ in range(4):
        try:
            done = await commit(backend, repo, files, made=made)
        except Retryable:
            continue
        break
    else:
        pytest.fail("it never got through")
    assert len(await simulator.control.commits(ME, "demo")) == 2
    assert (await simulator.control.commits(ME, "demo"))[0].sha == done.sha


async def test_what_was_uploaded_is_not_uploaded_again(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    made: dict[str, str] = {}
    files: dict[str, bytes | None] = {f"bin{number}": b"\x00" + bytes([number]) for number in range(10)}
    body = {"message": "You have exceeded a secondary rate limit."}
    await simulator.control.add_fault("status", method="POST", path=".*/git/trees", status=403, body=body)
    with pytest.raises(Retryable) as limited:
        await commit(backend, repo, files, made=made)
    assert limited.value.reason == Reason.RATE_LIMITED
    await simulator.control.clear_journal()
    await commit(backend, repo, files, made=made)
    assert "POST /git/blobs" not in await operations(simulator)


async def test_an_upload_that_the_host_has_lost_is_made_again(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    made: dict[str, str] = {}
    files: dict[str, bytes | None] = {"bin": b"\x00"}
    limited = {"message": "You have exceeded a secondary rate limit."}
    await simulator.control.add_fault("status", method="POST", path=".*/git/trees", status=403, body=limited)
    with pytest.raises(Retryable):
        await commit(backend, repo, files, made=made)
    body = {"message": "tree.sha 1234 is not a valid blob"}
    await simulator.control.add_fault("status", method="POST", path=".*/git/trees", status=422, body=body)
    with pytest.raises(Retryable) as lost:
        await commit(backend, repo, files, made=made)
    assert lost.value.reason == Reason.HOST_CONFLICT
    assert not made
    assert (await commit(backend, repo, files, made=made)).made is True


async def test_who_loses_the_first_commit_to_one_on_another_branch_decides_again(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    # What it reads is from before the other's commit.
    empty = {"message": "Git Repository is empty."}
    await simulator.control.add_fault("status", method="GET", path=".*/git/ref/heads/dev", status=409, body=empty)
    request = CommitRequest("dev", "Change", (FileChange("a", b"1"),), "uid-1")
    assert (await backend.contents.commit(repo.id, request, {})).made is True
    assert "PUT /contents/{path}" in await operations(simulator)


async def test_a_host_that_was_too_slow_with_a_tree_is_asked_again(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    body = {"message": "Sorry, your request timed out. It's likely that your input was too large to process."}
    await simulator.control.add_fault("status", method="POST", path=".*/git/trees", status=422, body=body)
    with pytest.raises(Retryable) as slow:
        await commit(backend, repo, {"a": b"1"})
    assert slow.value.reason == Reason.HOST_UNAVAILABLE
    assert (await commit(backend, repo, {"a": b"1"})).made is True


async def test_two_blobs_at_most_are_under_way(simulator: Simulator, backend: GitBackend, repo: HostRepository) -> None:
    await simulator.control.set_switches(latency=0.02)
    await simulator.control.clear_journal()
    await commit(backend, repo, {f"bin{number}": b"\x00" + bytes([number]) for number in range(6)})
    assert (await simulator.control.journal()).max_in_flight == 2


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({"scopes": ["repo"]}, "lacks the scope workflow"),
        ({"kind": "fine-grained", "permissions": {"contents": "write", "metadata": "read"}}, "workflow"),
    ],
)
async def test_a_workflow_file_wants_a_right_of_its_own_which_is_named(
    simulator: Simulator, repo: HostRepository, token: dict[str, Any], said: str
) -> None:
    backend = await simulator.session(**token)
    with pytest.raises(Terminal) as refused:
        await commit(backend, repo, {".github/workflows/build.yml": b"on: push\n", "a": b"1"})
    assert refused.value.reason == Reason.MISSING_PERMISSION
    assert said in refused.value.message


async def test_who_may_only_read_is_told_so(simulator: Simulator, repo: HostRepository) -> None:
    await simulator.control.edit_repository(ME, "demo", grants={"hubot": "read"})
    with pytest.raises(Terminal) as refused:
        await commit(await simulator.session("hubot", scopes=["repo"]), repo, {"a": b"1"})
    assert refused.value.reason == Reason.MISSING_PERMISSION


async def test_a_snapshot_of_a_tag_is_of_its_commit(
    simulator: Simulator, backend: GitBackend, repo: HostRepository, tmp_path: Path
) -> None:
    token = (await simulator.control.create_token(ME)).value
    url = f"{simulator.url.replace('://', f'://x:{token}@')}/{ME}/demo.git"
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@example.com"}
    copy = tmp_path / "copy"
    for command in (
        ("clone", "-q", url, str(copy)),
        ("-C", str(copy), "tag", "-a", "v1", "-m", "first"),
        ("-C", str(copy), "push", "-q", "origin", "v1"),
    ):
        await asyncio.to_thread(subprocess.run, ["git", *command], env=environment, check=True, timeout=60)
    await simulator.control.push(ME, "demo", {"later": b"x"})
    snapshot = await backend.contents.read_snapshot(repo.id, "v1", CAPS)
    assert (snapshot.ref, [file.path for file in snapshot.files]) == ("v1", ["README.md"])


async def test_a_tree_that_is_too_long_is_read_folder_by_folder(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    files: dict[str, bytes | None] = {f"d{number}/sub/f": b"x" for number in range(5)} | {"d1/run.sh": b"x"}
    await simulator.control.push(ME, "demo", files, modes={"d1/run.sh": "100755"})
    # Each folder has fewer entries, and all together have more.
    await simulator.control.set_switches(tree_entries=8)
    snapshot = await backend.contents.read_snapshot(repo.id, "main", CAPS)
    assert {file.path for file in snapshot.files} == {"README.md", *files}
    await commit(backend, repo, {"d1/run.sh": b"new", "d3/sub/f": None, "d9/new": b"1", "nowhere/f": None})
    await simulator.control.set_switches(tree_entries=100)
    shown = await simulator.control.files(ME, "demo")
    assert (shown["d1/run.sh"], "d3/sub/f" in shown, shown["d9/new"]) == (b"new", False, b"1")
    assert (await simulator.control.modes(ME, "demo"))["d1/run.sh"] == "100755"


async def test_a_snapshot_is_one_request_for_all_files(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    await simulator.control.push(ME, "demo", {f"n{number}": b"x" for number in range(50)})
    await simulator.control.clear_journal()
    assert len((await backend.contents.read_snapshot(repo.id, "main", CAPS)).files) == 51
    assert await operations(simulator) == ["GET /commits", "GET /git/trees/{tree_sha}", "GET /tarball/{ref}"]
    assert await simulator.control.downloads() == {"served": 1, "refused": 0}


async def test_what_an_archive_leaves_out_or_changes_is_read_on_its_own(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    files: dict[str, bytes | None] = {
        ".gitattributes": b"tests/** export-ignore\nVERSION export-subst\nwin.txt text eol=crlf\n",
        "tests/a.py": b"a = 1\n",
        "VERSION": b"$Format:%H$\n",
        "win.txt": b"one\ntwo\n",
        "plain": b"x",
    }
    await simulator.control.push(ME, "demo", files)
    await simulator.control.clear_journal()
    snapshot = await backend.contents.read_snapshot(repo.id, "main", CAPS)
    assert {file.path: file.content for file in snapshot.files} == files | {"README.md": b"# demo\n"}
    assert [file.path for file in snapshot.files] == sorted(file.path for file in snapshot.files)
    assert (await operations(simulator)).count("GET /git/blobs/{file_sha}") == 3


async def test_an_archive_that_is_none_or_is_elsewhere_inside_is_not_trusted(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    await simulator.control.add_fault(
        "status", path=".*/tarball/.*", status=302, headers={"Location": f"{simulator.url}/meta"}
    )
    snapshot = await backend.contents.read_snapshot(repo.id, "main", CAPS)
    # What came was no archive, so the file was read on its own.
    assert [file.path for file in snapshot.files] == ["README.md"]
    inside = {"Location": "https://169.254.169.254/latest"}
    await simulator.control.add_fault("status", path=".*/tarball/.*", status=302, headers=inside)
    with pytest.raises(Terminal) as refused:
        await backend.contents.read_snapshot(repo.id, "main", CAPS)
    assert refused.value.reason == Reason.HOST_NOT_ALLOWED


async def test_an_archive_that_cannot_be_read_leaves_the_files_to_be_read_one_by_one(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    # The redirect leads to an answer that is no file.
    away = {"Location": f"{simulator.url}/nowhere/at/all"}
    await simulator.control.add_fault("status", path=".*/tarball/.*", status=302, headers=away)
    await simulator.control.add_fault("status", path="/nowhere/.*", status=503, count=None)
    snapshot = await backend.contents.read_snapshot(repo.id, "main", CAPS)
    assert {file.path: file.content for file in snapshot.files} == {"README.md": b"# demo\n"}


async def test_a_host_that_names_other_objects_than_it_has_is_not_believed(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    entry = {"path": "README.md", "mode": "100644", "type": "blob", "sha": "../../user", "size": 7}
    body = {"sha": "1" * 40, "tree": [entry], "truncated": False}
    await simulator.control.add_fault("status", path=".*/git/trees/.*", status=200, body=body, count=None)
    with pytest.raises(Retryable):
        await backend.contents.read_snapshot(repo.id, "main", CAPS)
    for wrong in ({"tree": 7}, {"tree": [{"path": 1}]}, {}, []):
        await simulator.control.clear_faults()
        await simulator.control.add_fault("status", path=".*/git/trees/.*", status=200, body=wrong)
        with pytest.raises(Retryable):
            await commit(backend, repo, {"a": b"1"})


async def test_an_organisations_repository_takes_commits_of_its_members(simulator: Simulator) -> None:
    await simulator.control.create_repository(ORG, "shared")
    backend = await simulator.session(scopes=["repo"])
    found = await backend.find_repository(ORG, "shared")
    assert isinstance(found, HostRepository)
    assert (await commit(backend, found, {"a": b"1", "b": b"2"})).made is True


async def test_who_waits_for_others_on_the_branch_is_told_when_to_come_back_and_has_asked_nothing(
    simulator: Simulator, backend: GitBackend, repo: HostRepository
) -> None:
    await simulator.control.add_fault("hang", path=".*/git/ref/heads/main")
    first = asyncio.create_task(commit(backend, repo, {"a": b"1"}))
    await asked(simulator, "GET /git/ref/{ref}")
    await simulator.control.clear_journal()
    waits: list[float] = []
    for number in range(2):
        with pytest.raises(HostBusy) as busy:
            await commit(backend, repo, {"b": b"2"}, uid=f"uid-{number}")
        assert busy.value.after is not None
        waits.append(busy.value.after.total_seconds())
    assert not await operations(simulator)
    # The second one stands behind the first one.
    assert waits[1] > 0.5
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (await commit(backend, repo, {"b": b"2"})).made is True
