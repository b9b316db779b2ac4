"""The pages of a Parquet column, by their headers alone.

The layout is that of https://github.com/apache/parquet-format: a column chunk is a run of pages, a header
before each, the dictionary first if there is one.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stylebatch.manifest.footer import Chunk, ExcessError
from stylebatch.manifest.thrift import CompactReader, Shape, Struct, TruncatedError

MAX_PAGES = 100_000
"""Pages of one column in one row group."""
MAX_HEADER_BYTES = 1 << 20
"""Of one page's header, which may quote two values."""
WINDOW = 1 << 11
"""Bytes that are fetched to find a page's header."""
MAX_SCANNED_BYTES = 4 << 20
"""A larger dictionary is not searched for its longest entry, which is then taken to fill all of it."""

DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
INNER_HEADERS = {DATA_PAGE: (5, 2), DICTIONARY_PAGE: (7, 2), DATA_PAGE_V2: (8, 4)}
"""By type of page: the field with its own header, and the field with the encoding in that one."""
PAGE_HEADER: Shape = {
    1: None,
    2: None,
    3: None,
    **{field: {1: None, 2: None, 4: None} for field in (5, 7, 8)},
}
"""Of PageHeader: type and sizes, and of each of those headers num_values and what may be the encoding."""
PLAIN = 0
DELTA_ENCODINGS = {5: "DELTA_BINARY_PACKED", 6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}
"""Encodings whose pages say inside how much they come to."""

UNCOMPRESSED = 0
CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
"""Parquet's CompressionCodec, by pyarrow's names."""

Read = Callable[[int, int], bytes]
"""``read(start, length)``: bytes of the file."""


@dataclass(frozen=True)
class Page:
    """One page, as its header describes it."""

    start: int
    """Where its compressed bytes begin in the file."""
    compressed: int
    """Bytes."""
    uncompressed: int
    """Bytes; the reader allocates so many, and never decompresses to more."""
    values: int
    """Entries, nulls included."""
    is_dictionary: bool
    """Whether it holds the column's dictionary."""
    is_plain: bool
    """Whether its values are written out, not numbers of entries in the dictionary."""


def read_pages(read: Read, size: int, chunk: Chunk) -> list[Page]:
    """The pages of a column chunk, as far as the reader will read them.

    Args:
        read: Reads the file.
        size: The file's length.
        chunk: The column chunk.

    Raises:
        ExcessError: What a page comes to cannot be known.
        ValueError: A header is damaged, or the pages are too many.
    """
    stop = chunk.start + chunk.length
    if stop > size:
        raise ValueError("its pages are outside the file")
    pages: list[Page] = []
    found, left = _pages(read, chunk.start, stop), chunk.values
    while left > 0 and (page := next(found, None)):
        pages.append(page)
        left -= 0 if page.is_dictionary else page.values
        if len(pages) > MAX_PAGES:
            raise ValueError(f"it has more than {MAX_PAGES} pages")
    return pages


def _pages(read: Read, start: int, stop: int) -> Iterator[Page]:
    window, window_start = b"", start
    while start < stop:
        if min(start + WINDOW // 4, stop) > window_start + len(window):
            window, window_start = read(start, min(WINDOW, stop - start)), start
        length, header = _header(read, window[start - window_start :], start, stop)
        page = _page(start + length, header)
        start = page.start + page.compressed
        if start > stop:
            raise ValueError("a page ends behind its column")
        yield page


def _header(read: Read, data: bytes, start: int, stop: int) -> tuple[int, Struct]:
    """The length of the header that starts there, and the header."""
    try:
        return _parsed(data)
    except TruncatedError:
        return _parsed(read(start, min(MAX_HEADER_BYTES, stop - start)))


def _parsed(data: bytes) -> tuple[int, Struct]:
    reader = CompactReader(data, len(PAGE_HEADER) + 1)
    header = reader.struct(PAGE_HEADER)
    return reader.position, header


def _page(start: int, header: Struct) -> Page:
    """From a PageHeader; its fields are 1 type, 2 uncompressed_page_size, 3 compressed_page_size."""
    kind = header.get(1, -1)
    inner_field, encoding_field = INNER_HEADERS.get(kind, (0, 0))
    inner = header.get(inner_field) or {}
    compressed, uncompressed, values = (
        _size(number) for number in (header.get(3), header.get(2), inner.get(1, 0))
    )
    encoding = inner.get(encoding_field, PLAIN)
    if encoding in DELTA_ENCODINGS:
        raise ExcessError(
            f"a page is written as {DELTA_ENCODINGS[encoding]}, which does not say how much it comes to; "
            "write the file with the encodings PLAIN or RLE_DICTIONARY"
        )
    return Page(start, compressed, uncompressed, values, kind == DICTIONARY_PAGE, encoding == PLAIN)


def _size(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError("a page's header has no size")
    return number


def longest_text(read: Read, page: Page, codec: int) -> int:
    """The length of the longest text in a dictionary page, or an upper bound of it, in bytes."""
    if page.uncompressed > MAX_SCANNED_BYTES:
        return page.uncompressed
    data = read(page.start, page.compressed)
    if codec == UNCOMPRESSED:
        return _longest_entry(data)
    if codec not in CODECS or not pa.Codec.is_available(CODECS[codec]):
        return page.uncompressed
    return _longest_entry(pa.decompress(data, page.uncompressed, CODECS[codec], asbytes=True))


def _longest_entry(data: bytes) -> int:
    """Of texts that are written one after the other, each after its length."""
    longest = place = 0
    while place + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, place)
        longest = max(longest, length)
        place += 4 + length
    return longest
