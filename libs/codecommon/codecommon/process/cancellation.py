"""Cancellations that asyncio loses."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raise ``CancelledError`` if the task was cancelled and went on all the same.

    Before Python 3.12 ``asyncio.wait_for``, which nats-py waits with, drops a cancellation that comes together with what it waits
    for, be that an answer or an error. To be called after such a wait by whoever would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
