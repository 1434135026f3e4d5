"""The events that the watcher publishes."""

from __future__ import annotations

from dataclasses import dataclass

from codecommon.messaging.events import ObjectEvent


@dataclass(frozen=True, slots=True)
class CausedEvent(ObjectEvent):
    """An event that may have a cause which is none of ``versions``: a child that is gone, a binding that starts terminating.

    Without the cause in its id a second such event within the stream's duplicate window would be dropped as a repetition
    of the first. Consumers read it as an ``ObjectEvent``.
    """

    cause: str = ""

    @property
    def message_id(self) -> str | None:
        # super() has no cell in a class that slots=True has made anew.
        plain = ObjectEvent.message_id.fget(self)  # pyright: ignore[reportOptionalCall]
        return f"{plain}/{self.cause}" if plain and self.cause else plain
