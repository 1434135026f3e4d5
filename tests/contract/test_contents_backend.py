"""The cases for ``ContentsHost``: commits, and the texts at a ref."""

from __future__ import annotations

import asyncio

import pytest
from git_hosts import Host, needs
from git_trees import HostTree

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.contents import TRAILER, CommitRequest, Committed, FileChange, Skipped, SnapshotCaps
from codecommon.githost.protocol import HostBusy, HostRepository

CAPS = SnapshotCaps(files=500, file_bytes=256 * 1024, total_bytes=16 * 1024 * 1024)


@pytest.fixture
def tree(host: Host) -> HostTree:
    return needs(host.tree)


@pytest.fixture
async def repo(host: Host, tree: HostTree) -> HostRepository:
    """A repository with a text, an executable, a link, a submodule and bytes that are no text."""
    made = await host.create()
    files = {
        "README.md": b"# demo\n",
        "bin/run.sh": b"#!/bin/sh\n",
        "link": b"README.md",
        "vendor/sub": b"1" * 40,
        "logo.png": b"\x89PNG\x00",
    }
    modes = {"bin/run.sh": "100755", "link": "120000", "vendor/sub": "160000"}
    await tree.push(made, files, modes=modes)
    return made


async def commit(
    host: Host,
    repo: HostRepository,
    files: dict[str, bytes | None],
    *,
    branch: str = "",
    uid: str = "uid-1",
    message: str = "Change",
) -> Committed:
    changes = tuple(FileChange(path, content) for path, content in files.items())
    return await host.backend.contents.commit(repo.id, CommitRequest(branch, message, changes, uid), {})


async def test_a_commit_has_exactly_its_changes(host: Host, tree: HostTree, repo: HostRepository) -> None:
    before = await tree.files(repo)
    done = await commit(host, repo, {"src/a.py": b"a = 1\n", "data.bin": b"\x00\xff", "empty": b"", "README.md": None})
    assert (done.branch, done.made) == ("main", True)
    assert done.sha in done.url
    gone = {path: content for path, content in before.items() if path != "README.md"}
    assert await tree.files(repo) == gone | {"src/a.py": b"a = 1\n", "data.bin": b"\x00\xff", "empty": b""}
    assert (await tree.messages(repo))[0] == f"Change\n\n{TRAILER}: uid-1"
    assert len(await tree.messages(repo)) == 2


async def test_what_is_there_keeps_its_mode(host: Host, tree: HostTree, repo: HostRepository) -> None:
    await commit(host, repo, {"bin/run.sh": b"#!/bin/bash\n", "link": b"a file by now\n"})
    modes = await tree.modes(repo)
    assert (modes["bin/run.sh"], modes["link"], modes["vendor/sub"]) == ("100755", "100644", "160000")


async def test_the_same_request_again_finds_its_commit(host: Host, tree: HostTree, repo: HostRepository) -> None:
    first = await commit(host, repo, {"a": b"1"})
    await tree.push(repo, {"a": b"2"})
    again = await commit(host, repo, {"a": b"1"})
    assert (again.sha, again.made) == (first.sha, False)
    assert (await tree.files(repo))["a"] == b"2"


async def test_no_difference_makes_no_commit(host: Host, tree: HostTree, repo: HostRepository) -> None:
    head = await tree.push(repo, {"a": b"1"})
    done = await commit(host, repo, {"a": b"1", "not/there": None, "README.md": b"# demo\n"})
    assert (done.sha, done.made) == (head, False)
    assert len(await tree.messages(repo)) == 2


async def test_a_branch_that_is_not_there_begins_at_the_default_branch(
    host: Host, tree: HostTree, repo: HostRepository
) -> None:
    done = await commit(host, repo, {"a": b"1"}, branch="feature/one")
    assert (done.branch, done.made) == ("feature/one", True)
    assert (await tree.files(repo, "feature/one"))["README.md"] == b"# demo\n"
    assert "a" not in await tree.files(repo)
    head = await commit(host, repo, {"README.md": b"# demo\n"}, branch="feature/two", uid="uid-2")
    assert head.made is False
    assert "by a person" in (await tree.messages(repo, "feature/two"))[0]


async def test_an_empty_repository_gets_its_first_commit(host: Host, tree: HostTree) -> None:
    one, many = await host.create(), await host.create()
    done = await commit(host, one, {"a/b.txt": b"1", "not/there": None})
    assert (done.branch, done.made) == ("main", True)
    assert await tree.files(one) == {"a/b.txt": b"1"}
    assert len(await tree.messages(one)) == 1
    files = {"a": b"\x00", "b/c": b"text", "d": b""}
    await commit(host, many, dict(files))
    assert await tree.files(many) == files
    assert (await tree.messages(many))[0].endswith(f"{TRAILER}: uid-1")
    assert (await commit(host, many, dict(files))).made is False


async def test_there_is_nothing_to_commit_where_nothing_is_there_and_nothing_is_written(
    host: Host, tree: HostTree
) -> None:
    done = await commit(host, await host.create(), {"a": None})
    assert (done.sha, done.made) == ("", False)


async def test_a_file_takes_the_place_of_a_folder_that_goes_and_the_other_way_round(
    host: Host, tree: HostTree, repo: HostRepository
) -> None:
    await commit(host, repo, {"bin/run.sh": None, "bin": b"a file", "README.md": None, "README.md/more": b"x"})
    files = await tree.files(repo)
    assert (files["bin"], files["README.md/more"]) == (b"a file", b"x")


@pytest.mark.parametrize(
    "files",
    [
        {"README.md/below": b""},
        {"bin": b"in the place of a folder"},
        {"vendor/sub": b"in the place of a submodule"},
        {"new": b"", "new/below": b""},
        {"../out": b""},
        {"/abs": b""},
        {".git/config": b""},
        {"a//b": b""},
    ],
)
async def test_what_no_tree_can_have_is_refused(
    host: Host, tree: HostTree, repo: HostRepository, files: dict[str, bytes | None]
) -> None:
    with pytest.raises(Terminal) as refused:
        await commit(host, repo, files)
    assert refused.value.reason == Reason.VALIDATION_FAILED
    assert len(await tree.messages(repo)) == 1


async def test_a_protected_branch_is_named_as_such(host: Host, tree: HostTree, repo: HostRepository) -> None:
    await tree.edit(repo, protected=["main"])
    with pytest.raises(Terminal) as refused:
        await commit(host, repo, {"a": b"1"})
    assert refused.value.reason == Reason.BRANCH_PROTECTED
    assert (await commit(host, repo, {"a": b"1"}, branch="other")).made is True


async def test_an_archived_repository_is_named_as_such(host: Host, tree: HostTree, repo: HostRepository) -> None:
    await tree.edit(repo, archived=True)
    with pytest.raises(Terminal) as refused:
        await commit(host, repo, {"a": b"1"})
    assert refused.value.reason == Reason.REPOSITORY_ARCHIVED
    # What is there already needs no write.
    assert (await commit(host, repo, {"README.md": b"# demo\n"})).made is False


async def test_a_repository_that_is_gone_takes_no_commit_and_shows_nothing(
    host: Host, tree: HostTree, repo: HostRepository
) -> None:
    await host.backend.delete_repository(repo.id)
    for branch in ("", "main"):
        with pytest.raises(Terminal) as refused:
            await commit(host, repo, {"a": b"1"}, branch=branch)
        assert refused.value.reason == Reason.NOT_FOUND_OR_NO_ACCESS
        with pytest.raises(Terminal) as refused:
            await host.backend.contents.read_snapshot(repo.id, branch, CAPS)
        assert refused.value.reason == Reason.NOT_FOUND_OR_NO_ACCESS


async def test_writers_on_one_branch_all_land_one_after_the_other(
    host: Host, tree: HostTree, repo: HostRepository
) -> None:
    async def land(number: int) -> Committed:
        while True:
            try:
                return await commit(host, repo, {f"n{number}": b"x"}, uid=f"uid-{number}")
            except (HostBusy, Retryable):
                continue

    done = await asyncio.gather(*(land(number) for number in range(10)))
    assert all(one.made for one in done)
    messages = await tree.messages(repo)
    assert len(messages) == 11
    assert {f"n{number}" for number in range(10)} <= (await tree.files(repo)).keys()
    assert sorted(message[-1] for message in messages[:-1]) == [str(number) for number in range(10)]


async def test_many_files_and_long_ones_are_one_commit(host: Host, tree: HostTree, repo: HostRepository) -> None:
    files: dict[str, bytes | None] = {f"many/{number:03}.txt": b"x" * number for number in range(500)}
    files |= {f"long{number}.txt": b"y" * (2 * 1024 * 1024 - number) for number in range(3)}
    files["long.bin"] = b"\x00" * (2 * 1024 * 1024)
    await commit(host, repo, files)
    shown = await tree.files(repo)
    assert {path: shown[path] for path in files} == files
    assert len(await tree.messages(repo)) == 2


async def test_a_snapshot_has_the_texts_in_order_and_says_what_it_lacks(
    host: Host, tree: HostTree, repo: HostRepository
) -> None:
    await tree.push(repo, {"big.txt": b"x" * (CAPS.file_bytes + 1), "ü/ö.txt": b"\xc3\xbc"})
    snapshot = await host.backend.contents.read_snapshot(repo.id, "", CAPS)
    assert snapshot.ref == "main"
    assert [(file.path, file.content) for file in snapshot.files] == [
        ("README.md", b"# demo\n"),
        ("bin/run.sh", b"#!/bin/sh\n"),
        ("ü/ö.txt", b"\xc3\xbc"),
    ]
    assert set(snapshot.skipped) == {
        Skipped("big.txt", "too large"),
        Skipped("link", "symlink"),
        Skipped("logo.png", "binary"),
        Skipped("vendor/sub", "submodule"),
    }
    assert snapshot.skipped_count == 4


async def test_a_snapshot_keeps_within_its_caps(host: Host, tree: HostTree, repo: HostRepository) -> None:
    await tree.push(repo, {f"n{number}": b"12345" for number in range(5)})
    few = await host.backend.contents.read_snapshot(repo.id, "main", SnapshotCaps(3, 100, 1000))
    assert len(few.files) == 3
    assert "too many files" in {skipped.why for skipped in few.skipped}
    short = await host.backend.contents.read_snapshot(repo.id, "main", SnapshotCaps(500, 100, 20))
    assert sum(len(file.content) for file in short.files) <= 20
    assert "too many bytes" in {skipped.why for skipped in short.skipped}


async def test_a_snapshot_is_of_a_branch_or_a_commit(host: Host, tree: HostTree, repo: HostRepository) -> None:
    first = (await host.backend.contents.read_snapshot(repo.id, "main", CAPS)).commit_sha
    await tree.push(repo, {"later": b"x"}, branch="main")
    await tree.push(repo, {"aside": b"x"}, branch="feature/x")
    old = await host.backend.contents.read_snapshot(repo.id, first, CAPS)
    assert (old.commit_sha, "later" in {file.path for file in old.files}) == (first, False)
    aside = await host.backend.contents.read_snapshot(repo.id, "feature/x", CAPS)
    assert [file.path for file in aside.files] == ["aside"]
    with pytest.raises(Terminal) as refused:
        await host.backend.contents.read_snapshot(repo.id, "nowhere", CAPS)
    assert refused.value.reason == Reason.REF_NOT_FOUND


async def test_an_empty_repository_is_an_empty_snapshot(host: Host, tree: HostTree) -> None:
    snapshot = await host.backend.contents.read_snapshot((await host.create()).id, "", CAPS)
    assert (snapshot.ref, snapshot.commit_sha, snapshot.files, snapshot.skipped) == ("main", "", (), ())
