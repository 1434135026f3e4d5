"""Two objects of a workspace for the same thing on the host: the older one has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from access_svc.target import AccessT
from codecommon.api.access import Collaborator, DeployKey
from codecommon.passes import Pass


async def find_elder(run: Pass[AccessT], same: Callable[[AccessT], bool]) -> str | None:
    """The name of the oldest object of the same Repository that stands for the ``same`` thing; None: it is this one."""
    if not run.twins:
        return None
    found = await run.objects.list(
        run.kind.resource,
        field_selector=f"spec.repositoryRef={run.object.spec.repository_ref}",
        not_older=run.object.metadata.resource_version,
    )
    others = (type(run.object).parse(raw, run.objects.workspace) for raw in found)
    rivals = [o for o in others if o.metadata.uid != run.object.metadata.uid and same(o)]
    elder = min(rivals, key=_age, default=None)
    return elder.name if elder is not None and _age(elder) < _age(run.object) else None


def _age(obj: DeployKey | Collaborator) -> tuple[datetime, str]:
    return obj.metadata.creation_timestamp, obj.metadata.uid
