"""How merged files are written and compared: what is in memory meanwhile, and what readers find in them."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore
from merged import ONE_FILE, check_merged, held, own_rows
from simulated import JobMaker, finished

from stylebatch.errors import JobError
from stylebatch.job import Job, merge_output
from stylebatch.job.merge_plan import Group
from stylebatch.job.merged_files import in_pieces, is_same, repeating_columns
from stylebatch.results import RESULT_SCHEMA

LONG = 50_000
"""Letters of a value that makes rows large in memory and small in files."""


def merged_file(job: Job, store: MemoryStore) -> pq.ParquetFile:
    (file,) = held(job, store).files
    return pq.ParquetFile(io.BytesIO(store.objects[job.layout.merged(file.name)]))


def group_rows(file: pq.ParquetFile) -> list[int]:
    return [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]


def column_chunk(file: pq.ParquetFile, group: int, path: str) -> Any:
    chunks = file.metadata.row_group(group)
    return next(
        chunks.column(number)
        for number in range(chunks.num_columns)
        if chunks.column(number).path_in_schema == path
    )


class TestRowGroups:
    @staticmethod
    def pieces(most: int, sizes: tuple[int, ...] = (10, 10, 30, 10)) -> list[tuple[Group, list[int]]]:
        """Units 4, 5, ... whose rows take eight bytes each."""
        tables = [pa.table({"row": [unit] * size}) for unit, size in enumerate(sizes, 4)]
        units = tuple(range(4, 4 + len(sizes)))
        found = in_pieces(Group(units, 401), iter(tables), most)
        return [(group, table.column("row").to_pylist()) for group, table in found]

    def test_a_group_that_memory_holds_stays_one(self) -> None:
        ((group, rows),) = self.pieces(8 * 60)
        assert group == Group((4, 5, 6, 7), 400)
        assert rows == [4] * 10 + [5] * 10 + [6] * 30 + [7] * 10

    def test_one_that_is_too_large_becomes_several(self) -> None:
        found = self.pieces(8 * 25)
        assert [group for group, _ in found] == [Group((4, 5), 200), Group((6,), 100), Group((7,), 100)]
        assert [len(rows) for _, rows in found] == [20, 30, 10]

    def test_a_merged_file_has_them(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=9)
        left = finished(job, store)
        expected = own_rows(job, left)
        merge_output(left, job.output, replace(ONE_FILE, group_rows=100, group_memory=1))
        assert group_rows(merged_file(job, left)) == [2, 2, 2, 2, 1]
        check_merged(job, left, expected)


class TestMemory:
    @pytest.fixture
    def job(self, make_job: JobMaker) -> Job:
        """Ten units of four rows, which take 200 KB in memory each."""
        return make_job(rows=40, unit_size=4, columns={"note": ["x" * LONG] * 40})

    def test_one_row_group_is_held_while_it_is_written(
        self, job: Job, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = finished(job, store)
        before, taken = pa.total_allocated_bytes(), []
        write_table = pq.ParquetWriter.write_table

        def write(writer: pq.ParquetWriter, table: pa.Table, **options: Any) -> None:
            taken.append((pa.total_allocated_bytes() - before) / table.nbytes)
            write_table(writer, table, **options)

        monkeypatch.setattr(pq.ParquetWriter, "write_table", write)
        merge_output(left, job.output, replace(ONE_FILE, group_rows=20))
        assert len(taken) == 2
        assert max(taken) < 1.5

    def test_few_units_are_held_while_they_are_compared(
        self, job: Job, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = finished(job, store)
        before, taken = pa.total_allocated_bytes(), []

        def compare(one: pa.Table, other: pa.Table) -> bool:
            taken.append((pa.total_allocated_bytes() - before) / other.nbytes)
            return is_same(one, other)

        monkeypatch.setattr("stylebatch.job.merged_files.is_same", compare)
        merge_output(left, job.output, replace(ONE_FILE, group_rows=40))
        assert group_rows(merged_file(job, left)) == [40]
        assert len(taken) == 10
        assert max(taken) < 6  # the whole row group is 10 units, and its parts are as many


class TestComparing:
    @pytest.fixture
    def left(self, make_job: JobMaker, store: MemoryStore) -> tuple[Job, MemoryStore]:
        job = make_job(rows=9)
        return job, finished(job, store)

    @pytest.mark.parametrize(
        "change",
        [
            lambda batch: batch.slice(1),
            lambda batch: batch.take(pa.array([*range(len(batch))][::-1])),
            lambda batch: batch.set_column(1, "row", pa.array([7] * len(batch))),
        ],
    )
    def test_rows_that_come_back_otherwise_stop_it(
        self,
        change: Callable[[pa.RecordBatch], pa.RecordBatch],
        left: tuple[Job, MemoryStore],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        job, store = left
        iter_batches = pq.ParquetFile.iter_batches

        def changed(file: pq.ParquetFile, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
            return map(change, iter_batches(file, *arguments, **options))

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", changed)
        with pytest.raises(JobError, match=r"rows of unit 0 do not come back .* nothing was merged; run wi"):
            merge_output(store, job.output, ONE_FILE)
        assert len(held(job, store).parts) == 5

    def test_rows_that_are_there_twice_stop_it(
        self, left: tuple[Job, MemoryStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, store = left
        write_table = pq.ParquetWriter.write_table

        def twice(writer: pq.ParquetWriter, table: pa.Table, **options: Any) -> None:
            write_table(writer, pa.concat_tables([table, table]), row_group_size=2 * table.num_rows)

        monkeypatch.setattr(pq.ParquetWriter, "write_table", twice)
        with pytest.raises(JobError, match="has rows that nobody wrote, or lacks some"):
            merge_output(store, job.output, ONE_FILE)
        assert len(held(job, store).parts) == 5

    def test_where_the_reader_cuts_them_is_no_difference(
        self, left: tuple[Job, MemoryStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, store = left
        expected = own_rows(job, store)
        iter_batches = pq.ParquetFile.iter_batches

        def shorter(file: pq.ParquetFile, rows: int, **options: Any) -> Iterator[pa.RecordBatch]:
            return iter_batches(file, 3, **options)

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", shorter)
        merge_output(store, job.output, replace(ONE_FILE, group_rows=9))
        assert group_rows(merged_file(job, store)) == [8, 1]
        check_merged(job, store, expected)


class TestColumns:
    def test_what_does_not_repeat_has_no_dictionary(self) -> None:
        schema = pa.schema(
            [
                *RESULT_SCHEMA,
                ("condition", pa.string()),
                ("level", pa.float32()),
                ("tags", pa.list_(pa.string())),
            ]
        )
        found = {*repeating_columns(schema)}
        assert {"status", "weights_sha256", "width", "condition", "tags.list.element"} <= found
        assert "layer_losses.key_value.key" in found
        none = {"pair_id", "row", "image", "image_sha256", "loss", "level", "loss_curve.list.element"}
        assert not found & {*none, "layer_losses.key_value.value"}

    def test_row_groups_can_be_passed_over(self, make_job: JobMaker, store: MemoryStore) -> None:
        """By the least and the largest value that the footer has of each flat column."""
        job = make_job(rows=9, columns={"condition": [f"condition {i // 4}" for i in range(9)]})
        left = finished(job, store, failing=("p8",))
        merge_output(left, job.output, ONE_FILE)
        file = merged_file(job, left)
        assert group_rows(file) == [4, 4, 1]
        found = {
            path: [
                (statistics.min, statistics.max)
                for group in range(3)
                for statistics in [column_chunk(file, group, path).statistics]
            ]
            for path in ("pair_id", "row", "status", "condition")
        }
        assert found == {
            "pair_id": [("p0", "p3"), ("p4", "p7"), ("p8", "p8")],
            "row": [(0, 3), (4, 7), (8, 8)],
            "status": [("ok", "ok"), ("ok", "ok"), ("failed", "failed")],
            "condition": [(f"condition {group}",) * 2 for group in range(3)],
        }
        assert "RLE_DICTIONARY" in column_chunk(file, 0, "status").encodings
        assert "RLE_DICTIONARY" not in column_chunk(file, 0, "loss").encodings
