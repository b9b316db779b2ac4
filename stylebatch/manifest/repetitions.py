"""Which rows have an id that an earlier row has, among any number of rows, in bounded memory.

Ids are known by 64-bit hashes. These are spread over files by their value, so that equal ones meet in the
same file, and each file is small enough to be sorted in memory. The hashes are keyed anew each time: nobody
can write a manifest whose ids share them.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stylebatch.errors import ConfigurationError
from stylebatch.quoting import reason

ROWS_AT_ONCE = 1 << 19
"""Rows that are sorted at once, in 30 MB of memory."""
BYTES_IN_MEMORY = 64 << 20
"""Of all files; a manifest with more than 4 million rows has them on the disk."""
ROWS_BUFFERED = 1 << 16
"""Rows that are gathered before they are spread over the files."""
LONGEST_HASHED = 128
"""Characters of an id that are hashed as they are; of a longer one, which no row may have, its SHA-256."""

ENTRY = np.dtype([("hash", "<u8"), ("row", "<i8")])
Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]
Rows = np.ndarray[tuple[int], np.dtype[np.int64]]
Entries = np.ndarray[tuple[int], np.dtype[np.void]]
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Odd numbers with as many ones as zeros in no order, which carry every bit to all others (SplitMix64)."""


class Hasher:
    """Hashes of many short texts at once, under a key of its own."""

    def __init__(self) -> None:
        start, factor = np.frombuffer(os.urandom(16), "<u8")
        self._start, self._factor = start, factor | np.uint64(1)

    def __call__(self, texts: pa.Array) -> Hashes:
        """Of each text, without regard to the case of ASCII letters; there are no nulls."""
        if len(texts) == 0:
            return np.empty(0, np.uint64)
        words, lengths = _words(pc.ascii_lower(texts.cast(pa.large_string())))
        hashes = self._mixed(np.full(len(texts), self._start, np.uint64), lengths.astype(np.uint64))
        for i in range(words.shape[1]):
            has_word = lengths > 8 * i
            hashes[has_word] = self._mixed(hashes[has_word], words[has_word, i])
        return hashes

    def _mixed(self, hashes: Hashes, words: Hashes) -> Hashes:
        """Each step is one to one, so texts that differ in one word alone differ in their hashes."""
        mixed: Hashes = (hashes ^ words) * self._factor
        for factor in _FACTORS:
            mixed ^= mixed >> np.uint64(32)
            mixed *= factor
        mixed ^= mixed >> np.uint64(32)
        return mixed


def _words(texts: pa.LargeStringArray) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.uint64]], Rows]:
    """The bytes of texts as whole words of 8, padded with zeros, ``(rows, words)``; and their lengths."""
    _, offsets, data = texts.buffers()
    edges = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    lengths = np.diff(edges)
    width = -(-max(1, int(lengths.max(initial=0))) // 8) * 8
    letters = np.zeros((len(texts), width), np.uint8)
    if data is not None:
        letters[np.arange(width) < lengths[:, None]] = np.frombuffer(data, np.uint8)[edges[0] : edges[-1]]
    return letters.view("<u8"), lengths


def short_id(pair_id: str) -> str:
    """What is hashed for an id of any length and with any letters."""
    lowered = pair_id.lower()
    return lowered if len(lowered) <= LONGEST_HASHED else hashlib.sha256(lowered.encode()).hexdigest()


@dataclass(frozen=True)
class Repetitions:
    """Rows whose id's hash an earlier row has."""

    count: int
    """How many."""
    first: Sequence[tuple[int, int]]
    """Of the first of them, in order: the first row with that hash, and the row itself."""


class IdHashes:
    """The hashes of all rows' ids, kept in temporary files; to be closed.

    Args:
        rows: About how many there will be.
    """

    def __init__(self, rows: int) -> None:
        parts = max(1, -(-rows // ROWS_AT_ONCE))
        self._open = ExitStack()
        with _plain_errors():
            self._files = [self._new_file(BYTES_IN_MEMORY // parts) for _ in range(parts)]
        self._gathered: list[Entries] = []
        self._count = 0

    def _new_file(self, bytes_in_memory: int) -> IO[bytes]:
        return self._open.enter_context(tempfile.SpooledTemporaryFile(bytes_in_memory))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, first_row: int, hashes: Hashes) -> None:
        """Note the hashes of consecutive rows."""
        entries = np.empty(len(hashes), ENTRY)
        entries["hash"], entries["row"] = hashes, np.arange(first_row, first_row + len(hashes))
        self._gathered.append(entries)
        self._count += len(entries)
        if self._count >= ROWS_BUFFERED:
            self._spread()

    def _spread(self) -> None:
        """Write what was gathered to the files, each entry to that of its hash."""
        if not self._gathered:
            return
        entries = np.concatenate(self._gathered)
        self._gathered, self._count = [], 0
        numbers = ((entries["hash"] >> np.uint64(32)) * np.uint64(len(self._files)) >> np.uint64(32)).astype(
            np.int64
        )
        order = np.argsort(numbers, kind="stable")
        edges = np.searchsorted(numbers[order], np.arange(len(self._files) + 1))
        with _plain_errors():
            for file, start, stop in zip(self._files, edges[:-1], edges[1:], strict=True):
                file.write(entries[order[start:stop]].tobytes())

    def repetitions(self, most: int) -> Repetitions:
        """The rows whose hash an earlier row has.

        Args:
            most: How many of them are told one by one.
        """
        self._spread()
        count, found = 0, np.empty((0, 2), np.int64)
        for file in self._files:
            seen = np.empty(0, ENTRY)
            for entries in _read(file):
                seen, pairs = _told_apart(np.concatenate([seen, entries]))
                count += len(pairs)
                found = _earliest(np.concatenate([found, pairs]), most)
        return Repetitions(count, [(first, later) for first, later in found.tolist()])


def _read(file: IO[bytes]) -> Iterator[Entries]:
    """What was written to a file, a bounded number of entries at a time."""
    with _plain_errors():
        file.seek(0)
        while data := file.read(ROWS_AT_ONCE * ENTRY.itemsize):
            yield np.frombuffer(data, ENTRY)


def _told_apart(entries: Entries) -> tuple[Entries, "np.ndarray[tuple[int, int], np.dtype[np.int64]]"]:
    """The first entry of each hash, in order of row; and first row and row of each other entry, likewise."""
    order = np.argsort(entries["hash"], kind="stable")
    hashes, rows = entries["hash"][order], entries["row"][order]
    is_first = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
    firsts = rows[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    pairs = np.stack([firsts, rows], axis=1)[~is_first]
    return entries[np.sort(order[is_first])], pairs


def _earliest(
    pairs: "np.ndarray[tuple[int, int], np.dtype[np.int64]]", most: int
) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """The pairs whose second row comes first, in order of it."""
    return pairs[np.argsort(pairs[:, 1])[:most]]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what the disk says into one sentence."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the temporary folder {tempfile.tempdir or ''} cannot hold the hashes of a manifest's ids, 16 "
            f"bytes for each row ({reason(error)}); make room there, or name another folder in TMPDIR"
        ) from error
