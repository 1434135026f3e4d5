"""Connection: read its credential, ask the host whose it is and what it may do, report."""

from __future__ import annotations

from typing import Any

from codecommon.api.connection import Connection
from codecommon.api.kinds import children_of
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, Outcome, Ready, Released, Retryable
from codecommon.controller.conditions import condition
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from connection_svc import decide


class ConnectionReconciler:
    """Validate one Connection against its git host."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def reconcile(self, ctx: ReconcileContext[Connection]) -> Outcome:
        if ctx.object.deleting:
            return await _finalize(ctx)
        await ctx.ensure_finalizer()
        try:
            return await self._validate(ctx)
        except Retryable:
            # The host has not judged this credential yet. Status keeps what it says of the Secret's version before.
            raise
        except Interruption as refused:
            raise decide.not_validated(ctx.object.status, refused) from None

    async def _validate(self, ctx: ReconcileContext[Connection]) -> Ready:
        connection = ctx.object
        found = await self._connections.credential(ctx.objects, connection, not_older=ctx.versions.secret or "")
        learned: dict[str, Any] = {"observedSecretVersion": found.version}
        try:
            host = self._connections.open(connection, found)
            account = await host.validate_connection()
            told = decide.with_found_capability(connection.status, decide.account_status(account), found.version)
            learned |= {**told, "host": host.host}
            owner_kind = await host.get_owner_kind(connection.spec.owner)
            decide.require_owner(connection.spec.owner, owner_kind)
            if owner_kind == "Organization":
                await host.verify_access(connection.spec.owner)
        except Retryable:
            # The host has not judged this credential yet. Status keeps what it says of the Secret's version before.
            raise
        except Interruption as refused:
            raise refused.learned(learned) from None
        return Ready(
            learned,
            (condition(ConditionType.VALIDATED, "True", Reason.VALIDATED, f"authenticated as {account.login}"),),
        )


async def _finalize(ctx: ReconcileContext[Connection]) -> Released:
    """The Connection stays until all objects are gone that need its credential to clean up on the host."""
    await ctx.require_no_referrers(children_of(ctx.kind.resource))
    return Released()
