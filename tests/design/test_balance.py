"""What is balanced and what is confounded, against designs whose answers are known."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import factors, make

from stylebatch.design.balance import confoundings, cramers_v
from stylebatch.design.balance_lines import MOST_LISTED, balance_lines, contents_line
from stylebatch.design.factors import Factor, Level


def named(*counts: int) -> list[Factor]:
    return [
        Factor(name, tuple(Level(f"{name}{level}", {}) for level in range(count)))
        for name, count in zip("abcdefgh", counts, strict=False)
    ]


def lines(**changes: Any) -> list[str]:
    return [*balance_lines(make(**changes).balance)]


class TestCramersV:
    def test_known_tables(self) -> None:
        first = np.array([0] * 10 + [1] * 10)
        second = np.array([0] * 8 + [1] * 2 + [0] * 3 + [1] * 7)
        assert cramers_v(first, second) == pytest.approx(abs(8 * 7 - 2 * 3) / np.sqrt(10 * 10 * 11 * 9))
        assert cramers_v(first, first) == pytest.approx(1)
        assert cramers_v(first, np.array([0, 1] * 10)) == 0
        assert cramers_v(first, np.zeros(20, dtype=int)) == 0

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
    @settings(deadline=None, derandomize=True)
    def test_is_symmetric_and_within_its_range(self, pairs: list[tuple[int, int]]) -> None:
        first, second = np.array(pairs).T
        assert cramers_v(first, second) == pytest.approx(cramers_v(second, first))
        assert 0 <= cramers_v(first, second) <= 1 + 1e-9


class TestConfounding:
    @given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    @settings(deadline=None, derandomize=True)
    def test_a_full_crossing_has_none(self, counts: list[int]) -> None:
        every = [*itertools.product(*map(range, counts))]
        assert confoundings(named(*counts), every) == ()

    def test_of_two_factors_is_complete_if_one_gives_the_other(self) -> None:
        (found,) = confoundings(named(2, 4), [(0, 0), (0, 1), (1, 2), (1, 3)])
        assert (found.factor, found.told_by, found.is_complete) == ("a", ("b",), True)
        assert found.strength == pytest.approx(1)

    def test_of_two_factors_is_partly_with_a_cell_left_out(self) -> None:
        (found,) = confoundings(named(2, 2), [(0, 0), (0, 1), (1, 0)])
        assert (found.told_by, found.is_complete) == (("b",), False)
        assert found.strength == pytest.approx(0.5)

    def test_of_a_factor_with_a_product_is_found_where_the_pairs_are_independent(self) -> None:
        half = [cell for cell in itertools.product(range(2), repeat=3) if sum(cell) % 2 == 0]
        found = confoundings(named(2, 2, 2), half)
        assert {(item.factor, item.told_by) for item in found} == {
            ("a", ("b", "c")),
            ("b", ("a", "c")),
            ("c", ("a", "b")),
        }
        assert all(item.is_complete for item in found)

    def test_with_a_product_can_be_partial(self) -> None:
        """A four-level factor in a half tells the product of two others only its level modulo 2."""
        half = [cell for cell in itertools.product(range(4), range(2), range(2)) if sum(cell) % 2 == 0]
        found = {(item.factor, item.told_by): item for item in confoundings(named(4, 2, 2), half)}
        assert found["b", ("a", "c")].is_complete
        four = found["a", ("b", "c")]
        assert not four.is_complete
        assert 0 < four.strength < 1


class TestLines:
    def test_of_a_balanced_set(self) -> None:
        found = make(
            replicates=2,
            foils=[{"kind": "noise"}],
            participants={"count": 6, "order": "latin-square"},
        )
        assert contents_line(found.balance) == "10 rows: 8 of 4 cells, 2 of foils"
        assert [*balance_lines(found.balance)] == [
            "content: cat 4, boat 4",
            "style: wave 4, scream 4",
            "cells: 4 of 4, rows in each: 2",
            "foils: noise 2",
            "confounded: no factor, neither with another one nor with the product of two others",
            "orders: each stimulus 1 to 2 times at each place, 1 to 2 times directly after each other one",
            "orders: 6 participants are no multiple of the 12 that complete every Latin square, so places "
            "and neighbours are not fully balanced",
        ]

    def test_of_missing_cells(self) -> None:
        found = lines(crossing={"leave_out": [{"content": "cat", "style": "wave"}]})
        assert found[:4] == [
            "content: cat 1, boat 2",
            "style: wave 1, scream 2",
            "cells: 3 of 4, rows in each: 1",
            "missing: cat_wave",
        ]
        assert found[4] == "confounded partly: content with style (Cramér's V 0.50)"

    def test_of_a_fraction(self) -> None:
        found = lines(factors=factors(size=[32, 64]), crossing={"fraction": "1/2"})
        assert found[3:] == [
            "cells: 4 of 8, rows in each: 1",
            "fraction: of resolution 3; with levels counted from 0, content + style + size is a "
            "multiple of 2",
            "given up for it: content x style x size; any part of such a product is "
            "confounded with its other part",
            "confounded completely: content with style x size (Cramér's V 1.00)",
            "confounded completely: style with content x size (Cramér's V 1.00)",
            "confounded completely: size with content x style (Cramér's V 1.00)",
        ]

    def test_of_blocks(self) -> None:
        found = lines(participants={"count": 2, "order": "blocked", "blocks": "style"}, replicates=3)
        assert found[-2:] == [
            "orders: each block once at each place, once directly after each other one",
            "orders: each stimulus 0 to 1 times at each place",
        ]

    def test_long_lists_are_counted(self) -> None:
        sizes = [16 + i for i in range(20)]
        only = [{"content": "cat"}, {"size": 16}]
        found = lines(factors={"content": ["cat.png", "boat.png"], "size": sizes}, crossing={"only": only})
        missing = next(line for line in found if line.startswith("missing"))
        assert missing.endswith(f" and {19 - MOST_LISTED} more")

    def test_complete_orders_are_even(self) -> None:
        found = lines(participants={"count": 8, "order": "latin-square"})
        assert found[-1] == ("orders: each stimulus twice at each place, twice directly after each other one")
