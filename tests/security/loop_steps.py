"""Measures how long an event loop is kept busy without a break."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Longest:
    """``seconds``: processor time of the longest step so far."""

    seconds: float = 0.0


@contextmanager
def steps_of_the_loop() -> Iterator[Longest]:
    """Measure every step of every loop meanwhile.

    A step is what runs between two moments at which the loop could have done something else. Processor time of the loop's
    thread is measured, so that a busy machine does not matter. The garbage of the whole test run is collected later: what that
    takes says nothing about the input.
    """
    longest = Longest()
    run = asyncio.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        started = time.thread_time()
        run(handle)
        longest.seconds = max(longest.seconds, time.thread_time() - started)

    asyncio.Handle._run = measured
    try:
        yield longest
    finally:
        gc.enable()
        asyncio.Handle._run = run
