"""Answers about contents that are longer than any of the simulator's, and the pure part of a commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from codecommon.api.results import Retryable
from codecommon.githost.contents import CommitRequest, FileChange, SnapshotCaps
from codecommon.githost.github.changes import Change, chunks, decide_changes, parse_tree, tree_entry
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.outage import BreakerLayer
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import GitBackend, HostTarget
from codecommon.process.secrets import SecretValue

MIB = 1024 * 1024
HEAD, TREE = "1" * 40, "2" * 40


@pytest.fixture
async def backend(scripted: Any) -> AsyncIterator[GitBackend]:
    transport = HostTransport(layers=[BreakerLayer], proxies=ProxyRules())
    target = HostTarget(scripted.url, TokenSecret(SecretValue("a-token")), None, ("cluster", "uid", "1"))
    yield GithubProvider([scripted.url]).open(target, transport)
    await transport.aclose()


def listed(message: str) -> list[dict[str, Any]]:
    return [{"sha": HEAD, "html_url": "https://x/1", "commit": {"message": message, "tree": {"sha": TREE}}}]


async def test_messages_as_long_as_somebody_likes_are_no_failure_of_the_host(
    scripted: Any, backend: GitBackend
) -> None:
    # More often than the breaker would take it.
    for _ in range(8):
        scripted.answer(200, {"object": {"sha": HEAD}})
        scripted.answer(200, listed("x" * (5 * MIB)))
        scripted.answer(200, listed("short"))
        scripted.answer(200, {"tree": [], "truncated": False})
        request = CommitRequest("main", "m", (FileChange("gone", None),), "uid")
        done = await backend.contents.commit("7", request, {})
        assert (done.sha, done.made) == (HEAD, False)
    assert [request.target.partition("?")[2] for request in scripted.seen[1:3]] == [
        f"sha={HEAD}&per_page=50",
        f"sha={HEAD}&per_page=10",
    ]


async def test_a_file_that_is_longer_than_its_tree_says_is_not_read_on(scripted: Any, backend: GitBackend) -> None:
    for _ in range(8):
        entry = {"path": "a", "mode": "100644", "type": "blob", "sha": "3" * 40, "size": 1}
        scripted.answer(200, listed("short"))
        scripted.answer(200, {"tree": [entry], "truncated": False})
        scripted.answer(404, {"message": "Not Found"})
        scripted.answer(200, "x" * 2000)
        with pytest.raises(Retryable, match="more than is read"):
            await backend.contents.read_snapshot("7", "main", SnapshotCaps(10, 1000, 1000))


def change(path: str, content: bytes | None) -> Change:
    (decided,) = decide_changes([FileChange(path, content)], {})
    return decided


def test_parts_are_small_enough_for_one_request_and_lose_nothing() -> None:
    changes = [change(f"n{number:04}", b"x" * 5000) for number in range(1000)]
    parts = list(chunks(changes))
    assert [one for part in parts for one in part] == changes
    assert max(len(part) for part in parts) <= 200
    assert max(sum(len(one.content or b"") for one in part) for part in parts) <= 2 * MIB


@pytest.mark.parametrize(
    ("content", "inline"),
    [
        (b"text", True),
        ("ü".encode(), True),
        (b"", False),
        (b"\x00", False),
        (b"\xff", False),
        (b"x" * (2 * MIB + 1), False),
    ],
)
def test_a_text_travels_within_the_tree_and_all_else_on_its_own(content: bytes, inline: bool) -> None:
    entry = tree_entry(change("a", content))
    assert ("content" in entry, "sha" in entry) == (inline, not inline)


def test_a_file_shorter_than_nothing_makes_no_tree() -> None:
    entry = {"path": "a", "mode": "100644", "type": "blob", "sha": "a" * 40}
    assert parse_tree(orjson.dumps({"tree": [{**entry, "size": 0}]}))[0]
    with pytest.raises(ValueError, match="form"):
        parse_tree(orjson.dumps({"tree": [{**entry, "size": -(1 << 30)}]}))


@pytest.mark.parametrize("sha", ["", "main", "../../user", "a" * 40 + "\n", "a" * (1 << 20)])
async def test_what_is_no_name_of_a_commit_is_neither_asked_for_nor_shown(
    scripted: Any, backend: GitBackend, sha: str
) -> None:
    scripted.answer(200, [{"sha": sha, "html_url": "https://x/1", "commit": {"message": "m", "tree": {"sha": TREE}}}])
    with pytest.raises(Retryable):
        await backend.contents.read_snapshot("7", "main", SnapshotCaps(10, 100, 1000))
    assert len(scripted.seen) == 1
