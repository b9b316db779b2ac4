"""What reading the rows of a Parquet file would take in memory, found out before they are read.

A page of a few kilobytes may decompress to gigabytes, and one long text in a dictionary may stand in every
row. The reader believes what the pages' headers say, so they are looked at first. What is refused here could
be honest; the message says how to write it otherwise.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.manifest.footer import Chunk, ExcessError, RowGroup
from stylebatch.manifest.pages import Page, Read, longest_text, read_pages
from stylebatch.quoting import quoted

MAX_DECODED_BYTES = 512 << 20
"""What pages, dictionaries and values may take at once; fewer rows are read at a time to stay below."""
MAX_UNPACKED_BYTES = 16 << 30
"""What the dictionary of one column may put into all cells of a row group, each text where it stands."""
ROWS_AT_ONCE = (4096, 1024, 256, 64, 16, 4, 1)
"""How many rows are read at a time: the first number that stays within bounds."""
ENTRY_BYTES = 12
"""What an entry takes in memory besides its text: a number or an offset, and its levels."""


@dataclass(frozen=True)
class Source:
    """A Parquet file and how to read it."""

    read: Read
    """Reads the file."""
    size: int
    """Its length in bytes."""
    schema: pq.ParquetSchema
    """Its leaves."""


@dataclass(frozen=True)
class Footprint:
    """What one column of a row group holds."""

    pages: tuple[Page, ...]
    """Of values, without the dictionary."""
    dictionary_bytes: int
    """Uncompressed; 0 without one."""
    longest_entry: int
    """Bytes of the longest text that the dictionary puts into cells; 0 for numbers."""
    is_repeated: bool
    """Whether it is in a list, so that one row may hold all entries."""


@dataclass(frozen=True)
class Plan:
    """How a row group is read in bounded memory."""

    rows: int
    """How many rows at a time."""
    dictionaries: tuple[str, ...]
    """The columns whose texts the reader leaves in their dictionary: one that stands in every row is then
    there once. It must be whole: the reader would add to it what is written out, and hold all of it."""


def plan_reading(source: Source, group: RowGroup, columns: Sequence[str], texts: Collection[str]) -> Plan:
    """How a row group is read within :data:`MAX_DECODED_BYTES`.

    Args:
        source: The file.
        group: One of its row groups.
        columns: Names of the columns that will be read.
        texts: Those of them that are texts and may stay in their dictionary.

    Raises:
        ExcessError: Not even one row may be read at a time, all come to more than
            :data:`MAX_UNPACKED_BYTES`, or what a page comes to cannot be known.
        ValueError: The pages are damaged.
    """
    footprints = dict(_footprints(source, group, frozenset(columns), texts))
    _check_unpacked(footprints)
    rows = _rows_at_once(footprints)
    kept = (path for path, one in footprints.items() if path in texts and _is_all_in_dictionary(one.pages))
    return Plan(rows, tuple(kept))


def _check_unpacked(footprints: Mapping[str, Footprint]) -> None:
    for path, footprint in footprints.items():
        entries = sum(page.values for page in footprint.pages if not page.is_plain)
        if entries * footprint.longest_entry > MAX_UNPACKED_BYTES:
            raise ExcessError(
                f"column {quoted(path)} of a row group could come to more than "
                f"{MAX_UNPACKED_BYTES >> 30} GB: its dictionary has a text of {footprint.longest_entry} "
                "bytes; keep large values elsewhere"
            )


def _rows_at_once(footprints: Mapping[str, Footprint]) -> int:
    for rows in ROWS_AT_ONCE:
        if sum(memory(footprint, rows) for footprint in footprints.values()) <= MAX_DECODED_BYTES:
            return rows
    largest = max(footprints, key=lambda path: memory(footprints[path], 1))
    raise ExcessError(
        f"a row group could take more than {MAX_DECODED_BYTES >> 20} MB of memory to read, most of it for "
        f"column {quoted(largest)}; write smaller row groups and keep large values elsewhere"
    )


def _is_all_in_dictionary(pages: Iterable[Page]) -> bool:
    return not any(page.is_plain for page in pages)


def memory(footprint: Footprint, rows: int) -> int:
    """Bytes that a column takes at most while so many of its rows are read at a time."""
    entries = sum(page.values for page in footprint.pages) if footprint.is_repeated else rows
    largest_page = max((page.uncompressed for page in footprint.pages), default=0)
    held = footprint.dictionary_bytes + largest_page
    return held + _written_out(footprint.pages, entries) + entries * (footprint.longest_entry + ENTRY_BYTES)


def _written_out(pages: Sequence[Page], entries: int) -> int:
    """The most bytes that pages hold which a run of so many entries can touch, of values written out."""
    largest = held = between = first = 0
    for last, page in enumerate(pages):
        held += page.uncompressed if page.is_plain else 0
        between += pages[last - 1].values if last - 1 > first else 0
        while first < last and between + 2 > entries:
            held -= pages[first].uncompressed if pages[first].is_plain else 0
            first += 1
            between -= pages[first].values if first < last else 0
        largest = max(largest, held)
    return largest


def _is_part_of(path: str, columns: frozenset[str]) -> bool:
    """Whether a leaf belongs to one of these columns; both may have dots in their names."""
    parts = path.split(".")
    return any(".".join(parts[:count]) in columns for count in range(1, len(parts) + 1))


def _footprints(
    source: Source, group: RowGroup, columns: frozenset[str], texts: Collection[str]
) -> Iterator[tuple[str, Footprint]]:
    """The footprint of each leaf of these columns, after its path."""
    for i, chunk in enumerate(group.chunks):
        leaf = source.schema.column(i)
        if _is_part_of(leaf.path, columns):
            try:
                yield leaf.path, _footprint(source, chunk, leaf, leaf.path in texts)
            except ExcessError as error:
                raise ExcessError(f"column {quoted(leaf.path)}: {error}") from error
            except (ValueError, pa.ArrowException, OSError) as error:
                raise ValueError(f"column {quoted(leaf.path)}: {error}") from error


def _footprint(source: Source, chunk: Chunk, leaf: Any, may_stay: bool) -> Footprint:
    pages = read_pages(source.read, source.size, chunk)
    values = tuple(page for page in pages if not page.is_dictionary)
    dictionaries = [page for page in pages if page.is_dictionary]
    repeating = [] if may_stay and _is_all_in_dictionary(values) else dictionaries
    return Footprint(
        pages=values,
        dictionary_bytes=sum(page.uncompressed for page in dictionaries),
        longest_entry=max((_longest(source.read, page, chunk, leaf) for page in repeating), default=0),
        is_repeated=leaf.max_repetition_level > 0,
    )


def _longest(read: Read, dictionary: Page, chunk: Chunk, leaf: Any) -> int:
    """The longest value that a dictionary can put into a cell, in bytes, besides :data:`ENTRY_BYTES`."""
    if leaf.physical_type == "BYTE_ARRAY":
        return longest_text(read, dictionary, chunk.codec)
    return max(0, int(leaf.length))
