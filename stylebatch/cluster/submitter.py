"""Ray Jobs: submissions sent to a cluster's dashboard, and followed to their end."""

import asyncio
import logging
import os
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from stylebatch.cluster.submission import (
    JobEnd,
    Submission,
    SubmittedJob,
    job_under_way,
    next_submission_id,
)
from stylebatch.errors import ClusterError, JobError, JobStoppedError
from stylebatch.quoting import reason

CONNECT_SECONDS = 10.0
"""How long a dashboard has to take a connection; without a limit, a wrong address takes minutes."""
SUBMIT_TRIES = 5
"""Ids that are tried where others submit the same job at the same moment."""
SILENCE = 60.0
"""Seconds without a word in the log after which the cluster is asked whether the job still runs."""
FOLLOW_TRIES = 8
"""Times in a row that a connection to the log may break without anything new: over a minute."""
LONGEST_PAUSE = 16.0
"""Seconds between two of them, at most; the first pauses are shorter."""
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client obeys before the address that it is given."""
CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that tell of uploads and connections."""

FAILURES = (OSError, RuntimeError, aiohttp.ClientError)
"""What Ray's client raises when a dashboard is away, answers with an error, or is none."""


class RayJobs(Protocol):
    """What is used of :class:`ray.job_submission.JobSubmissionClient`."""

    def list_jobs(self) -> list[Any]:
        """All jobs, ended ones too."""
        ...

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> str:
        """Start a job."""
        ...

    def get_job_info(self, job_id: str) -> Any:
        """The state of a job."""
        ...

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """The log from its beginning, and then as it grows, until the job ends."""
        ...


def connect(address: str) -> RayJobs:
    """A client of the dashboard at this address, whatever the environment says of other clusters.

    Args:
        address: ``http://HOST:PORT``.

    Raises:
        ClusterError: No dashboard answers there, or it wants another token.
    """
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    with _explained(address), _without_overrides():
        _check_connection(address)
        client: RayJobs = JobSubmissionClient(address)
    return client


def _check_connection(address: str) -> None:
    url = urlsplit(address)
    host = url.hostname or ""
    if urllib.request.getproxies().get(url.scheme) and not urllib.request.proxy_bypass(host):
        return  # only the proxy may reach it
    socket.create_connection(
        (host, url.port or (443 if url.scheme == "https" else 80)), CONNECT_SECONDS
    ).close()


@contextmanager
def _without_overrides() -> Iterator[None]:
    saved = {name: os.environ.pop(name) for name in OVERRIDES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(
            f"the cluster at {address} wants its token: put a copy of the head's ~/.ray/auth_token into a "
            "file and set RAY_AUTH_TOKEN_PATH to its name"
        ) from error
    except FAILURES as error:
        raise ClusterError(
            f"no Ray dashboard answers at {address}: {reason(error) or type(error).__name__}; for a cluster "
            "that `ray up` has started, `ray dashboard` leads there"
        ) from error


class ClusterJobs:
    """The jobs of one cluster.

    Args:
        address: Of the dashboard, for messages.
        jobs: The client, from :func:`connect`.
        sleep: Waits for so many seconds.
    """

    def __init__(self, address: str, jobs: RayJobs, sleep: Callable[[float], None] = time.sleep) -> None:
        self._address = address
        self._jobs = jobs
        self._sleep = sleep

    def submit(self, submission: Submission) -> tuple[SubmittedJob, bool]:
        """Start a job, or find the one that does this work already.

        Returns:
            The job, and whether it is new.

        Raises:
            ClusterError: The cluster does not take it.
        """
        with _explained(self._address):
            for _ in range(SUBMIT_TRIES):
                known = self._known()
                if job := job_under_way(submission.stem, known):
                    return job, False
                chosen = next_submission_id(submission.stem, known)
                if self._start(chosen, submission):
                    return SubmittedJob(chosen, False, submission.entrypoint), True
        raise ClusterError(f"{SUBMIT_TRIES} others submitted the same job at the same time; try again")

    def _known(self) -> list[SubmittedJob]:
        return [
            SubmittedJob(details.submission_id, details.status.is_terminal(), details.entrypoint)
            for details in self._jobs.list_jobs()
            if details.submission_id
        ]

    def _start(self, submission_id: str, submission: Submission) -> bool:
        """Whether it was started; if not, the id is taken, by another or by this call without an answer."""
        try:
            with _runtime_environment(submission) as environment:
                self._jobs.submit_job(
                    entrypoint=submission.entrypoint,
                    submission_id=submission_id,
                    runtime_env=environment,
                    metadata=dict(submission.metadata),
                )
        except FAILURES:
            if submission_id not in (job.submission_id for job in self._known()):
                raise
            return False
        return True

    def follow(self, submission_id: str, write: Callable[[str], None]) -> JobEnd:
        """Copy a job's log until the job ends; a connection that breaks is made again.

        Args:
            submission_id: Which.
            write: Takes the next piece of the log.

        Raises:
            JobStoppedError: The cluster does not answer any more.
        """
        with _explained(self._address):
            return self._follow(submission_id, _Log(self._jobs, submission_id, write))

    def _follow(self, submission_id: str, log: "_Log") -> JobEnd:
        failures = 0
        while True:
            before = log.length
            try:
                asyncio.run(log.copy())
                details = self._jobs.get_job_info(submission_id)
                if details.status.is_terminal():
                    return _end(details)
                failures = 0
            except FAILURES as error:
                failures = 1 if log.length > before else failures + 1
                if failures == FOLLOW_TRIES:
                    raise JobStoppedError(
                        f"the cluster at {self._address} does not answer any more ({reason(error)}); "
                        f"{submission_id} may go on without being looked at"
                    ) from error
            self._sleep(min(2.0**failures, LONGEST_PAUSE))


class _Log:
    """A log that is copied once, over as many connections as it takes."""

    def __init__(self, jobs: RayJobs, submission_id: str, write: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._submission_id = submission_id
        self._write = write
        self.length = 0
        """Characters that were copied."""

    async def copy(self) -> None:
        """Copy what is new; every connection begins with the first character.

        Raises:
            ConnectionError: Nothing came, though the job has ended.
        """
        position = 0
        pieces = self._jobs.tail_job_logs(self._submission_id)
        while (piece := await self._next(pieces)) is not None:
            new = piece[max(0, self.length - position) :]
            position += len(piece)
            if new:
                self._write(new)
                self.length = position

    async def _next(self, pieces: AsyncIterator[str]) -> str | None:
        """The next piece; None at the end."""
        task = asyncio.ensure_future(anext(pieces, None))
        while not (await asyncio.wait({task}, timeout=SILENCE))[0]:
            if self._jobs.get_job_info(self._submission_id).status.is_terminal():
                task.cancel()
                raise ConnectionError("the connection to the log has gone silent")
        return task.result()


def _end(details: Any) -> JobEnd:
    return JobEnd(
        str(details.status), details.driver_exit_code, details.error_type, str(details.message or "")
    )


@contextmanager
def _runtime_environment(submission: Submission) -> Iterator[dict[str, Any]]:
    """What Ray is told of the job's surroundings; what it uploads lies there until the block ends."""
    environment: dict[str, Any] = {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(submission.stop_seconds)},  # else it kills after 3 s
    }
    if not submission.uploads:
        yield environment
        return
    with tempfile.TemporaryDirectory(prefix="stylebatch-submit-") as folder:
        _copy_files(submission.uploads, Path(folder))
        yield environment | {"working_dir": folder}


def _copy_files(files: Mapping[str, str], folder: Path) -> None:
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise JobError(f"{source} cannot be taken to the cluster: {reason(error)}") from error
