"""Connection: is the credential there, is it accepted, and whose is it."""

from __future__ import annotations

from typing import Any

from codecommon.api.connection import Connection
from codecommon.api.kinds import children_of
from codecommon.conditions import condition
from codecommon.errors import Interruption, Retryable
from codecommon.outcome import Outcome, Ready, Released
from codecommon.passes import Pass
from codecommon.sessions import Sessions
from connection_svc import decide


class ConnectionReconciler:
    """Validate one Connection against its git host."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def reconcile(self, run: Pass[Connection]) -> Outcome:
        if run.object.deleting:
            return await self._release(run)
        await run.hold()
        try:
            return await self._validate(run)
        except Retryable:
            raise
        except Interruption as refused:
            refused.conditions = (*refused.conditions, decide.not_validated(refused))
            refused.status = decide.refused_status(run.object.status, refused.status)
            raise

    async def _validate(self, run: Pass[Connection]) -> Ready:
        connection = run.object
        found = await self._sessions.credential(run.objects, connection, not_older=run.versions.secret or "")
        learned: dict[str, Any] = {"observedSecretVersion": found.version}
        try:
            host = self._sessions.open(connection, found)
            account = await host.validate_connection()
            learned |= {**decide.account_status(account), "host": host.host}
            owner_kind = await host.get_owner_kind(connection.spec.owner)
            decide.require_owner(connection.spec.owner, owner_kind)
            if owner_kind == "Organization":
                await host.require_admission(connection.spec.owner)
        except Retryable:
            # There is no verdict on this credential yet: status goes on speaking of the Secret that it speaks of.
            raise
        except Interruption as refused:
            refused.status = {**refused.status, **learned}
            raise
        return Ready(learned, (condition("Validated", "True", "Validated", f"authenticated as {account.login}"),))

    async def _release(self, run: Pass[Connection]) -> Released:
        """The Connection outlives what needs its credential for its own clean-up."""
        await run.require_no_referrers(children_of(run.kind.resource))
        return Released()
