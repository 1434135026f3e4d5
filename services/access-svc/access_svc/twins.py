"""Two objects of a workspace for the same thing on the host: the older one has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from access_svc.target import AccessT
from codecommon.api.access import Collaborator, DeployKey
from codecommon.errors import Terminal
from codecommon.passes import Pass


async def require_eldest(run: Pass[AccessT], same: Callable[[AccessT], bool], reason: str) -> None:
    """Raises ``Terminal`` with ``reason`` when an older object of the same Repository stands for the ``same`` thing."""
    if not run.twins:
        return
    found = await run.objects.list(
        run.kind.resource,
        field_selector=f"spec.repositoryRef={run.object.spec.repository_ref}",
        not_older=run.object.metadata.resource_version,
    )
    others = (type(run.object).parse(raw, run.objects.workspace) for raw in found)
    rivals = [o for o in others if o.metadata.uid != run.object.metadata.uid and same(o)]
    elder = min(rivals, key=_age, default=None)
    if elder is not None and _age(elder) < _age(run.object):
        raise Terminal(reason, f"{run.kind.kind} {elder.name!r} stands for the same on the host; delete one of the two")


def _age(obj: DeployKey | Collaborator) -> tuple[datetime, str]:
    return obj.metadata.creation_timestamp, obj.metadata.uid
