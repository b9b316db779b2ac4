"""Parts, failed records and the last word."""

import json

import pytest
from inmemory import MemoryStore
from simulated import JobMaker, ok_row, pairs

from stylebatch.errors import JobError
from stylebatch.job import Job, Tally, publish_part, publish_success, store_failure
from stylebatch.layout import decode_record, encode_record, image_sha256
from stylebatch.results import read_results
from stylebatch.work import failed_row


def put_failure(job: Job, store: MemoryStore, number: int, message: str = "it is empty") -> None:
    row = failed_row(pairs(job)[number], "PictureError", message, 1)
    store_failure(job, store, number // job.unit_size, row)


def put_record(job: Job, store: MemoryStore, number: int, image: bytes) -> None:
    pair = pairs(job)[number]
    record = job.layout.record(number // job.unit_size, pair.pair_id, image_sha256(image))
    store.put(record, encode_record(ok_row(pair, image)))


def finish(job: Job, store: MemoryStore, unit: int) -> None:
    publish_part(job, store, unit, [ok_row(pairs(job)[number], b"image") for number in job.unit_rows(unit)])


def test_the_part_is_there_before_what_it_takes_over_goes(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    put_record(job, store, 0, b"lost")
    put_record(job, store, 0, b"won")
    put_failure(job, store, 1)
    put_failure(job, store, 2)
    store.put(job.layout.checkpoint(0, "p0"), b"half way")
    store.put(job.layout.checkpoint(1, "p2"), b"half way")
    store.put("s3://bucket/out/records/000000/notes.txt", b"somebody's")
    store.operations.clear()
    finish(job, store, 0)
    changes = [(method, uri) for method, uri in store.operations if method in ("put", "delete")]
    assert changes[0] == ("put", "s3://bucket/out/results/part-000000.parquet")
    assert changes[-1] == ("delete", "s3://bucket/out/reopened/part-000000.parquet")
    assert [method for method, _ in changes[1:]] == ["delete"] * 5
    assert sorted(uri for uri in store.objects if "/records/" in uri or "/checkpoints/" in uri) == [
        job.layout.checkpoint(1, "p2"),
        "s3://bucket/out/records/000000/notes.txt",
        job.layout.failed_record(1, "p2"),
    ]


def test_a_part_that_cannot_be_stored_keeps_its_records(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    put_failure(job, store, 0)
    store.errors["put", job.layout.part(0)] = JobError("no room")
    with pytest.raises(JobError, match="no room"):
        finish(job, store, 0)
    assert job.layout.failed_record(0, "p0") in store.objects


def test_extra_columns_are_joined_by_row(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job(columns={"condition": [f"condition {i}" for i in range(5)]}, row_group_size=3)
    for unit in (2, 0, 1):
        finish(job, store, unit)
    table = read_results(store, job.output)
    assert table["pair_id"].to_pylist() == [f"p{i}" for i in range(5)]
    assert table["condition"].to_pylist() == [f"condition {i}" for i in range(5)]


def test_a_failure_is_stored_as_a_record(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    put_failure(job, store, 4, "gone")
    uri = "s3://bucket/out/records/000002/p4.failed.json"
    assert decode_record(store.objects[uri], uri)["error"] == "gone"


def test_success_carries_the_counts(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    for unit in job.units:
        finish(job, store, unit)
    publish_success(job, store, Tally(ok=3, failed=2))
    assert json.loads(store.objects["s3://bucket/out/_SUCCESS"]) == {"rows": 5, "ok": 3, "failed": 2}


def test_success_lists_the_parts_that_are_missing(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    finish(job, store, 1)
    store.put("s3://bucket/out/results/part-000002.parquet.old", b"")
    with pytest.raises(JobError) as raised:
        publish_success(job, store, Tally(ok=5))
    assert str(raised.value).splitlines() == [
        "s3://bucket/out is not complete: 2 of 3 parts are missing; run again:",
        "  s3://bucket/out/results/part-000000.parquet",
        "  s3://bucket/out/results/part-000002.parquet",
    ]
    assert job.layout.success not in store.objects


def test_many_missing_parts_are_counted(make_job: JobMaker, store: MemoryStore) -> None:
    with pytest.raises(JobError) as raised:
        publish_success(make_job(rows=40, unit_size=2), store, Tally(ok=40))
    lines = str(raised.value).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  and 10 more"


@pytest.mark.parametrize("tally", [Tally(ok=4), Tally(ok=3, failed=1), Tally(ok=5, failed=1), Tally()])
def test_success_needs_every_row(make_job: JobMaker, store: MemoryStore, tally: Tally) -> None:
    job = make_job()
    for unit in job.units:
        finish(job, store, unit)
    with pytest.raises(JobError, match=rf"is not complete: {tally.ended} of 5 rows have ended; run again"):
        publish_success(job, store, tally)
    assert job.layout.success not in store.objects


def test_what_came_too_late_goes_before_the_last_word(make_job: JobMaker, store: MemoryStore) -> None:
    """A worker of a driver that was killed may store its record after the unit's part is there."""
    job = make_job(rows=2)
    finish(job, store, 0)
    put_record(job, store, 0, b"too late")
    store.put(job.layout.checkpoint(0, "p1"), b"half way")
    store.put("s3://bucket/out/records/list.json", b"somebody's")
    publish_success(job, store, Tally(ok=2))
    left = [uri for uri in store.objects if "/records/" in uri or "/checkpoints/" in uri]
    assert left == ["s3://bucket/out/records/list.json"]
    assert store.calls("put")[-1] == job.layout.success
