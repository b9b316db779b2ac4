"""A job's output, read back: its parts in order, and their rows."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.errors import JobError, NotFoundError
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectFile, ObjectStore
from stylebatch.quoting import reason
from stylebatch.results import read_part


def finished_parts(store: ObjectStore, output: str) -> dict[int, str]:
    """The URIs of an output's parts, by unit and in order of it.

    Args:
        store: Where the output is.
        output: Canonical URI of the job's output folder.

    Raises:
        JobError: There are none.
    """
    layout = Layout(output)
    found = ((layout.part_unit(stored.uri), stored.uri) for stored in store.list(layout.results))
    parts = dict(sorted((unit, uri) for unit, uri in found if unit is not None))
    if not parts:
        raise JobError(
            f"{layout.results} holds no results; is {output} the output of a stylebatch run, and has a unit "
            "of it ended?"
        )
    return parts


def part_columns(store: ObjectStore, uri: str) -> list[str]:
    """The names of a part's columns.

    Raises:
        JobError: The part is damaged.
    """
    with _plain_errors(uri):
        names: list[str] = pq.read_schema(ObjectFile(store, uri)).names
    return names


def part_rows(store: ObjectStore, uri: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a part by column name, or some of their columns; maps are dictionaries.

    Raises:
        JobError: The part is damaged.
    """
    with _plain_errors(uri):
        table = read_part(store, uri, columns)
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


@contextmanager
def _plain_errors(uri: str) -> Iterator[None]:
    """Turn what the Parquet reader says into one sentence; errors of the storage pass through."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise JobError(f"{uri} is damaged ({reason(error)}); put it back from a copy") from error
