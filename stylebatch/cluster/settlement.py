"""What becomes of pairs that come back from workers: they end, or wait for another attempt."""

from collections.abc import Sequence

from stylebatch.cluster.events import Tell, batch_ended, nobody, pair_ended
from stylebatch.cluster.schedule import (
    MOST_DEATHS,
    Backlog,
    Candidate,
    after_loss,
    is_poison,
    isolated,
    moved,
    retried,
    should_retry,
)
from stylebatch.cluster.stragglers import SecondRuns
from stylebatch.errors import JobError, OutputConflictError
from stylebatch.job import Job, UnitBook, committed_row, store_failure
from stylebatch.layout import Row
from stylebatch.objectstore import ObjectStore
from stylebatch.work import Outcome, Task, failed_row


class Settlement:
    """Turns what workers report into ended rows in the book, or into candidates in the backlog.

    Of a pair that runs twice, only the run that decides counts; see
    :class:`~stylebatch.cluster.stragglers.SecondRuns`.
    """

    def __init__(
        self, job: Job, store: ObjectStore, book: UnitBook, backlog: Backlog, tell: Tell = nobody
    ) -> None:
        self.new_pictures = 0
        self.notices: list[str] = []
        self.second_runs = SecondRuns()
        self._job = job
        self._store = store
        self._book = book
        self._backlog = backlog
        self._tell = tell

    def outcomes(self, batch: Sequence[Candidate], outcomes: Sequence[Outcome]) -> None:
        """A worker has worked on a batch."""
        self._tell(batch_ended(outcomes))
        candidates = {candidate.task.pair.row: candidate for candidate in batch}
        for outcome in outcomes:
            self.notices += outcome.notices
            if not self.second_runs.is_won(outcome.task.pair.row):
                candidate = candidates[outcome.task.pair.row]
                self._settle(self.second_runs.known(candidate), outcome)

    def _settle(self, candidate: Candidate, outcome: Outcome) -> None:
        row = outcome.row or self._committed_row(outcome.task)
        if outcome.stops_job:
            raise JobError(f"{outcome.task.pair.pair_id}: {row['error']}")
        if should_retry(candidate, outcome):
            self._wait(retried(candidate))
        elif self._decides(candidate, has_picture=row["status"] == "ok"):
            self._end(outcome.task, row)

    def _wait(self, candidate: Candidate) -> None:
        """Let a pair wait for another attempt, unless another run of it is under way."""
        if self.second_runs.needs_another(candidate):
            self._backlog.add(candidate)

    def _decides(self, candidate: Candidate, has_picture: bool = False) -> bool:
        return self.second_runs.decides(candidate.task.pair.row, has_picture)

    def _committed_row(self, task: Task) -> Row:
        try:
            return committed_row(self._job, self._store, task)
        except OutputConflictError as error:
            return failed_row(task.pair, type(error).__name__, str(error), task.attempt)

    def crash(self, batch: Sequence[Candidate], cause: BaseException) -> None:
        """An exception that nobody expected: those that shared a batch run again alone."""
        for candidate in batch:
            if not self._decides(candidate):
                continue
            if len(batch) > 1:
                self._backlog.add(isolated(self.second_runs.known(candidate)))
                continue
            task = candidate.task
            message = str(cause) or "no more is known"
            self._end(task, failed_row(task.pair, type(cause).__name__, message, task.attempt))

    def loss(self, lost: list[Candidate], has_died: bool, reason: str) -> None:
        """A worker died or hung with the pairs that it had, or was lost with its machine."""
        for candidate in after_loss([*map(self.second_runs.known, lost)], has_died):
            if not self.second_runs.needs_another(candidate):
                continue
            if is_poison(candidate):
                self._give_up(candidate, reason)
            else:
                self._backlog.add(candidate)

    def hand_over(self, taken: Sequence[Candidate]) -> None:
        """A worker was let go because its machine leaves: what it had is charged with nothing."""
        for candidate in map(self.second_runs.known, taken):
            self._wait(moved(candidate))

    def _give_up(self, candidate: Candidate, reason: str) -> None:
        what = (
            f"{candidate.deaths} workers died or hung while they worked on this pair alone"
            if candidate.deaths >= MOST_DEATHS
            else f"{candidate.losses} workers were lost while they had this pair"
        )
        pair, attempts = candidate.task.pair, candidate.task.attempt - 1
        self._end(candidate.task, failed_row(pair, "WorkerDied", f"{what}; the last: {reason}", attempts))

    def _end(self, task: Task, row: Row) -> None:
        if row["status"] == "failed":
            store_failure(self._job, self._store, task.unit, row)
        self.new_pictures += row["status"] == "ok"
        self._book.add(task.unit, row, is_new=True)
        self._tell(pair_ended(task, row))
