"""Files and commits at GitHub: ``commits.py`` writes them, ``snapshots.py`` reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.contents import CommitRequest, Committed, Snapshot, SnapshotCaps, no_reservation
from codecommon.githost.github.changes import check_paths
from codecommon.githost.github.client import Client
from codecommon.githost.github.commits import CommitWriter, Empty
from codecommon.githost.github.git_data import default_branch
from codecommon.githost.github.snapshots import SnapshotReader
from codecommon.githost.protocol import HostBusy
from codecommon.githost.refs import is_branch_name
from codecommon.process.line import Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Others may move the branch meanwhile. Each try is half a dozen requests, and the object comes back.
_MOST_TRIES: Final = 5
# Who waits holds a slot of the process.
_LONGEST_WAIT_SECONDS: Final = 1.0


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Turn:
    """Whose turn it is to commit to a branch. ``line``: of those that come back."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    line: Line = field(default_factory=Line)


class GithubContents:
    """``codecommon.githost.contents`` says what the methods do."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._snapshots = SnapshotReader(client)
        # A branch's entry lives as long as somebody holds it.
        self._turns: WeakValueDictionary[tuple[str, str], _Turn] = WeakValueDictionary()

    async def commit(self, repo_id: str, request: CommitRequest, made: MutableMapping[str, str]) -> Committed:
        check_paths(request.changes)
        # Of those that commit to one branch all but one would do their work in vain.
        async with self._turn(repo_id, request.branch):
            branch = request.branch or await default_branch(self._client, repo_id)
            if not is_branch_name(branch):
                raise Terminal(Reason.VALIDATION_FAILED, f"{branch} is not the name of a branch")
            writer = CommitWriter(self._client, repo_id, branch, request, made)
            for _ in range(_MOST_TRIES):
                head = await writer.head()
                done = await (writer.begin() if isinstance(head, Empty) else writer.on(head))
                if done is not None:
                    return done
        raise Retryable(
            Reason.HOST_CONFLICT,
            f"others changed the branch {branch} at {self._client.host} each time before this commit",
        )

    @asynccontextmanager
    async def _turn(self, repo_id: str, branch: str) -> AsyncIterator[None]:
        """Raises ``HostBusy`` while others commit to the branch."""
        turn, clock = self._turns.setdefault((repo_id, branch), _Turn()), asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                await turn.lock.acquire()
        except TimeoutError:
            after = turn.line.wait(clock(), 1, at_least=_LONGEST_WAIT_SECONDS)
            raise HostBusy(self._client.host, after) from None
        began = clock()
        try:
            yield
        finally:
            turn.line.took(clock() - began)
            turn.lock.release()

    async def read_snapshot(
        self, repo_id: str, ref: str, caps: SnapshotCaps, reserve: Callable[[int], None] = no_reservation
    ) -> Snapshot:
        return await self._snapshots.read(repo_id, ref, caps, reserve)
