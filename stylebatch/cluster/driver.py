"""The loop: feed workers, collect outcomes, publish parts."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from stylebatch.cluster.connecting import connected, one_line, stopping_part_way
from stylebatch.cluster.departures import Step
from stylebatch.cluster.ending import Ending, noting_signals
from stylebatch.cluster.events import batch_dispatched, worker_lost
from stylebatch.cluster.fleet import Fleet, has_died
from stylebatch.cluster.lookahead import LookAhead
from stylebatch.cluster.members import Member
from stylebatch.cluster.options import DEFAULT_OPTIONS, RunOptions
from stylebatch.cluster.plans import Resources, plan_run
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.cluster.publisher import PartPublisher
from stylebatch.cluster.schedule import (
    BATCHES_PER_WORKER,
    Backlog,
    Candidate,
    look_ahead_depth,
    may_have_another,
)
from stylebatch.cluster.settlement import Settlement
from stylebatch.cluster.tail import Tail
from stylebatch.cluster.watching import Watcher, Watchers, watched_job, watching
from stylebatch.cluster.worker import WorkerSettings
from stylebatch.errors import JobStoppedError, StylebatchError
from stylebatch.job import (
    Job,
    Lease,
    OpenedOutput,
    Tally,
    UnitBook,
    merge_at_end,
    open_output,
    pending_tasks,
    publish_success,
)
from stylebatch.objectstore import ObjectStore
from stylebatch.work import Task

TICK = 0.5
"""Seconds between two looks at the workers when nothing ends."""
MOST_HEADERS = 1024
"""Content images whose first bytes are being read at a time, or wait for that."""
WAIT_FOR_ONE_IN = 100
"""Of so many batches under way, one must end before the driver looks again, or a tick pass."""


def run_job(
    job: Job,
    store: ObjectStore,
    options: RunOptions = DEFAULT_OPTIONS,
    observe: Observer = lambda progress: None,
    watchers: Sequence[Watcher] = (),
) -> Tally:
    """Run a job to its end; what an earlier run has finished is not done again.

    SIGTERM and Ctrl-C end it: the first time running batches may finish, the second time it ends at once.

    Args:
        job: What to do.
        store: Where inputs and output are.
        options: How.
        observe: Called about twice a second.
        watchers: Who is told besides, and of every event: an :class:`~stylebatch.cluster.event_log.EventLog`.

    Returns:
        How every row of the manifest ended.

    Raises:
        JobError: The output belongs to another job, or another driver works on it.
        ClusterError: Ray or its workers do not start.
        JobStoppedError: The run was asked to end, or met something that every further pair would meet.
        KeyboardInterrupt: It was asked twice, or before it had begun.
    """
    opened = open_output(job, store, restart=options.restart, retry_failed=options.retry_failed)
    try:
        with watching(watched_job(job, opened), options, observe, watchers) as told:
            return _run_opened(job, opened, options, told)
    finally:
        opened.lease.release()


def _run_opened(job: Job, opened: OpenedOutput, options: RunOptions, watchers: Watchers) -> Tally:
    book = UnitBook(job, opened.tally)
    if len(opened.finished) < len(job.units):
        tasks = pending_tasks(job, opened, book)
        ending = Ending()
        # In this order, because ray.init replaces the handler of SIGTERM.
        with connected(options.address) as resources, noting_signals(ending):
            fleet = _make_fleet(job, opened, options, resources)
            _Run(job, opened, book, fleet, tasks, options, watchers, ending).to_the_end()
    else:
        watchers.observe(_standing(job, book.tally, opened.notices))
    try:
        opened.lease.check()
        if options.merge:
            merge_at_end(job, opened, lambda notice: watchers.observe(_standing(job, book.tally, [notice])))
        publish_success(job, opened.store, book.tally)
    except StylebatchError as error:
        raise JobStoppedError(str(error)) from error
    return book.tally


def _standing(job: Job, tally: Tally, notices: Sequence[str]) -> Progress:
    """Progress without workers."""
    return Progress(job.manifest.num_rows, tally.ok, tally.failed, 0, 0.0, (), tuple(notices))


def _make_fleet(
    job: Job, opened: OpenedOutput, options: RunOptions, resources: Resources
) -> Fleet[Candidate]:
    plan = plan_run(resources, options)
    settings = WorkerSettings(
        store=opened.store,
        layout=job.layout,
        recipe=job.recipe,
        threads=plan.threads,
        is_gpu=plan.is_gpu,
        max_pixels=options.max_pixels,
        checkpoint_seconds=options.checkpoint_seconds,
    )
    return Fleet(plan, settings, options.stall_timeout)


class _Run:
    """One run of a job on a fleet of workers."""

    def __init__(
        self,
        job: Job,
        opened: OpenedOutput,
        book: UnitBook,
        fleet: Fleet[Candidate],
        tasks: Iterator[Task],
        options: RunOptions,
        watchers: Watchers,
        ending: Ending,
    ) -> None:
        self._job = job
        self._lease: Lease = opened.lease
        self._book = book
        self._fleet = fleet
        self._options = options
        self._observe = watchers.observe
        self._tell = watchers.tell
        self._ending = ending
        self._backlog = Backlog()
        self._settlement = Settlement(job, opened.store, book, self._backlog, self._tell)
        self._tail = Tail(fleet, self._settlement.second_runs, opened.is_conditional, self._tell)
        self._publisher = PartPublisher(job, opened.store, opened.lease, self._tell)
        self._lookahead = LookAhead(
            tasks, opened.store, MOST_HEADERS, fleet.plan.is_gpu, options.largest_batch
        )
        self._notices = opened.notices  # others add to it as they look at the output
        self._started: float | None = None

    def to_the_end(self) -> None:
        """Work until every row has ended and every part is published."""
        try:
            with stopping_part_way(lambda: self._started is not None):
                while not self._is_finished():
                    if self._ending.reason:
                        self._wind_down()
                    self._step()
                self._publisher.finish()
        finally:
            self._lookahead.close()
            self._publisher.close()

    def _is_finished(self) -> bool:
        """Whether every row has ended. Runs of pairs that have ended otherwise may still be under way."""
        is_idle = self._lookahead.is_exhausted and not self._backlog and not self._fleet.owners
        return is_idle or not self._rows_left

    @property
    def _rows_left(self) -> int:
        """Rows that have not ended, as far as the output has been looked at."""
        return self._job.manifest.num_rows - self._book.tally.ended

    def _step(self) -> None:
        self._lease.check()
        self._fleet.poll()
        for member in self._fleet.scale(self._rows_left):
            self._backlog.forget(member.handle)
        self._refill()
        self._dispatch()
        self._attend()

    def _attend(self) -> None:
        """Look after what is under way."""
        self._collect()
        self._replace_stalled()
        self._attend_departures()
        self._end_losers()
        self._publish()
        self._report()

    def _wind_down(self) -> None:
        """Let what is running finish, if that does not take too long; what waits behind it is given up.

        Raises:
            JobStoppedError: Always.
        """
        self._fleet.ask_for_checkpoints()
        running = self._fleet.running
        deadline = time.monotonic() + self._options.grace
        while time.monotonic() < deadline and not self._fleet.owners.keys().isdisjoint(running):
            self._lease.check()
            self._attend()
        self._publisher.finish()
        under_way = sum(len(member.candidates) for member in self._fleet.members)
        raise JobStoppedError(
            f"stopped by {self._ending.reason}: {self._book.tally.ended} of {self._job.manifest.num_rows} "
            f"pairs have ended; {under_way} under way go on from their checkpoints or start again"
        )

    def _refill(self) -> None:
        room = look_ahead_depth(self._fleet.size) - len(self._backlog)
        if room > 0 and not self._lookahead.is_exhausted:
            is_starved = not self._backlog and not self._fleet.owners
            for candidate in self._lookahead.take(room, timeout=TICK if is_starved else 0):
                self._backlog.add(candidate)

    def _dispatch(self) -> None:
        """Give every worker that can take one a batch: first those that have none."""
        ready = [member for member in self._fleet.members if member.takes_work]
        if ready and self._started is None:
            self._started = time.monotonic()
        size = self._fleet.size
        for held in range(BATCHES_PER_WORKER):
            for member in ready:
                if len(member.batches) == held and self._may_have_more(member, size):
                    self._give(member, size)
        if self._lookahead.is_exhausted and not self._backlog:
            self._tail.repeat(ready)

    def _may_have_more(self, member: Member[Candidate], size: int) -> bool:
        """An idle worker may. A busy one may where enough is left for all, and it has no suspect."""
        return not member.batches or may_have_another(
            has_suspect=any(candidate.is_suspect for candidate in member.candidates),
            is_exhausted=self._lookahead.is_exhausted,
            waiting=len(self._backlog),
            workers=size,
        )

    def _give(self, member: Member[Candidate], size: int) -> None:
        batch = self._backlog.take(member.handle, size, is_idle=not member.batches)
        if batch:
            member.give(batch, time.monotonic())
            self._tell(batch_dispatched(member.progress, batch))

    def _collect(self) -> None:
        owners = self._fleet.owners
        if not owners:
            time.sleep(TICK / 10)  # workers are starting, or headers are being read
        for reference in _ended([*owners]):
            if reference in owners[reference].batches:  # a worker's death takes all its batches at once
                self._collect_batch(owners[reference], reference)

    def _collect_batch(self, member: Member[Candidate], reference: Any) -> None:
        try:
            outcomes = ray.get(reference)
        except RayTaskError as error:
            batch, _ = member.take_back(reference, time.monotonic())
            self._settlement.crash(batch, error.cause or error)
        except RayError as error:
            self._replace(member, has_died(member, error), one_line(error))
        else:
            batch, seconds = member.take_back(reference, time.monotonic())
            self._tail.durations.add(seconds)
            self._settlement.outcomes(batch, outcomes)

    def _replace_stalled(self) -> None:
        for member in self._fleet.stalled():
            self._replace(member, True, f"no progress for {self._options.stall_timeout:g} s")

    def _replace(self, member: Member[Candidate], has_died: bool, reason: str) -> None:
        """Put another worker in the place of one that is lost, and let its pairs wait again."""
        assert member.info is not None, "only a worker that is ready has batches"
        if member.leaves is not None:
            self._let_go(member)
            return
        lost = member.candidates
        self._backlog.forget(member.handle)
        self._fleet.replace(member)
        self._notices.append(
            f"a worker on {member.info.host} (process {member.info.process}) is replaced: {reason}; "
            f"its {len(lost)} pairs wait for another"
        )
        self._tell(worker_lost(member.progress, lost, reason))
        self._settlement.loss(lost, has_died, reason)

    def _attend_departures(self) -> None:
        """What workers of machines that leave have goes on while there is time, and then elsewhere."""
        for member, step in self._fleet.departing():
            if step is Step.CHECKPOINT:
                self._fleet.ask_for_checkpoint(member)
            elif step is Step.LET_GO:
                self._let_go(member)

    def _let_go(self, member: Member[Candidate]) -> None:
        """End a worker whose machine leaves; its pairs wait for another, and are charged with nothing."""
        host, process = member.place
        taken = self._release(member)
        waiting = f"; its {len(taken)} pairs wait for another" if taken else ""
        self._notices.append(
            f"the machine {host} leaves the cluster: a worker there (process {process}) is let go{waiting}"
        )
        self._tell(worker_lost(member.progress, taken, "its machine leaves the cluster"))
        self._settlement.hand_over(taken)

    def _end_losers(self) -> None:
        for member in self._tail.losers():
            self._release(member)

    def _release(self, member: Member[Candidate]) -> list[Candidate]:
        """End a worker and do without its place; the pairs that it had."""
        taken = member.candidates
        self._backlog.forget(member.handle)
        self._fleet.release(member)
        return taken

    def _publish(self) -> None:
        for unit, rows in self._book.take_complete():
            self._publisher.submit(unit, rows)
        self._publisher.check()

    def _report(self) -> None:
        tally = self._book.tally
        sources = (self._notices, self._fleet.notices, self._settlement.notices, self._tail.notices)
        notices = tuple(notice for source in sources for notice in source)
        for source in sources:
            source.clear()
        self._observe(
            Progress(
                total=self._job.manifest.num_rows,
                ok=tally.ok,
                failed=tally.failed,
                new=self._settlement.new_pictures,
                seconds=0.0 if self._started is None else time.monotonic() - self._started,
                workers=tuple(member.progress for member in self._fleet.shown),
                notices=notices,
            )
        )


def _ended(references: list[Any]) -> list[Any]:
    """The batches that have ended: waits for the first, of many for the first few, and takes all there are.

    Each look at a thousand batches takes milliseconds; behind each of them another one waits with its worker.
    """
    some = max(1, len(references) // WAIT_FOR_ONE_IN)
    done = references and ray.wait(references, num_returns=some, timeout=TICK)[0]
    return ray.wait(references, num_returns=len(references), timeout=0)[0] if done else []
