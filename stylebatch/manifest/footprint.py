"""What reading a Parquet file would take in memory, found out before it is read.

A page of a few kilobytes may decompress to gigabytes, one long text in a dictionary may stand in every row,
and a footer may list a million columns. The reader believes what the file's headers say, so they are looked
at first. What is refused here could be honest; the message says how to write it otherwise.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.manifest.pages import Page, Read, longest_text, read_pages
from stylebatch.manifest.thrift import CompactReader, TooManyItemsError
from stylebatch.quoting import quoted

MAX_FOOTER_BYTES = 8 << 20
"""Of the footer of one file; 1,000 row groups of 50 columns take about 5 MB."""
MAX_COLUMNS = 1000
"""Columns, counting each within a struct."""
MAX_SCHEMA_NODES = 4 * MAX_COLUMNS
"""Columns and what holds them: structs, lists, maps."""
MAX_NESTING = 32
"""Levels of a column; a list takes two."""
MAX_DECODED_BYTES = 512 << 20
"""What pages, dictionaries and values may take at once; fewer rows are read at a time to stay below."""
ROWS_AT_ONCE = (4096, 1024, 256, 64, 16, 4, 1)
"""How many rows are read at a time: the first number that stays within bounds."""
ENTRY_BYTES = 12
"""What an entry takes in memory besides its text: a number or an offset, and its levels."""


class ExcessError(Exception):
    """A file asks for more than it is given; the message says how much that is."""


def footer_length(tail: bytes) -> int:
    """How long the last 8 bytes of a file say that its footer is."""
    return int.from_bytes(tail[-8:-4], "little")


def check_footer(footer: bytes) -> None:
    """Look at the schema in a footer before the reader, which recurses into it, does.

    Args:
        footer: FileMetaData in Thrift's compact protocol.

    Raises:
        ExcessError: It has too many columns or levels.
        ValueError: It is damaged.
    """
    try:
        nodes = CompactReader(footer, MAX_SCHEMA_NODES).struct(last=2).get(2) or []
    except TooManyItemsError as error:
        raise ExcessError(f"there are too many columns; at most {MAX_COLUMNS} are read") from error
    children = [max(0, node.get(5) or 0) for node in nodes]
    if children.count(0) > MAX_COLUMNS:
        raise ExcessError(f"there are {children.count(0)} columns; at most {MAX_COLUMNS} are read")
    if _depth(children) > MAX_NESTING:
        raise ExcessError(f"a column is nested in more than {MAX_NESTING} levels; write a flat table")


def _depth(children: Sequence[int]) -> int:
    """The levels of a tree, from how many children each node has, in depth-first order."""
    left: list[int] = []
    deepest = 0
    for count in children:
        while left and left[-1] == 0:
            left.pop()
        if left:
            left[-1] -= 1
        left.append(count)
        deepest = max(deepest, len(left))
    return deepest


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


def rows_at_once(
    read: Read,
    size: int,
    metadata: pq.FileMetaData,
    group: int,
    columns: Sequence[str],
    as_dictionaries: Collection[str] = (),
) -> int:
    """How many rows of a row group may be read at a time within :data:`MAX_DECODED_BYTES`.

    Args:
        read: Reads the file.
        size: Its length.
        metadata: Its footer.
        group: The row group.
        columns: Names of the columns that will be read.
        as_dictionaries: Those of them whose texts the reader leaves in a dictionary, each once.

    Raises:
        ExcessError: Not even one row may.
        ValueError: The pages are damaged.
    """
    wanted = frozenset(columns)
    footprints = {
        metadata.schema.column(i).path: _footprint(read, size, metadata, group, i, as_dictionaries)
        for i in range(metadata.num_columns)
        if _is_part_of(metadata.schema.column(i).path, wanted)
    }
    for rows in ROWS_AT_ONCE:
        if sum(memory(footprint, rows) for footprint in footprints.values()) <= MAX_DECODED_BYTES:
            return rows
    largest = max(footprints, key=lambda path: memory(footprints[path], 1))
    raise ExcessError(
        f"row group {group} could take more than {MAX_DECODED_BYTES >> 20} MB of memory to read, most of it "
        f"for column {quoted(largest)}; write smaller row groups and keep large values elsewhere"
    )


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


def _footprint(
    read: Read,
    size: int,
    metadata: pq.FileMetaData,
    group: int,
    column: int,
    as_dictionaries: Collection[str],
) -> Footprint:
    chunk, leaf = metadata.row_group(group).column(column), metadata.schema.column(column)
    try:
        pages = read_pages(read, size, chunk)
        dictionaries = [page for page in pages if page.is_dictionary]
        repeating = [] if leaf.path in as_dictionaries else dictionaries
        return Footprint(
            pages=tuple(page for page in pages if not page.is_dictionary),
            dictionary_bytes=sum(page.uncompressed for page in dictionaries),
            longest_entry=max((_longest(read, page, chunk, leaf) for page in repeating), default=0),
            is_repeated=leaf.max_repetition_level > 0,
        )
    except (ValueError, pa.ArrowException, OSError) as error:
        raise ValueError(f"row group {group}, column {quoted(leaf.path)}: {error}") from error


def _longest(read: Read, dictionary: Page, chunk: Any, leaf: Any) -> int:
    """The longest value that a dictionary can put into a cell, in bytes, besides :data:`ENTRY_BYTES`."""
    if chunk.physical_type != "BYTE_ARRAY":
        return max(0, int(leaf.length))
    is_repeated = leaf.max_repetition_level > 0
    return longest_text(read, dictionary, chunk.compression) if is_repeated else dictionary.uncompressed
