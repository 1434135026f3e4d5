"""What the person in front of the terminal sees; plain appended lines when there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devstack.resources import Manifest, condition, is_ready

WAITING = "waiting for the provider"


@dataclass(frozen=True)
class Row:
    """One object of one workspace, as it was last seen; `manifest` is None while it does not exist."""

    workspace: str
    kind: str
    name: str
    manifest: Manifest | None

    @property
    def ready(self) -> str:
        state = condition(self.manifest, "Ready") if self.manifest else None
        return state["status"] if state else "-"

    @property
    def message(self) -> str:
        """Where the object is on the host once it is ready, until then why it is not."""
        if self.manifest is None:
            return "does not exist"
        status = self.manifest.get("status", {})
        if is_ready(self.manifest):
            return _result(status)
        for kind in ("Stalled", "Reconciling", "Ready"):
            state = condition(self.manifest, kind)
            if state and (kind == "Ready" or state["status"] == "True"):
                return f"{state['reason']}: {state['message']}"
        return WAITING


def _result(status: dict[str, Any]) -> str:
    """What came of an object that is ready, in the words of its kind."""
    if "login" in status:
        return f"logged in as {status['login']}"
    return status.get("htmlURL") or (f"key {status['keyID']}" if "keyID" in status else "")


class Screen:
    """Says things with the seconds since it was made, and shows a table that changes."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()
        self._live: Live | None = None
        self._rows: dict[tuple[str, str, str], Row] = {}

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def say(self, line: str = "") -> None:
        stamp = Text(f"{self.elapsed:7.1f} s  ", style="dim")
        self._console.print(stamp + Text(line))

    def plain(self, text: str) -> None:
        """Text that is meant to be copied: without the time."""
        self._console.print(Text(text))

    @contextmanager
    def table(self) -> Iterator[None]:
        """Inside the block `show` updates the table in place, or appends a line without a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=8) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def show(self, row: Row) -> None:
        key = (row.workspace, row.kind, row.name)
        before = self._rows.get(key)
        self._rows[key] = row
        if self._live is not None:
            self._live.update(self._as_table())
        elif before is None or (before.ready, before.message) != (row.ready, row.message):
            self.say(f"{row.workspace:8} {f'{row.kind}/{row.name}':22} Ready={row.ready:7} {row.message}")

    def _as_table(self) -> Table:
        table = Table(
            "Workspace", "Kind", "Name", "Ready", "", title=f"after {self.elapsed:.1f} s", title_justify="left"
        )
        for _, row in sorted(self._rows.items()):
            colour = {"True": "green", "False": "red"}.get(row.ready, "yellow")
            cells = [
                Text(row.workspace),
                Text(row.kind),
                Text(row.name),
                Text(row.ready, style=colour),
                Text(row.message),
            ]
            table.add_row(*cells)
        return table
