"""The loop: feed workers, collect outcomes, publish parts."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from stylebatch.cluster.ending import Ending, noting_signals
from stylebatch.cluster.fleet import Fleet, Member, Resources, connected, has_died, one_line, plan_fleet
from stylebatch.cluster.lookahead import LookAhead
from stylebatch.cluster.options import DEFAULT_OPTIONS, RunOptions
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.cluster.publisher import PartPublisher
from stylebatch.cluster.schedule import BATCHES_PER_WORKER, Backlog, Candidate
from stylebatch.cluster.settlement import Settlement
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
DEPTH_PER_WORKER = 32
"""Pairs that wait for each worker, so that some can share a forward pass or a style."""


def run_job(
    job: Job,
    store: ObjectStore,
    options: RunOptions = DEFAULT_OPTIONS,
    observe: Observer = lambda progress: None,
) -> Tally:
    """Run a job to its end; what an earlier run has finished is not done again.

    SIGTERM and Ctrl-C end it: the first time running batches may finish, the second time it ends at once.

    Args:
        job: What to do.
        store: Where inputs and output are.
        options: How.
        observe: Called about twice a second.

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
        return _run_opened(job, opened, options, observe)
    finally:
        opened.lease.release()


def _run_opened(job: Job, opened: OpenedOutput, options: RunOptions, observe: Observer) -> Tally:
    book = UnitBook(job, opened.tally)
    if len(opened.finished) < len(job.units):
        tasks = pending_tasks(job, opened, book)
        ending = Ending()
        # In this order, because ray.init replaces the handler of SIGTERM.
        with connected(options.address) as resources, noting_signals(ending):
            fleet = _start_fleet(job, opened, options, resources)
            _Run(job, opened, book, fleet, tasks, options, observe, ending).to_the_end()
    else:
        observe(_standing(job, book.tally, opened.notices))
    try:
        opened.lease.check()
        if options.merge:
            merge_at_end(job, opened, lambda notice: observe(_standing(job, book.tally, [notice])))
        publish_success(job, opened.store, book.tally)
    except StylebatchError as error:
        raise JobStoppedError(str(error)) from error
    return book.tally


def _standing(job: Job, tally: Tally, notices: Sequence[str]) -> Progress:
    """Progress without workers."""
    return Progress(job.manifest.num_rows, tally.ok, tally.failed, 0, 0.0, (), tuple(notices))


def _start_fleet(
    job: Job, opened: OpenedOutput, options: RunOptions, resources: Resources
) -> Fleet[Candidate]:
    plan = plan_fleet(resources, options.workers, options.device)
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
        observe: Observer,
        ending: Ending,
    ) -> None:
        self._job = job
        self._lease: Lease = opened.lease
        self._book = book
        self._fleet = fleet
        self._options = options
        self._observe = observe
        self._ending = ending
        self._backlog = Backlog()
        self._settlement = Settlement(job, opened.store, book, self._backlog)
        self._publisher = PartPublisher(job, opened.store, opened.lease)
        self._depth = DEPTH_PER_WORKER * fleet.plan.workers
        self._lookahead = LookAhead(
            tasks, opened.store, self._depth, fleet.plan.is_gpu, options.largest_batch
        )
        self._notices = opened.notices  # others add to it as they look at the output
        self._started: float | None = None

    def to_the_end(self) -> None:
        """Work until every row has ended and every part is published."""
        try:
            while not self._is_finished():
                if self._ending.reason:
                    self._wind_down()
                self._step()
            self._publisher.finish()
        except RayError as error:
            raise JobStoppedError(f"Ray failed: {one_line(error)}") from error
        except StylebatchError as error:
            if self._started is None or isinstance(error, JobStoppedError):
                raise
            raise JobStoppedError(str(error)) from error
        finally:
            self._lookahead.close()
            self._publisher.close()

    def _is_finished(self) -> bool:
        return self._lookahead.is_exhausted and not self._backlog and not self._fleet.references

    def _step(self) -> None:
        self._lease.check()
        self._fleet.poll()
        self._refill()
        self._dispatch()
        self._attend()

    def _attend(self) -> None:
        """Look after what is under way."""
        self._collect()
        self._replace_stalled()
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
        while time.monotonic() < deadline and not set(running).isdisjoint(self._fleet.references):
            self._lease.check()
            self._attend()
        self._publisher.finish()
        under_way = sum(len(member.candidates) for member in self._fleet.members)
        raise JobStoppedError(
            f"stopped by {self._ending.reason}: {self._book.tally.ended} of {self._job.manifest.num_rows} "
            f"pairs have ended; {under_way} under way go on from their checkpoints or start again"
        )

    def _refill(self) -> None:
        room = self._depth - len(self._backlog)
        if room > 0 and not self._lookahead.is_exhausted:
            is_starved = not self._backlog and not self._fleet.references
            for candidate in self._lookahead.take(room, timeout=TICK if is_starved else 0):
                self._backlog.add(candidate)

    def _dispatch(self) -> None:
        """Give every worker that can take one a batch: first those that have none."""
        ready = [member for member in self._fleet.members if member.info is not None]
        if ready and self._started is None:
            self._started = time.monotonic()
        for held in range(BATCHES_PER_WORKER):
            for member in ready:
                if len(member.batches) == held and self._may_have_more(member):
                    self._give(member)

    def _may_have_more(self, member: Member[Candidate]) -> bool:
        """An idle worker may. A busy one may where enough is left for all, and it has no suspect."""
        if not member.batches:
            return True
        if any(candidate.is_suspect for candidate in member.candidates):
            return False
        return not self._lookahead.is_exhausted or len(self._backlog) >= len(self._fleet.members)

    def _give(self, member: Member[Candidate]) -> None:
        batch = self._backlog.take(member.handle, len(self._fleet.members), is_idle=not member.batches)
        if batch:
            member.give(batch, time.monotonic())

    def _collect(self) -> None:
        references = self._fleet.references
        if not references:
            time.sleep(TICK / 10)  # workers are starting, or headers are being read
            return
        done, _ = ray.wait(references, timeout=TICK)
        for reference in done:
            if reference in self._fleet.references:  # a worker's death takes all its batches at once
                self._collect_batch(self._fleet.owner(reference), reference)

    def _collect_batch(self, member: Member[Candidate], reference: Any) -> None:
        try:
            outcomes = ray.get(reference)
        except RayTaskError as error:
            self._settlement.crash(member.batches.pop(reference), error.cause or error)
        except RayError as error:
            self._replace(member, has_died(member, error), one_line(error))
        else:
            self._settlement.outcomes(member.batches.pop(reference), outcomes)

    def _replace_stalled(self) -> None:
        for member in self._fleet.stalled():
            self._replace(member, True, f"no progress for {self._options.stall_timeout:g} s")

    def _replace(self, member: Member[Candidate], has_died: bool, reason: str) -> None:
        """Put another worker in the place of one that is lost, and let its pairs wait again."""
        assert member.info is not None, "only a worker that is ready has batches"
        lost = member.candidates
        self._backlog.forget(member.handle)
        self._fleet.replace(member)
        self._notices.append(
            f"a worker on {member.info.host} (process {member.info.process}) is replaced: {reason}; "
            f"its {len(lost)} pairs wait for another"
        )
        self._settlement.loss(lost, has_died, reason)

    def _publish(self) -> None:
        for unit, rows in self._book.take_complete():
            self._publisher.submit(unit, rows)
        self._publisher.check()

    def _report(self) -> None:
        tally = self._book.tally
        sources = (self._notices, self._fleet.notices, self._settlement.notices)
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
                workers=tuple(member.progress for member in self._fleet.members),
                notices=notices,
            )
        )
