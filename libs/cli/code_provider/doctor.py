"""``code-provider doctor``: is everything there that the services need, and what to do where it is not?

It asks and changes nothing. Each check is one line. It reads the same environment as the services, so it is run where they run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Final, Literal

from code_provider.doctor_checks import Doubtful, Installation, Problem, Skipped, checks
from code_provider.doctor_settings import DoctorSettings
from codecommon.process.redact import redact
from codecommon.process.service import EXIT_FAILED
from codecommon.process.settings import SettingsError

Check = Callable[[], Awaitable[str]]
"""Returns what was found. Raises ``Problem``, or ``Skipped`` where there is nothing to ask."""

CHECK_SECONDS: Final = 10.0
_MARKS: Final = {"ok": "ok     ", "failed": "FAILED ", "skipped": "skipped", "warning": "warning"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``fix``: what the operator does; empty unless it failed or is a warning."""

    check: str
    status: Literal["ok", "failed", "skipped", "warning"]
    message: str
    fix: str = ""

    @property
    def line(self) -> str:
        return f"{_MARKS[self.status]}  {self.check}: {self.message}" + (f"; fix: {self.fix}" if self.fix else "")


def doctor(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the subcommand. Returns 0 if no check failed (a warning is no failure), else 1.

    Raises ``SystemExit`` for arguments that are not known.
    """
    parser = argparse.ArgumentParser(
        "code-provider doctor", description="Check what the provider's services need. It changes nothing."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each check")
    asked = parser.parse_args(arguments)

    def tell(finding: Finding) -> None:
        print(json.dumps(asdict(finding)) if asked.json else finding.line, flush=True)

    # What a library logs is no line of ours.
    logging.disable(logging.CRITICAL)
    try:
        settings = DoctorSettings.from_environ(environ)
        tell(Finding("settings", "ok", "every variable has a value of the right form"))
        return asyncio.run(_examine(settings, tell))
    except SettingsError as error:
        variable, _, wrong = str(error).partition(": ")
        tell(Finding("settings", "failed", f"{variable}: {wrong}", f"correct {variable}"))
        return EXIT_FAILED
    finally:
        logging.disable(logging.NOTSET)


async def _examine(settings: DoctorSettings, tell: Callable[[Finding], None]) -> int:
    failed = False
    async with AsyncExitStack() as stack:
        installation = await stack.enter_async_context(Installation(settings))
        async for finding in findings(checks(installation)):
            tell(finding)
            failed = failed or finding.status == "failed"
    return EXIT_FAILED if failed else 0


async def findings(named: Iterable[tuple[str, Check]], seconds: float = CHECK_SECONDS) -> AsyncIterator[Finding]:
    """Run the checks one by one, each for ``seconds`` at most, and yield a ``Finding`` of each."""
    for name, check in named:
        yield await _find(name, check, seconds)


async def _find(name: str, check: Check, seconds: float) -> Finding:
    try:
        async with asyncio.timeout(seconds):
            return Finding(name, "ok", _one_line(await check()))
    except Skipped as skipped:
        return Finding(name, "skipped", _one_line(str(skipped)))
    except Doubtful as doubt:
        return Finding(name, "warning", _one_line(str(doubt)), _one_line(doubt.fix))
    except Problem as problem:
        return Finding(name, "failed", _one_line(str(problem)), _one_line(problem.fix))
    except TimeoutError:
        return Finding(
            name, "failed", f"no answer within {seconds:g} s", "see that nothing drops the connection on the way"
        )
    except Exception as error:  # noqa: BLE001 - a check that we have not foreseen the end of must not hide the others
        return Finding(
            name, "failed", f"ended with {type(error).__name__}", "run the other checks' fixes first, and try again"
        )


def _one_line(text: str) -> str:
    return redact(" ".join(text.split()))
