"""Everyone who is told how a run goes: its user, ``progress.json``, the metrics, an event log."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import stylebatch
from stylebatch.cluster.events import Event, RunEnded, RunStarted, RunStopped
from stylebatch.cluster.heartbeat import Heartbeat
from stylebatch.cluster.metrics import Metrics
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.job import Job, Lease, OpenedOutput, Tally
from stylebatch.objectstore import ObjectStore


class Watcher(Protocol):
    """Is told how a run goes. Nothing that it meets ends the run."""

    def observe(self, progress: Progress) -> list[str]:
        """How the run stands, about twice a second.

        Returns:
            What the user should be told about the watcher itself.
        """
        ...

    def tell(self, event: Event) -> None:
        """What has happened; by any thread."""
        ...


class Watchers:
    """Passes on what is told, and what watchers say of themselves to the user.

    Args:
        user: Who started the run.
        watchers: All others; they see how it stands at once.
        progress: How it stands at the start.
    """

    def __init__(self, user: Observer, watchers: Sequence[Watcher], progress: Progress) -> None:
        self._user = user
        self._watchers = watchers
        self._last = progress
        self._complaints = self._shown(progress)

    def observe(self, progress: Progress) -> None:
        """How the run stands."""
        self._last = replace(progress, notices=())
        if self._complaints:
            progress = replace(progress, notices=(*progress.notices, *self._complaints))
        self._complaints = self._shown(progress)
        self._user(progress)

    def tell(self, event: Event) -> None:
        """What has happened; any thread may call this."""
        for watcher in self._watchers:
            watcher.tell(event)

    def end(self, event: Event) -> None:
        """The run has ended; what watchers have not said of themselves yet is passed on."""
        self.tell(event)
        rest = (*self._complaints, *self._shown(self._last))
        if rest:
            self._user(replace(self._last, notices=rest))

    def _shown(self, progress: Progress) -> list[str]:
        return [complaint for watcher in self._watchers for complaint in watcher.observe(progress)]


@dataclass(frozen=True)
class WatchedRun:
    """What is told of a run at its start, and where it tells how it goes."""

    output: str
    """Canonical URI."""
    manifest: str | None
    """Canonical URI; None where features are measured."""
    rows: int
    """Pairs of the manifest, or images."""
    progress: str
    """URI of ``progress.json``."""
    store: ObjectStore
    """Where that is."""
    lease: Lease
    """On the output; held."""
    tally: Tally
    """How the rows end; others count in it."""


def watched_job(job: Job, opened: OpenedOutput) -> WatchedRun:
    """A run of a job."""
    return WatchedRun(
        output=job.output,
        manifest=job.manifest.uri,
        rows=job.manifest.num_rows,
        progress=job.layout.progress,
        store=opened.store,
        lease=opened.lease,
        tally=opened.tally,
    )


@contextmanager
def watching(
    run: WatchedRun, options: RunOptions, user: Observer, others: Sequence[Watcher]
) -> Iterator[Watchers]:
    """Have a run watched from its start to its end, however it ends.

    Args:
        run: Which.
        options: Whether there are metrics.
        user: Who started it.
        others: Who watches besides.
    """
    tally = run.tally
    heartbeat = Heartbeat(run.store, run.progress, run.lease, tally)
    counting = [Metrics(run.output)] if options.has_metrics else []
    start = Progress(run.rows, tally.ok, tally.failed, 0, 0.0, ())
    watchers = Watchers(user, [heartbeat, *counting, *others], start)
    watchers.tell(_started(run))
    try:
        yield watchers
    except BaseException as error:
        watchers.end(RunStopped(_reason(error), tally.ok, tally.failed))
        raise
    watchers.end(RunEnded(tally.ok, tally.failed))


def _started(run: WatchedRun) -> RunStarted:
    return RunStarted(
        output=run.output,
        manifest=run.manifest,
        rows=run.rows,
        ended=run.tally.ended,
        holder=run.lease.holder.holder,
        stylebatch_version=stylebatch.__version__,
    )


def _reason(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
