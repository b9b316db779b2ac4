"""Writing rows of results to one file, Parquet or CSV, as they come."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from stylebatch.errors import ConfigurationError, QueryError
from stylebatch.objectstore import ObjectStore
from stylebatch.quoting import reason
from stylebatch.results import COMPRESSION

GROUP_ROWS = 16_384
"""Rows of a row group, about."""
_CELLS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
)
"""Types whose values CSV can write as they are."""


def export_format(destination: str) -> str:
    """The suffix of a file to write, which decides its format.

    Raises:
        QueryError: It is of no format that is written.
    """
    suffix = next((suffix for suffix in _WRITERS if destination.endswith(suffix)), None)
    if suffix is None:
        raise QueryError(f"{destination}: rows are written as {' or '.join(_WRITERS)}; end its name so")
    return suffix


def export(store: ObjectStore, tables: Iterable[pa.Table], destination: str) -> int:
    """Write tables of one schema to a file, one below the other; it appears when it is whole.

    Memory holds a row group; the file is made on this machine's disk first.

    Args:
        store: Where to.
        tables: At least one, which may be empty.
        destination: Canonical URI; its name ends in ``.parquet`` or ``.csv``.

    Returns:
        Rows that were written.

    Raises:
        QueryError: The file is of no format that is written.
        ConfigurationError: There is no room for the temporary file.
    """
    suffix = export_format(destination)
    try:
        with tempfile.TemporaryDirectory(prefix="stylebatch-results-") as folder:
            path = Path(folder) / f"rows{suffix}"
            rows = _write(tables, path, suffix)
            store.put_file(destination, path)
    except OSError as error:
        raise ConfigurationError(
            f"{tempfile.gettempdir()}: {reason(error)}; the file is made there first: set TMPDIR to a larger "
            "disk"
        ) from error
    return rows


def _write(tables: Iterable[pa.Table], path: Path, suffix: str) -> int:
    writer: Any = None
    rows, waiting = 0, 0
    some: list[pa.Table] = []
    try:
        for table in tables:
            writer = writer or _WRITERS[suffix](path, table.schema)
            some.append(table)
            waiting += table.num_rows
            if waiting >= GROUP_ROWS:
                writer.add(pa.concat_tables(some))
                some, waiting = [], 0
            rows += table.num_rows
        if some:
            writer.add(pa.concat_tables(some))
    finally:
        if writer:
            writer.close()
    return rows


class _ParquetFile:
    """Tables on their way to a Parquet file."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression=COMPRESSION)

    def add(self, table: pa.Table) -> None:
        self._writer.write_table(table.unify_dictionaries())

    def close(self) -> None:
        self._writer.close()


class _CsvFile:
    """The same on their way to CSV: texts in quotes, nothing for null, lists and maps as JSON."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        plain = pa.schema([_plain_field(field) for field in schema])
        self._writer = pyarrow.csv.CSVWriter(str(path), plain)

    def add(self, table: pa.Table) -> None:
        self._writer.write_table(flat(table))

    def close(self) -> None:
        self._writer.close()


_WRITERS: dict[str, type[_ParquetFile] | type[_CsvFile]] = {".parquet": _ParquetFile, ".csv": _CsvFile}


def flat(table: pa.Table) -> pa.Table:
    """A table whose every value is one cell: lists, maps, records and bytes become JSON texts."""
    fields = [_plain_field(field) for field in table.schema]
    columns = [
        column.cast(field.type) if _is_cell(column.type) else _as_json(column)
        for field, column in zip(fields, table.columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _plain_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, _plain_type(field.type) if _is_cell(field.type) else pa.string())


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_cell(kind: pa.DataType) -> bool:
    return any(is_of(_plain_type(kind)) for is_of in _CELLS)


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    is_map = pa.types.is_map(column.type)
    return pa.array([json_text(value, is_map) for value in column.to_pylist()], pa.string())


def json_text(value: Any, is_map: bool = False) -> str | None:
    """A list, map or record as JSON; what JSON does not know is written as text."""
    if value is None:
        return None
    return json.dumps(dict(value) if is_map else value, default=str, ensure_ascii=False)
