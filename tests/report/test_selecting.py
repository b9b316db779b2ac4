"""Conditions as people type them, and the rows that they choose."""

import datetime
import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore

from stylebatch.errors import JobError, QueryError
from stylebatch.layout import Layout
from stylebatch.report.selecting import Condition, Query, parse_condition
from stylebatch.results import RESULT_SCHEMA, encode_table

OUTPUT = "s3://bucket/out"
LAYOUT = Layout(OUTPUT)
DAY = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)

ROWS: list[dict[str, Any]] = [
    {"row": 0, "pair_id": "a", "status": "ok", "loss": 1.0, "evaluations": 10, "style": ["s"]},
    {"row": 1, "pair_id": "b", "status": "ok", "loss": 2e9, "evaluations": 20, "style": None},
    {"row": 2, "pair_id": "c", "status": "failed", "error_type": "PictureError", "style": ["s"]},
    {"row": 3, "pair_id": "d", "status": "failed", "error_type": "NotFoundError", "error": "x = y"},
]
EXTRAS = {
    "place": pa.array(["left", None, "left", "right"]).dictionary_encode(),
    "trial": pa.array([1, 2, None, 4], pa.uint8()),
    "contrast": pa.array([0.5, math.nan, None, 1.0], pa.float32()),
    "when": pa.array([DAY, None, DAY, DAY + datetime.timedelta(days=1)], pa.timestamp("ms", "UTC")),
    "is_catch": pa.array([True, False, None, True]),
    "blob": pa.array([b"x", None, None, None]),
}


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    """Two units of two rows."""
    columns = {
        field.name: pa.array([row.get(field.name) for row in ROWS], field.type) for field in RESULT_SCHEMA
    }
    table = pa.table({**columns, **EXTRAS})
    halves = {LAYOUT.part(unit): encode_table(table.slice(2 * unit, 2)) for unit in (0, 1)}
    return MemoryStore(halves)


def chosen(store: MemoryStore, *conditions: str) -> str:
    """The pairs that are chosen."""
    query = Query(store, OUTPUT, [parse_condition(text) for text in conditions], ["pair_id"])
    return "".join(name for table in query.tables() for name in table.column("pair_id").to_pylist())


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("status=failed", Condition("status", "=", "failed")),
            ("status==failed", Condition("status", "=", "failed")),
            (" loss > 1e9 ", Condition("loss", ">", "1e9")),
            ("loss>=1e9", Condition("loss", ">=", "1e9")),
            ("loss<=-1", Condition("loss", "<=", "-1")),
            ("error!=x = y", Condition("error", "!=", "x = y")),
            ("error=", Condition("error", "=", "")),
            ("my column<b>", Condition("my column", "<", "b>")),
        ],
    )
    def test_a_condition(self, text: str, expected: Condition) -> None:
        assert parse_condition(text) == expected

    @pytest.mark.parametrize("text", ["", "status", "=failed", "!", "a ~ b"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(QueryError, match=r"is not a condition; write COLUMN=VALUE with one of = != <"):
            parse_condition(text)


class TestChoosing:
    @pytest.mark.parametrize(
        ("condition", "expected"),
        [
            ("status=ok", "ab"),
            ("status!=ok", "cd"),
            ("loss>1e9", "b"),
            ("loss<=1", "a"),
            ("loss!=1", "bcd"),  # a missing value differs from every other
            ("loss=null", "cd"),
            ("loss!=null", "ab"),
            ("evaluations>=20", "b"),
            ("evaluations<19.5", "a"),
            ("pair_id>b", "cd"),
            ("error=x = y", "d"),
            ("error_type!=PictureError", "abd"),
            ("style=null", "bd"),
            ("place=left", "ac"),
            ("place!=left", "bd"),
            ("place=null", "b"),
            ("trial<3", "ab"),
            ("trial>-1", "abd"),
            ("contrast>0.4", "ad"),
            ("when=2024-02-29T00:00:00Z", "ac"),
            ("when>2024-02-29T12:00:00Z", "d"),
            ("is_catch=true", "ad"),
            ("is_catch!=true", "bc"),
            ("blob!=null", "a"),
        ],
    )
    def test_by_one_condition(self, store: MemoryStore, condition: str, expected: str) -> None:
        assert chosen(store, condition) == expected

    def test_by_all_of_several(self, store: MemoryStore) -> None:
        assert chosen(store, "status=failed", "place=right") == "d"
        assert chosen(store) == "abcd"

    def test_the_chosen_are_counted(self, store: MemoryStore) -> None:
        query = Query(store, OUTPUT, [parse_condition("row>0")], ["loss"])
        tables = [*query.tables()]
        assert [table.column_names for table in tables] == [["loss"]] * 2
        assert (query.counts.rows, query.counts.chosen) == (4, 3)
        assert query.counts.statuses == {"ok": 1, "failed": 2}
        assert query.counts.errors == {"PictureError": 1, "NotFoundError": 1}

    def test_only_what_is_needed_is_read(self, store: MemoryStore) -> None:
        query = Query(store, OUTPUT, [parse_condition("loss>0")], ["pair_id", "pair_id"])
        assert query.columns == ["pair_id"]
        assert query._needed == ["pair_id", "loss", "status", "error_type"]

    def test_all_columns_are_those_of_the_files(self, store: MemoryStore) -> None:
        assert Query(store, OUTPUT).columns == [*RESULT_SCHEMA.names, *EXTRAS]
        assert Query(store, OUTPUT).planned is None

    def test_the_rows_of_the_whole_job_are_known_from_its_identity(self, store: MemoryStore) -> None:
        with_job = MemoryStore(store.objects | {LAYOUT.job: b'{"rows": 9}'})
        assert Query(with_job, OUTPUT).planned == 9


class TestRefusing:
    @pytest.mark.parametrize(
        ("condition", "message"),
        [
            ("los=1", r"there is no column 'los'; did you mean loss\? the columns are pair_id, row, "),
            ("loss=much", r"'much' is no value of loss, which is of type double"),
            ("trial=1x", r"'1x' is no value of trial, which is of type uint8"),
            ("when=yesterday", r"'yesterday' is no value of when, which is of type timestamp"),
            ("is_catch=perhaps", r"'perhaps' is no value of is_catch"),
            ("style=s", r"style is of type list<.*>, which cannot be compared by =; = null and != null can"),
            ("layer_losses>1", "layer_losses is of type map"),
            ("blob=x", "blob is of type binary"),
            (
                "is_catch>false",
                r"is_catch is of type bool, .* compared by >; = null .* asked of it and = true",
            ),
            ("loss>null", "'null' is no value of loss"),
        ],
    )
    def test_conditions_that_do_not_fit(self, store: MemoryStore, condition: str, message: str) -> None:
        with pytest.raises(QueryError, match=message):
            Query(store, OUTPUT, [parse_condition(condition)])

    def test_columns_that_are_not_there(self, store: MemoryStore) -> None:
        with pytest.raises(QueryError, match=r"there is no column 'nothing like it'; the columns are"):
            Query(store, OUTPUT, columns=["nothing like it"])

    def test_what_is_no_output(self) -> None:
        with pytest.raises(JobError, match="holds no results"):
            Query(MemoryStore(), OUTPUT)

    def test_a_damaged_part(self, store: MemoryStore) -> None:
        damaged = MemoryStore(store.objects | {LAYOUT.part(0): b"PAR1"})
        with pytest.raises(JobError, match=r"part-000000\.parquet is damaged"):
            Query(damaged, OUTPUT)


def test_the_fixture_is_what_parts_are(store: MemoryStore) -> None:
    assert pq.read_schema(io.BytesIO(store.objects[LAYOUT.part(0)])).names[:3] == ["pair_id", "row", "status"]
