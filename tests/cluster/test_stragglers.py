"""Which batches run a second time, and which of two runs of a pair decides."""

import itertools

import pytest

from stylebatch.cluster.stragglers import (
    FEWEST_SAMPLES,
    LEAST_SECONDS,
    SAMPLES,
    Durations,
    HeldBatch,
    SecondRuns,
    worth_a_second_run,
)

MEDIAN = 10.0


def held(key: str, seconds: float, is_waiting: bool = False, is_leaving: bool = False) -> HeldBatch:
    return HeldBatch(key, seconds, is_waiting, is_leaving)


class TestDurations:
    def test_a_few_make_a_median(self) -> None:
        durations = Durations()
        for seconds in (1.0, 100.0, 3.0)[: FEWEST_SAMPLES - 1]:
            durations.add(seconds)
            assert durations.median is None
        durations.add(3.0)
        assert durations.median == 3.0

    def test_the_last_ones_count(self) -> None:
        durations = Durations()
        for _ in range(2 * SAMPLES):
            durations.add(1.0)
        for _ in range(SAMPLES // 2 + 1):
            durations.add(2.0)
        assert durations.median == 2.0


class TestWhatIsWorthIt:
    @pytest.mark.parametrize(("seconds", "is_worth"), [(0, False), (10, False), (14.9, False), (15, True)])
    def test_what_takes_far_longer_than_others(self, seconds: float, is_worth: bool) -> None:
        assert bool(worth_a_second_run([held("a", seconds)], MEDIAN)) is is_worth

    @pytest.mark.parametrize(
        ("seconds", "is_worth"), [(0, True), (5, True), (5.1, False), (14.9, False), (15, True)]
    )
    def test_what_waits_behind_something_long(self, seconds: float, is_worth: bool) -> None:
        assert bool(worth_a_second_run([held("a", seconds, is_waiting=True)], MEDIAN)) is is_worth

    def test_nothing_while_nobody_knows_how_long_batches_take(self) -> None:
        assert worth_a_second_run([held("a", 1e6), held("b", 1e6, is_waiting=True)], None) == []

    def test_but_what_is_on_a_machine_that_leaves(self) -> None:
        batches = [held("a", 0), held("b", 0, is_leaving=True), held("c", 0, True, True)]
        assert worth_a_second_run(batches, None) == ["c", "b"]

    def test_little_is_not_worth_it(self) -> None:
        assert worth_a_second_run([held("a", LEAST_SECONDS - 0.01)], 0.1) == []
        assert worth_a_second_run([held("a", LEAST_SECONDS)], 0.1) == ["a"]
        assert worth_a_second_run([held("a", 0.0, is_waiting=True)], 0.1) == []

    def test_the_most_urgent_come_first(self) -> None:
        batches = [
            held("slow", 20),
            held("slower", 30),
            held("new", 1),
            held("behind the slower", 30, is_waiting=True),
            held("leaving", 2, is_leaving=True),
        ]
        assert worth_a_second_run(batches, MEDIAN) == ["leaving", "behind the slower", "slower", "slow"]


class TestWhichRunDecides:
    @pytest.fixture
    def runs(self) -> SecondRuns:
        runs = SecondRuns()
        runs.begin(7)
        return runs

    def test_a_pair_that_runs_once_is_decided_by_its_run(self, runs: SecondRuns) -> None:
        assert runs.decides(3, has_picture=False)
        assert runs.decides(3, has_picture=True)
        assert not runs.was_begun(3)
        assert not runs.is_won(3)

    def test_the_first_picture_decides(self, runs: SecondRuns) -> None:
        assert runs.was_begun(7)
        assert not runs.is_won(7)
        assert runs.decides(7, has_picture=True)
        assert runs.is_won(7)
        assert not runs.decides(7, has_picture=True)

    @pytest.mark.parametrize("second", [False, True])
    def test_what_comes_after_the_picture_counts_for_nothing(self, runs: SecondRuns, second: bool) -> None:
        assert runs.decides(7, has_picture=True)
        assert not runs.decides(7, has_picture=second)

    def test_a_failure_waits_for_the_other_run(self, runs: SecondRuns) -> None:
        assert not runs.decides(7, has_picture=False)
        assert runs.decides(7, has_picture=True)

    def test_two_failures_are_one(self, runs: SecondRuns) -> None:
        assert [runs.decides(7, has_picture=False) for _ in range(2)] == [False, True]

    def test_after_that_it_is_a_pair_like_others_that_has_had_its_second_run(self, runs: SecondRuns) -> None:
        for _ in range(2):
            runs.decides(7, has_picture=False)
        for _ in range(3):  # more attempts, one at a time
            assert runs.decides(7, has_picture=False)
        assert runs.was_begun(7)

    @pytest.mark.parametrize("ends", [*itertools.product([False, True], repeat=2)])
    def test_exactly_one_of_two_decides(self, runs: SecondRuns, ends: tuple[bool, bool]) -> None:
        assert sum(runs.decides(7, has_picture) for has_picture in ends) == 1
