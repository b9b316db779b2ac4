"""What an output says has ended, and what is left to do."""

import json
from collections.abc import Callable, Iterable, Iterator

import pytest
from inmemory import MANIFEST, MemoryStore

from stylebatch.errors import JobError
from stylebatch.job import (
    Job,
    Tally,
    UnitBook,
    committed_row,
    finished_units,
    pending_tasks,
    publish_part,
    publish_success,
    store_failure,
    tally_finished,
)
from stylebatch.job.ledger import ended_rows
from stylebatch.manifest import Pair
from stylebatch.results import decode_record, encode_record, image_sha256, read_results
from stylebatch.work import Task, failed_row, source_facts

JobMaker = Callable[..., Job]


def pairs(job: Job) -> list[Pair]:
    return list(job.manifest.pairs(job.recipe))


def ok_row(pair: Pair, image: bytes) -> dict[str, object]:
    return {**source_facts(pair), "status": "ok", "image_sha256": image_sha256(image)}


def put_record(job: Job, store: MemoryStore, number: int, image: bytes) -> dict[str, object]:
    pair = pairs(job)[number]
    row = ok_row(pair, image)
    record = job.layout.record(number // job.unit_size, pair.pair_id, image_sha256(image))
    store.put(record, encode_record(row))
    return row


def put_image(job: Job, store: MemoryStore, number: int, image: bytes, suffix: str = ".png") -> None:
    store.put(job.layout.image(number // job.unit_size, pairs(job)[number].pair_id, suffix), image)


def put_failure(job: Job, store: MemoryStore, number: int, message: str = "it is empty") -> None:
    row = failed_row(pairs(job)[number], "PictureError", message, 1)
    store_failure(job, store, number // job.unit_size, row)


def finish(job: Job, store: MemoryStore, unit: int) -> None:
    rows = [ok_row(pairs(job)[number], b"image") for number in job.unit_rows(unit)]
    publish_part(job, store, unit, rows)


class TestEndedRows:
    def test_the_record_that_matches_the_image_counts(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_record(job, store, 0, b"lost")
        won = put_record(job, store, 0, b"won")
        put_record(job, store, 0, b"lost too")
        put_image(job, store, 0, b"won")
        assert ended_rows(job, store, 0) == {"p0": won}

    def test_a_record_without_an_image_is_an_attempt_that_came_to_nothing(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_record(job, store, 0, b"never stored")
        assert ended_rows(job, store, 0) == {}

    def test_a_failed_record_counts(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_record(job, store, 0, b"never stored")
        put_failure(job, store, 0)
        (row,) = ended_rows(job, store, 0).values()
        assert (row["pair_id"], row["status"], row["error"]) == ("p0", "failed", "it is empty")

    def test_an_image_beats_a_failed_record(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_failure(job, store, 0)
        won = put_record(job, store, 0, b"image")
        put_image(job, store, 0, b"image")
        assert ended_rows(job, store, 0) == {"p0": won}

    @pytest.mark.parametrize("has_failure", [False, True])
    def test_an_image_that_no_record_matches_is_said(
        self, make_job: JobMaker, store: MemoryStore, has_failure: bool
    ) -> None:
        job = make_job()
        put_record(job, store, 0, b"image")
        put_image(job, store, 0, b"image, edited by hand")
        if has_failure:
            put_failure(job, store, 0)
        with pytest.raises(JobError, match=r"images/000000/p0\.png has no record with its hash beside it"):
            ended_rows(job, store, 0)

    def test_a_damaged_record_is_said(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_failure(job, store, 1)
        store.put(job.layout.failed_record(0, "p1"), b"{")
        with pytest.raises(JobError, match=r"p1\.failed\.json is damaged"):
            ended_rows(job, store, 0)

    def test_units_do_not_mix(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_failure(job, store, 3)
        assert list(ended_rows(job, store, 1)) == ["p3"]
        assert ended_rows(job, store, 0) == {}

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".npy"])
    @pytest.mark.parametrize("pair_id", ["a.failed", "a.png", "a.jpg", "a.0123456789abcdef", "a.json", "-"])
    def test_ids_that_look_like_endings(
        self, make_job: JobMaker, store: MemoryStore, suffix: str, pair_id: str
    ) -> None:
        job = make_job(rows=2, columns={"pair_id": ["a", pair_id]})
        won = put_record(job, store, 1, b"image")
        put_image(job, store, 1, b"image", suffix)
        put_failure(job, store, 0)
        rows = ended_rows(job, store, 0)
        assert rows.keys() == {"a", pair_id}
        assert rows[pair_id] == won
        assert rows["a"]["status"] == "failed"


class TestCommittedRow:
    def test_the_winner_is_found(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_record(job, store, 2, b"mine")
        won = put_record(job, store, 2, b"theirs")
        put_image(job, store, 2, b"theirs")
        assert committed_row(job, store, Task(pairs(job)[2], 1)) == won

    def test_a_picture_that_nobody_recorded_is_said(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_image(job, store, 2, b"from elsewhere")
        with pytest.raises(JobError, match=r"p2\.png has no record with its hash.*Delete it and run again"):
            committed_row(job, store, Task(pairs(job)[2], 1))


class TestPendingTasks:
    @staticmethod
    def pending(
        job: Job, store: MemoryStore, book: UnitBook, finished: Iterable[int] = (), is_new: bool = False
    ) -> Iterator[Task]:
        return pending_tasks(job, store, set(finished), is_new, book)

    def test_a_new_job_has_everything_to_do_and_lists_nothing(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        tasks = list(self.pending(job, store, UnitBook(job), is_new=True))
        assert [(task.pair.pair_id, task.unit, task.attempt) for task in tasks] == [
            ("p0", 0, 1),
            ("p1", 0, 1),
            ("p2", 1, 1),
            ("p3", 1, 1),
            ("p4", 2, 1),
        ]
        assert store.calls("list") == []

    def test_what_has_ended_goes_into_the_book(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        book = UnitBook(job)
        put_record(job, store, 0, b"image")
        put_image(job, store, 0, b"image")
        put_failure(job, store, 2)
        put_failure(job, store, 3)
        tasks = list(self.pending(job, store, book))
        assert [task.pair.row for task in tasks] == [1, 4]
        assert (book.tally.ok, book.tally.failed, book.tally.skipped) == (1, 2, 3)
        assert [(unit, [row["row"] for row in rows]) for unit, rows in book.take_complete()] == [(1, [2, 3])]
        book.add(0, ok_row(tasks[0].pair, b"new"), is_new=True)
        assert [(unit, [row["row"] for row in rows]) for unit, rows in book.take_complete()] == [(0, [0, 1])]

    def test_units_are_looked_at_only_when_it_is_their_turn(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job(rows=100, unit_size=2)
        stream = self.pending(job, store, UnitBook(job))
        next(stream)
        assert len(store.calls("list")) == 2  # images and records of the first unit

    @pytest.mark.parametrize(
        ("finished", "rows"),
        [
            ({0}, [2, 3, 4]),
            ({1}, [0, 1, 4]),
            ({2}, [0, 1, 2, 3]),
            ({0, 2}, [2, 3]),
            ({0, 1, 2}, []),
            ({7}, [0, 1, 2, 3, 4]),
        ],
    )
    def test_finished_units_are_left_out(
        self, make_job: JobMaker, store: MemoryStore, finished: set[int], rows: list[int]
    ) -> None:
        job = make_job()
        tasks = list(self.pending(job, store, UnitBook(job), finished))
        assert [task.pair.row for task in tasks] == rows
        assert [task.unit for task in tasks] == [row // 2 for row in rows]

    def test_rows_of_finished_units_are_not_read(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(
            rows=4000,
            unit_size=100,
            columns={"style": [f"a style with a long name, {i * 7919}.png" for i in range(4000)]},
            row_group_size=100,
            compression="none",
            use_dictionary=False,
        )
        store.read.clear()
        list(self.pending(job, store, UnitBook(job), is_new=True))
        everything = sum(length for _, length in store.read)
        store.read.clear()
        tasks = list(self.pending(job, store, UnitBook(job), range(39)))
        assert len(tasks) == 100
        assert {uri for uri, _ in store.read} == {MANIFEST}
        assert sum(length for _, length in store.read) < everything / 10


class TestPublishing:
    def test_the_part_is_there_before_its_records_go(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_record(job, store, 0, b"lost")
        put_record(job, store, 0, b"won")
        put_failure(job, store, 1)
        put_failure(job, store, 2)
        store.operations.clear()
        finish(job, store, 0)
        changes = [(method, uri) for method, uri in store.operations if method in ("put", "delete")]
        assert changes[0] == ("put", "s3://bucket/out/results/part-000000.parquet")
        assert [method for method, _ in changes[1:]] == ["delete"] * 3
        assert [uri for uri in store.objects if "/records/" in uri] == [job.layout.failed_record(1, "p2")]

    def test_a_part_that_cannot_be_stored_keeps_its_records(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_failure(job, store, 0)
        store.errors["put", job.layout.part(0)] = JobError("no room")
        with pytest.raises(JobError, match="no room"):
            finish(job, store, 0)
        assert job.layout.failed_record(0, "p0") in store.objects

    def test_extra_columns_are_joined_by_row(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(columns={"condition": [f"condition {i}" for i in range(5)]}, row_group_size=3)
        for unit in (2, 0, 1):
            finish(job, store, unit)
        table = read_results(store, job.output)
        assert table["pair_id"].to_pylist() == [f"p{i}" for i in range(5)]
        assert table["condition"].to_pylist() == [f"condition {i}" for i in range(5)]

    def test_finished_units_are_those_with_a_part(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        assert finished_units(job, store) == set()
        finish(job, store, 2)
        finish(job, store, 0)
        store.put(f"{job.layout.results}/part-000001.parquet.bak", b"")
        assert finished_units(job, store) == {0, 2}

    def test_success_carries_the_counts(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        publish_success(job, store, Tally(ok=3, failed=2))
        assert json.loads(store.objects["s3://bucket/out/_SUCCESS"]) == {"rows": 5, "ok": 3, "failed": 2}

    def test_a_failure_is_stored_as_a_record(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_failure(job, store, 4, "gone")
        uri = "s3://bucket/out/records/000002/p4.failed.json"
        assert decode_record(store.objects[uri], uri)["error"] == "gone"

    def test_rows_of_finished_parts_are_tallied(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        bad = failed_row(pairs(job)[1], "NotFoundError", "gone", 1)
        publish_part(job, store, 0, [ok_row(pairs(job)[0], b"image"), bad])
        finish(job, store, 2)
        tally = Tally()
        tally_finished(job, store, {0, 2}, tally)
        assert (tally.ok, tally.failed, tally.skipped) == (2, 1, 3)
        assert tally.error_examples == {"NotFoundError": ["p1: gone"]}
