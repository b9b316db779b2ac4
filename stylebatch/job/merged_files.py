"""Writing merged files: each is made on this machine's disk, compared with its sources, and stored.

Memory holds the rows of one row group while a file is written, of one unit while it is compared, and what its
footer says of each row group. Arrow's allocator is told to give back what it holds in reserve after each row
group: it would hold several.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stylebatch.errors import ConfigurationError, JobError
from stylebatch.job.book import Tally
from stylebatch.job.generations import file_sha256, finish_switch, switch
from stylebatch.job.merge_plan import Group, MergeLimits, MergePlan, ends_here
from stylebatch.layout import Layout, merged_name
from stylebatch.objectstore import ObjectStore
from stylebatch.quoting import reason
from stylebatch.results import COMPRESSION, RESULT_SCHEMA, Results
from stylebatch.results.generations import Generation, Holdings, MergedFile, look_at_results, spans

PAGE_BYTES = 64 << 10
"""Of a page, before compression: what is being written of a column is in memory."""
DICTIONARY_BYTES = 128 << 10
"""Of a column's distinct values in a row group; those of a column that has more stand one by one."""
_UNIQUE = frozenset({"pair_id", "row", "image", "image_sha256"})
"""Columns with another value in each row."""


@dataclass(frozen=True)
class Output:
    """An output whose results this driver alone may change."""

    store: ObjectStore
    """Where it is."""
    layout: Layout
    """Names below it."""
    rows: int
    """Of the job."""
    unit_size: int
    """Rows of a unit; the last one may have fewer."""
    check: Callable[[], None]
    """Called before every change; raises if the output's lease is lost."""

    @property
    def units(self) -> range:
        """All units of the job."""
        return range(-(-self.rows // self.unit_size))

    def unit_rows(self, unit: int) -> range:
        """The rows of a unit."""
        first = unit * self.unit_size
        return range(first, min(first + self.unit_size, self.rows))


def make_generation(output: Output, held: Holdings, plan: MergePlan, limits: MergeLimits) -> Holdings:
    """Write what a plan says, let it count, and delete what it replaces.

    Args:
        output: Whose results.
        held: What stands there; no switch is under way.
        plan: The next generation.
        limits: How large its files are.

    Returns:
        What stands there then.

    Raises:
        JobError: A file that is read is damaged, or one that was written does not hold what was read. The
            files that counted before count still.
        ConfigurationError: There is no room for a temporary file.
    """
    number = held.generation.number + 1 if held.generation else 1
    with temporary_folder(limits) as folder:
        stager = _Stager(output, held, number, limits, folder)
        new = [file for run in plan.runs for file in stager.stage(run)]
    files = sorted([*plan.kept, *new], key=lambda file: file.units[0].start)
    after = Generation(number, output.rows, output.unit_size, tuple(files))
    switch(output.store, output.layout, held.generation, after, output.check)
    return finish_switch(
        output.store, output.layout, look_at_results(output.store, output.layout), output.check
    )


@contextmanager
def temporary_folder(limits: MergeLimits) -> Iterator[Path]:
    """A folder of this machine for one merged file at a time; gone at the end."""
    try:
        with tempfile.TemporaryDirectory(prefix="stylebatch-merging-") as name:
            yield Path(name)
    except OSError as error:
        most = (limits.target + limits.smallest) >> 20
        raise ConfigurationError(
            f"{tempfile.gettempdir()}: {reason(error)}; to merge parts, a file of up to {most} MB is made "
            "there: set TMPDIR to a larger disk, or run with --no-merge"
        ) from error


class _Stager:
    """Makes the files of a generation and stores them where they do not count yet.

    Args:
        output: Whose results.
        held: Where the rows stand now.
        number: Of the generation.
        limits: How large its files are.
        folder: For temporary files.
    """

    def __init__(
        self, output: Output, held: Holdings, number: int, limits: MergeLimits, folder: Path
    ) -> None:
        self._output = output
        self._results = Results(output.store, output.layout, lambda: held)
        self._number = number
        self._limits = limits
        self._folder = folder

    def stage(self, run: Sequence[Group]) -> Iterator[MergedFile]:
        """Store the files of a run of units, one after the other."""
        left = sum(group.size for group in run)
        draft: _Draft | None = None
        for group, table in self._row_groups(run):
            if draft and (draft.ends(left, self._limits) or not draft.schema.equals(table.schema)):
                yield self._store(draft)
                draft = None
            draft = draft or _Draft(self._folder / "merged.parquet", table.schema)
            draft.add(group, table, self._output.unit_size)
            left -= group.size
            del table  # before the next ones are read
            pa.default_memory_pool().release_unused()
        if draft:
            yield self._store(draft)

    def _row_groups(self, run: Sequence[Group]) -> Iterator[tuple[Group, pa.Table]]:
        """The groups of a run with their rows, from where they stand now."""
        for group in run:
            yield from in_pieces(group, self._unit_tables(group), self._limits.group_memory)

    def _unit_tables(self, group: Group) -> Iterator[pa.Table]:
        """The rows of each of a group's units, from where they stand now.

        Raises:
            JobError: A file is damaged, or does not hold the rows of its unit.
        """
        for unit, table in zip(group.units, self._results.tables(units=group.units), strict=True):
            is_whole = table.schema.names[: len(RESULT_SCHEMA)] == RESULT_SCHEMA.names
            if not is_whole or table.column("row").to_pylist() != [*self._output.unit_rows(unit)]:
                raise JobError(
                    f"{self._results.where(unit)} does not hold the rows of unit {unit} in the columns that "
                    "this version writes, so nothing was merged; put it back from a copy"
                )
            yield table

    def _store(self, draft: "_Draft") -> MergedFile:
        """Store a file that is complete, and read it back."""
        draft.close()
        self._compare(draft)
        file = draft.described(self._number)
        uri = self._output.layout.staged(file.name)
        self._output.check()
        self._output.store.put_file(uri, draft.path)
        if file_sha256(self._output.store, uri, file.size) != file.sha256:
            raise JobError(f"{uri} does not come back as it was written, so nothing was merged; run again")
        return file

    def _compare(self, draft: "_Draft") -> None:
        """Compare a file, read again, with what it was made of, read again."""
        with pq.ParquetFile(draft.path) as file:
            if (file.num_row_groups, file.metadata.num_rows) != (len(draft.groups), draft.rows):
                raise JobError(f"{draft.path} has rows that nobody wrote, or lacks some; run again")
            for number, group in enumerate(draft.groups):
                rows = file.iter_batches(self._output.unit_size, row_groups=[number], use_threads=False)
                self._compare_group(map(pa.table, rows), group)
                pa.default_memory_pool().release_unused()

    def _compare_group(self, written: Iterator[pa.Table], group: Group) -> None:
        """Compare a row group, which is read a unit at a time, with what it was made of."""
        ahead = next(written)
        for unit, table in zip(group.units, self._unit_tables(group), strict=True):
            # Arrow cuts rows elsewhere where a column has more text than one of its arrays holds.
            while ahead.num_rows < table.num_rows and (more := next(written, None)) is not None:
                ahead = pa.concat_tables([ahead, more])
            if not is_same(ahead.slice(0, table.num_rows), table):
                raise JobError(
                    f"the merged rows of unit {unit} do not come back from Parquet as they are in its part, "
                    "so nothing was merged; run with --no-merge, and report this"
                )
            ahead = ahead.slice(table.num_rows)


def in_pieces(group: Group, tables: Iterable[pa.Table], most: int) -> Iterator[tuple[Group, pa.Table]]:
    """A group as it was planned; in several, where its rows take too much memory.

    Args:
        group: Units that are to become a row group.
        tables: The rows of each.
        most: Bytes that the rows of a row group take in memory, unless one unit alone takes more.

    Yields:
        Groups, and the rows of each in one table.
    """
    size, taken = group.size // len(group.units), 0
    held: dict[int, pa.Table] = {}
    for unit, table in zip(group.units, tables, strict=True):
        if held and taken + table.nbytes > most:
            yield Group(tuple(held), size * len(held)), _joined(held.values())
            held, taken = {}, 0
        held[unit] = table
        taken += table.nbytes
    yield Group(tuple(held), size * len(held)), _joined(held.values())


def _joined(tables: Iterable[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries()


def is_same(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables have the same columns and values; NaN is the same as NaN."""
    return bool(one.schema.equals(other.schema)) and all(
        left.equals(right) or repr(left.to_pylist()) == repr(right.to_pylist())
        for left, right in zip(one.columns, other.columns, strict=True)
    )


def repeating_columns(schema: pa.Schema) -> list[str]:
    """The columns that are worth a dictionary, as paths within a Parquet file.

    Not those that have another value in each row, nor numbers with a fraction, losses above all: for these a
    dictionary takes more space in the file, and several times the values' own in memory.

    Args:
        schema: Of a table of results.
    """
    empty = pa.BufferOutputStream()
    pq.ParquetWriter(empty, schema).close()
    found = pq.ParquetFile(pa.BufferReader(empty.getvalue())).schema
    leaves = [found.column(number) for number in range(len(found))]
    return [
        leaf.path
        for leaf in leaves
        if leaf.path not in _UNIQUE and leaf.physical_type not in ("FLOAT", "DOUBLE")
    ]


class _Draft:
    """A merged file on its way, and what will be said of it.

    Args:
        path: Of the file, on this machine.
        schema: Of all its rows.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.groups: list[Group] = []
        self._tally = Tally()
        self._failed_units: set[int] = set()
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression=COMPRESSION,
            use_dictionary=repeating_columns(schema),
            dictionary_pagesize_limit=DICTIONARY_BYTES,
            data_page_size=PAGE_BYTES,
        )

    def add(self, group: Group, table: pa.Table, unit_size: int) -> None:
        """One more row group."""
        self._writer.write_table(table, row_group_size=table.num_rows)
        self.groups.append(group)
        failed = table.filter(pc.not_equal(table.column("status"), "ok"))
        self._tally.ok += table.num_rows - failed.num_rows
        for row in failed.select(["pair_id", "row", "status", "error_type", "error"]).to_pylist():
            self._tally.count(row, is_new=False)
            self._failed_units.add(row["row"] // unit_size)

    @property
    def rows(self) -> int:
        """How many it has."""
        return self._tally.ended

    def ends(self, left: int, limits: MergeLimits) -> bool:
        """Whether it has enough, with so many bytes of parts still to come."""
        return ends_here(self._sink.tell(), sum(group.size for group in self.groups), left, limits)

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()
        self._sink.close()
        del self._writer  # which holds all that the footer says, beside the reader who compares

    def described(self, generation: int) -> MergedFile:
        """What is said of the file, which is closed."""
        units = spans(unit for group in self.groups for unit in group.units)
        with self.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return MergedFile(
            name=merged_name(units[0].start, units[-1].stop - 1, generation),
            units=units,
            rows=self.rows,
            size=self.path.stat().st_size,
            sha256=sha256,
            ok=self._tally.ok,
            failed_units=spans(self._failed_units),
            error_counts=dict(self._tally.error_counts),
            error_examples={kind: tuple(found) for kind, found in self._tally.error_examples.items()},
        )
