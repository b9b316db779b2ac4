"""The lines of docs/results.md that open the table in pandas, Arrow and DuckDB, run as they stand there."""

import re
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from test_generations import no_extras, ok_row

from stylebatch.job import merge_output
from stylebatch.job.identity import encode_identity
from stylebatch.layout import Layout
from stylebatch.results import encode_part
from stylebatch.results.generations import look_from_outside
from stylebatch.storage import LocalStore

DOCUMENT = Path(__file__).parent.parent / "docs" / "results.md"
UNITS, UNIT_SIZE = 5, 2


def documented_lines() -> list[str]:
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return str(block).splitlines()


def rows_of(line: str) -> list[int]:
    """The row numbers of what a line gives, in its order."""
    names = {"pandas": pandas, "pyarrow": pyarrow, "duckdb": duckdb}
    found: Any = eval(line, names)
    if isinstance(found, duckdb.DuckDBPyRelation):
        return [number for (number,) in found.select("row").fetchall()]
    column = found["row"]
    return [int(number) for number in (column.tolist() if line.startswith("pandas") else column.to_pylist())]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A finished output in ``out`` below the working directory."""
    monkeypatch.chdir(tmp_path)
    store, layout = LocalStore(), Layout(str(tmp_path / "out"))
    identity = {"format_version": 2, "recipe": {}, "rows": UNITS * UNIT_SIZE, "unit_size": UNIT_SIZE}
    store.put(layout.job, encode_identity(identity))
    for unit in range(UNITS):
        rows = [ok_row(UNIT_SIZE * unit + number) for number in range(UNIT_SIZE)]
        store.put(layout.part(unit), encode_part(rows, no_extras(UNIT_SIZE)))
    return layout


def test_each_program_has_one_line() -> None:
    assert [line.partition(".")[0] for line in documented_lines()] == ["pandas", "pyarrow", "duckdb"]


@pytest.mark.parametrize("line", documented_lines())
def test_the_line_gives_every_row_once_in_order(line: str, layout: Layout) -> None:
    store, numbers = LocalStore(), [*range(UNITS * UNIT_SIZE)]
    assert rows_of(line) == numbers
    before = {path.name: path.read_bytes() for path in Path(layout.results).iterdir()}
    merge_output(store, layout.output)
    assert not look_from_outside(store, layout).parts
    assert rows_of(line) == numbers
    # What a merge that was killed has left, before its files begin to count.
    (merged,) = look_from_outside(store, layout).files
    store.copy(layout.merged(merged.name), layout.staged(merged.name))
    store.delete(layout.merged(merged.name))
    store.delete(layout.generation)
    for name, data in before.items():
        store.put(layout.merged(name), data)
    assert rows_of(line) == numbers
