"""How many workers there should be, as places are found and pairs end. No Ray, no clock."""

import random

import pytest

from stylebatch.cluster.scaling import (
    FEWEST_WAITING,
    MOST_GIVEN_UP,
    WorkerLimits,
    after_giving_up,
    wanted_places,
)
from stylebatch.cluster.stragglers import RUNS_OF_A_PAIR

AUTO = WorkerLimits(1, None)
EIGHT = WorkerLimits(8, 8)


@pytest.mark.parametrize(("least", "most"), [(0, 3), (-1, None), (3, 2), (0, 0)])
def test_limits_are_a_range(least: int, most: int | None) -> None:
    with pytest.raises(ValueError, match=rf"^{least}:{most} workers: write MIN:MAX"):
        WorkerLimits(least, most)


class TestGrowth:
    def test_a_fixed_number_is_there_from_the_start(self) -> None:
        assert wanted_places(EIGHT, placed=0, pairs_left=100) == 8
        assert wanted_places(EIGHT, placed=8, pairs_left=100) == 8

    def test_a_few_wait_for_machines_to_come(self) -> None:
        assert wanted_places(AUTO, placed=0, pairs_left=1000) == FEWEST_WAITING
        assert wanted_places(AUTO, placed=1, pairs_left=1000) == 1 + FEWEST_WAITING
        assert wanted_places(AUTO, placed=100, pairs_left=1000) == 150

    def test_no_more_than_the_user_wants(self) -> None:
        assert wanted_places(WorkerLimits(2, 5), placed=4, pairs_left=1000) == 5
        assert wanted_places(WorkerLimits(2, 5), placed=5, pairs_left=1000) == 5

    def test_no_more_than_there_are_pairs(self) -> None:
        assert wanted_places(EIGHT, placed=0, pairs_left=3) == 3
        assert wanted_places(AUTO, placed=10, pairs_left=12) == 12

    def test_a_thousand_machines_are_asked_for_in_a_few_rounds(self) -> None:
        """Each round is the time a machine takes to come."""
        placed, rounds = 0, 0
        while placed < 1000:
            placed, rounds = wanted_places(AUTO, placed, 10**6), rounds + 1
        assert rounds <= 18


class TestShrinking:
    def test_workers_that_cannot_even_repeat_a_straggler_are_let_go(self) -> None:
        for left in range(1, 50):
            assert wanted_places(AUTO, placed=40, pairs_left=left) == max(
                left if left > 40 else 0, min(40, RUNS_OF_A_PAIR * left)
            )

    def test_workers_that_wait_are_let_go_before_any_other(self) -> None:
        assert wanted_places(AUTO, placed=10, pairs_left=10) == 10

    def test_the_least_is_for_as_long_as_there_are_pairs(self) -> None:
        assert wanted_places(EIGHT, placed=8, pairs_left=1) == RUNS_OF_A_PAIR

    @pytest.mark.parametrize("limits", [AUTO, EIGHT, WorkerLimits(1, 1), WorkerLimits(3, 9)])
    def test_somebody_works_while_work_is_left(self, limits: WorkerLimits) -> None:
        for placed in range(12):
            for left in range(1, 40):
                assert 1 <= wanted_places(limits, placed, left) <= (limits.most or 1000)
            assert wanted_places(limits, placed, 0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_worker_that_is_busy_is_never_one_too_many(seed: int) -> None:
    """A run of both: as many workers as pairs run, others idle or waiting."""
    chance = random.Random(seed)
    for _ in range(200):
        placed, left = chance.randint(0, 60), chance.randint(1, 100)
        busy = min(placed, left)
        assert wanted_places(AUTO, placed, left) >= busy


class TestGivingUp:
    def test_a_fixed_fleet_has_one_worker_less(self) -> None:
        assert after_giving_up(EIGHT, 7, 1, has_been_ready=True) == WorkerLimits(7, 7)

    def test_a_growing_one_goes_on_past_a_broken_machine(self) -> None:
        assert after_giving_up(WorkerLimits(2, 9), 4, 1, has_been_ready=True) == WorkerLimits(2, 9)
        assert after_giving_up(WorkerLimits(2, None), 1, 1, has_been_ready=True) == WorkerLimits(1, None)

    def test_not_for_ever(self) -> None:
        assert after_giving_up(AUTO, 4, MOST_GIVEN_UP, has_been_ready=True) == WorkerLimits(1, 4)

    def test_not_if_none_has_ever_started(self) -> None:
        assert after_giving_up(AUTO, 2, 1, has_been_ready=False) == WorkerLimits(1, 2)
        assert after_giving_up(WorkerLimits(1, 2), 1, 2, has_been_ready=False) == WorkerLimits(1, 1)
