"""Opening a manifest by its footers, and streaming any run of its rows."""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.errors import ManifestError, NotFoundError
from stylebatch.manifest.rows import Pair, PairMaker, Row, read_rows
from stylebatch.manifest.schema import extra_schema, readable_columns, schema_problems, shown
from stylebatch.objectstore import ObjectFile, ObjectStore, join_uri, parent_uri
from stylebatch.recipe import Recipe

SUFFIX = ".parquet"
ROWS_PER_BATCH = 4096
READ_BUFFER = 1 << 20
"""Bytes of a column that are fetched at once, so that a huge row group is never held whole."""
HASH_RANGE = 4 << 20
"""Bytes that the fingerprint fetches at once."""


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
    """The footer."""

    @property
    def stop_row(self) -> int:
        """The number of the first row after it."""
        return self.first_row + int(self.metadata.num_rows)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return self.metadata.schema.to_arrow_schema()

    def row_groups(self, start: int, stop: int) -> tuple[int, list[int]]:
        """The row groups with rows from ``start`` to before ``stop``, after the number of their first row."""
        counts = (self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups))
        edges = [*itertools.accumulate(counts, initial=self.first_row)]
        groups = [i for i, (low, high) in enumerate(itertools.pairwise(edges)) if low < stop and high > start]
        return (edges[groups[0]] if groups else stop), groups


@dataclass(frozen=True)
class Manifest:
    """A table of pairs in one Parquet file, or in a folder of them. Made by :func:`open_manifest`."""

    store: ObjectStore
    """Where the manifest is read."""
    uri: str
    """Canonical URI of the file or folder."""
    folder: str
    """Canonical URI that relative URIs start from."""
    files: tuple[ManifestFile, ...]
    """In order of name."""

    @property
    def num_rows(self) -> int:
        """Rows over all files."""
        return self.files[-1].stop_row

    @property
    def schema(self) -> pa.Schema:
        """All columns, as in the first file."""
        return self.files[0].schema

    @cached_property
    def extra_schema(self) -> pa.Schema:
        """The columns that are carried to the results untouched, in order."""
        return extra_schema(self.schema)

    def pairs(self, default: Recipe, first_row: int = 0) -> Iterator[Pair]:
        """Stream the pairs from ``first_row`` on; row groups before it are not read.

        Args:
            default: The recipe of a row that has no recipe columns.
            first_row: 0-based row over the whole manifest.

        Raises:
            ManifestError: A column or row is not what :func:`validate` allows.
        """
        if problems := schema_problems(self.schema):
            raise ManifestError("\n".join(f"{self.uri}: {problem}" for problem in problems))
        maker = PairMaker(default, self.folder, readable_columns(self.schema))
        for row in self.rows(first_row):
            pair = maker.make(row)
            if not isinstance(pair, Pair):
                raise ManifestError(f"{self.uri}: row {row.number}: {'; '.join(pair)}")
            yield pair

    def rows(self, first_row: int = 0) -> Iterator[Row]:
        """Stream the readable known columns as they are written.

        Raises:
            ManifestError: The file is damaged, or a text is not UTF-8.
        """
        columns = readable_columns(self.schema)
        for number, batch in self._batches(columns, first_row, self.num_rows):
            try:
                yield from read_rows(batch, number)
            except UnicodeDecodeError as error:
                raise ManifestError(
                    f"{self.uri}: rows {number} to {number + batch.num_rows - 1}: a text is not UTF-8 "
                    f"({error.reason}); write the column as UTF-8 strings"
                ) from error

    def extras(self, first_row: int, count: int) -> pa.Table:
        """The extra columns of a run of rows, with the types of :attr:`extra_schema`.

        Only the row groups concerned are read; without extra columns, none. The table has one row for each
        row of the run, also where it has no columns.
        """
        schema = self.extra_schema
        if not schema.names:
            stop = min(first_row + count, self.num_rows)
            return pa.table({"row": pa.nulls(max(0, stop - first_row))}).select([])
        batches = self._batches(schema.names, first_row, first_row + count)
        arrays = ([batch.column(name) for name in schema.names] for _, batch in batches)
        return pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(columns, schema=schema) for columns in arrays], schema=schema
        )

    def fingerprint(self) -> str:
        """SHA-256 of every file's name below the manifest, length and bytes, as 64 hexadecimal digits.

        The name of a manifest that is one file does not count: a copy under another name is the same.
        """
        digest = hashlib.sha256()
        for file in self.files:
            name = file.name.encode(errors="surrogateescape")
            digest.update(len(name).to_bytes(8, "big") + name + file.size.to_bytes(8, "big"))
            for start in range(0, file.size, HASH_RANGE):
                digest.update(self._range(file, start, min(HASH_RANGE, file.size - start)))
        return digest.hexdigest()

    def _range(self, file: ManifestFile, start: int, length: int) -> bytes:
        data = self.store.get_range(file.uri, start, length)
        if len(data) != length:
            raise ManifestError(f"{file.uri}: the file changed while it was read; start again")
        return data

    def _batches(self, columns: Sequence[str], start: int, stop: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Runs of rows from ``start`` to before ``stop``, each after the number of its first row."""
        for file in self.files:
            number, groups = file.row_groups(start, stop)
            if not groups:
                continue
            for batch in self._read(file, columns, groups):
                first, last = max(start, number), min(stop, number + batch.num_rows)
                if first < last:
                    yield first, batch.slice(first - number, last - first)
                number += batch.num_rows
                if number >= stop:
                    return

    def _read(
        self, file: ManifestFile, columns: Sequence[str], groups: Sequence[int]
    ) -> Iterator[pa.RecordBatch]:
        with _plain_errors(file.uri):
            source = ObjectFile(self.store, file.uri)
            parquet = pq.ParquetFile(
                source, metadata=file.metadata, buffer_size=READ_BUFFER, pre_buffer=False
            )
            yield from parquet.iter_batches(ROWS_PER_BATCH, groups, list(columns), use_threads=False)


def open_manifest(store: ObjectStore, uri: str) -> Manifest:
    """Open a Parquet file, or a folder of ``*.parquet`` files in order of name, by its footers.

    Args:
        store: Where to read.
        uri: Canonical URI.

    Raises:
        ManifestError: Nothing is there, a file is not Parquet, schemas differ, or there are no rows.
        StorageError: The storage refuses.
    """
    try:
        store.size(uri)
        names, folder = [""], parent_uri(uri)
    except NotFoundError:
        names, folder = _names_in_folder(store, uri), uri
    files = tuple(_open_files(store, uri, names))
    for file in files[1:]:
        _check_same_columns(files[0], file)
    if files[-1].stop_row == 0:
        raise ManifestError(f"{uri}: the manifest has no rows; a job needs at least one pair")
    return Manifest(store, uri, folder, files)


def _names_in_folder(store: ObjectStore, uri: str) -> list[str]:
    found = (item.uri.removeprefix(uri.rstrip("/") + "/") for item in store.list(uri))
    names = sorted(name for name in found if name.endswith(SUFFIX) and not _is_set_aside(name))
    if not names:
        raise ManifestError(
            f"{uri}: there is no such file, and no folder with *{SUFFIX} files; check the location"
        )
    if partitioned := next((name for name in names if "=" in name.rpartition("/")[0]), None):
        raise ManifestError(
            f"{uri}: {shown(partitioned)} keeps columns in folder names, which are not read; "
            "write the manifest as files that hold all columns"
        )
    return names


def _is_set_aside(name: str) -> bool:
    """Whether a name is hidden, or private to the program that wrote the folder."""
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _open_files(store: ObjectStore, uri: str, names: Iterable[str]) -> Iterator[ManifestFile]:
    first_row = 0
    for name in names:
        file = _open_file(store, join_uri(uri, name) if name else uri, name, first_row)
        yield file
        first_row = file.stop_row


def _open_file(store: ObjectStore, uri: str, name: str, first_row: int) -> ManifestFile:
    size = store.size(uri)
    if size == 0:
        raise ManifestError(f"{uri}: the file is empty (0 bytes); write it again as Parquet")
    with _plain_errors(uri):
        metadata = pq.ParquetFile(ObjectFile(store, uri)).metadata
        file = ManifestFile(uri, name, size, first_row, metadata)
        _ = file.schema  # a footer may hold a schema that cannot be read
    return file


@contextlib.contextmanager
def _plain_errors(uri: str) -> Iterator[None]:
    """Turn what the Parquet reader says into one sentence; errors of the storage pass through."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ManifestError(
            f"{uri}: the file is not Parquet, is cut short or is damaged; write it again ({reason[:200]})"
        ) from error


def _check_same_columns(first: ManifestFile, other: ManifestFile) -> None:
    """Refuse files whose columns differ in name, order or type, with the first difference."""
    ours, theirs = ([f"{item.name} ({item.type})" for item in file.schema] for file in (first, other))
    for i, (here, there) in enumerate(itertools.zip_longest(ours, theirs, fillvalue="none")):
        if here != there:
            raise ManifestError(
                f"{other.uri}: column {i} is {there}, but in {first.name} it is {here}; "
                "all files of a manifest have the same columns in the same order"
            )
