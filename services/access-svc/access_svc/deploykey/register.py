"""Putting a public key on the host."""

from __future__ import annotations

from access_svc.deploykey.decide import REPLACING, Plan, announced
from access_svc.target import Target, require_writable
from codecommon.api.access import DeployKey
from codecommon.api.annotations import CLAIMED_KEY, CREATE_CLAIM
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, Retryable
from codecommon.controller.context import ReconcileContext
from codecommon.controller.create_claim import claim_for, claiming
from codecommon.githost.protocol import HostKey, Listed


async def register(
    ctx: ReconcileContext[DeployKey], target: Target, listed: Listed[HostKey], public: str, plan: Plan
) -> HostKey:
    """Register ``public`` as ``plan`` wants it; ``listed`` shows it missing or different.

    What must go first goes first, and from then on the object says ``KeyReplacing`` until the key is there again. Raises
    ``Retryable`` (``HostNotYetVisible``) for a key that this object registered a moment ago and the list does not show yet.
    """
    require_writable(target.repository)
    replacing = plan.first is not None or ctx.object.status.condition(ConditionType.KEY_REPLACING) is not None
    unseen = plan.first is None and announced(ctx.object) == public
    # That of the registration that is not seen yet stays, so that it grows old.
    claim = claim_for(ctx.object, listed.at, bound=ctx.object.status.key_id is not None and not unseen)
    young = unseen and claim == ctx.object.metadata.annotations.get(CREATE_CLAIM)
    # The claim alone does not say which key it announced.
    async with claiming(ctx, target.host, claim, noted={CLAIMED_KEY: public}):
        try:
            if plan.first is not None:
                await _make_way(ctx, target, plan.first)
            wanted = plan.wanted
            return await target.host.create_deploy_key(target.repo_id, wanted.title, public, wanted.read_only)
        except Interruption as interruption:
            refused = interruption
            if young and refused.reason == Reason.KEY_IN_USE:
                refused = Retryable(
                    Reason.HOST_NOT_YET_VISIBLE, "the host has the new deploy key and does not list it yet"
                )
            raise (refused.learned({}, REPLACING) if replacing else refused) from None


async def _make_way(ctx: ReconcileContext[DeployKey], target: Target, key: HostKey) -> None:
    status = ctx.object.status
    if (status.title, status.read_only) != (key.title, key.read_only):
        # What spec leaves out stays as it was, and once the key is gone only status tells how it was.
        await ctx.record_status({"title": key.title, "readOnly": key.read_only})
    await target.host.delete_deploy_key(target.repo_id, key.id)
