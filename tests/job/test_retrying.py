"""Failed rows, and only those, run again."""

import pyarrow as pa
import pyarrow.parquet as pq
from inmemory import MemoryStore
from simulated import JobMaker, check_whole, finished, pairs, publish_as_worker, run, table

from stylebatch.job import UnitBook, open_output, pending_tasks, store_failure
from stylebatch.layout import decode_record
from stylebatch.work import Task, failed_row


def test_failed_rows_and_only_those_run_again(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job(rows=7, unit_size=3)
    left = finished(job, store, failing=("p1", "p6"))
    before = table(job, left)
    seen: list[Task] = []
    tally = run(job, left, failing=("p6",), on_task=seen.append, retry_failed=True)
    assert [(task.pair.pair_id, task.unit, task.attempt) for task in seen] == [("p1", 0, 2), ("p6", 2, 2)]
    assert (tally.ok, tally.failed, tally.skipped) == (6, 1, 5)
    assert tally.error_examples == {"NotFoundError": ["p6: s3://bucket/study/c6.png is missing"]}
    check_whole(job, left)
    after = table(job, left)
    assert [row["attempts"] for row in after] == [1, 2, 1, 1, 1, 1, 2]
    assert after[1]["status"] == "ok"
    for number in (0, 2, 3, 4, 5):
        assert after[number] == before[number]


def test_untouched_rows_come_out_as_they_were(make_job: JobMaker, store: MemoryStore) -> None:
    """To the byte: maps, lists, nulls and the manifest's own columns."""
    columns = {"tags": [["a"], [], None, ["b", None], ["c"]], "level": [1.5, None, 3.0, 4.0, 5.0]}
    job = make_job(rows=5, unit_size=5, columns=columns)
    left = finished(job, store)
    before = left.objects[job.layout.part(0)]
    for number in range(2, 4):
        run(job, left, failing=("p1",), retry_failed=True)
        rows = table(job, left)
        assert rows[1]["attempts"] == number
        ours = pq.read_table(pa.BufferReader(left.objects[job.layout.part(0)]))
        theirs = pq.read_table(pa.BufferReader(before))
        assert ours.schema.equals(theirs.schema, check_metadata=True)
        assert ours.filter(pa.array([True, False, True, True, True])).equals(
            theirs.filter(pa.array([True, False, True, True, True]))
        )


def test_without_failed_rows_nothing_is_touched(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    left = finished(job, store, failing=())
    left.operations.clear()
    output = open_output(job, left, retry_failed=True)
    output.lease.release()
    assert output.finished == {0, 1, 2}
    changed = {uri for method, uri in left.operations if method in ("put", "put_if_version", "delete")}
    assert changed == {job.layout.lease}


def test_units_without_failed_rows_are_not_touched(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    left = finished(job, store)
    left.operations.clear()
    open_output(job, left, retry_failed=True).lease.release()
    assert left.calls("put") == ["s3://bucket/out/reopened/part-000000.parquet"]
    assert [uri for uri in left.calls("delete") if uri != job.layout.lease] == [
        job.layout.success,
        job.layout.part(0),
    ]


def test_success_goes_first(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    left = finished(job, store)
    left.operations.clear()
    open_output(job, left, retry_failed=True).lease.release()
    changes = [uri for method, uri in left.operations if method in ("put", "delete")]
    assert changes[0] == job.layout.success


def test_failed_records_of_open_units_run_again_and_keep_count(
    make_job: JobMaker, store: MemoryStore
) -> None:
    job = make_job(rows=3, unit_size=3)
    open_output(job, store).lease.release()
    failure = failed_row(pairs(job)[1], "NotFoundError", "gone", 4)
    store_failure(job, store, 0, failure)
    publish_as_worker(job, store, Task(pairs(job)[0], 0), b"image")
    for options, expected in (({}, [("p2", 1)]), ({"retry_failed": True}, [("p1", 5), ("p2", 1)])):
        output = open_output(job, store, **options)
        output.lease.release()
        tasks = list(pending_tasks(job, output, UnitBook(job)))
        assert [(task.pair.pair_id, task.attempt) for task in tasks] == expected
    record = job.layout.failed_record(0, "p1")
    assert decode_record(store.objects[record], record) == failure | {"status": "pending"}
    seen: list[Task] = []
    run(job, store, failing=(), on_task=seen.append)
    assert [(task.pair.pair_id, task.attempt) for task in seen] == [("p1", 5), ("p2", 1)]
    assert [row["status"] for row in table(job, store)] == ["ok"] * 3


def test_a_damaged_failed_record_does_not_stop_it(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    open_output(job, store).lease.release()
    store.put(job.layout.failed_record(0, "p1"), b"{")
    run(job, store, failing=(), retry_failed=True)
    check_whole(job, store)


def test_a_part_beats_its_reopened_copy(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    left = finished(job, store)
    left.put("s3://bucket/out/reopened/part-000000.parquet", b"half a copy")
    assert run(job, left).failed == 1
    assert "s3://bucket/out/reopened/part-000000.parquet" not in left.objects


def test_kept_rows_are_not_held_in_memory(make_job: JobMaker, store: MemoryStore) -> None:
    """Units with a failed row each may all be open at once; their good rows stay where they are."""
    job = make_job(rows=6, unit_size=3)
    left = finished(job, store, failing=("p1", "p4"))
    output = open_output(job, left, retry_failed=True)
    book = UnitBook(job, output.tally)
    tasks = list(pending_tasks(job, output, book))
    output.lease.release()
    assert len(tasks) == 2
    assert [row for rows in book._rows.values() for row in rows.values()] == [None] * 4
