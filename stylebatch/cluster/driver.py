"""The loop: feed workers, collect outcomes, publish parts."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from stylebatch.cluster.fleet import Fleet, Member, connected, plan_fleet
from stylebatch.cluster.lookahead import LookAhead
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.cluster.schedule import (
    BATCHES_PER_WORKER,
    MOST_DEATHS,
    Backlog,
    Candidate,
    after_death,
    is_poison,
    isolated,
    retried,
    should_retry,
)
from stylebatch.cluster.worker import WorkerSettings
from stylebatch.errors import JobError, JobStoppedError, StylebatchError
from stylebatch.job import (
    Job,
    Tally,
    UnitBook,
    claim_output,
    committed_row,
    finished_units,
    pending_tasks,
    publish_part,
    publish_success,
    store_failure,
    tally_finished,
)
from stylebatch.objectstore import ObjectStore
from stylebatch.pictures import DEFAULT_MAX_PIXELS
from stylebatch.results import Row
from stylebatch.work import Outcome, Task, failed_row

TICK = 0.5
"""Seconds between two looks at the workers when nothing ends."""
DEPTH_PER_WORKER = 32
"""Pairs that wait for each worker, so that some can share a forward pass or a style."""


def run_job(
    job: Job,
    store: ObjectStore,
    *,
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
    largest_batch: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    observe: Observer = lambda progress: None,
) -> Tally:
    """Run a job to its end; what an earlier run has finished is not done again.

    Args:
        job: What to do.
        store: Where inputs and output are.
        workers: How many; None is one for each GPU, or by the processor's cores.
        address: A Ray cluster; None starts Ray on this machine.
        device: ``gpu``, ``cpu``, or ``auto``: GPUs if Ray has any.
        largest_batch: The most pictures in one forward pass; None decides by size and memory.
        max_pixels: Of a source image; a larger one fails its pair before it is decoded.
        observe: Called about twice a second.

    Returns:
        How every row of the manifest ended.

    Raises:
        JobError: The output belongs to another job.
        ClusterError: Ray or its workers do not start.
        JobStoppedError: Something happened that every further pair would meet.
    """
    is_new = claim_output(job, store)
    finished = finished_units(job, store)
    book = UnitBook(job)
    tally_finished(job, store, finished, book.tally)
    if len(finished) < len(job.units):
        tasks = pending_tasks(job, store, finished, is_new, book)
        with connected(address) as resources:
            plan = plan_fleet(resources, workers, device)
            settings = WorkerSettings(store, job.layout, job.recipe, plan.threads, plan.is_gpu, max_pixels)
            _Run(job, store, book, Fleet(plan, settings), tasks, largest_batch, observe).to_the_end()
    publish_success(job, store, book.tally)
    return book.tally


class _Run:
    """One run of a job on a fleet of workers."""

    def __init__(
        self,
        job: Job,
        store: ObjectStore,
        book: UnitBook,
        fleet: Fleet,
        tasks: Iterator[Task],
        largest_batch: int | None,
        observe: Observer,
    ) -> None:
        self._job = job
        self._store = store
        self._book = book
        self._observe = observe
        self._backlog = Backlog()
        self._fleet = fleet
        self._depth = DEPTH_PER_WORKER * fleet.plan.workers
        self._lookahead = LookAhead(tasks, store, self._depth, fleet.plan.is_gpu, most=largest_batch)
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self._publishing: list[Future[None]] = []
        self._started: float | None = None
        self._new_pictures = 0

    def to_the_end(self) -> None:
        """Work until every row has ended and every part is published."""
        try:
            while not self._is_finished():
                self._step()
            for future in self._publishing:
                future.result()
        except StylebatchError as error:
            if self._started is None:
                raise
            raise JobStoppedError(str(error)) from error
        finally:
            self._lookahead.close()
            self._publisher.shutdown(cancel_futures=True)

    def _step(self) -> None:
        self._fleet.poll()
        self._refill()
        self._dispatch()
        self._collect()
        self._publish()
        self._observe(self._progress())

    def _is_finished(self) -> bool:
        return self._lookahead.is_exhausted and not self._backlog and not self._fleet.references

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

    def _may_have_more(self, member: Member) -> bool:
        """An idle worker may. A busy one may where enough is left for all, and it has no suspect."""
        if not member.batches:
            return True
        if any(candidate.is_suspect for candidate in member.candidates):
            return False
        return not self._lookahead.is_exhausted or len(self._backlog) >= len(self._fleet.members)

    def _give(self, member: Member) -> None:
        batch = self._backlog.take(member.handle, len(self._fleet.members), is_idle=not member.batches)
        if batch:
            reference = member.handle.run.remote([candidate.task for candidate in batch])
            member.batches[reference] = batch

    def _collect(self) -> None:
        references = self._fleet.references
        if not references:
            time.sleep(TICK / 10)  # workers are starting, or headers are being read
            return
        done, _ = ray.wait(references, timeout=TICK)
        for reference in done:
            if reference in self._fleet.references:  # a worker's death takes all its batches at once
                self._collect_batch(self._fleet.owner(reference), reference)

    def _collect_batch(self, member: Member, reference: Any) -> None:
        try:
            outcomes: list[Outcome] = ray.get(reference)
        except RayTaskError as error:
            self._after_crash(member.batches.pop(reference), error)
        except RayError as error:
            self._after_death(member, error)
        else:
            candidates = {candidate.task.pair.row: candidate for candidate in member.batches.pop(reference)}
            for outcome in outcomes:
                self._settle(candidates[outcome.task.pair.row], outcome)

    def _settle(self, candidate: Candidate, outcome: Outcome) -> None:
        row = outcome.row
        if row is None:
            row = dict(committed_row(self._job, self._store, outcome.task))
        if outcome.stops_job:
            raise JobError(f"{outcome.task.pair.pair_id}: {row['error']}")
        if should_retry(outcome):
            self._backlog.add(retried(candidate))
        else:
            self._end(outcome.task, row)

    def _end(self, task: Task, row: Row) -> None:
        if row["status"] == "failed":
            store_failure(self._job, self._store, task.unit, row)
        self._new_pictures += row["status"] == "ok"
        self._book.add(task.unit, row, is_new=True)

    def _after_crash(self, batch: list[Candidate], error: RayTaskError) -> None:
        """An exception that nobody expected: those that shared a batch run again alone."""
        for candidate in batch:
            if len(batch) > 1:
                self._backlog.add(isolated(candidate))
                continue
            cause = error.cause
            row = failed_row(candidate.task.pair, type(cause).__name__, str(cause), candidate.task.attempt)
            self._end(candidate.task, row)

    def _after_death(self, member: Member, error: RayError) -> None:
        self._backlog.forget(member.handle)
        self._fleet.replace(member)
        for candidate in after_death(member.candidates):
            if is_poison(candidate):
                message = (
                    f"{MOST_DEATHS} worker processes died while they worked on this pair alone; the last: "
                    f"{' '.join(str(error).split())[:300] or type(error).__name__}"
                )
                pair = candidate.task.pair
                row = failed_row(pair, "WorkerDied", message, candidate.task.attempt - 1)
                self._end(candidate.task, row)
            else:
                self._backlog.add(candidate)

    def _publish(self) -> None:
        for unit, rows in self._book.take_complete():
            self._publishing.append(self._publisher.submit(publish_part, self._job, self._store, unit, rows))
        for future in [future for future in self._publishing if future.done()]:
            future.result()
            self._publishing.remove(future)

    def _progress(self) -> Progress:
        tally = self._book.tally
        return Progress(
            total=self._job.manifest.num_rows,
            ok=tally.ok,
            failed=tally.failed,
            new=self._new_pictures,
            seconds=0.0 if self._started is None else time.monotonic() - self._started,
            workers=tuple(member.progress for member in self._fleet.members),
        )
