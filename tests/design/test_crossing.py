"""Crossings: every cell, regular fractions that stay balanced, and lists of cells."""

import itertools
import math
from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from studies import FOLDER, design, factors

from stylebatch.design.balance import confoundings
from stylebatch.design.crossing import MOST_CELLS, Combination, Crossing, combinations
from stylebatch.design.design_file import parse_design
from stylebatch.design.factors import Factor, Level
from stylebatch.design.fractions import Fraction, length, regular_fraction
from stylebatch.errors import DesignError


def cells(**changes: Any) -> list[Combination]:
    found = parse_design(design(**changes), FOLDER)
    return combinations(found.factors, found.crossing)[0]


def of_levels(*levels: int) -> list[Factor]:
    """Factors with so many levels."""
    return [
        Factor(f"f{i}", tuple(Level(f"l{j}", {}) for j in range(count))) for i, count in enumerate(levels)
    ]


def fraction_of(levels: list[int], denominator: int) -> tuple[list[Combination], Fraction]:
    chosen, fraction = combinations(of_levels(*levels), Crossing(denominator=denominator))
    assert fraction is not None
    return chosen, fraction


def test_full_crossing_varies_the_first_factor_slowest() -> None:
    assert cells() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert cells(factors=factors(size=[16, 32, 64])) == [*itertools.product(range(2), range(2), range(3))]


def test_only_and_leave_out() -> None:
    more = factors(size=[16, 32])
    cat = {"content": "cat"}
    assert cells(factors=more, crossing={"only": [cat, {"style": ["wave", "scream"], "size": 32}]}) == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (0, 1, 1),
        (1, 0, 1),
        (1, 1, 1),
    ]
    assert cells(factors=more, crossing={"leave_out": [cat, {"size": "32"}]}) == [(1, 0, 0), (1, 1, 0)]
    with pytest.raises(DesignError, match="crossing: it leaves no cell"):
        cells(crossing={"leave_out": [{"content": ["cat", "boat"]}]})


def test_too_many_cells_are_refused_before_they_are_made() -> None:
    with pytest.raises(DesignError, match=r"has 1,000,000 cells \(1000 x 1000\); at most 100,000"):
        combinations(of_levels(1000, 1000), Crossing())
    with pytest.raises(DesignError, match="at most 100,000"):
        combinations(of_levels(*[1000] * 16), Crossing(denominator=2))
    assert MOST_CELLS == 100_000


@pytest.mark.parametrize(
    ("levels", "denominator", "resolution"),
    [
        ([2] * 3, 2, 3),
        ([2] * 4, 2, 4),
        ([2] * 5, 2, 5),
        ([2] * 5, 4, 3),
        ([2] * 6, 4, 4),
        ([2] * 6, 8, 3),
        ([2] * 7, 4, 4),
        ([2] * 7, 8, 4),
        ([2] * 7, 16, 3),
        ([2] * 8, 8, 4),
        ([2] * 8, 16, 4),
        ([2] * 8, 4, 5),
        ([2] * 9, 4, 6),
        ([2] * 10, 8, 5),
        ([3] * 3, 3, 3),
        ([3] * 4, 3, 4),
        ([3] * 4, 9, 3),
        ([3] * 5, 9, 3),
        ([5] * 3, 5, 3),
        ([6] * 3, 6, 3),
    ],
)
def test_resolution_is_that_of_the_tables(levels: list[int], denominator: int, resolution: int) -> None:
    """For two levels, the resolutions in Box, Hunter & Hunter, chapter 6."""
    chosen, fraction = fraction_of(levels, denominator)
    assert fraction.resolution == resolution
    assert len(chosen) * denominator == math.prod(levels)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.sampled_from([2, 3, 4, 5, 6, 8, 9]))
def test_a_fraction_keeps_every_two_factors_crossed(levels: list[int], denominator: int) -> None:
    with suppress(DesignError):
        check_fraction(levels, denominator)


def check_fraction(levels: list[int], denominator: int) -> None:
    chosen, _ = fraction_of(levels, denominator)
    assert len(chosen) * denominator == math.prod(levels)
    assert chosen[0] == (0,) * len(levels)
    for i, j in itertools.combinations(range(len(levels)), 2):
        pairs = Counter((cell[i], cell[j]) for cell in chosen)
        assert len(pairs) == levels[i] * levels[j]
        assert len(set(pairs.values())) == 1
    assert all(len(item.told_by) == 2 for item in confoundings(of_levels(*levels), chosen))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([2, 3]), min_size=3, max_size=6), st.sampled_from([2, 3, 4]))
def test_the_words_of_length_three_are_what_is_confounded(levels: list[int], denominator: int) -> None:
    try:
        chosen, fraction = fraction_of(levels, denominator)
    except DesignError:
        assume(False)
        raise
    told = {
        (f"f{i}", tuple(f"f{j}" for j, other in enumerate(word) if other and j != i))
        for _, word in fraction.words
        if length(word) == 3
        for i, weight in enumerate(word)
        if weight
    }
    found = confoundings(of_levels(*levels), chosen)
    assert {(item.factor, item.told_by) for item in found} == told
    assert all(item.is_complete and item.strength == pytest.approx(1) for item in found)


@pytest.mark.parametrize(
    ("levels", "denominator", "hint"),
    [
        ([2, 2], 2, "it takes three factors whose numbers of levels a prime divides; use .*"),
        ([2, 3, 5, 7], 2, "it takes three factors .*"),
        ([2, 2, 2], 4, "possible are 1/2"),
        ([3, 3, 3, 3], 2, "possible are 1/3, 1/9"),
        ([2, 2, 2, 3, 3, 3], 5, "possible are 1/2, 1/3, 1/6"),
        ([2] * 8, 32, "possible are 1/2, 1/4, 1/8, 1/16"),
    ],
)
def test_no_fraction_that_would_confound_two_factors(levels: list[int], denominator: int, hint: str) -> None:
    with pytest.raises(DesignError, match=f"no regular fraction 1/{denominator} .*{hint}$"):
        fraction_of(levels, denominator)


def test_a_factor_whose_levels_the_prime_does_not_divide_stays_fully_crossed() -> None:
    fraction = regular_fraction([2, 3, 2, 2], 2)
    assert fraction.words == ((2, (1, 0, 1, 1)),)
    every = np.array([*itertools.product(range(2), range(3), range(2), range(2))])
    assert int(fraction.keeps(every).sum()) == 12
