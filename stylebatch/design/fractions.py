"""Regular fractional factorial designs: which cells of a full crossing to keep, and what that confounds.

For a prime p, a factor whose number of levels p divides counts as its level's number (from 0) modulo p. A
fraction 1/p**q keeps the cells where q weighted sums of these are multiples of p. Each sum, and each
combination of them, is a *word*: the factors in it are confounded, any one of them with the product of the
others. The *resolution* is the length of the shortest word; from 3 on, no two factors are confounded with
one another. See Box, Hunter & Hunter, "Statistics for Experimenters", chapter 6.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylebatch.errors import DesignError

MOST_CANDIDATES = 512
"""Words that are tried for each sum; more are there only with ten factors or so."""
MOST_BEGINNINGS = 64
"""Of those, how many are tried as the first sum."""
MOST_SUGGESTED = 8
"""Fractions that a message lists."""

Word = tuple[int, ...]
"""A coefficient from 0 to p - 1 for each factor of the design."""
Cells = NDArray[np.int64]
"""(cells, factors): the number, from 0, of each factor's level in each cell."""


@dataclass(frozen=True)
class Fraction:
    """A regular fraction of a full crossing."""

    relations: tuple[tuple[int, Word], ...]
    """(p, word): the word's sum over the levels' numbers is a multiple of p in every cell that is kept."""
    words: tuple[tuple[int, Word], ...]
    """The same with every combination of them."""

    @property
    def resolution(self) -> int:
        """The length of the shortest word."""
        return min(length(word) for _, word in self.words)

    def keeps(self, cells: Cells) -> NDArray[np.bool_]:
        """Which cells are kept."""
        kept = np.full(len(cells), True)
        for prime, word in self.relations:
            kept &= cells @ np.array(word) % prime == 0
        return kept


def length(word: Word) -> int:
    """How many factors are in a word."""
    return sum(weight != 0 for weight in word)


def regular_fraction(levels: Sequence[int], denominator: int) -> Fraction:
    """The regular fraction 1/denominator with the highest resolution that was found.

    Args:
        levels: How many levels each factor has.
        denominator: At least 2.

    Returns:
        A fraction of resolution 3 or more: every level of every factor is kept equally often, and every
        two factors stay crossed.

    Raises:
        DesignError: There is none; the message lists some that there are.
    """
    primes = Counter(_prime_factors(denominator))
    if not all(_is_possible(_divisible(levels, prime), prime, sums) for prime, sums in primes.items()):
        raise DesignError(
            f"crossing: there is no regular fraction 1/{denominator} of factors with "
            f"{', '.join(map(str, levels))} levels that leaves every two factors crossed; {_possible(levels)}"
        )
    relations: list[tuple[int, Word]] = []
    words: list[tuple[int, Word]] = []
    for prime, sums in primes.items():
        chosen, combined = _choose(levels, prime, sums)
        relations += [(prime, word) for word in chosen]
        words += [(prime, word) for word in combined]
    return Fraction(tuple(relations), tuple(words))


def _prime_factors(number: int) -> Iterator[int]:
    divisor = 2
    while number > 1:
        if divisor * divisor > number:
            divisor = number
        while number % divisor == 0:
            yield divisor
            number //= divisor
        divisor += 1


def _divisible(levels: Sequence[int], prime: int) -> int:
    return sum(count % prime == 0 for count in levels)


def _is_possible(factors: int, prime: int, sums: int) -> bool:
    """Whether so many factors fit into so many fewer dimensions, each in a direction of its own."""
    free = factors - sums
    return free >= 2 and factors <= (prime**free - 1) // (prime - 1)


def _possible(levels: Sequence[int]) -> str:
    found = [
        f"1/{denominator}"
        for denominator in range(2, 129)
        if all(
            _is_possible(_divisible(levels, prime), prime, sums)
            for prime, sums in Counter(_prime_factors(denominator)).items()
        )
    ]
    if found:
        return f"possible are {', '.join(found[:MOST_SUGGESTED])}"
    return "it takes three factors whose numbers of levels a prime divides; use full, only or leave_out"


def _choose(levels: Sequence[int], prime: int, sums: int) -> tuple[list[Word], list[Word]]:
    """The sums with the best words, and all words that they make."""
    places = [i for i, count in enumerate(levels) if count % prime == 0]
    candidates = _candidates(len(places) - sums, prime)
    best: tuple[list[int], NDArray[np.int64], list[NDArray[np.int64]]] | None = None
    for first in candidates[:MOST_BEGINNINGS]:
        found = _grow(first, candidates, sums, prime)
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    _, words, chosen = best
    return [_spread(word, places, len(levels)) for word in chosen], [
        _spread(word, places, len(levels)) for word in _distinct(words)
    ]


def _candidates(free: int, prime: int) -> list[NDArray[np.int64]]:
    """Combinations of two or more free factors, up to a common factor, the longest first."""
    every = itertools.product(range(prime), repeat=free)
    leading_one = (word for word in every if next((weight for weight in word if weight), 0) == 1)
    long = sorted((word for word in leading_one if length(word) > 1), key=length, reverse=True)
    return [np.array(word, dtype=np.int64) for word in long[:MOST_CANDIDATES]]


def _grow(
    first: NDArray[np.int64], candidates: Sequence[NDArray[np.int64]], sums: int, prime: int
) -> tuple[list[int], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Add sum after sum, each time the one with the fewest short words.

    Returns:
        How many words there are of each length from 1 on, the words, and the sums.
    """
    width = len(first) + sums
    words = np.zeros((1, width), dtype=np.int64)
    chosen: list[NDArray[np.int64]] = []
    counts: list[int] = []
    for number in range(sums):
        options = [first] if number == 0 else candidates
        counts, words, added = min(
            (_extended(words, _relation(option, number, width, prime), prime) for option in options),
            key=lambda found: found[0],
        )
        chosen.append(added)
    return counts, words, chosen


def _relation(option: NDArray[np.int64], number: int, width: int, prime: int) -> NDArray[np.int64]:
    """The word that makes the next dependent factor this combination of the free ones."""
    word = np.zeros(width, dtype=np.int64)
    word[: len(option)] = option
    word[len(option) + number] = prime - 1
    return word


def _extended(
    words: NDArray[np.int64], added: NDArray[np.int64], prime: int
) -> tuple[list[int], NDArray[np.int64], NDArray[np.int64]]:
    """All combinations of the words and one more, and how many there are of each length."""
    longer = np.concatenate([(words + times * added) % prime for times in range(prime)])
    lengths = np.count_nonzero(longer, axis=1)
    return np.bincount(lengths, minlength=longer.shape[1] + 1)[1:].tolist(), longer, added


def _distinct(words: NDArray[np.int64]) -> list[Word]:
    """The words but for the empty one, one of each set of multiples."""
    plain = (tuple(int(weight) for weight in word) for word in words)
    return [word for word in plain if next((weight for weight in word if weight), 0) == 1]


def _spread(word: Sequence[int] | NDArray[np.int64], places: Sequence[int], factors: int) -> Word:
    """A word over some of the factors as one over all."""
    spread = [0] * factors
    for place, weight in zip(places, word, strict=True):
        spread[place] = int(weight)
    return tuple(spread)
