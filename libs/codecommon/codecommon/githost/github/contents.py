"""Files and commits at GitHub, through its Git Data API."""

from __future__ import annotations

from collections.abc import MutableMapping

from codecommon.githost.contents import CommitRequest, Committed, Snapshot, SnapshotCaps
from codecommon.githost.github.client import Client


class GithubContents:
    """``codecommon.githost.contents`` says what the methods do."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def commit(self, repo_id: str, request: CommitRequest, made: MutableMapping[str, str]) -> Committed:
        raise NotImplementedError

    async def read_snapshot(self, repo_id: str, ref: str, caps: SnapshotCaps) -> Snapshot:
        raise NotImplementedError
