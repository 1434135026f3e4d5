"""What a nats-server must let each user do, in the words of its configuration.

A user hears its own inbox, and what changes in some of its buckets. Everything that it asks of JetStream is a subject that it
publishes to, so the list of those subjects is all that it may do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from codecommon.messaging.topology import BUCKETS, DURABLES, OBJECT_STORES, STREAMS, USERS, Durable, User

_API = "$JS.API"


def inbox_prefix(user: str) -> str:
    """Where the answers to this user's requests go. No other user of ours can hear them."""
    return f"_INBOX_{user}"


def permissions(name: str) -> dict[str, Any]:
    """The value of ``permissions`` of this user of the table."""
    return {
        "publish": {"allow": list(dict.fromkeys(_publishes(USERS[name])))},
        "subscribe": {"allow": [f"{inbox_prefix(name)}.>", *_hears(USERS[name])]},
    }


def _hears(user: User) -> Iterator[str]:
    for name in user.buckets:
        if (keys := BUCKETS[name].heard) is not None:
            yield f"$KV.{name}.{keys}"


def _publishes(user: User) -> Iterator[str]:
    yield from user.publishes
    for name in user.durables:
        yield from _reads(DURABLES[name])
    for name in user.buckets:
        yield from _uses_bucket(name)
    for name in user.object_stores:
        yield from _uses_object_store(name)
    for stream in user.purges:
        yield from (f"{_API}.STREAM.{verb}.{stream}" for verb in ("INFO", "MSG.GET", "PURGE"))
    if user.inspects:
        yield f"{_API}.INFO"
        yield from (f"{_API}.STREAM.INFO.{stream}" for stream in stored_streams())
        yield from (f"{_API}.CONSUMER.INFO.{d.stream}.{d.name}" for d in DURABLES.values())
    if user.declares:
        yield from (f"{_API}.STREAM.{verb}.{stream}" for stream in stored_streams() for verb in ("CREATE", "UPDATE"))
        yield from (f"{_API}.CONSUMER.DURABLE.CREATE.{d.stream}.{d.name}" for d in DURABLES.values())


def stored_streams() -> Iterator[str]:
    """The streams, and those that hold a bucket or an object store."""
    yield from STREAMS
    yield from (f"KV_{bucket}" for bucket in BUCKETS)
    yield from (f"OBJ_{store}" for store in OBJECT_STORES)


def _reads(durable: Durable) -> Iterator[str]:
    yield f"{_API}.CONSUMER.INFO.{durable.stream}.{durable.name}"
    yield f"{_API}.CONSUMER.MSG.NEXT.{durable.stream}.{durable.name}"
    yield f"$JS.ACK.{durable.stream}.{durable.name}.>"
    for subjects in durable.filters:
        yield f"{_API}.DIRECT.GET.{durable.stream}.{subjects}"
        yield f"code.dead.{subjects}"


def _uses_bucket(name: str) -> Iterator[str]:
    yield f"$KV.{name}.>"
    yield f"{_API}.STREAM.INFO.KV_{name}"
    yield f"{_API}.STREAM.MSG.GET.KV_{name}"
    if BUCKETS[name].removes:
        yield f"{_API}.STREAM.PURGE.KV_{name}"


def _uses_object_store(name: str) -> Iterator[str]:
    stream = f"OBJ_{name}"
    yield f"$O.{name}.>"
    yield from (f"{_API}.STREAM.{verb}.{stream}" for verb in ("INFO", "MSG.GET", "PURGE"))
    # An object is read through a consumer that lasts for as long as the reading. The client asks first which stream it is in.
    yield f"{_API}.STREAM.NAMES"
    yield f"{_API}.CONSUMER.CREATE.{stream}"
    yield from (f"{_API}.CONSUMER.{verb}.{stream}.>" for verb in ("CREATE", "DELETE", "INFO"))
    yield f"$JS.FC.{stream}.>"
