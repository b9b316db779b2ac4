"""Parquet files that no honest program writes."""

import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Fields = Sequence[tuple[int, int, bytes]]
"""A struct as (field, kind, value)."""


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def signed(number: int) -> bytes:
    """A number in Thrift's zigzag form."""
    return varint((number << 1) ^ (number >> 63))


def struct_of(fields: Fields) -> bytes:
    """A struct in Thrift's compact protocol, each field with its whole number."""
    return b"".join(bytes([kind]) + signed(number) + value for number, kind, value in fields) + b"\0"


def list_of(items: Sequence[bytes], kind: int = 12) -> bytes:
    return bytes([0xF0 | kind]) + varint(len(items)) + b"".join(items)


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


def nested_schema(levels: int) -> bytes:
    """A file with no rows and one column within so many groups."""
    root = struct_of([(4, 8, text(b"schema")), (5, 5, signed(1))])
    group = struct_of([(3, 5, signed(1)), (4, 8, text(b"a")), (5, 5, signed(1))])
    leaf = struct_of([(1, 5, signed(1)), (3, 5, signed(1)), (4, 8, text(b"x"))])
    return with_footer([root, *[group] * levels, leaf])


def with_footer(nodes: Sequence[bytes]) -> bytes:
    footer = struct_of(
        [(1, 5, signed(1)), (2, 9, list_of(nodes)), (3, 6, signed(0)), (4, 9, list_of([]))],
    )
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def parquet(columns: Mapping[str, Any] | pa.Table, **options: Any) -> bytes:
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def one_in_every_row(value: str, rows: int) -> pa.Array:
    """A text that is there once, in a dictionary, and stands in every row."""
    return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), pa.array([value]))


def in_lists(values: pa.Array) -> pa.Array:
    """Each value as a list of one."""
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)


BIG_DICTIONARY = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 1 << 30}

BOMBS: dict[str, Callable[[], bytes]] = {
    "a text of 1 MB in 10,000 rows": lambda: parquet(
        {"content": one_in_every_row("x" * 2**20, 10_000)}, **BIG_DICTIONARY
    ),
    "the same in lists": lambda: parquet(
        {"content": ["a"] * 10_000, "style": in_lists(one_in_every_row("x" * 2**20, 10_000))},
        **BIG_DICTIONARY,
    ),
    "the same in an extra column": lambda: parquet(
        {"content": [f"{i}" for i in range(1000)], "note": one_in_every_row("x" * 2**21, 1000)},
        **BIG_DICTIONARY,
    ),
    "the same in 100,000 rows of an extra column": lambda: parquet(
        {"content": ["a"] * 100_000, "note": one_in_every_row("x" * 2**20, 100_000)}, **BIG_DICTIONARY
    ),
    "the same in an extra column's lists": lambda: parquet(
        {"content": ["a"] * 10_000, "note": in_lists(one_in_every_row("x" * 2**20, 10_000))},
        **BIG_DICTIONARY,
    ),
    "a list of 100 million": lambda: parquet(
        {
            "content": ["a"],
            "note": pa.ListArray.from_arrays(pa.array([0, 10**8], pa.int32()), pa.nulls(10**8)),
        },
        compression="zstd",
    ),
    "a list of a million styles": lambda: parquet({"content": ["a"], "style": [["s"] * 10**6]}),
    "a million nulls for weights": lambda: parquet(
        {"content": ["a"], "style_blend": pa.array([[None] * 10**6], pa.list_(pa.float64()))}
    ),
    "20,000 columns": lambda: parquet({f"c{i}": [1] for i in range(20_000)}),
    "1,001 columns": lambda: parquet({f"c{i}": [1] for i in range(1001)}),
    "1,000 levels": lambda: nested_schema(1000),
    "10,000 levels": lambda: nested_schema(10_000),
    "200 million rows": lambda: parquet({"content": pa.nulls(200_000_000)}, compression="zstd"),
    "delta encoding": lambda: parquet(
        {"content": ["a.jpg"] * 3}, use_dictionary=False, column_encoding={"content": "DELTA_BYTE_ARRAY"}
    ),
}
"""Small files that come to much, by what they hold."""


def damaged(whole: bytes, seeds: Iterator[int]) -> Iterator[bytes]:
    """A file with one to four bytes changed, most of them in its footer, once for each seed."""
    footer = 8 + int.from_bytes(whole[-8:-4], "little")
    for seed in seeds:
        dice = random.Random(seed)
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            area = footer if dice.random() < 0.8 else len(whole)
            place = len(whole) - 1 - dice.randrange(area)
            data[place] = dice.choice([dice.randrange(256), data[place] ^ 1 << dice.randrange(8), 0, 255])
        yield bytes(data)
