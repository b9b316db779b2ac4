"""Orders: Latin squares that are ones, blocks that stay together, draws that stay the same."""

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import factors, make

from stylebatch.design.orders import (
    MOST_TRIALS,
    Participants,
    Run,
    make_orders,
    square_rows,
    williams_row,
)
from stylebatch.design.stimulus import Stimulus
from stylebatch.errors import DesignError

counts = st.integers(1, 24)


def stimuli(count: int, replicates: int = 1, blocks: int = 1) -> list[Stimulus]:
    return [
        Stimulus(f"c{i}", replicate, {"style": f"s{i % blocks}"}, None, (), {})
        for i in range(count)
        for replicate in range(1, replicates + 1)
    ]


def orders(
    people: int, order: str, items: list[Stimulus], seed: int = 1, blocks: str | None = None
) -> list[Run]:
    return make_orders(Participants(people, order, blocks), items, seed)


def by_participant(runs: list[Run]) -> dict[int, list[str]]:
    seen: dict[int, list[str]] = {}
    for run in runs:
        seen.setdefault(run.participant, []).extend(run.pair_ids)
    return seen


class TestWilliamsSquare:
    @given(counts)
    @settings(deadline=None, derandomize=True)
    def test_every_condition_once_in_each_row_and_equally_often_at_each_place(self, count: int) -> None:
        rows = [williams_row(count, row) for row in range(square_rows(count))]
        assert all(sorted(row) == [*range(count)] for row in rows)
        places = Counter((condition, place) for row in rows for place, condition in enumerate(row))
        assert set(places.values()) == {len(rows) // count}
        assert len(places) == count * count

    @given(counts)
    @settings(deadline=None, derandomize=True)
    def test_every_condition_equally_often_after_each_other(self, count: int) -> None:
        rows = [williams_row(count, row) for row in range(square_rows(count))]
        after = Counter(pair for row in rows for pair in itertools.pairwise(row))
        assert len(after) == count * (count - 1)
        assert set(after.values()) <= {len(rows) // count}

    def test_odd_numbers_take_two_squares_each_of_which_is_latin(self) -> None:
        assert [square_rows(count) for count in (1, 2, 3, 4, 5)] == [1, 2, 6, 4, 10]
        for half in (range(5), range(5, 10)):
            columns = zip(*(williams_row(5, row) for row in half), strict=True)
            assert all(sorted(column) == [*range(5)] for column in columns)


class TestLatinSquare:
    @given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 5))
    @settings(deadline=None, derandomize=True, max_examples=40)
    def test_complete_turns_balance_each_replicate(self, count: int, turns: int, seed: int) -> None:
        runs = orders(turns * square_rows(count), "latin-square", stimuli(count, replicates=2), seed)
        for number in (1, 2):
            rows = [run.pair_ids for run in runs if run.number == number]
            places = Counter((item, place) for row in rows for place, item in enumerate(row))
            after = Counter(pair for row in rows for pair in itertools.pairwise(row))
            assert (len(places), len(set(places.values()))) == (count * count, 1)
            assert len(after) == count * (count - 1)
            assert len(set(after.values())) <= 1

    def test_the_first_square_of_two_is_given_away_first(self) -> None:
        rows = [run.pair_ids for run in orders(5, "latin-square", stimuli(5))]
        places = Counter((item, place) for row in rows for place, item in enumerate(row))
        assert set(places.values()) == {1}

    def test_replicates_come_one_after_another(self) -> None:
        for run in orders(4, "latin-square", stimuli(4, replicates=3)):
            assert {pair_id.rpartition("_r")[2] for pair_id in run.pair_ids} == {str(run.number)}

    def test_blocks_of_it(self) -> None:
        runs = orders(4, "latin-square", stimuli(8, replicates=2, blocks=2), blocks="style")
        first = [run for run in runs if run.participant == 1]
        assert [run.number for run in first] == [1, 2, 1, 2]
        assert first[0].block == first[1].block != first[2].block == first[3].block
        starts = Counter(run.block for run in runs[::4])
        assert starts == {"s0": 2, "s1": 2}
        places = Counter((item, place) for run in runs for place, item in enumerate(run.pair_ids))
        assert set(places.values()) == {1}


class TestBlocked:
    def test_blocks_stay_together_and_their_order_is_a_latin_square(self) -> None:
        runs = orders(8, "blocked", stimuli(12, blocks=4), blocks="style")
        blocks = [[run.block for run in runs if run.participant == who] for who in range(1, 9)]
        assert all(sorted(row) == ["s0", "s1", "s2", "s3"] for row in blocks)
        places = Counter((block, place) for row in blocks for place, block in enumerate(row))
        after = Counter(pair for row in blocks for pair in itertools.pairwise(row))
        assert set(places.values()) == set(after.values()) == {2}
        within = {run.pair_ids for run in runs if run.block == "s0"}
        assert len(within) > 1

    def test_foils_of_no_level_are_a_block(self) -> None:
        found = make(
            foils=[{"kind": "noise"}, {"kind": "noise", "of": "style"}],
            participants={"count": 1, "order": "blocked", "blocks": "content"},
        )
        blocks = {run.block: run.pair_ids for run in found.runs}
        assert set(blocks) == {"cat", "boat", "(foils)"}
        assert set(blocks["(foils)"]) == {"foil_noise_style_wave_r1", "foil_noise_style_scream_r1"}
        assert "foil_noise_content_cat_r1" in blocks["cat"]


class TestSeeded:
    def test_everyone_has_an_order_of_their_own(self) -> None:
        seen = by_participant(orders(6, "seeded", stimuli(10)))
        assert len({tuple(order) for order in seen.values()}) == 6
        firsts = Counter(order[0] for order in by_participant(orders(500, "seeded", stimuli(5))).values())
        assert all(60 < number < 140 for number in firsts.values())

    def test_a_stimulus_more_leaves_the_order_of_the_others(self) -> None:
        before, after = (by_participant(orders(3, "seeded", stimuli(count))) for count in (9, 10))
        for who, order in before.items():
            assert [item for item in after[who] if item != "c9_r1"] == order


@pytest.mark.parametrize("order", ["latin-square", "seeded", "blocked"])
@given(people=st.integers(1, 7), count=st.integers(1, 9), replicates=st.integers(1, 3))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_everyone_sees_everything_once(order: str, people: int, count: int, replicates: int) -> None:
    items = stimuli(count, replicates, blocks=2)
    runs = orders(people, order, items, blocks="style" if order == "blocked" else None)
    seen = by_participant(runs)
    assert [*seen] == [*range(1, people + 1)]
    for order_of_one in seen.values():
        assert sorted(order_of_one) == sorted(item.pair_id for item in items)


@pytest.mark.parametrize("order", ["latin-square", "seeded", "blocked"])
def test_more_participants_leave_the_others_orders(order: str) -> None:
    blocks = "style" if order == "blocked" else None
    few, many = (orders(people, order, stimuli(6, 2, 3), blocks=blocks) for people in (4, 9))
    assert many[: len(few)] == few
    assert orders(4, order, stimuli(6, 2, 3), seed=2, blocks=blocks) != few


def test_too_many_trials_are_refused() -> None:
    participants: dict[str, Any] = {"count": 10_000, "order": "seeded"}
    with pytest.raises(DesignError, match=f"10,000 of them with 800 stimuli each .* at most {MOST_TRIALS:,}"):
        make(participants=participants, replicates=200)


def test_the_table_counts_positions_over_all_runs() -> None:
    found = make(
        factors=factors(size=[16, 32]),
        replicates=2,
        participants={"count": 2, "order": "latin-square", "blocks": "style"},
    )
    header, *lines = found.orders.splitlines()
    assert header == "participant\tposition\tblock\tpair_id"
    rows = [line.split("\t") for line in lines]
    assert [(who, place) for who, place, *_ in rows] == [
        (str(who), str(place)) for who in (1, 2) for place in range(1, 17)
    ]
    assert {block for _, _, block, _ in rows} == {"wave", "scream"}
    assert all(f"_{block}_" in pair_id for _, _, block, pair_id in rows)
