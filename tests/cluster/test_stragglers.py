"""Which batches run a second time, and which of two runs of a pair decides."""

import itertools
from collections.abc import Callable

import pytest

from stylebatch.cluster.schedule import Candidate
from stylebatch.cluster.stragglers import (
    FEWEST_SAMPLES,
    LEAST_SECONDS,
    SAMPLES,
    Durations,
    HeldBatch,
    SecondRuns,
    may_end_last,
    spared_runs,
    worth_a_second_run,
)

Maker = Callable[..., Candidate]
MEDIAN = 10.0


def held(
    key: str,
    seconds: float,
    is_waiting: bool = False,
    is_leaving: bool = False,
    is_repeated: bool = False,
) -> HeldBatch:
    return HeldBatch(key, seconds, is_waiting, is_leaving, is_repeated)


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


class TestWhatMayEndLast:
    @pytest.mark.parametrize(("seconds", "may"), [(0, False), (4.9, False), (5, True), (14.9, True)])
    def test_what_has_been_under_way_for_a_while(self, seconds: float, may: bool) -> None:
        assert bool(may_end_last([held("a", seconds)], MEDIAN)) is may

    @pytest.mark.parametrize("seconds", [0, 5, 5.1, 14.9, 15, 100])
    @pytest.mark.parametrize("is_waiting", [False, True])
    def test_nothing_that_is_late_already(self, seconds: float, is_waiting: bool) -> None:
        batches = [held("a", seconds, is_waiting), held("b", seconds, is_waiting, is_leaving=True)]
        both = [*worth_a_second_run(batches, MEDIAN), *may_end_last(batches, MEDIAN)]
        assert len(both) == len(set(both))

    def test_those_that_are_likely_to_come_first(self) -> None:
        batches = [
            held("old", 14),
            held("young", 6),
            held("behind something", 7, is_waiting=True),
            held("begun anew", 0, is_repeated=True),
            held("just begun", 1),
        ]
        assert may_end_last(batches, MEDIAN) == ["begun anew", "behind something", "young", "old"]

    def test_nothing_while_nobody_knows_how_long_batches_take(self) -> None:
        assert may_end_last([held("a", 1e6), held("b", 0, is_repeated=True)], None) == []

    def test_nothing_that_takes_hardly_any_time(self) -> None:
        batches = [held("a", LEAST_SECONDS / 2), held("b", 0, is_repeated=True)]
        assert may_end_last(batches, LEAST_SECONDS - 0.01) == []
        assert may_end_last(batches, LEAST_SECONDS) == ["b", "a"]

    @pytest.mark.parametrize(
        ("ended", "begun", "spared"), [(0, 0, 0), (99, 0, 0), (100, 0, 1), (60_000, 0, 600), (60_000, 601, 0)]
    )
    def test_few_for_the_work_that_was_done(self, ended: int, begun: int, spared: int) -> None:
        assert spared_runs(ended, begun) == spared


@pytest.fixture
def runs() -> SecondRuns:
    """Row 7 runs twice."""
    runs = SecondRuns()
    runs.begin(7)
    return runs


class TestWhichRunDecides:
    def test_a_pair_that_runs_once_is_decided_by_its_run(self, runs: SecondRuns) -> None:
        assert runs.decides(3, has_picture=False)
        assert runs.decides(3, has_picture=True)
        assert not runs.is_won(3)

    def test_the_first_picture_decides(self, runs: SecondRuns) -> None:
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

    def test_after_that_it_is_a_pair_like_others(self, runs: SecondRuns, make_candidate: Maker) -> None:
        for _ in range(2):
            runs.decides(7, has_picture=False)
        for _ in range(3):  # more attempts, one at a time
            assert runs.decides(7, has_picture=False)
        assert runs.may_begin([make_candidate(7)])

    @pytest.mark.parametrize("ends", [*itertools.product([False, True], repeat=2)])
    def test_exactly_one_of_two_decides(self, runs: SecondRuns, ends: tuple[bool, bool]) -> None:
        assert sum(runs.decides(7, has_picture) for has_picture in ends) == 1


class TestWhichMayBegin:
    def test_a_pair_that_runs_once(self, make_candidate: Maker) -> None:
        assert SecondRuns().may_begin([make_candidate(7), make_candidate(8)])

    def test_none_that_runs_twice(self, runs: SecondRuns, make_candidate: Maker) -> None:
        assert not runs.may_begin([make_candidate(7)])
        assert not runs.may_begin([make_candidate(8), make_candidate(7)])

    @pytest.mark.parametrize("has_picture", [False, True])
    def test_none_that_has_come_back(
        self, runs: SecondRuns, make_candidate: Maker, has_picture: bool
    ) -> None:
        """With its picture, or with an error that every further run would meet."""
        runs.decides(7, has_picture)
        assert not runs.may_begin([make_candidate(7)])

    def test_but_one_that_has_lost_a_worker(self, runs: SecondRuns, make_candidate: Maker) -> None:
        runs.needs_another(make_candidate(7, losses=1))
        assert runs.may_begin([make_candidate(7)])
        runs.begin(7)
        assert not runs.may_begin([make_candidate(7)])

    def test_none_that_could_then_kill_a_worker_too_many(self, make_candidate: Maker) -> None:
        assert [SecondRuns().may_begin([make_candidate(7, deaths=deaths)]) for deaths in range(3)] == [
            True,
            True,
            False,
        ]

    def test_what_the_other_run_has_cost_counts(self, runs: SecondRuns, make_candidate: Maker) -> None:
        runs.needs_another(make_candidate(7, deaths=2, is_suspect=True))
        assert not runs.may_begin([make_candidate(7)])

    def test_suspects_are_not_together(self, make_candidate: Maker) -> None:
        suspect = make_candidate(7, is_suspect=True)
        assert SecondRuns().may_begin([suspect])
        assert not SecondRuns().may_begin([suspect, make_candidate(8)])


class TestLostRuns:
    """A pair that two workers have, who die."""

    def test_one_death_waits_for_the_other_run(self, runs: SecondRuns, make_candidate: Maker) -> None:
        assert not runs.needs_another(make_candidate(7, deaths=1))
        assert runs.decides(7, has_picture=True)

    def test_the_last_one_decides(self, runs: SecondRuns, make_candidate: Maker) -> None:
        lost = make_candidate(7, deaths=1)
        assert [runs.needs_another(lost) for _ in range(2)] == [False, True]

    def test_of_a_pair_that_runs_once_it_decides_at_once(self, make_candidate: Maker) -> None:
        assert SecondRuns().needs_another(make_candidate(7, deaths=1))

    def test_no_loss_counts_after_the_picture(self, runs: SecondRuns, make_candidate: Maker) -> None:
        runs.decides(7, has_picture=True)
        assert not runs.needs_another(make_candidate(7, deaths=1))

    def test_what_it_has_cost_is_known_of_the_other_run(
        self, runs: SecondRuns, make_candidate: Maker
    ) -> None:
        other = make_candidate(7, "/s.png", deaths=1, losses=3)
        assert runs.known(other) == other
        runs.needs_another(make_candidate(7, deaths=2, losses=2, is_suspect=True, attempt=3))
        known = runs.known(other)
        assert (known.deaths, known.losses, known.is_suspect, known.task.attempt) == (2, 3, True, 3)
        assert known.styles == other.styles
        assert runs.known(make_candidate(8)) == make_candidate(8)
