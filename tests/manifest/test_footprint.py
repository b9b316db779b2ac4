"""What reading would take in memory, from headers alone."""

import io
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stylebatch.manifest import footprint, pages
from stylebatch.manifest.footer import ExcessError, check_schema, footer_length, row_groups
from stylebatch.manifest.footprint import Footprint, Plan, Source, memory, plan_reading
from stylebatch.manifest.pages import Page, read_pages

ROWS = 50_000


def file_of(columns: dict[str, Any], **options: Any) -> tuple[Source, Any]:
    """A Parquet file's source, and its first row group by our own reading."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    data = sink.getvalue()

    def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    footer = data[-8 - footer_length(data) : -8]
    check_schema(footer)
    source = Source(read, len(data), pq.ParquetFile(pa.BufferReader(data)).metadata.schema)
    return source, row_groups(footer)[0]


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_pages_are_those_that_were_written(compression: str, version: str) -> None:
    columns = {"content": [f"img/{i}.jpg" for i in range(ROWS)], "note": [["a", "bc"]] * ROWS}
    source, group = file_of(columns, compression=compression, data_page_version=version)
    assert group.rows == ROWS
    for chunk, entries, biggest in zip(group.chunks, (ROWS, 2 * ROWS), (1 << 20, 1 << 15), strict=True):
        found = read_pages(source.read, source.size, chunk)
        assert found[0].is_dictionary
        assert sum(page.values for page in found[1:]) == entries == chunk.values
        assert found[-1].start + found[-1].compressed == chunk.start + chunk.length
        assert all(page.uncompressed < 2 * biggest for page in found)


def test_a_dictionary_s_longest_text_is_found_whatever_compresses_it() -> None:
    lists = [["x" * 50], ["y" * 70, "z"]]
    for compression in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        source, group = file_of({"note": lists}, compression=compression)
        dictionary = read_pages(source.read, source.size, group.chunks[0])[0]
        assert pages.longest_text(source.read, dictionary, group.chunks[0].codec) == 70
    assert pages.longest_text(source.read, dictionary, codec=99) == dictionary.uncompressed


def page(values: int, size: int, is_plain: bool = True) -> Page:
    return Page(0, 1, size, values, is_dictionary=False, is_plain=is_plain)


def most_touched(found: Sequence[Page], rows: int) -> int:
    """The same by trying every run of rows."""
    places = [i for i, one in enumerate(found) for _ in range(one.values)]
    runs = [set(places[start : start + rows]) for start in range(max(1, len(places) - rows + 1))]
    return max(sum(found[i].uncompressed for i in run if found[i].is_plain) for run in runs)


def test_rows_touch_the_pages_that_hold_them() -> None:
    for seed in range(300):
        dice = random.Random(seed)
        sizes = [(dice.choice([1, 1, 2, 5, 9]), dice.randint(0, 50)) for _ in range(dice.randint(1, 7))]
        found = tuple(page(*size, is_plain=dice.random() < 0.8) for size in sizes)
        largest = max(one.uncompressed for one in found)
        for rows in (1, 2, 3, 5, 10, 100):
            needed = memory(Footprint(found, 0, 0, is_repeated=False), rows)
            expected = largest + most_touched(found, rows) + rows * footprint.ENTRY_BYTES
            assert needed == expected, (seed, rows)


def test_a_dictionary_entry_may_stand_in_every_row() -> None:
    one = Footprint((page(1000, 100, is_plain=False),), 2000, 1500, is_repeated=False)
    assert memory(one, 10) == 2000 + 100 + 10 * (1500 + footprint.ENTRY_BYTES)


def test_one_row_may_hold_all_entries_of_a_list() -> None:
    one = Footprint((page(1000, 100, is_plain=False),), 2000, 15, is_repeated=True)
    assert memory(one, 1) == memory(one, 4096) == 2000 + 100 + 1000 * (15 + footprint.ENTRY_BYTES)


@pytest.mark.parametrize(
    ("limit", "rows"), [(512 << 20, 4096), (70 << 20, 256), (3 << 20, 16), (2_000_000, 4)]
)
def test_the_larger_a_text_may_be_the_fewer_rows_are_read(
    monkeypatch: pytest.MonkeyPatch, limit: int, rows: int
) -> None:
    monkeypatch.setattr(footprint, "MAX_DECODED_BYTES", limit)
    columns = {"content": ["x" * 100_000, "y"] * 10 + [str(i) * 10_000 for i in range(50, 90)]}
    assert plan_reading(*file_of(columns), ["content"], texts=[]).rows == rows


def test_a_text_that_the_reader_leaves_in_its_dictionary_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "MAX_DECODED_BYTES", 1 << 20)
    source, group = file_of({"content": ["x" * 100_000, "y"]})
    assert plan_reading(source, group, ["content"], texts=[]) == Plan(4, ())
    assert plan_reading(source, group, ["content"], texts=["content"]) == Plan(4096, ("content",))


def test_a_dictionary_that_is_not_whole_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{i:0100d}" for i in range(2000)]
    options = {"dictionary_pagesize_limit": 10_000, "data_page_size": 1000}
    source, group = file_of({"content": texts, "pooling": ["max"] * 2000}, **options)
    plan = plan_reading(source, group, ["content", "pooling"], texts=["content", "pooling"])
    assert plan == Plan(4096, ("pooling",))
    monkeypatch.setattr(footprint, "MAX_DECODED_BYTES", 500_000)
    assert plan_reading(source, group, ["content"], texts=["content"]) == Plan(1024, ())


def test_a_dictionary_that_comes_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source, group = file_of({"note": ["x" * 10_000, "y"] * 1000})
    monkeypatch.setattr(footprint, "MAX_UNPACKED_BYTES", 2000 * 10_000)
    assert plan_reading(source, group, ["note"], texts=[]).rows == 4096
    monkeypatch.setattr(footprint, "MAX_UNPACKED_BYTES", 2000 * 10_000 - 1)
    with pytest.raises(
        ExcessError, match=r"column 'note' of a row group could come to .* a text of 10000 bytes"
    ):
        plan_reading(source, group, ["note"], texts=[])
    assert plan_reading(source, group, ["note"], texts=["note"]).dictionaries == ("note",)


def test_a_row_that_could_be_too_large_is_refused_by_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "MAX_DECODED_BYTES", 1 << 20)
    source, group = file_of({"a.b": ["x"], "note": ["x" * 600_000], "other": ["y" * 600_000]})
    with pytest.raises(ExcessError, match="more than 1 MB of memory to read, most of it for column 'note'"):
        plan_reading(source, group, ["note"], texts=[])
    assert plan_reading(source, group, ["a.b"], texts=[]).rows == 4096


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_encodings_that_hide_how_much_they_come_to_are_refused(encoding: str) -> None:
    file = file_of({"content": ["a"]}, use_dictionary=False, column_encoding={"content": encoding})
    with pytest.raises(ExcessError, match=f"column 'content': a page is written as {encoding}"):
        plan_reading(*file, ["content"], texts=[])


def test_pages_outside_the_file_are_damage() -> None:
    source, group = file_of({"content": ["a"]})
    small = Source(source.read, group.chunks[0].start + 5, source.schema)
    with pytest.raises(ValueError, match="column 'content': its pages are outside the file"):
        plan_reading(small, group, ["content"], texts=[])


def test_a_header_that_was_changed_is_damage() -> None:
    source, group = file_of({"content": ["a" * 100]}, compression="none", use_dictionary=False)
    good = source.read(0, source.size)
    start = group.chunks[0].start
    refused = 0
    for place in range(start, start + 20):
        for value in (0, 1, 127, 255):
            bad = good[:place] + bytes([value]) + good[place + 1 :]
            try:
                plan_reading(Source(partial(part_of, bad), len(bad), source.schema), group, ["content"], [])
            except (ValueError, ExcessError):
                refused += 1
    assert refused > 40


def part_of(data: bytes, start: int, length: int) -> bytes:
    return data[start : start + length]
