"""Who made what an object stands for on the host."""

from __future__ import annotations

from typing import Final, Literal, TypeGuard

Origin = Literal["Created", "Adopted"]
"""``Created``: this API made it for the object. ``Adopted``: it was there before."""

UNRECORDED: Final = "Unrecorded"
"""The object stands for something on the host, and nobody recorded who made it. Inferred on reading, and never stored."""

ReadOrigin = Origin | Literal["Unrecorded"] | None
"""``status.origin`` as read. None: the object stands for nothing on the host yet."""


def is_recorded(origin: ReadOrigin) -> TypeGuard[Origin]:
    """Whether ``origin`` says who made it."""
    return origin is not None and origin != UNRECORDED
