"""A cluster's job client whose answers are given, and which notes what it is asked."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.job_submission import JobStatus

LONG = 60.0
"""Seconds: nobody waits for the log of a job that was left."""


def details(
    submission_id: str | None, status: str, entrypoint: str = "run", exit_code: int | None = None
) -> Any:
    """What Ray says of a job."""
    return SimpleNamespace(
        submission_id=submission_id,
        status=JobStatus(status),
        entrypoint=entrypoint,
        driver_exit_code=exit_code,
        error_type=None,
        message="a sentence",
    )


class ScriptedJobs:
    """A cluster whose answers are given; those of a log are its pieces, or what breaks it."""

    def __init__(self, jobs: list[Any] | None = None) -> None:
        self.jobs = jobs or []
        self.on_submit: Callable[[str], None] = lambda submission_id: None
        self.submitted: list[dict[str, Any]] = []
        self.uploaded: list[dict[str, bytes]] = []
        self.logs: list[list[str | BaseException]] = []
        self.statuses: list[str | BaseException] = []
        self.exit_code: int | None = None

    def list_jobs(self) -> list[Any]:
        return list(self.jobs)

    def submit_job(self, **words: Any) -> str:
        self.submitted.append(words)
        if "working_dir" in words["runtime_env"]:
            folder = Path(words["runtime_env"]["working_dir"])
            files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
            self.uploaded.append({name: path.read_bytes() for name, path in files.items()})
        self.on_submit(words["submission_id"])
        return str(words["submission_id"])

    def get_job_info(self, job_id: str) -> Any:
        status = self.statuses.pop(0)
        if isinstance(status, BaseException):
            raise status
        return details(job_id, status, exit_code=self.exit_code)

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for piece in self.logs.pop(0):
            if isinstance(piece, KeyboardInterrupt):  # as it comes from a keyboard
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(LONG)
            if isinstance(piece, BaseException):
                raise piece
            yield piece
