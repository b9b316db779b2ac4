"""A Parquet file's footer, looked at before the reader, which believes it and recurses into it.

The few numbers that say where a column's pages lie are taken from here too: pyarrow ends the whole process
over some damaged footers when it is asked for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stylebatch.manifest.thrift import CompactReader, Shape, Struct, TooManyStructsError

MAX_FOOTER_BYTES = 8 << 20
"""Of the footer of one file; 1,000 row groups of 50 columns take about 5 MB."""
MAX_COLUMNS = 1000
"""Columns, counting each within a struct."""
MAX_SCHEMA_NODES = 4 * MAX_COLUMNS
"""Columns and what holds them: structs, lists, maps."""
MAX_NESTING = 32
"""Levels of a column; a list takes two."""
MAX_CHUNKS = 200_000
"""Columns times row groups."""

SCHEMA: Shape = {2: {5: None}}
"""Of FileMetaData: num_children of each SchemaElement."""
ROW_GROUPS: Shape = {4: {3: None, 1: {3: {4: None, 5: None, 7: None, 9: None, 11: None}}}}
"""Of FileMetaData: num_rows of each RowGroup, and of each ColumnMetaData in it what :class:`Chunk` holds."""


class ExcessError(Exception):
    """A file asks for more than it is given; the message says how much that is."""


@dataclass(frozen=True)
class Chunk:
    """One column of a row group, as its footer describes it."""

    codec: int
    """How its pages are compressed."""
    values: int
    """Entries, nulls included."""
    start: int
    """Where its first page begins in the file."""
    length: int
    """Bytes of all its pages."""


@dataclass(frozen=True)
class RowGroup:
    """A row group, as its footer describes it."""

    rows: int
    """How many."""
    chunks: tuple[Chunk, ...]
    """Its columns, in order of the schema's leaves."""


def footer_length(tail: bytes) -> int:
    """How long the last 8 bytes of a file say that its footer is."""
    return int.from_bytes(tail[-8:-4], "little")


def check_schema(footer: bytes) -> None:
    """Look at the shape of a schema.

    Args:
        footer: FileMetaData in Thrift's compact protocol.

    Raises:
        ExcessError: It has too many columns or levels.
        ValueError: It is damaged.
    """
    try:
        nodes = CompactReader(footer, MAX_SCHEMA_NODES + 1).struct(SCHEMA).get(2, [])
    except TooManyStructsError as error:
        raise ExcessError(f"there are too many columns; at most {MAX_COLUMNS} are read") from error
    children = [max(0, node.get(5, 0)) for node in nodes]
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


def row_groups(footer: bytes) -> tuple[RowGroup, ...]:
    """The row groups that a footer lists.

    Raises:
        ExcessError: There are too many, or too many columns in them.
        ValueError: It is damaged.
    """
    try:
        groups = CompactReader(footer, 2 * MAX_CHUNKS).struct(ROW_GROUPS).get(4, [])
    except TooManyStructsError as error:
        raise ExcessError(
            f"row groups times columns are more than {MAX_CHUNKS:,}; write fewer and larger row groups"
        ) from error
    return tuple(
        RowGroup(_number(group, 3), tuple(_chunk(column.get(3, {})) for column in group.get(1, [])))
        for group in groups
    )


def _chunk(column: Struct) -> Chunk:
    """From ColumnMetaData: 4 codec, 5 num_values, 7 total_compressed_size, 9 and 11 offsets of pages."""
    start, dictionary = _number(column, 9), column.get(11, 0)
    return Chunk(
        codec=_number(column, 4),
        values=_number(column, 5),
        start=dictionary if 0 < dictionary < start else start,
        length=_number(column, 7),
    )


def _number(fields: Struct, field: int) -> int:
    number = fields.get(field)
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"a number (field {field}) is missing or negative")
    return number
