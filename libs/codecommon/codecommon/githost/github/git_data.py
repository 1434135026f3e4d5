"""What GitHub's Git Data API shows of a repository: its commits and its trees. Commits and snapshots read them alike."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field

from codecommon.githost.github.answer import Answer, RepositoryAnswer
from codecommon.githost.github.changes import Entry, parse_tree
from codecommon.githost.github.classify import Attempt
from codecommon.githost.github.client import AnswerCut, Client
from codecommon.githost.protocol import HostUnavailable

T = TypeVar("T")

LONGEST_HISTORY: Final = 4 * 1024 * 1024
"""Bytes of an answer that lists commits. A commit's message has no bound at GitHub."""
LONGEST_FOLDER: Final = 16 * 1024 * 1024
"""Bytes of an answer about one folder: 60,000 files."""
THREAD_FROM: Final = 64 * 1024
"""Bytes from which an answer is parsed, or a body is encoded, off the event loop."""
_DEFAULT_BRANCH: Final = "main"
# Some 30,000 entries. Parsing more would hold up the event loop; such a tree is read folder by folder.
_LONGEST_TREE: Final = 8 * 1024 * 1024
_AT_ONCE: Final = 2
_EMPTY: Final = re.compile(r"\bempty\b", re.I)


Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
"""The name of a git object. Names become parts of paths and of status."""


class Target(BaseModel):
    sha: Sha


class RefAnswer(BaseModel):
    object: Target


class CommitBody(BaseModel):
    message: str = ""
    tree: Target


class CommitAnswer(BaseModel):
    sha: Sha
    html_url: str = ""
    commit: CommitBody


async def default_branch(client: Client, repo_id: str) -> str:
    """The branch that GitHub shows first. Raises ``Terminal`` (``NotFoundOrNoAccess``)."""
    return (await read_repository(client, repo_id)).default_branch or _DEFAULT_BRANCH


async def read_repository(client: Client, repo_id: str) -> RepositoryAnswer:
    """Raises ``Terminal`` (``NotFoundOrNoAccess``)."""
    attempt = Attempt(f"read the repository with the id {repo_id}")
    return (await client.send(attempt, client.by_id("GET", repo_id))).parse(RepositoryAnswer)


async def whole_tree(client: Client, repo_id: str, sha: str) -> list[Entry] | None:
    """Everything in a tree, in its order; None: it is too much for one answer."""
    try:
        answer = await client.exchange(
            Attempt(f"list the files of the repository with the id {repo_id}"),
            "GET",
            repo_id,
            f"/git/trees/{object_name(sha)}",
            params={"recursive": 1},
            most=_LONGEST_TREE,
        )
    except AnswerCut:
        return None
    entries, is_truncated = await _entries(client, answer, "")
    return None if is_truncated else entries


async def read_folder(client: Client, repo_id: str, sha: str, below: str) -> list[Entry]:
    """The entries of one folder. ``below``: its path, with a slash at its end; empty for the root."""
    answer = await client.exchange(
        Attempt(f"list a folder of the repository with the id {repo_id}"),
        "GET",
        repo_id,
        f"/git/trees/{object_name(sha)}",
        most=LONGEST_FOLDER,
    )
    entries, _ = await _entries(client, answer, below)
    return entries


async def _entries(client: Client, answer: Answer, below: str) -> tuple[list[Entry], bool]:
    try:
        return await parsed(answer, lambda read: parse_tree(read.body, below))
    except ValueError:
        raise HostUnavailable(f"{client.host} answered with something that is not its API's") from None


async def parsed(answer: Answer, parse: Callable[[Answer], T]) -> T:
    """``parse(answer)``, off the event loop where it takes a while."""
    return parse(answer) if len(answer.body) < THREAD_FROM else await asyncio.to_thread(parse, answer)


async def few_at_once(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """``work`` on each item, on two at a time. The first error ends it."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[Any]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def says_empty(answer: Answer) -> bool:
    """Whether a 409 is that of a repository without a commit."""
    return _EMPTY.search(answer.message or "") is not None


def object_name(sha: str) -> str:
    """The name of a git object as one segment of a path. Raises ``HostUnavailable`` for anything else, which a host may send."""
    if not re.fullmatch(r"[0-9a-f]{40,64}", sha):
        raise HostUnavailable("the host names a git object by something that is no SHA")
    return sha
