"""What is left to do, as a stream."""

import itertools
from collections.abc import Callable

import pytest
from inmemory import MANIFEST, MemoryStore
from simulated import JobMaker, later, ok_row, pairs, picture, publish_as_worker, run, table, work

from stylebatch.errors import OutputConflictError
from stylebatch.job import (
    Job,
    OpenedOutput,
    Tally,
    UnitBook,
    open_output,
    pending_tasks,
    publish_part,
    publish_success,
    store_failure,
)
from stylebatch.layout import image_sha256
from stylebatch.work import Task, failed_row

Open = Callable[..., OpenedOutput]


@pytest.fixture
def opened(store: MemoryStore) -> Open:
    """``opened(job)``: the output of a job, opened again; its lease is given up at once."""

    def open_again(job: Job, **options: bool) -> OpenedOutput:
        output = open_output(job, store, **options)
        output.lease.release()
        return output

    return open_again


def publish(job: Job, store: MemoryStore, unit: int) -> None:
    span = job.unit_rows(unit)
    members = itertools.islice(job.manifest.pairs(job.recipe, span.start), len(span))
    publish_part(job, store, unit, [ok_row(pair, picture(pair)) for pair in members])


def test_a_new_job_has_everything_to_do_and_looks_at_nothing(
    make_job: JobMaker, store: MemoryStore, opened: Open
) -> None:
    job = make_job()
    output = opened(job)
    assert output.is_new
    store.operations.clear()
    tasks = list(pending_tasks(job, output, UnitBook(job)))
    assert [(task.pair.pair_id, task.unit, task.attempt, task.has_checkpoint) for task in tasks] == [
        ("p0", 0, 1, False),
        ("p1", 0, 1, False),
        ("p2", 1, 1, False),
        ("p3", 1, 1, False),
        ("p4", 2, 1, False),
    ]
    assert {uri for _, uri in store.operations} == {MANIFEST}


def test_what_has_ended_goes_into_the_book(make_job: JobMaker, store: MemoryStore, opened: Open) -> None:
    job = make_job()
    opened(job)
    publish_as_worker(job, store, Task(pairs(job)[0], 0), b"image")
    for number in (2, 3):
        store_failure(job, store, 1, failed_row(pairs(job)[number], "PictureError", "empty", 1))
    book = UnitBook(job)
    tasks = list(pending_tasks(job, opened(job), book))
    assert [task.pair.row for task in tasks] == [1, 4]
    assert (book.tally.ok, book.tally.failed, book.tally.skipped) == (1, 2, 3)
    assert [(unit, [row["row"] for row in rows]) for unit, rows in book.take_complete()] == [(1, [2, 3])]
    book.add(0, ok_row(tasks[0].pair, b"new"), is_new=True)
    assert [(unit, [row["row"] for row in rows]) for unit, rows in book.take_complete()] == [(0, [0, 1])]


def test_units_are_looked_at_only_when_it_is_their_turn(
    make_job: JobMaker, store: MemoryStore, opened: Open
) -> None:
    job = make_job(rows=100, unit_size=2)
    opened(job)
    for unit in range(50):
        store_failure(job, store, unit, failed_row(pairs(job)[2 * unit], "PictureError", "empty", 1))
    output = opened(job)
    store.operations.clear()
    next(pending_tasks(job, output, UnitBook(job)))
    assert store.calls("list") == [job.layout.images(0)]
    assert store.calls("get") == [job.layout.failed_record(0, "p0")]


@pytest.mark.parametrize(
    ("finished", "rows"),
    [
        ({0}, [2, 3, 4]),
        ({1}, [0, 1, 4]),
        ({2}, [0, 1, 2, 3]),
        ({0, 2}, [2, 3]),
        ({0, 1, 2}, []),
    ],
)
def test_finished_units_are_left_out(
    make_job: JobMaker, store: MemoryStore, opened: Open, finished: set[int], rows: list[int]
) -> None:
    job = make_job()
    opened(job)
    for unit in finished:
        publish(job, store, unit)
    tasks = list(pending_tasks(job, opened(job), UnitBook(job)))
    assert [task.pair.row for task in tasks] == rows
    assert [task.unit for task in tasks] == [row // 2 for row in rows]


def test_rows_of_finished_units_are_not_read(make_job: JobMaker, store: MemoryStore, opened: Open) -> None:
    job = make_job(
        rows=4000,
        unit_size=100,
        columns={"style": [f"a style with a long name, {i * 7919}.png" for i in range(4000)]},
        row_group_size=100,
        compression="none",
        use_dictionary=False,
    )
    output = opened(job)
    store.read.clear()
    list(pending_tasks(job, output, UnitBook(job)))
    everything = sum(length for _, length in store.read)
    for unit in range(39):
        publish(job, store, unit)
    output = opened(job)
    store.read.clear()
    tasks = list(pending_tasks(job, output, UnitBook(job)))
    assert len(tasks) == 100
    assert {uri for uri, _ in store.read} == {MANIFEST}
    assert sum(length for _, length in store.read) < everything / 10


def test_a_task_knows_of_its_checkpoint(make_job: JobMaker, store: MemoryStore, opened: Open) -> None:
    job = make_job(columns={"pair_id": ["p", "p.ckpt", "q", "r", "s"]})
    opened(job)
    store.put(job.layout.checkpoint(0, "p"), b"half way")
    store.put(job.layout.checkpoint(1, "r"), b"half way")
    store.put(job.layout.checkpoint(1, "s"), b"of another unit")
    tasks = list(pending_tasks(job, opened(job), UnitBook(job)))
    assert [task.pair.pair_id for task in tasks if task.has_checkpoint] == ["p", "r"]


def test_damaged_records_are_told_as_they_are_met(
    make_job: JobMaker, store: MemoryStore, opened: Open
) -> None:
    job = make_job()
    opened(job)
    store.put(job.layout.failed_record(1, "p3"), b"{")
    output = opened(job)
    assert output.notices == []
    tasks = list(pending_tasks(job, output, UnitBook(job)))
    assert len(tasks) == 5
    (notice,) = output.notices
    assert "records/000001/p3.failed.json is damaged: it is not JSON; it is ignored" in notice


def test_somebody_s_file_where_a_picture_belongs_fails_its_pair_and_stays(
    make_job: JobMaker, store: MemoryStore
) -> None:
    """Even where the job is run again and again; when the file has gone, --retry-failed makes it good."""
    job = make_job()
    run(job, store, failing=())
    store = later(store)
    mine, part = job.layout.image(1, "p3", ".png"), job.layout.part(1)
    store.put(mine, b"somebody's")
    store.delete(part)
    tallies = [run_with_conflicts(job, store), run_with_conflicts(job, store, retry_failed=True)]
    for tally in tallies:
        assert (tally.ok, tally.failed) == (4, 1)
    assert store.objects[mine] == b"somebody's"
    (example,) = tallies[1].error_examples["OutputConflictError"]
    assert f"p3: {mine} is there, but no record has its hash" in example
    store.delete(mine)
    assert run_with_conflicts(job, store, retry_failed=True).failed == 0
    assert [row["attempts"] for row in table(job, store)] == [1, 1, 1, 3, 1]
    assert image_sha256(store.objects[mine]) == table(job, store)[3]["image_sha256"]


def run_with_conflicts(job: Job, store: MemoryStore, **options: bool) -> Tally:
    """A run whose driver makes a failed row of a conflict."""
    output = open_output(job, store, **options)
    book = UnitBook(job, output.tally)
    for task in pending_tasks(job, output, book):
        try:
            row = work(job, store, task, failing=(), rivals=())
        except OutputConflictError as error:
            row = failed_row(task.pair, type(error).__name__, str(error), task.attempt)
            store_failure(job, store, task.unit, row)
        book.add(task.unit, row, is_new=True)
        for unit, rows in book.take_complete():
            publish_part(job, store, unit, rows)
    publish_success(job, store, book.tally)
    output.lease.release()
    return book.tally
