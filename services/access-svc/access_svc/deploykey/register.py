"""Putting a public key on the host."""

from __future__ import annotations

from datetime import datetime

from access_svc.deploykey.decide import REPLACING, Plan
from access_svc.target import Target, require_writable
from codecommon.api.access import DeployKey
from codecommon.api.kinds import CLAIMED_KEY
from codecommon.claiming import claiming
from codecommon.claims import claim_for
from codecommon.errors import Interruption
from codecommon.githost.backend import HostKey
from codecommon.passes import Pass


async def register(
    run: Pass[DeployKey], target: Target, at: datetime, public: str, plan: Plan, *, generated: bool
) -> HostKey:
    """Register ``public`` as ``plan`` wants it; ``at``: the host's time of the list that shows it missing or different.

    What must go first goes first, and from then on the object says ``KeyReplacing`` until the key is there again.
    """
    require_writable(target.repository)
    replacing = bool(plan.first) or run.object.status.condition("KeyReplacing") is not None
    # As the Secret does for a generated pair: the claim alone does not say which key it announced.
    noted = {} if generated else {CLAIMED_KEY: public}
    claim = claim_for(run.object, at, bound=run.object.status.key_id is not None)
    async with claiming(run, target.host, claim, noted=noted):
        try:
            for key in plan.first:
                await target.host.delete_deploy_key(target.repo_id, key.id)
            wanted = plan.wanted
            return await target.host.create_deploy_key(target.repo_id, wanted.title, public, wanted.read_only)
        except Interruption as refused:
            if replacing:
                refused.conditions = (*refused.conditions, REPLACING)
            raise
