"""Names in the output, records, parts, and reading them back."""

import datetime
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore

from stylebatch.errors import JobError
from stylebatch.layout import FORMAT_VERSION, Layout, decode_record, encode_record, image_sha256
from stylebatch.pairs import Pair
from stylebatch.recipe import FIELDS, Recipe
from stylebatch.results import RESERVED_COLUMNS, RESULT_SCHEMA, encode_part, read_part, read_results
from stylebatch.work import failed_row, source_facts

LAYOUT = Layout("s3://bucket/out")
SHA = "0123456789abcdef" * 4


def pair(number: int, **recipe: object) -> Pair:
    styles = ("s3://bucket/a.png", "s3://bucket/b.png")
    return Pair(f"pair-{number}", number, "s3://bucket/c.png", styles, Recipe(**recipe))  # type: ignore[arg-type]


def ok_row(number: int) -> dict[str, object]:
    one = pair(number, seed=2**63 - 1, style_layer_weights=(1, 2, 3, 4, 5))
    return {
        **source_facts(one),
        **one.recipe.to_dict(),
        "status": "ok",
        "image": f"s3://bucket/out/images/000000/pair-{number}.png",
        "image_sha256": SHA,
        "width": 48,
        "loss": 12.5,
        "layer_losses": {"content_conv4_2": 10.0, "style_conv1_1": None},
        "loss_curve": [100.0, None, 12.5],
        "style_sha256": [SHA, SHA],
    }


def no_extras(rows: int) -> pa.Table:
    return pa.table({"row": pa.nulls(rows)}).select([])


def part_of(*rows: dict[str, object]) -> pa.Table:
    return pq.read_table(io.BytesIO(encode_part(rows, no_extras(len(rows)))))


class TestLayout:
    def test_every_name_follows_from_unit_and_pair(self) -> None:
        names = [
            LAYOUT.job,
            LAYOUT.success,
            LAYOUT.record(42, "cat.1", SHA),
            LAYOUT.failed_record(42, "cat.1"),
            LAYOUT.image(42, "cat.1", ".png"),
            LAYOUT.part(42),
        ]
        assert names == [
            "s3://bucket/out/job.json",
            "s3://bucket/out/_SUCCESS",
            "s3://bucket/out/records/000042/cat.1.0123456789abcdef.json",
            "s3://bucket/out/records/000042/cat.1.failed.json",
            "s3://bucket/out/images/000042/cat.1.png",
            "s3://bucket/out/results/part-000042.parquet",
        ]

    def test_what_belongs_to_a_unit_stands_in_its_folders(self) -> None:
        assert LAYOUT.record(7, "x", SHA).startswith(LAYOUT.records(7) + "/")
        assert LAYOUT.failed_record(7, "x").startswith(LAYOUT.records(7) + "/")
        assert LAYOUT.image(7, "x", ".jpg").startswith(LAYOUT.images(7) + "/")

    @pytest.mark.parametrize("unit", [0, 1, 42, 999_999, 1_000_000, 12_345_678])
    def test_a_part_tells_its_unit(self, unit: int) -> None:
        assert LAYOUT.part_unit(LAYOUT.part(unit)) == unit

    @pytest.mark.parametrize(
        "name",
        [
            "part-.parquet",
            "part-00004x.parquet",
            "part--00042.parquet",
            "part-+00042.parquet",
            "part-0000_2.parquet",
            "part- 00042.parquet",
            "part-٠٠٠٠٤٢.parquet",
            "part-²00042.parquet",
            "part-000042.parquet.tmp",
            "part-000042",
            "000042.parquet",
            "old/part-000042.parquet",
            "part-42.parquet",  # of no part that is written here: unit 42 has another name
            "part-0000042.parquet",
            "part-1e5.parquet",
            "",
        ],
    )
    def test_other_names_are_no_parts(self, name: str) -> None:
        assert LAYOUT.part_unit(f"{LAYOUT.results}/{name}") is None

    @pytest.mark.parametrize(
        "uri", ["s3://bucket/elsewhere/part-000042.parquet", "part-000042.parquet", "s3://bucket/out/results"]
    )
    def test_a_part_stands_in_the_results(self, uri: str) -> None:
        assert LAYOUT.part_unit(uri) is None


class TestRecords:
    def test_a_row_comes_back_as_it_was(self) -> None:
        row = ok_row(3)
        assert decode_record(encode_record(row), "x.json") == row

    def test_equal_rows_have_equal_bytes(self) -> None:
        row = ok_row(3)
        data = encode_record(row)
        assert data == encode_record(dict(reversed(row.items())))
        assert b"\n" not in data
        assert b": " not in data

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
    def test_what_is_not_json_is_damaged(self, data: bytes) -> None:
        with pytest.raises(JobError, match=r"^/o/x\.json is damaged: it is not JSON$"):
            decode_record(data, "/o/x.json")

    @pytest.mark.parametrize("data", [b"[]", b"null", b'"pair_id"', b"{}", b'{"pair_id": 3}'])
    def test_what_is_not_a_row_is_no_record(self, data: bytes) -> None:
        with pytest.raises(JobError, match=r"^/o/x\.json is damaged: it is not a record$"):
            decode_record(data, "/o/x.json")

    def test_the_image_hash_is_sha256(self) -> None:
        assert image_sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestParts:
    def test_a_part_has_the_result_columns(self) -> None:
        table = part_of(ok_row(0))
        assert table.schema.equals(RESULT_SCHEMA)
        assert json.loads(table.schema.metadata[b"stylebatch_format"]) == FORMAT_VERSION

    def test_values_and_nulls_come_back(self) -> None:
        (row,) = part_of(ok_row(0)).to_pylist()
        expected = ok_row(0)
        losses = expected.pop("layer_losses")
        assert {name: row[name] for name in expected} == expected
        assert dict(row["layer_losses"]) == losses
        absent = set(RESULT_SCHEMA.names) - {*expected, "layer_losses"}
        assert "error" in absent
        assert {row[name] for name in absent} == {None}

    def test_a_record_says_the_same_as_the_row_it_was_made_of(self) -> None:
        row = ok_row(0)
        assert part_of(decode_record(encode_record(row), "x")).equals(part_of(row))

    def test_failed_rows_stand_beside_good_ones(self) -> None:
        failure = failed_row(pair(1, size=64), "PictureError", "b.png is empty (0 bytes)", 2)
        rows = part_of(ok_row(0), failure).to_pylist()
        assert [row["status"] for row in rows] == ["ok", "failed"]
        assert rows[1]["error_type"] == "PictureError"
        assert rows[1]["error"] == "b.png is empty (0 bytes)"
        assert (rows[1]["attempts"], rows[1]["size"], rows[1]["style_weight"]) == (2, 64, 1000.0)
        assert (rows[1]["loss"], rows[1]["layer_losses"], rows[1]["image"]) == (None, None, None)

    def test_extra_columns_keep_their_types(self) -> None:
        moment = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
        extras = pa.table(
            {
                "condition": pa.array(["left", None]).dictionary_encode(),
                "trial": pa.array([1, 2], pa.uint16()),
                "contrast": pa.array([0.5, None], pa.float32()),
                "when": pa.array([moment, None], pa.timestamp("ms", "UTC")),
                "tags": pa.array([["a"], []], pa.list_(pa.string())),
                "nothing": pa.nulls(2),
            }
        )
        table = pq.read_table(io.BytesIO(encode_part([ok_row(0), ok_row(1)], extras)))
        assert table.select(extras.column_names).equals(extras)
        assert table.column_names == [*RESULT_SCHEMA.names, *extras.column_names]


class TestReadingBack:
    def test_parts_are_read_in_order_of_row(self) -> None:
        store = MemoryStore()
        for unit in (10, 0, 2):
            rows = [ok_row(2 * unit), ok_row(2 * unit + 1)]
            store.put(LAYOUT.part(unit), encode_part(rows, no_extras(2)))
        store.put(f"{LAYOUT.results}/notes.txt", b"by hand")
        table = read_results(store, "s3://bucket/out")
        assert table["row"].to_pylist() == [0, 1, 4, 5, 20, 21]

    def test_one_part_can_be_read_in_part(self) -> None:
        store = MemoryStore({LAYOUT.part(0): encode_part([ok_row(0)], no_extras(1))})
        table = read_part(store, LAYOUT.part(0), ["status", "pair_id"])
        assert table.column_names == ["status", "pair_id"]
        assert table.to_pylist() == [{"status": "ok", "pair_id": "pair-0"}]

    def test_a_folder_without_results_is_said(self) -> None:
        with pytest.raises(JobError, match=r"results holds no results; is s3://bucket/out the output of"):
            read_results(MemoryStore(), "s3://bucket/out")


def test_a_manifest_may_have_its_own_columns_in_the_results() -> None:
    assert frozenset({"pair_id", "content", "style", *FIELDS}).isdisjoint(RESERVED_COLUMNS)
    assert {"row", "status", "image", "loss", "error", "image_sha256", "seconds"} <= RESERVED_COLUMNS


def test_no_result_column_has_the_name_of_another() -> None:
    assert len(set(RESULT_SCHEMA.names)) == len(RESULT_SCHEMA.names)
    assert set(FIELDS) <= set(RESULT_SCHEMA.names)


def test_every_result_column_is_a_recipe_field_a_manifest_column_or_reserved() -> None:
    assert set(RESULT_SCHEMA.names) == RESERVED_COLUMNS | {"pair_id", "content", "style"} | set(FIELDS)
