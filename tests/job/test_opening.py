"""The start of a run: what is claimed, counted, tidied, emptied or refused."""

import io
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore
from simulated import JobMaker, check_whole, finished, output_objects, pairs, run

from stylebatch.errors import AccessDeniedError, CredentialsError, JobError, LeaseError, StorageError
from stylebatch.job import Job, UnitBook, open_output, pending_tasks, store_failure
from stylebatch.job.ledger import DRIVER_LEFTOVER_SECONDS, LEFTOVER_SECONDS
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore
from stylebatch.storage.hidden import temporary_name
from stylebatch.work import failed_row


class PlainStore(MemoryStore):
    """Of a server without conditional puts."""

    is_unconditional = False

    def has_conditional_puts(self, folder: str) -> bool:
        return False

    def unconditional(self) -> MemoryStore:
        self.is_unconditional = True
        return self


class TestTaking:
    def test_the_lease_is_held_until_it_is_released(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        output = open_output(job, store)
        with pytest.raises(LeaseError, match="is in use by another driver"):
            open_output(job, store)
        with pytest.raises(LeaseError, match="is in use by another driver"):
            open_output(job, store, restart=True)
        output.lease.release()
        open_output(job, store).lease.release()
        assert job.layout.lease not in store.objects

    def test_a_refusal_gives_the_lease_up(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        open_output(job, store).lease.release()
        other = make_job(recipe=Recipe(size=50))
        with pytest.raises(JobError, match="is another job's output"):
            open_output(other, store)
        assert job.layout.lease not in store.objects

    def test_storage_without_conditional_puts_is_said(self, make_job: JobMaker) -> None:
        store = PlainStore()
        job = make_job()
        output = open_output(job, store)
        output.lease.release()
        assert store.is_unconditional
        (notice,) = output.notices
        assert "has no conditional puts, so nothing is atomic there" in notice
        assert "the last one stays" in notice
        assert "do not run two at once" in notice

    def test_other_storage_is_left_as_it_is(self, make_job: JobMaker, store: MemoryStore) -> None:
        output = open_output(make_job(), store)
        output.lease.release()
        assert output.store is store
        assert output.notices == []
        assert store.operations[-1] != ("sweep", "s3://bucket/out")


class TestCounting:
    def test_finished_rows_are_counted(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        left = finished(job, store)
        left.delete(job.layout.part(1))
        output = open_output(job, left)
        output.lease.release()
        assert output.finished == {0, 2}
        assert (output.tally.ok, output.tally.failed, output.tally.skipped) == (2, 1, 3)
        assert output.tally.error_examples == {"NotFoundError": ["p1: s3://bucket/study/c1.png is missing"]}

    def test_success_goes_while_there_is_something_to_do(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        left = finished(job, store)
        open_output(job, left).lease.release()
        assert job.layout.success in left.objects
        left.delete(job.layout.part(1))
        open_output(job, left).lease.release()
        assert job.layout.success not in left.objects

    def test_parts_of_no_unit_of_this_job_do_not_count(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        left = finished(job, store)
        left.put(job.layout.part(7), b"from elsewhere")
        left.put(f"{job.layout.results}/part-000001.parquet.bak", b"")
        output = open_output(job, left)
        output.lease.release()
        assert output.finished == {0, 1, 2}
        assert output.tally.ended == 5

    def test_what_finished_units_have_left_goes(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        left = finished(job, store)
        before = output_objects(job, left)
        store_failure(job, left, 0, failed_row(pairs(job)[0], "NotFoundError", "gone", 1))
        left.put(job.layout.checkpoint(2, "p4"), b"half way")
        left.put("s3://bucket/out/reopened/part-000001.parquet", left.objects[job.layout.part(1)])
        open_output(job, left).lease.release()
        assert output_objects(job, left) == before


class TestDamagedParts:
    @staticmethod
    def refusal(job: Job, store: MemoryStore, part: bytes) -> str:
        """Why an output with this part is refused; nothing is deleted before parts have been looked at."""
        store.put(job.layout.part(1), part)
        store.put(job.layout.record(1, "p2", "0" * 64), b"all that is left of the unit")
        before = output_objects(job, store)
        for options in ({}, {"retry_failed": True}):
            with pytest.raises(JobError) as raised:
                open_output(job, store, **options)
            assert output_objects(job, store) == before
            assert job.layout.lease not in store.objects
        return str(raised.value)

    @pytest.mark.parametrize("cut", [0, 3, 8, 500, -1])
    def test_one_that_is_not_parquet(self, make_job: JobMaker, store: MemoryStore, cut: int) -> None:
        job = make_job()
        left = finished(job, store)
        message = self.refusal(job, left, left.objects[job.layout.part(1)][:cut])
        assert "s3://bucket/out/results/part-000001.parquet is damaged (" in message
        assert (
            "put it back from a copy, or delete it and everything in s3://bucket/out/images/0000" in message
        )

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            (
                {"stylebatch_format": "1"},
                "was written by format 1; this program reads and writes 2; use the ver",
            ),
            ({"stylebatch_format": "x"}, "was written by format x; this program reads and writes 2"),
            ({"other": "1"}, "was not written by stylebatch: it names no format; put it back from a copy"),
            (None, "was not written by stylebatch: it names no format"),
        ],
    )
    def test_one_of_another_format(
        self, make_job: JobMaker, store: MemoryStore, metadata: dict[str, str] | None, expected: str
    ) -> None:
        job = make_job()
        left = finished(job, store)
        part = pq.read_table(pa.BufferReader(left.objects[job.layout.part(1)]))
        message = self.refusal(job, left, parquet(part.replace_schema_metadata(metadata)))
        assert f"results/part-000001.parquet {expected}" in message

    def test_one_with_other_rows(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        left = finished(job, store)
        part = pq.read_table(pa.BufferReader(left.objects[job.layout.part(1)]))
        assert "has 1 rows; unit 1 has 2" in self.refusal(job, left, parquet(part.slice(0, 1)))

    @pytest.mark.parametrize("data", [b"", b"PAR1", b"no Parquet"])
    def test_a_damaged_part_that_was_opened_again(
        self, make_job: JobMaker, store: MemoryStore, data: bytes
    ) -> None:
        job = make_job()
        left = finished(job, store)
        output = open_output(job, left, retry_failed=True)
        left.put("s3://bucket/out/reopened/part-000000.parquet", data)
        with pytest.raises(JobError, match=r"reopened/part-000000\.parquet is damaged \(.*put it back from"):
            list(pending_tasks(job, output, UnitBook(job)))
        output.lease.release()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


class TestSweeping:
    def test_leftovers_go_where_work_was_going_on(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=8)
        left = finished(job, store, failing=())
        for unit in (1, 2, 3):
            left.delete(job.layout.part(unit))
        store_failure(job, left, 1, failed_row(pairs(job)[2], "NotFoundError", "gone", 1))
        left.put(job.layout.checkpoint(2, "p4"), b"half way")
        left.operations.clear()
        open_output(job, left).lease.release()
        out = job.output
        assert left.calls("sweep") == [
            out,
            f"{out}/checkpoints/000002",
            f"{out}/images/000001",
            f"{out}/images/000002",
            f"{out}/records/000001",
            f"{out}/reopened",
            f"{out}/results",
        ]
        assert (LEFTOVER_SECONDS, DRIVER_LEFTOVER_SECONDS) == (3600, 1)

    def test_what_a_killed_driver_left_in_the_output_goes_at_once(
        self, make_job: JobMaker, tmp_path: Path
    ) -> None:
        """It was finding out whether the storage has conditional puts."""
        job = replace(make_job(), output=str(tmp_path / "out"))
        old, new = (tmp_path / "out" / temporary_name() for _ in range(2))
        old.parent.mkdir()
        for left in (old, new):
            left.write_bytes(b"first")
        os.utime(old, (0, 0))
        open_output(job, UriStore()).lease.release()
        assert not old.exists()
        assert new.exists()  # may be of a driver that is starting now

    def test_what_cannot_be_swept_is_said_and_stays(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        left = finished(job, store)
        left.errors["sweep", job.layout.results] = AccessDeniedError("not allowed")
        output = open_output(job, left)
        output.lease.release()
        assert output.notices == [
            "what interrupted puts may have left in s3://bucket/out/results stays there: not allowed"
        ]

    def test_what_stops_every_job_stops_this_one(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        left = finished(job, store)
        left.errors["sweep", job.layout.results] = CredentialsError("unknown key")
        with pytest.raises(CredentialsError):
            open_output(job, left)
        assert job.layout.lease not in left.objects


class TestStartingOver:
    def test_everything_of_the_job_goes_and_nothing_else(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        old = make_job()
        left = finished(old, store)
        new = make_job(recipe=Recipe(size=48, iterations=7))
        left.objects.update(store.objects)  # with the new manifest
        left.put("s3://bucket/out/readme.txt", b"somebody's")
        left.put(old.layout.checkpoint(1, "p2"), b"half way")
        left.put(old.layout.progress, b"told")
        left.put(old.layout.failed_record(1, "p2"), b"a record")
        left.put("s3://bucket/out/reopened/part-000001.parquet", b"a former part")
        left.put(old.layout.image(1_000_000, "p", ".jpg"), b"of a unit with a longer number")
        left.put(old.layout.image(1, "p", ".npy"), b"in another format")
        left.operations.clear()
        output = open_output(new, left, restart=True)
        output.lease.release()
        assert output.is_new
        assert output_objects(new, left).keys() == {"job.json", "readme.txt"}
        changes = [(method, uri) for method, uri in left.operations if method in ("put", "delete")]
        assert changes[:2] == [("put", new.layout.job), ("delete", new.layout.success)]
        assert changes[-2:] == [("put", new.layout.job), ("delete", new.layout.lease)]
        assert "s3://bucket/out/images/000001" in left.calls("sweep")
        assert open_output_and_release(new, left).is_new is False

    def test_an_empty_place_is_a_new_job(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        run(job, store, restart=True)
        check_whole(job, store)

    @pytest.mark.parametrize("name", ["holiday.png", "images/000000/p0.png", "results/part-000000.parquet"])
    def test_a_folder_that_is_no_job_s_is_not_emptied(
        self, make_job: JobMaker, store: MemoryStore, name: str
    ) -> None:
        job = make_job()
        store.put(f"{job.output}/{name}", b"somebody's")
        before = output_objects(job, store)
        with pytest.raises(
            JobError, match=rf"out holds s3://bucket/out/{name} but no job\.json.*check --outp"
        ):
            open_output(job, store, restart=True)
        assert output_objects(job, store) == before

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"{", "is damaged: it is not JSON"),
            (b'{"name": "something else"}', "is not a stylebatch job"),
            (b'{"format_version": 1}', "was written by format 1; this program reads and writes 2"),
        ],
    )
    def test_a_job_json_that_is_not_ours_protects_its_folder(
        self, make_job: JobMaker, store: MemoryStore, data: bytes, expected: str
    ) -> None:
        job = make_job()
        store.put(job.layout.job, data)
        store.put(job.layout.image(0, "p0", ".png"), b"somebody's")
        before = output_objects(job, store)
        with pytest.raises(JobError, match=expected):
            open_output(job, store, restart=True)
        assert output_objects(job, store) == before

    def test_a_driver_that_lost_its_lease_deletes_nothing_more(
        self, make_job: JobMaker, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job(rows=40, unit_size=2)
        left = finished(job, store)
        checks = Counter[str]()

        def fails_later(lease: object) -> None:
            checks["all"] += 1
            if checks["all"] > 10:
                raise LeaseError("taken over")

        monkeypatch.setattr("stylebatch.job.lease.Lease.check", fails_later)
        left.operations.clear()
        with pytest.raises(LeaseError, match="taken over"):
            open_output(job, left, restart=True)
        deleted = [uri for uri in left.calls("delete") if uri != job.layout.lease]
        assert len(deleted) == 9  # the first check is before the marker


def open_output_and_release(job: Job, store: MemoryStore) -> Any:
    output = open_output(job, store)
    output.lease.release()
    return output


def test_a_store_that_cannot_be_asked_is_no_storage_without_conditional_puts(
    make_job: JobMaker, store: MemoryStore
) -> None:
    store.errors["has_conditional_puts", "s3://bucket/out"] = StorageError("cannot write there")
    with pytest.raises(StorageError, match="cannot write there"):
        open_output(make_job(), store)
    assert not [uri for uri in store.objects if uri.startswith("s3://bucket/out")]
