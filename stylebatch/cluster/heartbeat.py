"""``progress.json``: what the driver tells of its run, written beside its loop while it holds the lease."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from queue import SimpleQueue

from stylebatch.cluster.events import Event, RunEnded, RunStopped
from stylebatch.cluster.progress import Progress, WorkerProgress
from stylebatch.errors import StorageError
from stylebatch.job import Lease, Tally
from stylebatch.job.bulletin import (
    MOST_BYTES,
    MOST_NOTICES,
    MOST_PAIRS,
    MOST_WORKERS,
    Bulletin,
    Foreign,
    Telling,
    WorkerNote,
    decode_bulletin,
    failure_kinds,
    short,
    stages_of,
)
from stylebatch.job.lease import Holder
from stylebatch.objectstore import ObjectStore

WRITE_SECONDS = 10.0
"""Between two writes."""
SECONDS_TO_STOP = 5.0
"""For the last write."""
MOST_TRIES = 3
"""Times that ``progress.json`` may change under the hands of the driver that holds the lease."""


def compose(
    progress: Progress,
    tally: Tally,
    holder: Holder,
    notices: Iterable[str],
    now: datetime,
    telling: Telling = Telling.RUNNING,
    reason: str = "",
) -> Bulletin:
    """What is told of a run.

    Args:
        progress: Where it stands.
        tally: How its pairs ended.
        holder: Who holds the lease.
        notices: What the user was told last.
        now: When this is.
        telling: Whether the run goes on.
        reason: Why not.
    """
    return Bulletin(
        holder=holder.holder,
        host=holder.host,
        process=holder.process,
        since=holder.since,
        written=now.astimezone(UTC).isoformat(timespec="seconds"),
        telling=telling,
        reason=short(reason),
        rows=progress.total,
        ok=tally.ok,
        failed=tally.failed,
        new=progress.new,
        pairs_per_hour=progress.pairs_per_hour,
        seconds_left=progress.seconds_left,
        failures=failure_kinds(tally),
        workers=len(progress.workers),
        stages=stages_of(worker.activity.stage for worker in progress.workers),
        listed=tuple(_note(worker) for worker in progress.workers[:MOST_WORKERS]),
        notices=tuple(short(notice) for notice in notices),
    )


def _note(worker: WorkerProgress) -> WorkerNote:
    activity = worker.activity
    return WorkerNote(
        host=worker.host,
        process=worker.process,
        device=worker.device,
        stage=activity.stage,
        pairs=len(activity.pair_ids),
        pair_ids=activity.pair_ids[:MOST_PAIRS],
        evaluations=activity.evaluations,
        iterations=activity.iterations,
    )


class Heartbeat:
    """Keeps ``progress.json`` up to date, in a thread of its own.

    What is told is put together in the caller's thread, at most every :data:`WRITE_SECONDS`; a slow storage
    delays nobody. Where it cannot be written, that is said once, and tried again the next time.

    Args:
        store: Where the output is.
        uri: Of ``progress.json``.
        lease: Without it, nothing is written.
        tally: How the run's pairs end; others count in it.
        clock: Seconds from some moment on.
    """

    def __init__(
        self,
        store: ObjectStore,
        uri: str,
        lease: Lease,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = _OwnedObject(store, uri, lease)
        self._holder = lease.holder
        self._tally = tally
        self._clock = clock
        self._due = -float("inf")
        self._last: Progress | None = None
        self._notices: deque[str] = deque(maxlen=MOST_NOTICES)
        self._complaints: deque[str] = deque()  # by one thread, for another
        self._has_complained = False
        self._waiting: SimpleQueue[Bulletin | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="heartbeat", daemon=True)
        self._thread.start()

    def observe(self, progress: Progress) -> list[str]:
        """Let it be written how the run stands, if it is time."""
        self._last = progress
        self._notices.extend(progress.notices)
        if self._clock() >= self._due and self._waiting.empty():
            self._due = self._clock() + WRITE_SECONDS
            self._waiting.put(self._bulletin(progress, Telling.RUNNING, ""))
        return [self._complaints.popleft() for _ in range(len(self._complaints))]

    def tell(self, event: Event) -> None:
        """Write the end of the run, if that does not take too long."""
        if not isinstance(event, RunEnded | RunStopped):
            return
        telling, reason = (
            (Telling.STOPPED, event.reason) if isinstance(event, RunStopped) else (Telling.FINISHED, "")
        )
        if self._last is not None:
            self._waiting.put(self._bulletin(self._last, telling, reason))
        self._waiting.put(None)
        self._thread.join(SECONDS_TO_STOP)

    def _bulletin(self, progress: Progress, telling: Telling, reason: str) -> Bulletin:
        return compose(progress, self._tally, self._holder, self._notices, datetime.now(UTC), telling, reason)

    def _write_all(self) -> None:
        while (bulletin := self._waiting.get()) is not None:
            try:
                self._file.put(bulletin.encode())
            except StorageError as error:
                self._complain(error)

    def _complain(self, error: StorageError) -> None:
        if not self._has_complained:
            self._has_complained = True
            self._complaints.append(
                "progress.json cannot be written, so `stylebatch status` knows less; the run goes on: "
                f"{error}"
            )


class _OwnedObject:
    """An object that only the holder of a lease writes, even where a put takes longer than a lease lasts."""

    def __init__(self, store: ObjectStore, uri: str, lease: Lease) -> None:
        self._store = store
        self._uri = uri
        self._lease = lease
        self._version: str | None = None

    def put(self, data: bytes) -> None:
        """Replace the object on condition that it is as this run left it, or that of an earlier run.

        Without the lease nothing happens.

        Raises:
            StorageError: It cannot be stored, or something else is there.
        """
        for _ in range(MOST_TRIES):
            if not self._lease.is_held:
                return
            if self._version is None:
                if self._store.put_if_absent(self._uri, data):
                    self._version = self._store.version(self._uri)
                    return
                self._version = self._version_of_a_bulletin()
            self._version = self._store.put_if_version(self._uri, data, self._version)
            if self._version is not None:
                return
        raise StorageError(f"{self._uri} is changed by somebody else all the time")

    def _version_of_a_bulletin(self) -> str:
        version = self._store.version(self._uri)
        if decode_bulletin(self._store.get_range(self._uri, 0, MOST_BYTES)) == Foreign(None):
            raise StorageError(f"{self._uri} was not written by stylebatch and stays; move it away")
        return version
