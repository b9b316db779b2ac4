"""What a job writes: where each object stands, records, parts, and how to read them back.

A record is a result row as JSON, without the manifest's extra columns; a part is the Parquet table of one
unit's rows with them.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.errors import JobError
from stylebatch.objectstore import ObjectFile, ObjectStore, join_uri
from stylebatch.recipe import FIELDS, field_rule

FORMAT_VERSION = 1
"""Of the whole output: layout, records and parts."""

Row = Mapping[str, Any]
"""A result row by column name; a missing column is null."""

_ARROW_TYPES: Mapping[str, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "text": pa.string(),
    "numbers": pa.list_(pa.float64()),
    "texts": pa.list_(pa.string()),
}

_LOSSES_BY_LAYER = pa.map_(pa.string(), pa.float64())

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
        ("layer_losses", _LOSSES_BY_LAYER),
        ("solver_loss", pa.float64()),
        ("loss_curve", pa.list_(pa.float64())),
        ("clipped_fraction", pa.float64()),
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


@dataclass(frozen=True)
class Layout:
    """Where a job's objects stand below its output; every name follows from the unit and the pair."""

    output: str
    """Canonical folder URI."""

    @property
    def job(self) -> str:
        """The job's identity."""
        return join_uri(self.output, "job.json")

    @property
    def success(self) -> str:
        """Written last, with counts."""
        return join_uri(self.output, "_SUCCESS")

    @property
    def lease(self) -> str:
        """Who works on the output."""
        return join_uri(self.output, "lease.json")

    @property
    def results(self) -> str:
        """The folder of the parts."""
        return join_uri(self.output, "results")

    @property
    def all_images(self) -> str:
        """The folder above every unit's images."""
        return join_uri(self.output, "images")

    @property
    def all_records(self) -> str:
        """The folder above every open unit's records."""
        return join_uri(self.output, "records")

    @property
    def all_checkpoints(self) -> str:
        """The folder above every open unit's checkpoints."""
        return join_uri(self.output, "checkpoints")

    @property
    def reopened(self) -> str:
        """The folder of the parts whose failed rows are being run again."""
        return join_uri(self.output, "reopened")

    def images(self, unit: int) -> str:
        """The folder of a unit's images."""
        return join_uri(self.all_images, f"{unit:06d}")

    def records(self, unit: int) -> str:
        """The folder of an open unit's records."""
        return join_uri(self.all_records, f"{unit:06d}")

    def checkpoint(self, unit: int, pair_id: str) -> str:
        """Where a long pair stands."""
        return join_uri(self.all_checkpoints, f"{unit:06d}", f"{pair_id}.ckpt")

    def image(self, unit: int, pair_id: str, suffix: str) -> str:
        """A pair's picture; storing it commits the pair."""
        return join_uri(self.images(unit), pair_id + suffix)

    def record(self, unit: int, pair_id: str, image_sha256: str) -> str:
        """What one attempt made, under the hash of its image."""
        return join_uri(self.records(unit), f"{pair_id}.{image_sha256[:16]}.json")

    def failed_record(self, unit: int, pair_id: str) -> str:
        """Why a pair failed for good."""
        return join_uri(self.records(unit), f"{pair_id}.failed.json")

    def part(self, unit: int) -> str:
        """The results of a finished unit."""
        return join_uri(self.results, f"part-{unit:06d}.parquet")

    def part_unit(self, uri: str) -> int | None:
        """The unit of a part's URI; None for anything else."""
        name = uri.removeprefix(self.results + "/")
        digits = name.removeprefix("part-").removesuffix(".parquet")
        is_number = digits.isascii() and digits.isdigit()
        return int(digits) if is_number and uri == self.part(int(digits)) else None


def encode_record(row: Row) -> bytes:
    """A result row as canonical JSON."""
    return json.dumps(row, sort_keys=True, separators=(",", ":")).encode()


def decode_record(data: bytes, uri: str) -> dict[str, Any]:
    """The result row of a record.

    Raises:
        JobError: The bytes are not a record.
    """
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise JobError(f"{uri} is damaged: it is not JSON") from error
    if not isinstance(row, dict) or not isinstance(row.get("pair_id"), str):
        raise JobError(f"{uri} is damaged: it is not a record")
    return row


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
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _as_arrow(value: Any) -> Any:
    return list(value.items()) if isinstance(value, Mapping) else value


def read_results(store: ObjectStore, output: str) -> pa.Table:
    """The result rows of all finished units, in order of row.

    Args:
        store: Where the output is.
        output: Canonical URI of the job's output folder.

    Raises:
        JobError: There are no results.
    """
    layout = Layout(output)
    parts = [stored.uri for stored in store.list(layout.results) if layout.part_unit(stored.uri) is not None]
    if not parts:
        raise JobError(f"{layout.results} holds no results; is {output} the output of a stylebatch run?")
    return pa.concat_tables(read_part(store, uri) for uri in parts)


def read_part(store: ObjectStore, uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of one part, or some of its columns."""
    return pq.read_table(ObjectFile(store, uri), columns=columns and list(columns))


def image_sha256(data: bytes) -> str:
    """The hash that ties a picture's file to its record."""
    return hashlib.sha256(data).hexdigest()
