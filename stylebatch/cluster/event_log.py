"""A run's events as lines of JSON, written beside the driver's loop."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from queue import Full, Queue

from stylebatch.cluster.events import (
    BatchDispatched,
    Event,
    Notice,
    Place,
    WorkerReady,
    event_line,
    worker_changes,
)
from stylebatch.cluster.progress import Progress

MOST_WAITING = 10_000
"""Lines that wait for a slow file or reader; what comes when there are so many is left out."""
SECONDS_TO_STOP = 5.0
"""For what still waits at the end."""


class EventLog:
    """Writes events to a file, one line each, in a thread of its own; nothing that it meets ends the run.

    Args:
        file: Unbuffered, so that every line is there at once and nothing is left to be flushed.
        most_waiting: Lines.
    """

    def __init__(self, file: FileIO, most_waiting: int = MOST_WAITING) -> None:
        self._file = file
        self._is_torn = False
        self._known: set[Place] = set()
        self._complaints: deque[str] = deque()  # by one thread, for another
        self._has_complained = False
        self._left_out = 0
        self._waiting: Queue[str | None] = Queue(most_waiting)
        self._thread = threading.Thread(target=self._write_all, name="event log", daemon=True)
        self._thread.start()

    def observe(self, progress: Progress) -> list[str]:
        """Write what the run's state shows: workers that have come or gone, and notices.

        Returns:
            How many events were left out since the last time, and, once, why nothing can be written.
        """
        changes = [*worker_changes(self._known, progress.workers)]
        for event in (*changes, *(Notice(text) for text in progress.notices)):
            self.tell(event)
        self._known = {(worker.host, worker.process) for worker in progress.workers if worker.host}
        left_out, self._left_out = self._left_out, 0
        if left_out:
            self._complaints.append(f"the event log is too slow: {left_out} events were left out of it")
        return [self._complaints.popleft() for _ in range(len(self._complaints))]

    def tell(self, event: Event) -> None:
        """Write an event. A worker is ready before it is given anything, however late its state is seen."""
        if isinstance(event, BatchDispatched) and (event.host, event.process) not in self._known:
            self._known.add((event.host, event.process))
            self.tell(WorkerReady(event.host, event.process, event.device))
        try:
            self._waiting.put_nowait(event_line(event, datetime.now(UTC)))
        except Full:
            self._left_out += 1

    def close(self) -> None:
        """Write what still waits, if that does not take too long."""
        try:
            self._waiting.put(None, timeout=SECONDS_TO_STOP)
        except Full:
            return
        self._thread.join(SECONDS_TO_STOP)

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._write(f"{line}\n".encode())
            except (OSError, ValueError) as error:  # no room, no reader; closed, as it was too slow
                self._complain(error)

    def _write(self, line: bytes) -> None:
        """Write a whole line; after one that was cut off by an error, on a new one."""
        rest = b"\n" + line if self._is_torn else line
        while rest:
            written = self._file.write(rest)
            if not written:
                raise BlockingIOError("it takes nothing now")
            rest = rest[written:]
            self._is_torn = bool(rest)

    def _complain(self, error: Exception) -> None:
        if not self._has_complained:
            self._has_complained = True
            self._complaints.append(f"the event log cannot be written; the run goes on: {error}")


@contextmanager
def event_log(file: FileIO) -> Iterator[EventLog]:
    """An event log until the block ends."""
    log = EventLog(file)
    try:
        yield log
    finally:
        log.close()
