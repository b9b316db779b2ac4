"""Parts are merged; a run is hit at every single call to the storage meanwhile, and nothing is lost."""

import hashlib
import io
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore
from merged import LIMITS, ONE_FILE, check_merged, comparable, held, own_rows, plain_rows
from simulated import JobMaker, cuts, finished, later, output_objects, run, table

from stylebatch.errors import ConfigurationError, JobError, LeaseError
from stylebatch.job import Job, Lease, Merging, merge_output, open_output
from stylebatch.job.merge_plan import MergeLimits
from stylebatch.job.merged_files import is_same
from stylebatch.results import open_results
from stylebatch.results.generations import decode_generation, encode_generation

COLUMNS = {
    "condition": [f"condition {i % 3}" for i in range(9)],
    "level": [1.5, math.nan, None, -0.0, 5.0, 6.0, 7.0, 8.0, 9.0],
    "tags": [["a"], [], None, ["b", None], ["c"], ["d"], ["e"], ["f"], ["g"]],
}


@pytest.fixture
def job(make_job: JobMaker) -> Job:
    """Five units of two rows, the last of one."""
    return make_job(rows=9, unit_size=2, columns=COLUMNS)


@pytest.fixture
def left(job: Job, store: MemoryStore) -> MemoryStore:
    """Its output: finished, in parts; two rows of different units failed."""
    return finished(job, store, failing=("p1", "p6"))


class TestMerging:
    def test_every_row_is_there_once_and_as_it_was(self, job: Job, left: MemoryStore) -> None:
        before = comparable(table(job, left))
        former = pq.read_table(io.BytesIO(left.objects[job.layout.part(0)]))
        merging = merge_output(left, job.output, ONE_FILE)
        assert (merging.parts, merging.files) == (5, 1)
        assert own_rows(job, left) == plain_rows(job, left) == before
        (file,) = held(job, left).files
        data = left.objects[job.layout.merged(file.name)]
        assert file.name == "part-000000-000004.000001.parquet"
        assert (file.rows, file.ok, file.failed, file.size) == (9, 7, 2, len(data))
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert (file.units, file.failed_units) == ((range(5),), (range(1), range(3, 4)))
        assert file.error_counts == {"NotFoundError": 2}
        assert file.error_examples == {
            "NotFoundError": (
                "p1: s3://bucket/study/c1.png is missing",
                "p6: s3://bucket/study/c6.png is missing",
            )
        }
        merged = pq.ParquetFile(io.BytesIO(data))
        assert merged.schema_arrow.equals(former.schema, check_metadata=True)
        sizes = [merged.metadata.row_group(number).num_rows for number in range(merged.num_row_groups)]
        assert sizes == [4, 4, 1]  # whole units

    def test_a_file_ends_where_it_is_large_enough(self, job: Job, left: MemoryStore) -> None:
        assert merge_output(left, job.output, LIMITS).files == 3
        assert [file.units for file in held(job, left).files] == [(range(2),), (range(2, 4),), (range(4, 5),)]

    def test_a_unit_is_found_again(self, job: Job, left: MemoryStore) -> None:
        before = [row["pair_id"] for row in table(job, left)]
        merge_output(left, job.output, ONE_FILE)
        results = open_results(left, job.output)
        assert results.units == [0, 1, 2, 3, 4]
        for unit in (4, 0, 3, 3, 1, 2):
            rows = results.read(unit, ["pair_id"]).column("pair_id").to_pylist()
            assert rows == before[2 * unit : 2 * unit + 2]

    def test_success_goes_first_and_comes_last(self, job: Job, left: MemoryStore) -> None:
        """A plain reader who waits for it never meets a row twice."""
        left.operations.clear()
        merge_output(left, job.output, ONE_FILE)
        changing = ("put", "put_file", "copy", "delete", "put_if_absent", "put_if_version")
        changes = [(method, uri) for method, uri in left.operations if method in changing]
        changes = [change for change in changes if change[1] != job.layout.lease]
        (file,) = held(job, left).files
        assert changes[:4] == [
            ("delete", job.layout.success),
            ("put_file", job.layout.staged(file.name)),
            ("put_if_absent", job.layout.generation),
            ("copy", job.layout.staged(file.name)),
        ]
        assert sorted(changes[4:9]) == [("delete", job.layout.part(unit)) for unit in job.units]
        assert changes[9:] == [
            ("delete", job.layout.staged(file.name)),
            ("put_if_absent", job.layout.success),
        ]

    def test_it_is_read_back_before_anything_goes(self, job: Job, left: MemoryStore) -> None:
        left.operations.clear()
        merge_output(left, job.output, ONE_FILE)
        (file,) = held(job, left).files
        names = [(method, uri) for method, uri in left.operations if "part-" in uri]
        first_delete = next(number for number, (method, _) in enumerate(names) if method == "delete")
        before = Counter(names[:first_delete])
        assert before["get_range", job.layout.staged(file.name)] == 1
        assert before["get_range", job.layout.merged(file.name)] == 1
        reads = [
            before[method, job.layout.part(unit)] for unit in job.units for method in ("get", "get_range")
        ]
        assert reads == [2, 0] * 5  # read, and compared

    def test_a_second_time_there_is_nothing_to_do(self, job: Job, left: MemoryStore) -> None:
        merge_output(left, job.output, ONE_FILE)
        before = output_objects(job, left)
        assert merge_output(left, job.output, ONE_FILE) == Merging(0, 1)
        assert output_objects(job, left) == before

    def test_one_part_alone_stays(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=2)
        left = finished(job, store)
        assert merge_output(left, job.output, ONE_FILE).parts == 0
        assert job.layout.part(0) in left.objects

    def test_parts_of_other_columns_begin_another_file(self, job: Job, left: MemoryStore) -> None:
        part = pq.read_table(io.BytesIO(left.objects[job.layout.part(2)]))
        other = part.set_column(
            part.schema.get_field_index("level"), "level", part["level"].cast(pa.float32())
        )
        sink = io.BytesIO()
        pq.write_table(other, sink)
        left.put(job.layout.part(2), sink.getvalue())
        assert merge_output(left, job.output, replace(ONE_FILE, group_rows=2)).files == 3
        assert [row["row"] for row in plain_rows(job, left)] == [*range(9)]


class TestAtTheEndOfARun:
    def test_many_parts_are_merged(self, job: Job, store: MemoryStore) -> None:
        expected = comparable(table(job, finished(job, later(store))))
        tally = run(job, store, ("p1",), limits=LIMITS)
        assert (tally.ok, tally.failed) == (8, 1)
        check_merged(job, store, expected)

    def test_few_parts_stay_and_nothing_is_asked(self, job: Job, store: MemoryStore) -> None:
        run(job, store, limits=MergeLimits())
        assert sorted(held(job, store).parts) == [0, 1, 2, 3, 4]
        others = later(store)
        run(job, others)
        run(job, store, limits=MergeLimits())
        assert Counter(store.calls("list"))[job.layout.results] == 2 * 2  # twice in each of the two runs

    def test_an_incomplete_job_is_not_merged(self, job: Job, left: MemoryStore) -> None:
        left.delete(job.layout.part(2))
        with pytest.raises(JobError, match="is not complete: 1 of 5 units have no results yet; run the job"):
            merge_output(left, job.output, ONE_FILE)
        assert [*held(job, left).parts] == [0, 1, 3, 4]
        assert job.layout.lease not in left.objects


class TestOpeningAgain:
    def test_a_merged_job_is_finished_at_once(self, job: Job, left: MemoryStore) -> None:
        """One listing of the results and one small object, however many units and files."""
        merge_output(left, job.output, LIMITS)
        job.manifest.fingerprint()
        left = later(left)
        opened = open_output(job, left)
        opened.lease.release()
        assert opened.finished == {0, 1, 2, 3, 4}
        assert (opened.tally.ok, opened.tally.failed, opened.tally.skipped) == (7, 2, 9)
        assert opened.tally.error_counts == {"NotFoundError": 2}
        assert opened.tally.error_examples["NotFoundError"][1] == "p6: s3://bucket/study/c6.png is missing"
        results = [(method, uri) for method, uri in left.operations if uri.startswith(job.layout.results)]
        assert sorted(results) == [
            ("get", job.layout.generation),
            ("list", job.layout.results),
            ("sweep", job.layout.results),
        ]

    def test_a_run_of_a_merged_job_changes_nothing(self, job: Job, left: MemoryStore) -> None:
        merge_output(left, job.output, ONE_FILE)
        before = output_objects(job, left)
        tally = run(job, left, limits=ONE_FILE)
        assert (tally.ok, tally.failed, tally.skipped) == (7, 2, 9)
        assert output_objects(job, left) == before

    def test_the_generation_of_another_job_is_refused(self, job: Job, left: MemoryStore) -> None:
        merge_output(left, job.output, ONE_FILE)
        generation = decode_generation(left.objects[job.layout.generation], "x")
        left.put(job.layout.generation, encode_generation(replace(generation, rows=8)))
        with pytest.raises(
            JobError, match="is of a job of 8 rows in units of 2, this one has 9 in units of 2"
        ):
            open_output(job, left)

    def test_starting_over_removes_all_of_it(self, job: Job, left: MemoryStore) -> None:
        merge_output(left, job.output, LIMITS)
        left.put(job.layout.staged("part-000000-000001.000009.parquet"), b"of a merge that was killed")
        left.put(f"{job.layout.results}/part-9-9.9.parquet", b"somebody's")
        open_output(job, left, restart=True).lease.release()
        names = {name for name in output_objects(job, left) if name.startswith("results")}
        assert names == {"results/part-9-9.9.parquet"}


class TestRetrying:
    def test_failed_rows_and_only_those_run_again(self, job: Job, left: MemoryStore) -> None:
        merge_output(left, job.output, ONE_FILE)
        before = own_rows(job, left)
        seen: list[str] = []
        tally = run(
            job,
            left,
            failing=("p6",),
            on_task=lambda task: seen.append(f"{task.pair.pair_id} {task.attempt}"),
            limits=ONE_FILE,
            retry_failed=True,
        )
        assert seen == ["p1 2", "p6 2"]
        assert (tally.ok, tally.failed, tally.skipped) == (8, 1, 7)
        after = own_rows(job, left)
        check_merged(job, left, after)
        assert [row["attempts"] for row in after] == [1, 2, 1, 1, 1, 1, 2, 1, 1]
        assert [row["status"] for row in after].index("failed") == 6
        for number in (0, 2, 3, 4, 5, 7, 8):
            assert after[number] == before[number]

    def test_meanwhile_no_reader_meets_a_row_twice_or_an_old_one(self, job: Job, left: MemoryStore) -> None:
        """Units whose rows run again are in no file until they have ended."""
        merge_output(left, job.output, ONE_FILE)
        opened = open_output(job, left, retry_failed=True)
        assert opened.finished == {1, 2, 4}
        assert opened.ledger.reopened == {0, 3}
        opened.lease.release()
        for rows in (plain_rows(job, left), own_rows(job, left)):
            assert [row["row"] for row in rows] == [2, 3, 4, 5, 8]
        assert job.layout.success not in left.objects
        (file,) = held(job, left).files
        assert file.units == (range(1, 3), range(4, 5))

    def test_files_without_failed_rows_stay(self, job: Job, left: MemoryStore) -> None:
        merge_output(left, job.output, LIMITS)
        last = held(job, left).files[-1]
        data = left.objects[job.layout.merged(last.name)]
        run(job, left, failing=(), limits=LIMITS, retry_failed=True)
        check_merged(job, left, own_rows(job, left))
        assert held(job, left).files[-1] == last
        assert left.objects[job.layout.merged(last.name)] == data

    def test_a_file_all_of_whose_units_run_again_goes(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=6, unit_size=2)
        left = finished(job, store, failing=("p0", "p2", "p5"))
        merge_output(left, job.output, ONE_FILE)
        opened = open_output(job, left, retry_failed=True)
        opened.lease.release()
        assert opened.finished == set()
        generation = held(job, left).generation
        assert generation is not None
        assert (generation.number, generation.files) == (2, ())
        assert plain_rows(job, left) == []
        run(job, left, failing=(), limits=ONE_FILE)
        check_merged(job, left, own_rows(job, left))

    def test_without_failed_rows_nothing_is_touched(self, job: Job, store: MemoryStore) -> None:
        left = finished(job, store, failing=())
        merge_output(left, job.output, ONE_FILE)
        before = output_objects(job, left)
        open_output(job, left, retry_failed=True).lease.release()
        assert output_objects(job, left) == before

    def test_parts_may_stay_beside_merged_files(self, job: Job, left: MemoryStore) -> None:
        """As after ``--no-merge``."""
        merge_output(left, job.output, ONE_FILE)
        run(job, left, failing=("p6",), retry_failed=True)
        assert [*held(job, left).parts] == [0, 3]
        rows = own_rows(job, left)
        assert [row["row"] for row in rows] == [*range(9)]
        assert sorted(row["row"] for row in plain_rows(job, left)) == [*range(9)]
        assert job.layout.success in left.objects
        run(job, left, failing=(), retry_failed=True)
        assert [row["status"] for row in own_rows(job, left)] == ["ok"] * 9
        merge_output(left, job.output, ONE_FILE)
        check_merged(job, left, own_rows(job, left))


class TestAfterAnyInterruption:
    """A merge is hit at each of its calls to the storage, in each way."""

    def test_readers_find_the_former_set_or_the_next(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=5, unit_size=2)
        left = finished(job, store)
        expected = table(job, left)
        points: Counter[str] = Counter()
        for where, cut in cuts(left, lambda faulty: merge_output(faulty, job.output, LIMITS)):
            assert own_rows(job, cut) == expected, where
            found = held(job, cut)
            is_next = bool(found.files)
            assert (len(found.parts), len(found.files)) == ((0, 2) if is_next else (3, 0)), where
            self.check_plain(job, cut, expected, is_next)
            points[where.partition(" at ")[0], is_next] += 1
            merge_output(cut, job.output, LIMITS)
            check_merged(job, cut, expected)
        assert points["dies", False] >= 20
        assert points["dies", True] > 10

    @staticmethod
    def check_plain(job: Job, cut: MemoryStore, expected: list[dict[str, Any]], is_next: bool) -> None:
        """Before the switch a plain reader finds the parts alone; then every row, some of them twice."""
        rows = plain_rows(job, cut)
        if not is_next or job.layout.success in cut.objects:
            assert rows == expected
        else:
            numbers = {row["row"] for row in rows}
            in_staging = {
                unit
                for file in held(job, cut).files
                if file.name in held(job, cut).hidden
                for span in file.units
                for unit in span
            }
            assert numbers == {*range(5)}
            assert in_staging <= held(job, cut).covered

    def test_a_run_that_merges_goes_on(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=4, unit_size=2)
        expected = table(job, finished(job, later(store)))
        for _, cut in cuts(store, lambda faulty: run(job, faulty, limits=ONE_FILE), kinds=("fails",)):
            run(job, cut, limits=ONE_FILE)
            check_merged(job, cut, expected)

    def test_retrying_goes_on(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=6, unit_size=2)
        left = finished(job, store, failing=("p0", "p4"))
        merge_output(left, job.output, ONE_FILE)
        before = own_rows(job, left)
        whole = later(left)
        run(job, whole, failing=("p4",), limits=ONE_FILE, retry_failed=True)
        after = own_rows(job, whole)
        for where, cut in cuts(
            left,
            lambda faulty: run(job, faulty, ("p4",), limits=ONE_FILE, retry_failed=True),
            kinds=("dies",),
        ):
            for row in own_rows(job, cut) if held(job, cut).merged_units else ():
                assert row in (before[row["row"]], after[row["row"]]), where
            run(job, cut, failing=("p4",), limits=ONE_FILE)
            rows = own_rows(job, cut)
            check_merged(job, cut, rows)
            for row in rows:
                assert row in (before[row["row"]], after[row["row"]]), where

    def test_starting_over_goes_on(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=4, unit_size=2)
        left = finished(job, store)
        merge_output(left, job.output, ONE_FILE)
        expected = own_rows(job, left)
        for _, cut in cuts(left, lambda faulty: open_output(job, faulty, restart=True).lease.release()):
            run(job, cut, restart=True, limits=ONE_FILE)
            check_merged(job, cut, expected)


class TestTrouble:
    def test_a_damaged_part_stops_it_and_stays(self, job: Job, left: MemoryStore) -> None:
        whole = left.objects[job.layout.part(2)]
        left.put(job.layout.part(2), whole[:-30])
        with pytest.raises(JobError, match=r"part-000002\.parquet is damaged"):
            merge_output(left, job.output, ONE_FILE)
        assert held(job, left).generation is None
        left.put(job.layout.part(2), whole)
        merge_output(left, job.output, ONE_FILE)
        check_merged(job, left, own_rows(job, left))

    @pytest.mark.parametrize("what", ["of another unit", "without a column"])
    def test_a_part_with_other_rows_stops_it(self, what: str, job: Job, left: MemoryStore) -> None:
        if what == "of another unit":
            left.put(job.layout.part(2), left.objects[job.layout.part(1)])
        else:
            table = pq.read_table(io.BytesIO(left.objects[job.layout.part(2)])).drop_columns(["loss"])
            sink = io.BytesIO()
            pq.write_table(table, sink)
            left.put(job.layout.part(2), sink.getvalue())
        with pytest.raises(
            JobError, match=r"part-000002\.parquet does not hold the rows of unit 2 in the col"
        ):
            merge_output(left, job.output, ONE_FILE)
        assert len(held(job, left).parts) == 5

    def test_bytes_that_change_on_their_way_stop_it(self, job: Job, left: MemoryStore) -> None:
        class Altering(MemoryStore):
            def put_file(self, uri: str, path: Any) -> None:
                super().put_file(uri, path)
                self.objects[uri] = self.objects[uri][:-9] + b"?" + self.objects[uri][-8:]

        before = own_rows(job, left)
        altering = Altering(left.objects)
        with pytest.raises(JobError, match="does not come back as it was written, so nothing was merged"):
            merge_output(altering, job.output, ONE_FILE)
        assert own_rows(job, altering) == before
        assert len(held(job, altering).parts) == 5

    def test_a_copy_that_is_not_sound_replaces_nothing(self, job: Job, left: MemoryStore) -> None:
        class Altering(MemoryStore):
            def copy(self, source: str, destination: str) -> None:
                super().copy(source, destination)
                self.objects[destination] = b"?" + self.objects[destination][1:]

        altering = Altering(left.objects)
        for _ in range(2):
            with pytest.raises(
                JobError, match=r"is damaged: its SHA-256 .* delete the damaged file, and run ag"
            ):
                merge_output(altering, job.output, ONE_FILE)
            assert {job.layout.part(unit) for unit in job.units} <= altering.objects.keys()
        (file,) = held(job, altering).files
        altering.delete(job.layout.merged(file.name))
        again = later(altering)
        open_output(job, again).lease.release()
        assert own_rows(job, again) == plain_rows(job, again)
        assert not held(job, again).parts

    def test_a_driver_that_works_there_keeps_it_away(self, job: Job, left: MemoryStore) -> None:
        opened = open_output(job, left)
        with pytest.raises(LeaseError, match="is in use by another driver"):
            merge_output(left, job.output, ONE_FILE)
        opened.lease.release()

    @pytest.mark.parametrize("checks", range(1, 12))
    def test_a_driver_that_lost_its_lease_changes_nothing_more(
        self, checks: int, job: Job, left: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        def fails_later(lease: object) -> None:
            seen.append(len(left.calls("put_file", "copy", "put_if_absent", "delete")))
            if len(seen) >= checks:
                raise LeaseError("taken over")

        expected = own_rows(job, left)
        monkeypatch.setattr(Lease, "check", fails_later)
        left.operations.clear()
        with pytest.raises(LeaseError, match="taken over"):
            merge_output(left, job.output, ONE_FILE)
        changed = [uri for uri in left.calls("put_file", "copy", "delete") if uri != job.layout.lease]
        changed += [uri for uri in left.calls("put_if_absent") if uri == job.layout.generation]
        assert len(changed) < checks
        assert own_rows(job, left) == expected

    def test_another_driver_s_switch_is_noticed(self, job: Job, left: MemoryStore) -> None:
        class Overtaken(MemoryStore):
            def put_if_absent(self, uri: str, data: bytes) -> bool:
                if uri == job.layout.generation:
                    merge_output(later(left), job.output, ONE_FILE)
                    self.objects.setdefault(uri, b"another's")
                return super().put_if_absent(uri, data)

        with pytest.raises(JobError, match="was changed by another driver; nothing was merged"):
            merge_output(Overtaken(left.objects), job.output, ONE_FILE)

    def test_without_room_for_a_temporary_file_it_says_so(
        self, job: Job, left: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_room(*arguments: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("stylebatch.job.merged_files.pq.ParquetWriter.write_table", no_room)
        with pytest.raises(
            ConfigurationError,
            match=r"No space left.*file of up to 384 MB is made there: set TMPDIR .*--no-merge",
        ):
            merge_output(left, job.output, MergeLimits())
        assert own_rows(job, left) == plain_rows(job, left)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (None, r"there is no .*job\.json; is s3://bucket/out the output of a stylebatch run\?"),
            (b'{"format_version": 2, "restarting": true}', "a restart of .* was interrupted"),
            (b'{"format_version": 2, "recipe": {}}', "does not say how many rows the job has"),
        ],
    )
    def test_what_is_no_output_is_refused(self, data: bytes | None, message: str, store: MemoryStore) -> None:
        if data is not None:
            store.put("s3://bucket/out/job.json", data)
        with pytest.raises(JobError, match=message):
            merge_output(store, "s3://bucket/out", ONE_FILE)


class TestReadersMeanwhile:
    def test_a_reader_that_began_before_finds_every_row(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=60, unit_size=2)
        left = finished(job, store)
        expected = own_rows(job, left)
        results = open_results(left, job.output)
        tables = results.tables()
        first = next(tables)
        merge_output(left, job.output, ONE_FILE)
        assert results.where(29) == job.layout.part(29)
        rows = [*first.to_pylist(), *(row for table in tables for row in table.to_pylist())]
        assert rows == expected
        assert results.where(29).endswith("part-000000-000029.000001.parquet")

    def test_a_reader_of_a_former_generation_finds_the_next(self, job: Job, left: MemoryStore) -> None:
        merge_output(left, job.output, ONE_FILE)
        results = open_results(left, job.output)
        results.read(0)
        run(job, left, failing=("p1", "p6"), limits=ONE_FILE, retry_failed=True)
        assert [row["attempts"] for row in results.read(3).to_pylist()] == [2, 1]

    def test_files_are_read_where_they_are_until_they_are_copied(self, job: Job, left: MemoryStore) -> None:
        expected = own_rows(job, left)
        merge_output(left, job.output, ONE_FILE)
        (file,) = held(job, left).files
        left.copy(job.layout.merged(file.name), job.layout.staged(file.name))
        left.delete(job.layout.merged(file.name))
        assert own_rows(job, left) == expected
        assert open_results(left, job.output).where(0) == job.layout.staged(file.name)


def test_tables_are_the_same_if_their_values_are() -> None:
    floats = pa.table({"a": [1.0, math.nan, None]})
    assert is_same(floats, pa.table({"a": [1.0, math.nan, None]}))
    assert not is_same(floats, pa.table({"a": [1.0, None, None]}))
    assert not is_same(floats, pa.table({"b": [1.0, math.nan, None]}))
    assert not is_same(floats, floats.slice(0, 2))
    assert not is_same(pa.table({"a": [0.0]}), pa.table({"a": [1]}))
    words = pa.table({"a": pa.array(["x", "y"]).dictionary_encode()})
    assert is_same(words, pa.concat_tables([words.slice(0, 1), words.slice(1)]))
