"""Reading results back, unit by unit, wherever their rows stand: in a part or in a merged file."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, chain

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.errors import JobError, NotFoundError
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectFile, ObjectStore
from stylebatch.quoting import reason
from stylebatch.results.generations import Generation, Holdings, MergedFile, look_from_outside
from stylebatch.results.schema import decode_part, read_part

AHEAD = 8
"""Parts that are read before they are needed."""
WHOLE_BYTES = 2**20
"""A part of fewer bytes is read with one request, where all its columns are wanted."""


def open_results(store: ObjectStore, output: str) -> "Results":
    """The results of an output, finished or not.

    Args:
        store: Where the output is.
        output: Canonical URI of the job's output folder.

    Raises:
        JobError: There are none, or a file that counts is missing.
    """
    layout = Layout(output)
    results = Results(store, layout, lambda: look_from_outside(store, layout))
    if not results.units:
        raise JobError(
            f"{layout.results} holds no results; is {output} the output of a stylebatch run, and has a unit "
            "of it ended?"
        )
    return results


def read_results(store: ObjectStore, output: str) -> pa.Table:
    """The result rows of all finished units, in order of row. The whole table is held in memory.

    Args:
        store: Where the output is.
        output: Canonical URI of the job's output folder.

    Raises:
        JobError: There are no results, or a file of them is damaged or missing.
    """
    return pa.concat_tables(open_results(store, output).tables())


class Results:
    """The finished units of an output. Holds a row group of a merged file in memory, and a few parts.

    Args:
        store: Where the output is.
        layout: Names below it.
        look: Tells what counts now; asked again when a file is gone: it may have been merged meanwhile.
    """

    def __init__(self, store: ObjectStore, layout: Layout, look: Callable[[], Holdings]) -> None:
        self._store = store
        self._layout = layout
        self._look = look
        self._open: _OpenMergedFile | None = None
        self._take(look())

    def _take(self, held: Holdings) -> None:
        self._held = held
        self._open = None
        self._merged = _UnitMap(held.generation)
        self.units: Sequence[int] = sorted(chain(held.parts, held.merged_units))
        """The finished units, in order."""

    @property
    def generation(self) -> Generation | None:
        """Which merged files count; None if nothing was ever merged."""
        return self._held.generation

    @property
    def files(self) -> list[str]:
        """The URIs of all files that count."""
        merged = (self._merged_uri(file) for file in self._held.files)
        return [*merged, *map(self._layout.part, self._held.parts)]

    def where(self, unit: int) -> str:
        """The URI of the file that holds a unit."""
        file = self._merged.file_of(unit)
        return self._merged_uri(file) if file else self._layout.part(unit)

    def _merged_uri(self, file: MergedFile) -> str:
        is_hidden = file.name in self._held.hidden
        return self._layout.staged(file.name) if is_hidden else self._layout.merged(file.name)

    def read(self, unit: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a unit in order, or some of their columns.

        Raises:
            JobError: The file that holds them is damaged, or gone.
        """
        try:
            return self._read(unit, columns)
        except NotFoundError as error:
            return self._read_elsewhere(unit, columns, error)

    def _read_elsewhere(self, unit: int, columns: Sequence[str] | None, error: NotFoundError) -> pa.Table:
        """The rows of a unit whose file is gone since it was found."""
        self._take(self._look())
        if unit not in self._held.parts and self._merged.file_of(unit) is None:
            raise JobError(
                f"the results of unit {unit} were opened again while they were being read; try again when "
                "the run has ended"
            ) from error
        return self._read(unit, columns)

    def _read(self, unit: int, columns: Sequence[str] | None) -> pa.Table:
        file = self._merged.file_of(unit)
        return self._read_part(unit, columns) if file is None else self._read_merged(file, unit, columns)

    def _read_part(self, unit: int, columns: Sequence[str] | None) -> pa.Table:
        return self._decoded(unit, self._fetched(unit, columns))

    def _fetched(self, unit: int, columns: Sequence[str] | None) -> bytes | pa.Table:
        """The whole part where that is best: one thread then decodes all, which takes the least memory."""
        uri = self._layout.part(unit)
        if columns is None and self._held.parts.get(unit, WHOLE_BYTES) < WHOLE_BYTES:
            return self._store.get(uri)
        with plain_errors(uri):
            return read_part(self._store, uri, columns)

    def _decoded(self, unit: int, fetched: bytes | pa.Table) -> pa.Table:
        with plain_errors(self._layout.part(unit)):
            return decode_part(fetched) if isinstance(fetched, bytes) else fetched

    def _read_merged(self, file: MergedFile, unit: int, columns: Sequence[str] | None) -> pa.Table:
        uri = self._merged_uri(file)
        with plain_errors(uri):
            if self._open is None or self._open.uri != uri:
                self._open = _OpenMergedFile(self._store, uri, file.rows)
            first = self._merged.place(file, unit) * self._merged.unit_size
            return self._open.rows(first, self._merged.unit_size, columns)

    def tables(
        self, columns: Sequence[str] | None = None, units: Iterable[int] | None = None
    ) -> Iterator[pa.Table]:
        """The rows of units, a table for each; parts are read a few at a time.

        Args:
            columns: Of each; None is all.
            units: In this order; None is all finished ones.

        Raises:
            JobError: A file is damaged, or gone.
        """
        waiting: deque[tuple[int, Future[bytes | pa.Table] | None]] = deque()
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="parts") as threads:
            try:
                for unit in self.units if units is None else units:
                    is_part = self._merged.file_of(unit) is None
                    read = threads.submit(self._fetched, unit, columns) if is_part else None
                    waiting.append((unit, read))
                    if len(waiting) > AHEAD:
                        yield self._arrived(*waiting.popleft(), columns)
                while waiting:
                    yield self._arrived(*waiting.popleft(), columns)
            finally:
                threads.shutdown(cancel_futures=True)

    def _arrived(
        self, unit: int, read: Future[bytes | pa.Table] | None, columns: Sequence[str] | None
    ) -> pa.Table:
        if read is None:
            return self.read(unit, columns)
        try:
            return self._decoded(unit, read.result())
        except NotFoundError as error:
            return self._read_elsewhere(unit, columns, error)


class _OpenMergedFile:
    """A merged file whose footer has been read, and the row group that was asked for last."""

    def __init__(self, store: ObjectStore, uri: str, rows: int) -> None:
        self.uri = uri
        self._file = pq.ParquetFile(ObjectFile(store, uri), pre_buffer=True)
        metadata = self._file.metadata
        sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        self._ends = [*accumulate(sizes)]
        if metadata.num_rows != rows:
            raise ValueError(f"it has {metadata.num_rows} rows instead of {rows}")
        self._last: tuple[int, tuple[str, ...] | None] | None = None
        self._table = pa.table({})

    def rows(self, first: int, count: int, columns: Sequence[str] | None) -> pa.Table:
        """At most ``count`` rows from row ``first`` on; they are all in one row group."""
        group = bisect_right(self._ends, first)
        wanted = (group, None if columns is None else tuple(columns))
        if wanted != self._last:
            self._table = self._file.read_row_group(
                group, columns=columns and list(columns), use_threads=False
            )
            self._last = wanted
        start = self._ends[group - 1] if group else 0
        return self._table.slice(first - start, count)


class _UnitMap:
    """Where in merged files units stand."""

    def __init__(self, generation: Generation | None) -> None:
        self.unit_size = generation.unit_size if generation else 0
        files = generation.files if generation else ()
        self._files = {unit: file for file in files for span in file.units for unit in span}

    def file_of(self, unit: int) -> MergedFile | None:
        """The file that holds a unit; None if none does."""
        return self._files.get(unit)

    def place(self, file: MergedFile, unit: int) -> int:
        """How many units stand before this one in its file."""
        return sum(min(len(span), max(0, unit - span.start)) for span in file.units)


@contextmanager
def plain_errors(uri: str) -> Iterator[None]:
    """Turn what the Parquet reader says into one sentence; errors of the storage pass through."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise JobError(f"{uri} is damaged ({reason(error)}); put it back from a copy") from error
