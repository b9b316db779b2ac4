"""A job's output, read back: the rows of its finished units, as plain values."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.errors import NotFoundError
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectFile, ObjectStore
from stylebatch.results import Results
from stylebatch.results.reading import plain_errors


def file_columns(store: ObjectStore, uri: str) -> list[str]:
    """The names of the columns in a file of results.

    Raises:
        JobError: The file is damaged.
    """
    with plain_errors(uri):
        names: list[str] = pq.read_schema(ObjectFile(store, uri)).names
    return names


def unit_rows(results: Results, unit: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a finished unit by column name, or some of their columns; maps are dictionaries.

    Raises:
        JobError: The file that holds them is damaged.
    """
    return plain_rows(results.read(unit, columns))


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table by column name; maps are dictionaries."""
    rows: list[dict[str, Any]] = table.to_pylist()
    maps = [field.name for field in table.schema if _is_named_map(field.type)]
    for row in rows:
        row.update({name: dict(row[name]) for name in maps if row[name] is not None})
    return rows


def _is_named_map(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_map(data_type) and pa.types.is_string(data_type.key_type))


def planned_rows(store: ObjectStore, output: str) -> int | None:
    """How many rows the job has in all, ended or not; None if its ``job.json`` does not tell."""
    try:
        identity = json.loads(store.get(Layout(output).job))
    except (NotFoundError, ValueError, RecursionError):
        return None
    rows = identity.get("rows") if isinstance(identity, dict) else None
    return rows if isinstance(rows, int) else None
