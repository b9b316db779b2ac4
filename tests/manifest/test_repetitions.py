"""Equal ids among any number of rows, found in bounded memory."""

import errno
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stylebatch.errors import ConfigurationError
from stylebatch.manifest import repetitions
from stylebatch.manifest.repetitions import Hasher, IdHashes, Repetitions, short_id


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several files, each read in several pieces, all of them on the disk."""
    monkeypatch.setattr(repetitions, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(repetitions, "ROWS_BUFFERED", 50)
    monkeypatch.setattr(repetitions, "BYTES_IN_MEMORY", 1)


def found(values: Sequence[int], most: int = 1000, run: int = 17) -> Repetitions:
    """Among hashes that are these numbers, spread over all that there are."""
    spread = np.array(values, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    with IdHashes(len(values)) as hashes:
        for start in range(0, len(values), run):
            hashes.add(start, spread[start : start + run])
        return hashes.repetitions(most)


def plainly(values: Sequence[int]) -> list[tuple[int, int]]:
    firsts: dict[int, int] = {}
    return [(firsts[value], row) for row, value in enumerate(values) if firsts.setdefault(value, row) != row]


@pytest.mark.parametrize("seed", range(20))
def test_they_are_those_that_a_dictionary_finds(seed: int) -> None:
    dice = np.random.default_rng(seed)
    values = dice.integers(0, dice.integers(1, 3000), dice.integers(1, 1500)).tolist()
    expected = plainly(values)
    assert found(values) == Repetitions(len(expected), expected[:1000])
    assert found(values, most=3) == Repetitions(len(expected), expected[:3])


def test_all_alike_are_counted_in_little_memory() -> None:
    rows = 5000
    assert found([7] * rows, most=2) == Repetitions(rows - 1, [(0, 1), (0, 2)])


def test_none_are_alike() -> None:
    assert found(range(2000)) == Repetitions(0, [])


def hashed(*texts: str) -> list[int]:
    hasher = Hasher()
    return hasher(pa.array(texts, pa.large_string())).tolist()


def test_equal_texts_have_equal_hashes_without_letter_case() -> None:
    a, b, c, d = hashed("pair-1", "PAIR-1", "pair-2", "pair-1\0")
    assert a == b
    assert len({a, c, d}) == 3


def test_texts_that_differ_anywhere_have_different_hashes() -> None:
    texts = {
        f"{'x' * i}{letter}{'x' * (length - i - 1)}"
        for length in (1, 7, 8, 9, 16, 128)
        for i in range(length)
        for letter in "abz"
    }
    texts |= {"x" * length for length in range(130)} | {f"{i:09}" for i in range(20_000)}
    assert len(set(hashed(*texts))) == len(texts)


def test_every_bit_of_a_hash_is_used() -> None:
    values = np.array(hashed(*(f"pair-{i:09}" for i in range(4096))), np.uint64)
    bits = (values[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.05


def test_the_key_is_another_one_each_time() -> None:
    assert hashed("a", "b") != hashed("a", "b")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_and_nothing(kind: pa.DataType) -> None:
    hasher, texts = Hasher(), pa.array(["", "é", "abcdefgh", "abcdefghi", ""], kind)
    whole = hasher(texts).tolist()
    assert whole[0] == whole[4]
    assert hasher(texts.slice(1, 3)).tolist() == whole[1:4]
    assert hasher(texts.slice(2, 0)).tolist() == []
    assert hasher(texts.slice(4, 1)).tolist() == [whole[4]]


def test_ids_of_any_length_are_short() -> None:
    assert short_id("Pair") == "pair"
    assert short_id("x" * 128) == "x" * 128
    long = {short_id(text) for text in ("X" * 129, "x" * 129, "x" * 4097)}
    assert len(long) == 2
    assert all(len(text) == 64 for text in long)


def test_a_full_temporary_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class FullFile(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(repetitions.tempfile, "SpooledTemporaryFile", FullFile)
    with pytest.raises(ConfigurationError, match=r"cannot hold the hashes .* No space left .* in TMPDIR"):
        found(range(100))
