"""What other DeployKey objects of the same Repository stand for, which this one leaves alone."""

from __future__ import annotations

from dataclasses import dataclass

from access_svc.deploykey import material
from access_svc.duplicates import find_staying
from codecommon.api.access import DeployKey
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import HostKey


@dataclass(frozen=True, slots=True)
class OthersKeys:
    """``ids``: of keys on the host; ``materials``: public keys, as hosts compare them."""

    ids: frozenset[str | None]
    materials: frozenset[str | None]

    def have(self, key_id: str, seen: HostKey | None) -> bool:
        """Whether the key is another object's; ``seen`` None: the host does not list it."""
        return key_id in self.ids or (seen is not None and seen.key in self.materials)


async def others_keys(ctx: ReconcileContext[DeployKey]) -> OthersKeys:
    """Those of the objects that came as far as the host and stay. Live."""
    staying = await find_staying(ctx)
    return OthersKeys(
        frozenset(other.status.key_id for other in staying),
        frozenset(material.given_by(other.spec.public_key) for other in staying) - {None},
    )
