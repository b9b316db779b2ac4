"""Rows of results on their way to one file."""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore

from stylebatch.errors import ConfigurationError, QueryError
from stylebatch.report import exporting
from stylebatch.report.exporting import export

TABLE = pa.table(
    {
        "pair_id": ["a", 'say "b",\nnow', "", None],
        "loss": [0.1, 1e300, math.nan, None],
        "seed": pa.array([2**63 - 1, 0, None, -1]),
        "style": [["s.png", "ü.png"], [], None, [None]],
        "layer_losses": pa.array(
            [[("conv1_1", 0.1)], [], None, [("x", None)]], pa.map_(pa.string(), pa.float64())
        ),
        "place": pa.array(["left", None, "left", "x"]).dictionary_encode(),
        "bytes": [b"\x00", None, b"", b"x"],
        "nothing": pa.nulls(4),
        "point": [{"x": 1}, None, {"x": None}, {"x": 2}],
    }
)


def exported(name: str, *tables: pa.Table) -> bytes:
    store = MemoryStore()
    rows = export(store, iter(tables), f"s3://bucket/{name}")
    assert rows == sum(table.num_rows for table in tables)
    return store.objects[f"s3://bucket/{name}"]


def csv_rows(data: bytes) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(data.decode(), newline=""))]


class TestCsv:
    def test_every_value_is_one_cell(self) -> None:
        rows = csv_rows(exported("x.csv", TABLE))
        assert [row["pair_id"] for row in rows] == ["a", 'say "b",\nnow', "", ""]
        assert [float(row["loss"] or -1) for row in rows[:2]] == [0.1, 1e300]
        assert [row["loss"] for row in rows[2:]] == ["nan", ""]
        assert rows[0]["seed"] == "9223372036854775807"
        assert [row["place"] for row in rows] == ["left", "", "left", "x"]
        assert {row["nothing"] for row in rows} == {""}

    @pytest.mark.parametrize(
        ("column", "expected"),
        [
            ("style", [["s.png", "ü.png"], [], None, [None]]),
            ("layer_losses", [{"conv1_1": 0.1}, {}, None, {"x": None}]),
            ("point", [{"x": 1}, None, {"x": None}, {"x": 2}]),
        ],
    )
    def test_lists_and_maps_are_json(self, column: str, expected: list[Any]) -> None:
        cells = [row[column] for row in csv_rows(exported("x.csv", TABLE))]
        assert [json.loads(cell) if cell else None for cell in cells] == expected

    def test_null_and_an_empty_text_are_told_apart(self) -> None:
        lines = exported("x.csv", TABLE.select(["seed", "pair_id"])).decode().splitlines()
        assert lines[-2:] == [',""', "-1,"]


class TestParquet:
    def test_what_was_read_is_written(self) -> None:
        part = io.BytesIO()
        pq.write_table(TABLE.replace_schema_metadata({"stylebatch_format": "2"}), part)
        table = pq.read_table(part)
        found = pq.read_table(io.BytesIO(exported("x.parquet", table.slice(0, 3), table.slice(3))))
        assert found.schema.equals(table.schema, check_metadata=True)
        assert repr(found.to_pylist()) == repr(table.to_pylist())

    def test_small_tables_share_a_row_group(self) -> None:
        table = pa.table({"row": [*range(256)]})
        file = pq.ParquetFile(io.BytesIO(exported("x.parquet", *[table] * 100)))
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        assert sizes == [16_384, 25_600 - 16_384]

    def test_no_rows_are_a_table_too(self) -> None:
        found = pq.read_table(io.BytesIO(exported("x.parquet", TABLE.slice(0, 0))))
        assert found.schema.equals(TABLE.schema)


class TestTrouble:
    def test_another_format_is_refused_before_anything_is_read(self) -> None:
        def tables() -> Iterator[pa.Table]:
            pytest.fail("a table was read")
            yield TABLE

        with pytest.raises(
            QueryError, match=r"x\.xlsx: rows are written as \.parquet or \.csv; end its name so"
        ):
            export(MemoryStore(), tables(), "s3://bucket/x.xlsx")

    def test_a_file_appears_whole_or_not_at_all(self) -> None:
        def tables() -> Iterator[pa.Table]:
            yield TABLE
            raise QueryError("a part is damaged")

        store = MemoryStore()
        with pytest.raises(QueryError, match="a part is damaged"):
            export(store, tables(), "s3://bucket/x.csv")
        assert store.objects == {}

    def test_without_room_it_says_so(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def no_room(*arguments: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(exporting.pq.ParquetWriter, "write_table", no_room)
        with pytest.raises(
            ConfigurationError, match=r"No space left on device; the file is made there first"
        ):
            export(MemoryStore(), iter([TABLE]), "s3://bucket/x.parquet")
