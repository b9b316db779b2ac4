"""The experiment's own columns and the achieved appearance, which a picture itself may not betray."""

import io
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_outputs import FOLDER, OUTPUT, RECIPE
from finishedjob import Rows, edit_part, finish_job
from inmemory import MemoryStore

from stylebatch.audit.verdict import Problem, Verdict, VerifyOptions, verdict_lines
from stylebatch.audit.verifying import verify
from stylebatch.layout import Layout
from stylebatch.manifest import write_manifest
from stylebatch.results.schema import encode_table

LAYOUT = Layout(OUTPUT)
MANIFEST = f"{FOLDER}/pairs.parquet"


def verified(store: MemoryStore, output: str = OUTPUT) -> tuple[Verdict, list[str]]:
    """The verdict, and the problems as they are printed."""
    problems: list[Problem] = []
    verdict = verify(store, output, VerifyOptions(resynthesize=0), problems.append)
    return verdict, [str(problem) for problem in problems]


def write_conditions(store: MemoryStore, name: str, values: list[str | None]) -> None:
    """Give the first part another own column, or a column with other values."""
    table = pq.read_table(io.BytesIO(store.get(LAYOUT.part(0))))
    others = [column for column in table.column_names if column != name]
    store.put(LAYOUT.part(0), encode_table(table.select(others).append_column(name, pa.array(values))))


class TestConditions:
    """The experiment's own columns, which no picture knows."""

    def test_one_that_was_changed(self, store: MemoryStore) -> None:
        write_conditions(store, "condition", ["x", "x", "x"])
        assert verified(store)[1] == [
            "dotted.name: condition is 'x' in the table and 'y' in the manifest",
        ]

    def test_a_column_that_was_added(self, store: MemoryStore) -> None:
        write_conditions(store, "group", [None, "b", None])
        assert verified(store)[1] == [
            f"{name}: group is {value} in the table and no column of the manifest"
            for name, value in (("plain", "None"), ("dotted.name", "'b'"), ("photo", "None"))
        ]

    def test_a_column_that_was_dropped(self, store: MemoryStore) -> None:
        table = pq.read_table(io.BytesIO(store.get(LAYOUT.part(2))))
        store.put(LAYOUT.part(2), encode_table(table.drop_columns(["condition"])))
        assert verified(store)[1] == ["gone: condition is missing in the table and 'x' in the manifest"]

    def test_values_that_are_not_a_number_are_the_same(self, store: MemoryStore) -> None:
        columns = {"content": ["c.png"], "style": ["s.png"], "ratings": [[math.nan, 2.0]]}
        finish_job(store, f"{FOLDER}/rated.parquet", f"{FOLDER}/rated", columns, RECIPE)
        assert verified(store, f"{FOLDER}/rated")[1] == []

    def test_a_job_without_any(self, store: MemoryStore) -> None:
        columns = {"content": ["c.png"], "style": ["s.png"]}
        finish_job(store, f"{FOLDER}/bare.parquet", f"{FOLDER}/bare", columns, RECIPE)
        store.delete(f"{FOLDER}/bare.parquet")
        verdict, problems = verified(store, f"{FOLDER}/bare")
        assert (verdict.not_compared, problems) == ("", [])

    def test_without_their_manifest_are_said_not_to_be_compared(self, store: MemoryStore) -> None:
        store.delete(MANIFEST)
        verdict, problems = verified(store)
        assert problems == []
        assert [line for line in verdict_lines(verdict) if "own columns were NOT compared" in line]
        assert MANIFEST in verdict.not_compared

    def test_with_another_manifest_too(self, store: MemoryStore) -> None:
        write_manifest(store, MANIFEST, pa.table({"content": ["c.png"], "condition": ["y"]}))
        verdict, problems = verified(store)
        assert problems == []
        assert verdict.not_compared == f"{MANIFEST} is another file than the one that the job ran"


class TestAppearance:
    """What was achieved is measured again: an array has no provenance that would betray another value."""

    @pytest.fixture
    def output(self, store: MemoryStore) -> str:
        columns = {
            "pair_id": ["even", "matched"],
            "content": ["c.png", "c.png"],
            "style": ["s.png", "t.png"],
            "format": ["npy", "npy"],
            "mean_luminance": [0.3, None],
            "histogram": [None, "style"],
            "spectrum": [None, "tall.png"],
        }
        output = f"{FOLDER}/seen"
        finish_job(store, f"{FOLDER}/seen.parquet", output, columns, RECIPE)
        return output

    def test_that_is_true_passes(self, store: MemoryStore, output: str) -> None:
        assert verified(store, output)[1] == []

    @pytest.mark.parametrize(
        ("pair", "name"),
        [
            ("even", "mean_luminance"),
            ("even", "rms_contrast"),
            ("matched", "histogram_distance"),
            ("matched", "spectrum_distance"),
        ],
    )
    def test_that_was_changed_is_noticed(self, store: MemoryStore, output: str, pair: str, name: str) -> None:
        def change(rows: Rows) -> None:
            row = next(row for row in rows if row["pair_id"] == pair)
            row["achieved"] = row["achieved"] | {name: row["achieved"][name] + 0.001}

        edit_part(store, output, 0, change)
        (problem,) = verified(store, output)[1]
        assert problem.startswith(f"{pair}: {name} achieved is ")

    def test_that_was_left_out_is_noticed(self, store: MemoryStore, output: str) -> None:
        edit_part(store, output, 0, lambda rows: rows[0].update(achieved={"mean_luminance": 0.3}))
        problems = verified(store, output)[1]
        assert any("rms_contrast achieved is missing in the table" in problem for problem in problems)
