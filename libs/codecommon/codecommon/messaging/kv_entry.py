"""An entry in a KV bucket that names its holder, for locks and leases.

An entry of ours is recognised even if the answer to its write was lost.
"""

from __future__ import annotations

from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue


async def take(bucket: KeyValue, key: str, value: bytes) -> int:
    """Create the entry. If it exists with our value, an earlier request of ours made it; then renew it. Returns its revision.

    Raises ``KeyWrongLastSequenceError`` when another has it.
    """
    try:
        return await bucket.create(key, value)
    except KeyWrongLastSequenceError:
        own = await own_revision(bucket, key, value)
        if own is None:
            raise
        return await bucket.update(key, value, last=own)


async def own_revision(bucket: KeyValue, key: str, value: bytes) -> int | None:
    """The newest revision of the entry if it is ours. None: it is another's, or there is none."""
    try:
        stored = await bucket.get(key)
    except KeyNotFoundError:
        return None
    return stored.revision if stored.value == value else None


async def give_up(bucket: KeyValue, key: str, value: bytes, revision: int | None) -> None:
    """Delete the entry if it is ours. ``revision``: the newest that we know of; None: we know of none.

    A write that was under way when we stopped may have left a newer entry of ours.
    """
    if revision is not None:
        try:
            await bucket.delete(key, last=revision)
        except APIError:
            pass
        else:
            return
    own = await own_revision(bucket, key, value)
    if own is not None:
        await bucket.delete(key, last=own)
