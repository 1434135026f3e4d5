"""The entry of a KV bucket that says who has something: one's own, whatever answers were lost on the way."""

from __future__ import annotations

from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue


async def take(bucket: KeyValue, key: str, value: bytes) -> int:
    """Make the entry, or renew it where it is ours already: of a request whose answer was lost. Returns its revision.

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
    """The newest revision of an entry that is ours; None: another's, or none."""
    try:
        stored = await bucket.get(key)
    except KeyNotFoundError:
        return None
    return stored.revision if stored.value == value else None


async def give_up(bucket: KeyValue, key: str, value: bytes, revision: int | None) -> None:
    """Delete the entry if it is ours. ``revision`` is the newest that we were told of, None: we do not know of any.

    A write that was under way when we stopped leaves an entry of ours that is newer.
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
