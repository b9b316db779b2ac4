"""The Parquet table of features: its schema, its parts, and what is read back of them. Imports no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import stylebatch
from stylebatch.errors import JobError
from stylebatch.objectstore import ObjectFile, ObjectStore
from stylebatch.pair.feature_request import FeatureSettings
from stylebatch.quoting import reason
from stylebatch.work import Facts

METADATA_KEY = "stylebatch_features"
"""Under which the schema's metadata says, as JSON, what was measured and how."""


def feature_schema(settings: FeatureSettings, identity: Mapping[str, Any]) -> pa.Schema:
    """The columns of every part, and what its metadata says.

    Args:
        settings: Which features, and how long each is.
        identity: Of the request.
    """
    facts = [
        pa.field("image", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
    features = [pa.field(name, pa.list_(pa.float32(), length)) for name, length in settings.lengths.items()]
    description = {
        **identity,
        "normalisation": _normalisation(settings),
        "stylebatch_version": stylebatch.__version__,
    }
    error = pa.field("error", pa.string())
    return pa.schema([*facts, *features, error], {METADATA_KEY: json.dumps(description)})


def _normalisation(settings: FeatureSettings) -> dict[str, Any]:
    return {
        "content": "the mean over the positions of each cell of F, the responses after their ReLU; "
        "filter by filter, the cells of each row by row",
        "gram": "sum_k F_ik F_jk / M over the M positions; the upper triangle with the diagonal, row by row",
        "off_diagonal_weight": 2**0.5 if settings.is_weighted else 1.0,
    }


def encode_rows(rows: Sequence[Facts], schema: pa.Schema) -> bytes:
    """Rows as a Parquet file; what a row does not have is null."""
    columns = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    return _encoded([pa.Table.from_arrays(columns, schema=schema)], schema)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values, kind)
    blank = np.zeros(kind.list_size, np.float32)
    flat = np.concatenate([blank if value is None else value for value in values])
    is_null = pa.array([value is None for value in values])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind, mask=is_null)


def join_parts(store: ObjectStore, parts: Iterable[str], schema: pa.Schema) -> bytes:
    """The rows of several parts, in order, as one Parquet file with a row group for each part.

    Raises:
        JobError: A part is damaged.
    """
    return _encoded((_read(store, uri) for uri in parts), schema)


def _encoded(tables: Iterable[pa.Table], schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    # Hardly two float32 are the same: a dictionary of them would only be tried and given up.
    with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False) as writer:
        for table in tables:
            writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_failures(store: ObjectStore, uri: str) -> list[tuple[str, str]]:
    """The images of a part or table that have no features, each with the reason.

    Raises:
        JobError: The file is damaged.
    """
    rows = _read(store, uri, ["image", "error"]).to_pylist()
    return [(row["image"], row["error"]) for row in rows if row["error"] is not None]


def read_description(store: ObjectStore, uri: str) -> dict[str, Any]:
    """What a table's metadata says of it.

    Raises:
        NotFoundError: There is no such file.
        JobError: It is no table of features.
    """
    try:
        metadata = pq.read_schema(ObjectFile(store, uri)).metadata or {}
        description = json.loads(metadata[METADATA_KEY.encode()])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise JobError(
            f"{uri} is there and is no table of features; give another --output, or move it away"
        ) from error
    if not isinstance(description, dict):
        raise JobError(f"{uri}: its metadata {METADATA_KEY} is damaged; move it away")
    return description


def _read(store: ObjectStore, uri: str, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(ObjectFile(store, uri), columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise JobError(
            f"{uri} is damaged ({reason(error)}); delete it, and the same command measures its images again"
        ) from error
