"""One Parquet file of a manifest: opened by its footer, read in bounded memory."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.errors import ManifestError
from stylebatch.manifest.footer import (
    MAX_FOOTER_BYTES,
    ExcessError,
    RowGroup,
    check_schema,
    footer_length,
    row_groups,
)
from stylebatch.manifest.footprint import Plan, Source, plan_reading
from stylebatch.manifest.schema import KNOWN_COLUMNS, is_text
from stylebatch.objectstore import ObjectFile, ObjectStore
from stylebatch.quoting import reason

READ_BUFFER = 1 << 20
"""Bytes of a column that are fetched at once, so that a huge row group is never held whole."""
FOOTER_GUESS = 64 << 10
"""Bytes from the end of a file that hold nearly every footer."""
PARQUET_END = b"PAR1"


@dataclass(frozen=True)
class ManifestFile:
    """One Parquet file of a manifest, by its footer."""

    uri: str
    """Canonical URI."""
    name: str
    """Path below the manifest's folder; '' for a manifest that is one file."""
    size: int
    """Bytes."""
    first_row: int
    """The number of its first row in the whole manifest."""
    metadata: pq.FileMetaData
    """The footer, for the reader. Nothing else asks it about a column: some damage ends the process then."""
    groups: tuple[RowGroup, ...]
    """The row groups that the footer lists."""

    @property
    def stop_row(self) -> int:
        """The number of the first row after it."""
        return self.edges[-1]

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def edges(self) -> list[int]:
        """The number of the first row of each row group, and of the first row after the last."""
        return [*itertools.accumulate((group.rows for group in self.groups), initial=self.first_row)]

    @cached_property
    def _plans(self) -> dict[tuple[int, tuple[str, ...]], Plan]:
        """How row groups are read, by number and columns, where that is known."""
        return {}

    def groups_with(self, start: int, stop: int) -> tuple[int, list[int]]:
        """The row groups with rows from ``start`` to before ``stop``, after the number of their first row."""
        pairs = enumerate(itertools.pairwise(self.edges))
        groups = [i for i, (low, high) in pairs if low < stop and high > start]
        return (self.edges[groups[0]] if groups else stop), groups

    def batches(
        self, store: ObjectStore, columns: Sequence[str], groups: Sequence[int]
    ) -> Iterator[pa.RecordBatch]:
        """The rows of some row groups, a few at a time.

        Raises:
            ManifestError: The file is damaged, or reading it would take too much memory.
            StorageError: It cannot be fetched.
        """
        texts = [name for name in columns if name in KNOWN_COLUMNS and is_text(self.schema.field(name).type)]
        kept, reader = None, None
        with plain_errors(self.uri):
            for group in groups:
                plan = self._plan(store, columns, texts, group)
                if reader is None or plan.dictionaries != kept:
                    kept, reader = plan.dictionaries, self._reader(store, plan.dictionaries)
                yield from reader.iter_batches(plan.rows, [group], list(columns), use_threads=False)

    def _reader(self, store: ObjectStore, dictionaries: Sequence[str]) -> pq.ParquetFile:
        return pq.ParquetFile(
            ObjectFile(store, self.uri),
            metadata=self.metadata,
            read_dictionary=list(dictionaries),
            buffer_size=READ_BUFFER,
            pre_buffer=False,
        )

    def _plan(self, store: ObjectStore, columns: Sequence[str], texts: Sequence[str], group: int) -> Plan:
        key = (group, tuple(columns))
        if key not in self._plans:
            source = Source(partial(store.get_range, self.uri), self.size, self.metadata.schema)
            self._plans[key] = plan_reading(source, self.groups[group], columns, texts)
        return self._plans[key]


def open_file(store: ObjectStore, uri: str, name: str, first_row: int) -> ManifestFile:
    """Open a file by its footer.

    Args:
        store: Where it is.
        uri: Canonical URI.
        name: Path below the manifest's folder; '' for a manifest that is one file.
        first_row: The number of its first row in the whole manifest.

    Raises:
        ManifestError: It is empty, not Parquet, damaged, or has too many columns or row groups.
        StorageError: It cannot be fetched.
    """
    size = store.size(uri)
    if size == 0:
        raise ManifestError(f"{uri}: the file is empty (0 bytes); write it again as Parquet")
    with plain_errors(uri):
        end, groups = _checked_end(store, uri, size)
        metadata = pq.ParquetFile(pa.BufferReader(end)).metadata
        file = ManifestFile(uri, name, size, first_row, metadata, groups)
        _ = file.schema.names  # a footer may hold a schema that cannot be read
        if sum(group.rows for group in groups) != metadata.num_rows:
            raise ValueError("its row groups do not have as many rows as the file")
        if any(len(group.chunks) != metadata.num_columns for group in groups):
            raise ValueError("a row group does not have as many columns as the file")
    return file


def _checked_end(store: ObjectStore, uri: str, size: int) -> tuple[bytes, tuple[RowGroup, ...]]:
    """The end of a file with its footer, and the row groups that it lists."""
    end = store.get_range(uri, max(0, size - FOOTER_GUESS), min(size, FOOTER_GUESS))
    length = footer_length(end) + 8
    if not end.endswith(PARQUET_END) or length > size:
        return end, ()  # the reader says what is wrong with it
    if length > MAX_FOOTER_BYTES:
        raise ExcessError(f"the footer has {length} bytes; at most {MAX_FOOTER_BYTES} are read")
    if length > len(end):
        end = store.get_range(uri, size - length, length)
    footer = end[-length:-8]
    check_schema(footer)
    return end, row_groups(footer)


@contextlib.contextmanager
def plain_errors(uri: str) -> Iterator[None]:
    """Turn what the Parquet reader says into one sentence; errors of the storage pass through."""
    try:
        yield
    except ExcessError as error:
        raise ManifestError(f"{uri}: {error}") from error
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ManifestError(
            f"{uri}: the file is not Parquet, is cut short or is damaged; write it again ({reason(error)})"
        ) from error
