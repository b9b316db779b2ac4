"""Opening a manifest by its footers, and streaming any run of its rows."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from stylebatch.errors import ManifestError, NotFoundError
from stylebatch.manifest.files import ManifestFile, open_file
from stylebatch.manifest.rows import PairMaker, Row, read_rows, without_views
from stylebatch.manifest.schema import extra_schema, readable_columns, schema_problems
from stylebatch.objectstore import ObjectStore, join_uri, parent_uri
from stylebatch.pairs import Pair
from stylebatch.quoting import quoted, reason
from stylebatch.recipe import Recipe

SUFFIX = ".parquet"
MAX_ROWS = 100_000_000
"""Of a manifest; checking that no two are alike takes 16 bytes on the disk for each."""
MAX_FOOTERS_BYTES = 64 << 20
"""Of the footers of all files, which are held as long as the manifest is."""
HASH_RANGE = 4 << 20
"""Bytes that the fingerprint fetches at once."""
EXTRAS_RUN = 256
"""Rows whose extra columns are looked at together: as many as a unit has unless told."""
MAX_EXTRA_BYTES = 256 << 20
"""Of the extra columns of such a run, in memory: a part is made of them at once."""
MAX_ALL_EXTRA_BYTES = 64 << 30
"""Of all extra columns: results repeat them."""


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
        for number, batch in self.batches(first_row):
            with self.text_errors(number, batch):
                rows = read_rows(batch, number)
            yield from rows

    def batches(self, first_row: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Stream the readable known columns, some rows at a time, each run after its first row's number.

        Raises:
            ManifestError: The file is damaged, or a text is not UTF-8.
        """
        for number, batch in self._batches(readable_columns(self.schema), first_row, self.num_rows):
            with self.text_errors(number, batch):
                plain = without_views(batch)
            yield number, plain

    @contextmanager
    def text_errors(self, number: int, batch: pa.RecordBatch) -> Iterator[None]:
        """Turn what is raised over texts that are not UTF-8 into a ManifestError that names the rows."""
        try:
            yield
        except (ValueError, pa.ArrowException) as error:
            raise ManifestError(
                f"{self.uri}: rows {number} to {number + batch.num_rows - 1}: a text is not UTF-8, or is "
                f"damaged ({reason(error)}); write the column as UTF-8 strings"
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

    def check_extras(self) -> None:
        """Read all extra columns once: what would fail when results are published should fail now.

        Raises:
            ManifestError: They cannot be read, or are too large to be carried along.
        """
        if not self.extra_schema.names:
            return
        in_run = in_all = 0
        for number, batch in self._batches(self.extra_schema.names, 0, self.num_rows):
            for start, rows in _runs(number, batch):
                self._check_extra_rows(start, rows)
                in_run = rows.nbytes + (in_run if start % EXTRAS_RUN else 0)
                in_all += rows.nbytes
                if in_run > MAX_EXTRA_BYTES or in_all > MAX_ALL_EXTRA_BYTES:
                    raise ManifestError(
                        f"{self.uri}: row {start}: the extra columns are too large to be carried to the "
                        f"results: at most {MAX_EXTRA_BYTES >> 20} MB in {EXTRAS_RUN} rows and "
                        f"{MAX_ALL_EXTRA_BYTES >> 30} GB in all; keep large values elsewhere"
                    )

    def _check_extra_rows(self, start: int, rows: pa.RecordBatch) -> None:
        try:
            rows.validate(full=True)
        except (ValueError, pa.ArrowException) as error:
            raise ManifestError(
                f"{self.uri}: rows {start} to {start + rows.num_rows - 1}: an extra column is damaged "
                f"({reason(error)}); write it again"
            ) from error

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
            number, groups = file.groups_with(start, stop)
            if not groups:
                continue
            for batch in file.batches(self.store, columns, groups):
                first, last = max(start, number), min(stop, number + batch.num_rows)
                if first < last:
                    yield first, batch.slice(first - number, last - first)
                number += batch.num_rows
                if number >= stop:
                    return


def _runs(number: int, batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """A batch cut where runs of :data:`EXTRAS_RUN` rows begin, each piece after its first row's number."""
    edges = range(number - number % EXTRAS_RUN + EXTRAS_RUN, number + batch.num_rows, EXTRAS_RUN)
    for start, stop in itertools.pairwise([number, *edges, number + batch.num_rows]):
        yield start, batch.slice(start - number, stop - start)


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
    rows = files[-1].stop_row
    if rows == 0:
        raise ManifestError(f"{uri}: the manifest has no rows; a job needs at least one pair")
    if rows > MAX_ROWS:
        raise ManifestError(f"{uri}: there are {rows:,} rows; a manifest has at most {MAX_ROWS:,}: split it")
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
            f"{uri}: {quoted(partitioned)} keeps columns in folder names, which are not read; "
            "write the manifest as files that hold all columns"
        )
    return names


def _is_set_aside(name: str) -> bool:
    """Whether a name is hidden, or private to the program that wrote the folder."""
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _open_files(store: ObjectStore, uri: str, names: Sequence[str]) -> Iterator[ManifestFile]:
    first_row = footers = 0
    for name in names:
        file = open_file(store, join_uri(uri, name) if name else uri, name, first_row)
        yield file
        first_row = file.stop_row
        footers += int(file.metadata.serialized_size)
        if footers > MAX_FOOTERS_BYTES:
            raise ManifestError(
                f"{uri}: the footers of its {len(names)} files have more than {MAX_FOOTERS_BYTES >> 20} MB; "
                "write fewer and larger row groups"
            )


def _check_same_columns(first: ManifestFile, other: ManifestFile) -> None:
    """Refuse files whose columns differ in name, order or type, with the first difference."""
    ours, theirs = ([(item.name, item.type) for item in file.schema] for file in (first, other))
    for i, (here, there) in enumerate(itertools.zip_longest(ours, theirs)):
        if here != there:
            raise ManifestError(
                f"{other.uri}: column {i} is {_column(there)}, but in {first.name} it is {_column(here)}; "
                "all files of a manifest have the same columns in the same order"
            )


def _column(column: tuple[str, pa.DataType] | None) -> str:
    return f"{quoted(column[0])} ({reason(column[1])})" if column else "none"
