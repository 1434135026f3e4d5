"""What is asked of GitHub for commits and snapshots, and when it ends. The host is a list of answers.

What needs a host that behaves as GitHub does is in tests/contract/test_contents_github.py.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import orjson
import pytest

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.contents import CommitRequest, FileChange, SnapshotCaps
from codecommon.githost.github import commits as module
from codecommon.githost.github.answer import Answer
from codecommon.githost.github.builds import GithubBuilds
from codecommon.githost.github.changes import Change, tree_entry
from codecommon.githost.github.classify import Attempt, classify
from codecommon.githost.github.client import AnswerCut, Client
from codecommon.githost.github.contents import GithubContents

A, B, C = "a" * 40, "b" * 40, "c" * 40
CAPS = SnapshotCaps(files=500, file_bytes=2 * 1024 * 1024, total_bytes=16 * 1024 * 1024)

Say = Callable[[str, str, Any], tuple[int, Any]]
"""From the method, the tail of the path and the body to the answer."""


class Host:
    """A ``Client`` whose host answers as ``say`` does. ``asked``: method and tail of each request. ``pieces``: of a
    download.
    """

    host = "h"

    def __init__(self, say: Say) -> None:
        self._say = say
        self.asked: list[tuple[str, str]] = []
        self.pieces: list[bytes] = []

    def scrub(self, text: str) -> str:
        return text

    async def exchange(
        self,
        attempt: Attempt,
        method: str,
        repo_id: str,
        tail: str,
        *,
        body: Any = None,
        most: int = 0,
        also: frozenset[int] = frozenset(),
        params: Any = None,
    ) -> Answer:
        self.asked.append((method, tail))
        if method == "GET" and params == {"recursive": 1}:
            raise AnswerCut(self.host, attempt.doing)
        status, said = self._say(method, tail, body)
        answer = Answer(self.host, status, httpx.Headers({"x-oauth-scopes": "repo, workflow"}), orjson.dumps(said))
        if status < 300 or status in also:
            return answer
        raise classify(answer, attempt, self.scrub)

    @asynccontextmanager
    async def download(self, answer: Answer) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in self.pieces:
                yield piece

        yield pieces()


def contents(host: Host) -> GithubContents:
    return GithubContents(cast(Client, host))


async def test_a_tree_of_shared_folders_is_not_followed_for_ever() -> None:
    folders = [{"path": f"d{n:05}", "mode": "040000", "type": "tree", "sha": C} for n in range(20_000)]

    def say(method: str, tail: str, body: Any) -> tuple[int, Any]:
        if tail == "/commits":
            return 200, [{"sha": A, "commit": {"tree": {"sha": B}}}]
        return 200, {"tree": folders, "truncated": False}

    host = Host(say)
    snapshot = await contents(host).read_snapshot("1", "main", CAPS)
    assert len(host.asked) < 5
    assert (snapshot.files, snapshot.skipped_count) == ((), 20_000)
    assert [skipped.path for skipped in snapshot.skipped[:2]] == ["d00000/", "d00001/"]
    assert len(snapshot.skipped) == 100


def say_of_a_branch(method: str, tail: str, body: Any) -> tuple[int, Any]:
    if tail.startswith("/git/ref/"):
        return 200, {"object": {"sha": A}}
    if tail == "/commits":
        return 200, [{"sha": A, "commit": {"message": "x", "tree": {"sha": B}}}]
    if method == "GET":
        return 200, {"tree": []}
    if b"refused" in (body if isinstance(body, bytes) else orjson.dumps(body)):
        return 422, {"message": "tree.path contains a malformed path component"}
    return 201, {"sha": C}


async def test_a_path_that_the_host_refuses_is_final_although_parts_before_it_were_taken() -> None:
    changes = (*(FileChange(f"f{n:03}", b"x") for n in range(250)), FileChange("zz/refused", b"x"))
    made: dict[str, str] = {}
    with pytest.raises(Terminal) as refused:
        await contents(Host(say_of_a_branch)).commit("1", CommitRequest("main", "m", changes, "u"), made)
    assert refused.value.reason == Reason.VALIDATION_FAILED


async def test_uploads_are_made_again_once_and_a_second_refusal_is_final() -> None:
    request = CommitRequest("main", "m", (FileChange("refused", b"x"),), "u")
    made = {"of an earlier call": C}
    with pytest.raises(Retryable):
        await contents(Host(say_of_a_branch)).commit("1", request, made)
    with pytest.raises(Terminal):
        await contents(Host(say_of_a_branch)).commit("1", request, made)


async def test_long_contents_are_encoded_once_and_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    bodies: list[object] = []

    def watched(change: Change) -> dict[str, Any]:
        threads.append(threading.get_ident())
        return tree_entry(change)

    def say(method: str, tail: str, body: Any) -> tuple[int, Any]:
        if tail == "/git/trees":
            bodies.append(body)
        return say_of_a_branch(method, tail, body)

    monkeypatch.setattr(module, "tree_entry", watched)
    request = CommitRequest("main", "m", (FileChange("a", b"\x01" * 1_000_000),), "u")
    await contents(Host(say)).commit("1", request, {})
    assert threads
    assert threading.get_ident() not in threads
    assert [type(body) for body in bodies] == [bytes]


@pytest.mark.parametrize("end", [b"}", b"}\n"])
async def test_of_a_log_that_ends_in_a_very_long_line_its_end_is_shown(end: bytes) -> None:
    host = Host(lambda method, tail, body: (302, {}))
    host.pieces = [b"ok\n" * 1000, b"{" + b"y" * 300_000 + end]
    found = await GithubBuilds(cast(Client, host)).read_log_end("1", "2", 200)
    assert found is not None
    assert (len(found.lines), found.lines[0][-2:], found.is_whole) == (1, "y}", False)
