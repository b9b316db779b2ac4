"""A long table of distances on its way to a file: Parquet, or text with tabs."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MISSING = "n/a"
"""What stands for null in text."""

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("a", pa.string()),
        ("b", pa.string()),
        ("space", pa.string()),
        ("layer", pa.string()),
        ("distance", pa.float64()),
        ("reason", pa.string()),
    ]
)
"""``a`` is a stimulus, ``b`` another one or the location of a source; a null distance has a reason."""


class ParquetTable:
    """Rows of :data:`SCHEMA` on their way to a Parquet file of this machine."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def add(self, table: pa.Table) -> None:
        """More rows."""
        self._writer.write_table(table)

    def close(self) -> None:
        """No more rows will come."""
        self._writer.close()


class TextTable:
    """The same on their way to text: tabs between values, ``n/a`` for null, numbers to their last digit."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, "excel-tab", lineterminator="\n")
        self._writer.writerow(SCHEMA.names)

    def add(self, table: pa.Table) -> None:
        """More rows."""
        columns = [column.to_pylist() for column in table.columns]
        for values in zip(*columns, strict=True):
            self._writer.writerow([MISSING if value is None else value for value in values])

    def close(self) -> None:
        """No more rows will come."""
        self._file.close()


LongTable = ParquetTable | TextTable

FORMATS: dict[str, type[LongTable]] = {".parquet": ParquetTable, ".tsv": TextTable}
"""The table for a file, by how its name ends."""
