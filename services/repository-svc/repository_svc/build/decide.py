"""From what the host says of a run to the status of a RepositoryBuildStatus. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from codecommon.api.stored_size import end_within, stored_bytes
from codecommon.githost.builds import BuildJob, BuildRun, LogEnd
from codecommon.process.redact import redact

MOST_JOBS: Final = 100
MOST_LOGS: Final = 20
"""Failed jobs whose log is read. Whoever builds a matrix sees the same failure in all of them."""

_MOST_LOG: Final = 64 * 1024
_MOST_LOGS: Final = 256 * 1024
"""Bytes of one log, and of all logs of a run, as kcp stores them: it takes objects of about 1 MiB."""

_LONGEST_WORD: Final = 255
_LONGEST_REASON: Final = 1000


def jobs_with_logs(jobs: Sequence[BuildJob]) -> list[BuildJob]:
    """The jobs whose log says why they failed."""
    return [job for job in jobs[:MOST_JOBS] if job.has_failed][:MOST_LOGS]


def run_status(
    run: BuildRun | None, jobs: Sequence[BuildJob] = (), logs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """``status.run``. ``logs``: by the id of the job, as of ``log_text``. None: there is no run."""
    if run is None:
        return {"found": False}
    status: dict[str, Any] = {
        "found": True,
        "runID": run_id(run),
        "status": run.status[:_LONGEST_WORD],
        "conclusion": run.conclusion[:_LONGEST_WORD],
        "headSHA": run.head_sha[:_LONGEST_WORD],
        "htmlURL": run.url[:2048],
        "jobs": [_job_status(job, (logs or {}).get(job.id)) for job in jobs[:MOST_JOBS]],
    }
    return {name: value for name, value in status.items() if value not in ("", None)}


def run_id(run: BuildRun) -> int | None:
    """The number of the run, as the API has it; None where the host's id is no number."""
    return int(run.id) if run.id.isascii() and run.id.isdigit() and len(run.id) < 19 else None


def log_text(end: LogEnd, left: int) -> str:
    """What status shows of a log, of whose text ``left`` bytes at most. The first line says whose words they are.

    Whoever may push to the repository writes its logs, for people and programs to read.
    """
    lines = list(end.lines)
    text = redact("\n".join(lines)[-_MOST_LOG:])
    text = end_within(text, min(left, _MOST_LOG))
    what = "the whole log" if end.is_whole else f"the last {len(lines)} lines of the log"
    if end.is_cut:
        what = "a part of a log that is too long, without its end"
    return f"[untrusted text, written by the job: {what}]\n{text}"


NO_TIME: Final = "[the log was not read: there was no time left for it]"


def no_log(why: str) -> str:
    """What status shows in place of a log that cannot be had."""
    return f"[the log cannot be read: {redact(why)[:_LONGEST_REASON]}]"


def is_another(before: int | None, run: BuildRun | None) -> bool:
    """Whether ``run`` was started since the one with the number ``before`` was the newest, which is None for none."""
    return run is not None and run_id(run) != before


class LogSpace:
    """How many bytes are left for the logs of a run."""

    def __init__(self) -> None:
        self._left = _MOST_LOGS

    def take(self, end: LogEnd) -> str:
        text = log_text(end, self._left)
        self._left -= stored_bytes(text)
        return text


def _job_status(job: BuildJob, log: str | None) -> dict[str, Any]:
    status = {
        "name": job.name[:_LONGEST_WORD],
        "status": job.status[:_LONGEST_WORD],
        "conclusion": job.conclusion[:_LONGEST_WORD],
        "failureLog": log,
    }
    return {name: value for name, value in status.items() if value}
