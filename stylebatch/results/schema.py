"""The table of results: its schema, and the parts it is written in.

A part is the Parquet table of one unit's rows, with the manifest's own columns.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.layout import FORMAT_VERSION, Row
from stylebatch.objectstore import ObjectFile, ObjectStore
from stylebatch.recipe import FIELDS, field_rule

_ARROW_TYPES: Mapping[str, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "text": pa.string(),
    "numbers": pa.list_(pa.float64()),
    "texts": pa.list_(pa.string()),
}

_BY_NAME = pa.map_(pa.string(), pa.float64())

COMPRESSION = "zstd"
"""Of every Parquet file of results."""

RESULT_SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("row", pa.int64()),
        ("status", pa.string()),
        ("content", pa.string()),
        ("style", pa.list_(pa.string())),
        ("image", pa.string()),
        *((name, _ARROW_TYPES[field_rule(name).kind]) for name in FIELDS),
        ("recipe_sha256", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("loss", pa.float64()),
        ("content_loss", pa.float64()),
        ("style_loss", pa.float64()),
        ("layer_losses", _BY_NAME),
        ("solver_loss", pa.float64()),
        ("loss_curve", pa.list_(pa.float64())),
        ("layer_residuals", _BY_NAME),
        ("loss_change", pa.float64()),
        ("clipped_fraction", pa.float64()),
        ("adjusted_clipped_fraction", pa.float64()),
        ("achieved", _BY_NAME),
        ("evaluations", pa.int64()),
        ("smaller_evaluations", pa.list_(pa.int64())),
        ("stop_reason", pa.string()),
        ("seconds", pa.float64()),
        ("attempts", pa.int64()),
        ("batch", pa.int64()),
        ("target_hits", pa.int64()),
        ("target_misses", pa.int64()),
        ("device", pa.string()),
        ("host", pa.string()),
        ("content_sha256", pa.string()),
        ("style_sha256", pa.list_(pa.string())),
        ("start_sha256", pa.string()),
        ("histogram_sha256", pa.string()),
        ("spectrum_sha256", pa.string()),
        ("weights_sha256", pa.string()),
        ("image_sha256", pa.string()),
        ("stylebatch_version", pa.string()),
        ("torch_version", pa.string()),
        ("error_type", pa.string()),
        ("error", pa.string()),
    ]
)
"""The columns of a part, before the manifest's own extra columns."""

RESERVED_COLUMNS = frozenset(RESULT_SCHEMA.names) - {"pair_id", "content", "style"} - frozenset(FIELDS)
"""Names that an extra column of a manifest cannot have."""


def encode_part(rows: Sequence[Row], extras: pa.Table) -> bytes:
    """The Parquet file of a unit.

    Args:
        rows: The unit's result rows, in order of row.
        extras: The manifest's extra columns of the same rows.
    """
    columns = [
        pa.array([_as_arrow(row.get(field.name)) for row in rows], field.type) for field in RESULT_SCHEMA
    ]
    table = pa.Table.from_arrays(columns, schema=RESULT_SCHEMA)
    for field in extras.schema:
        table = table.append_column(field, extras.column(field.name))
    table = table.replace_schema_metadata({"stylebatch_format": str(FORMAT_VERSION)})
    return encode_table(table)


def _as_arrow(value: Any) -> Any:
    return list(value.items()) if isinstance(value, Mapping) else value


def encode_table(table: pa.Table) -> bytes:
    """The Parquet file of a table that has the columns and the metadata of a part."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=COMPRESSION)
    return sink.getvalue()


def decode_part(data: bytes) -> pa.Table:
    """The table of a part's bytes."""
    return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)


def read_part(store: ObjectStore, uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of one part, or some of its columns."""
    file = pq.ParquetFile(ObjectFile(store, uri), pre_buffer=True)
    return file.read(columns and list(columns), use_threads=False)
