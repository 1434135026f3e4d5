"""Putting a public key on the host."""

from __future__ import annotations

from access_svc.deploykey.decide import REPLACING, Plan
from access_svc.target import Target, require_writable
from codecommon.api.access import DeployKey
from codecommon.api.kinds import CLAIMED_KEY, CREATE_CLAIM
from codecommon.claiming import claiming
from codecommon.claims import claim_for
from codecommon.errors import Interruption, Retryable
from codecommon.githost.backend import HostKey, Listed
from codecommon.passes import Pass


async def register(
    run: Pass[DeployKey], target: Target, listed: Listed[HostKey], public: str, plan: Plan, *, generated: bool
) -> HostKey:
    """Register ``public`` as ``plan`` wants it; ``listed`` shows it missing or different.

    What must go first goes first, and from then on the object says ``KeyReplacing`` until the key is there again. Raises
    ``Retryable`` (``HostNotYetVisible``) for a key that this object registered a moment ago and the list does not show yet.
    """
    require_writable(target.repository)
    replacing = bool(plan.first) or run.object.status.condition("KeyReplacing") is not None
    # As the Secret does for a generated pair: the claim alone does not say which key it announced.
    noted = {} if generated else {CLAIMED_KEY: public}
    unseen = _is_unseen(run.object, listed, public, generated=generated)
    # That of the registration that is not seen yet stays, so that it grows old.
    claim = claim_for(run.object, listed.at, bound=run.object.status.key_id is not None and not unseen)
    young = unseen and claim == run.object.metadata.annotations.get(CREATE_CLAIM)
    async with claiming(run, target.host, claim, noted=noted):
        try:
            for key in plan.first:
                await target.host.delete_deploy_key(target.repo_id, key.id)
            wanted = plan.wanted
            return await target.host.create_deploy_key(target.repo_id, wanted.title, public, wanted.read_only)
        except Interruption as interruption:
            refused = interruption
            if young and refused.reason == "KeyInUse":
                refused = Retryable("HostNotYetVisible", "the host has the new deploy key and does not list it yet")
            if replacing:
                refused.conditions = (*refused.conditions, REPLACING)
            raise refused from None


def _is_unseen(key: DeployKey, listed: Listed[HostKey], public: str, *, generated: bool) -> bool:
    """Whether the key in status is not listed and the claim announced ``public``, as it does for a pair that nobody else has."""
    if key.status.key_id is None or any(seen.id == key.status.key_id for seen in listed.items):
        return False
    return generated or key.metadata.annotations.get(CLAIMED_KEY) == public
