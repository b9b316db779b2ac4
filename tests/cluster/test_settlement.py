"""What becomes of pairs that come back: ended rows, or candidates that wait again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from inmemory import MemoryStore, make_manifest

from stylebatch.cluster.schedule import Backlog, Candidate
from stylebatch.cluster.settlement import Settlement
from stylebatch.errors import JobError
from stylebatch.job import Job, UnitBook
from stylebatch.layout import Row, decode_record, encode_record, image_sha256
from stylebatch.work import Outcome, Task, failed_row

Maker = Callable[..., Candidate]
ROWS = 4


@dataclass
class Desk:
    """A settlement with everything that it writes to."""

    job: Job
    store: MemoryStore
    book: UnitBook
    backlog: Backlog
    settlement: Settlement

    def waiting(self) -> list[Candidate]:
        batch: list[Candidate] = []
        while taken := self.backlog.take("w", 1, is_idle=True):
            batch += taken
        return sorted(batch, key=lambda one: one.task.pair.row)

    def row(self, number: int) -> Row:
        """The only row that has ended in its unit."""
        (_, rows), *more = self.book.take_complete()
        assert not more
        return rows[number]


@pytest.fixture
def desk(make_candidate: Maker) -> Desk:
    store = MemoryStore()
    columns = {"pair_id": [f"p{i}" for i in range(ROWS)], "content": ["/c.png"] * ROWS}
    recipe = make_candidate(0).task.pair.recipe
    job = Job(make_manifest(store, columns), recipe, "s3://bucket/out", "a" * 64, ROWS)
    book, backlog = UnitBook(job), Backlog()
    book.open(0)
    return Desk(job, store, book, backlog, Settlement(job, store, book, backlog))


def ok(task: Task, **changes: Any) -> Outcome:
    return Outcome(task, {"pair_id": task.pair.pair_id, "row": task.pair.row, "status": "ok"}, **changes)


def failed(task: Task, **changes: Any) -> Outcome:
    return Outcome(task, failed_row(task.pair, "PictureError", "it is empty", task.attempt), **changes)


def test_pairs_end_and_failures_are_recorded(desk: Desk, make_candidate: Maker) -> None:
    batch = [make_candidate(0), make_candidate(1)]
    desk.settlement.outcomes(batch, [failed(batch[1].task), ok(batch[0].task)])
    assert (desk.book.tally.ok, desk.book.tally.failed, desk.settlement.new_pictures) == (1, 1, 1)
    uri = desk.job.layout.failed_record(0, "p1")
    assert decode_record(desk.store.objects[uri], uri)["error"] == "it is empty"
    assert desk.store.calls("put") == [desk.job.manifest.uri, uri]
    assert len(desk.backlog) == 0


def test_a_failure_that_may_go_away_waits_again(desk: Desk, make_candidate: Maker) -> None:
    candidate = make_candidate(0)
    for attempt in (2, 3):
        desk.settlement.outcomes([candidate], [failed(candidate.task, can_retry=True)])
        (candidate,) = desk.waiting()
        assert candidate.task.attempt == attempt
        assert desk.book.tally.ended == 0
    desk.settlement.outcomes([candidate], [failed(candidate.task, can_retry=True)])
    assert (desk.book.tally.failed, len(desk.backlog)) == (1, 0)


def test_what_every_pair_would_meet_stops_the_job(desk: Desk, make_candidate: Maker) -> None:
    candidate = make_candidate(2)
    with pytest.raises(JobError, match=r"^p2: it is empty$"):
        desk.settlement.outcomes([candidate], [failed(candidate.task, stops_job=True)])
    assert desk.book.tally.ended == 0


def test_notices_are_passed_on(desk: Desk, make_candidate: Maker) -> None:
    candidate = make_candidate(0)
    desk.settlement.outcomes([candidate], [ok(candidate.task, notices=("the batch was halved",))])
    assert desk.settlement.notices == ["the batch was halved"]


def test_a_lost_attempt_ends_with_the_row_of_the_winner(desk: Desk, make_candidate: Maker) -> None:
    image, layout = b"the winner's file", desk.job.layout
    winner = {"pair_id": "p0", "row": 0, "status": "ok", "seconds": 7.0, "image_sha256": image_sha256(image)}
    desk.store.objects[layout.record(0, "p0", image_sha256(image))] = encode_record(winner)
    desk.store.objects[layout.image(0, "p0", ".png")] = image
    candidate = make_candidate(0)
    desk.settlement.outcomes([candidate], [Outcome(candidate.task, None)])
    assert (desk.book.tally.ok, desk.book.tally.failed) == (1, 0)


def test_an_image_of_somebody_else_fails_its_pair_alone(desk: Desk, make_candidate: Maker) -> None:
    desk.store.objects[desk.job.layout.image(0, "p0", ".png")] = b"a holiday photograph"
    batch = [make_candidate(0), make_candidate(1)]
    desk.settlement.outcomes(batch, [Outcome(batch[0].task, None), ok(batch[1].task)])
    assert (desk.book.tally.ok, desk.book.tally.failed) == (1, 1)
    assert desk.book.tally.error_counts == {"OutputConflictError": 1}
    assert desk.store.objects[desk.job.layout.image(0, "p0", ".png")] == b"a holiday photograph"


def test_an_unexpected_exception_belongs_to_one_pair_of_its_batch(desk: Desk, make_candidate: Maker) -> None:
    desk.settlement.crash([make_candidate(0), make_candidate(1)], ZeroDivisionError("division by zero"))
    again = desk.waiting()
    assert [(one.is_suspect, one.task.attempt) for one in again] == [(True, 2)] * 2
    desk.settlement.crash([again[0]], ZeroDivisionError("division by zero"))
    assert desk.book.tally.error_examples == {"ZeroDivisionError": ["p0: division by zero"]}


def test_an_exception_without_words_is_a_failed_row_with_some(desk: Desk, make_candidate: Maker) -> None:
    desk.settlement.crash([make_candidate(0)], KeyError())
    assert desk.book.tally.error_examples == {"KeyError": ["p0: no more is known"]}


def test_a_pair_that_kills_its_workers_becomes_a_failed_row(desk: Desk, make_candidate: Maker) -> None:
    candidate = make_candidate(0)
    for _ in range(2):
        desk.settlement.loss([candidate], has_died=True, reason="exit code 13")
        (candidate,) = desk.waiting()
    desk.settlement.loss([candidate], has_died=True, reason="exit code 13")
    assert desk.book.tally.error_examples == {
        "WorkerDied": [
            "p0: 3 workers died or hung while they worked on this pair alone; the last: exit code 13"
        ]
    }
    record = desk.job.layout.failed_record(0, "p0")
    assert decode_record(desk.store.objects[record], record)["attempts"] == 3


def test_machines_that_vanish_cost_a_pair_nothing_but_are_counted(desk: Desk, make_candidate: Maker) -> None:
    candidate, losses = make_candidate(0), 0
    while not desk.book.tally.ended:
        desk.settlement.loss([candidate], has_died=False, reason="the node died")
        losses += 1
        for candidate in desk.waiting():
            assert not candidate.is_suspect
    assert losses == 10
    (example,) = desk.book.tally.error_examples["WorkerDied"]
    assert example == "p0: 10 workers were lost while they had this pair; the last: the node died"


class TestSecondRuns:
    """A pair that two workers have."""

    @pytest.fixture
    def twice(self, desk: Desk, make_candidate: Maker) -> Candidate:
        desk.settlement.second_runs.begin(0)
        return make_candidate(0)

    def test_the_first_picture_counts_and_counts_once(self, desk: Desk, twice: Candidate) -> None:
        for _ in range(2):
            desk.settlement.outcomes([twice], [ok(twice.task)])
        assert (desk.book.tally.ok, desk.settlement.new_pictures, len(desk.backlog)) == (1, 1, 0)

    def test_the_loser_asks_the_storage_for_nothing(self, desk: Desk, twice: Candidate) -> None:
        desk.settlement.outcomes([twice], [ok(twice.task)])
        before = list(desk.store.operations)
        desk.settlement.outcomes([twice], [Outcome(twice.task, None, notices=("the batch was halved",))])
        assert desk.store.operations == before
        assert desk.settlement.notices == ["the batch was halved"]

    @pytest.mark.parametrize("can_retry", [False, True])
    def test_an_error_of_one_run_waits_for_the_other(
        self, desk: Desk, twice: Candidate, can_retry: bool
    ) -> None:
        desk.settlement.outcomes([twice], [failed(twice.task, can_retry=can_retry)])
        assert (desk.book.tally.ended, len(desk.backlog)) == (0, 0)
        assert not desk.store.calls("put")[1:]
        desk.settlement.outcomes([twice], [ok(twice.task)])
        assert (desk.book.tally.ok, desk.book.tally.failed) == (1, 0)

    def test_an_error_of_both_is_the_pairs(self, desk: Desk, twice: Candidate) -> None:
        for _ in range(2):
            desk.settlement.outcomes([twice], [failed(twice.task)])
        assert (desk.book.tally.ok, desk.book.tally.failed) == (0, 1)

    @pytest.mark.parametrize("has_died", [False, True])
    def test_a_worker_that_is_lost_over_one_run_waits_for_the_other(
        self, desk: Desk, twice: Candidate, has_died: bool
    ) -> None:
        desk.settlement.loss([twice], has_died, "exit code 13")
        assert len(desk.backlog) == 0
        desk.settlement.outcomes([twice], [ok(twice.task)])
        assert (desk.book.tally.ok, desk.book.tally.failed, len(desk.backlog)) == (1, 0, 0)

    @pytest.mark.parametrize("has_died", [False, True])
    def test_workers_that_are_lost_over_both_are_charged(
        self, desk: Desk, twice: Candidate, has_died: bool
    ) -> None:
        for _ in range(2):
            desk.settlement.loss([twice], has_died, "exit code 13")
        (again,) = desk.waiting()
        assert (again.deaths, again.losses, again.task.attempt) == (2 * has_died, 2, 3)
        assert again.is_suspect is has_died

    def test_so_is_one_where_the_other_run_has_failed(self, desk: Desk, twice: Candidate) -> None:
        desk.settlement.loss([twice], True, "exit code 13")
        desk.settlement.outcomes([twice], [failed(twice.task, can_retry=True)])
        (again,) = desk.waiting()
        assert (again.deaths, again.losses, again.retries, again.is_suspect) == (1, 1, 1, True)

    def test_errors_that_may_go_away_are_counted_over_both(self, desk: Desk, twice: Candidate) -> None:
        runs, failures = desk.settlement.second_runs, 0
        while not desk.book.tally.ended:
            desk.settlement.outcomes([twice], [failed(twice.task, can_retry=True)])
            failures += 1
            if runs.may_begin([twice]):
                runs.begin(0)
            twice = next(iter(desk.waiting()), twice)
        assert (failures, desk.book.tally.failed) == (4, 1)

    def test_a_pair_kills_three_workers_at_most(self, desk: Desk, make_candidate: Maker) -> None:
        """However many have it at a time."""
        runs, candidate, deaths = desk.settlement.second_runs, make_candidate(0), 0
        while not desk.book.tally.ended:
            workers = 2 if runs.may_begin([candidate]) else 1
            if workers == 2:
                runs.begin(0)
            for _ in range(workers):
                desk.settlement.loss([candidate], True, "exit code 13")
            deaths += workers
            candidate = next(iter(desk.waiting()), candidate)
        assert deaths == 3
        assert desk.book.tally.error_counts == {"WorkerDied": 1}
        record = desk.job.layout.failed_record(0, "p0")
        assert decode_record(desk.store.objects[record], record)["attempts"] == 3

    def test_an_unexpected_exception_waits_for_the_other_run(self, desk: Desk, twice: Candidate) -> None:
        desk.settlement.crash([twice], ZeroDivisionError("division by zero"))
        assert (desk.book.tally.ended, len(desk.backlog)) == (0, 0)

    def test_what_every_pair_would_meet_stops_the_job_all_the_same(
        self, desk: Desk, twice: Candidate
    ) -> None:
        with pytest.raises(JobError, match="it is empty"):
            desk.settlement.outcomes([twice], [failed(twice.task, stops_job=True)])

    def test_what_a_machine_that_leaves_had_runs_on_elsewhere(self, desk: Desk, twice: Candidate) -> None:
        desk.settlement.hand_over([twice])
        assert len(desk.backlog) == 0
        desk.settlement.hand_over([twice])
        assert len(desk.waiting()) == 1


def test_what_a_machine_that_leaves_had_is_charged_with_nothing(desk: Desk, make_candidate: Maker) -> None:
    before = [make_candidate(0, deaths=1, losses=2, retries=1, attempt=4), make_candidate(1, is_suspect=True)]
    desk.settlement.hand_over(before)
    for old, new in zip(before, desk.waiting(), strict=True):
        assert new.task.has_checkpoint  # and it may even have been committed
        assert (new.task.attempt, new.deaths, new.losses, new.retries, new.is_suspect) == (
            (old.task.attempt, old.deaths, old.losses, old.retries, old.is_suspect)
        )
