"""The policy: what runs next, what is tried again, what is given up. No Ray, no clock."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from stylebatch.cluster.schedule import (
    BATCHES_PER_WORKER,
    MOST_DEATHS,
    MOST_LOSSES,
    MOST_PASSED_OVER,
    MOST_RETRIES,
    STYLES_HELD,
    Backlog,
    Candidate,
    after_loss,
    is_poison,
    isolated,
    known_by_both,
    may_lose,
    retried,
    should_retry,
)
from stylebatch.work import Outcome

Maker = Callable[..., Candidate]


def backlog_of(*candidates: Candidate) -> Backlog:
    backlog = Backlog()
    for candidate in candidates:
        backlog.add(candidate)
    return backlog


def rows(batch: list[Candidate]) -> list[int]:
    return [candidate.task.pair.row for candidate in batch]


def take(backlog: Backlog, worker: str = "w", workers: int = 1, is_idle: bool = True) -> list[int]:
    return rows(backlog.take(worker, workers, is_idle))


class TestOrder:
    def test_the_oldest_goes_first(self, make_candidate: Maker) -> None:
        backlog = backlog_of(*(make_candidate(i, f"style {i}") for i in (5, 3, 4)))
        assert [take(backlog) for _ in range(4)] == [[5], [3], [4], []]
        assert len(backlog) == 0

    def test_a_worker_gets_the_styles_it_holds(self, make_candidate: Maker) -> None:
        backlog = backlog_of(*(make_candidate(i, "ab"[i % 2]) for i in range(6)))
        assert take(backlog, "first") == [0]
        assert take(backlog, "second") == [1]
        assert take(backlog, "second") == [3]
        assert take(backlog, "first") == [2]
        assert take(backlog, "second") == [5]
        assert take(backlog, "second") == [4]  # nothing of its own is left

    def test_one_style_in_common_is_enough(self, make_candidate: Maker) -> None:
        backlog = backlog_of(make_candidate(0, "a"), make_candidate(1, "b"), make_candidate(2, "c", "a"))
        assert [take(backlog) for _ in range(3)] == [[0], [2], [1]]

    def test_a_worker_is_taken_to_hold_the_styles_of_late(self, make_candidate: Maker) -> None:
        others = [make_candidate(i, f"style {i}") for i in range(STYLES_HELD + 1)]
        backlog = backlog_of(*others)
        for number in range(STYLES_HELD + 1):
            assert take(backlog) == [number]
        backlog.add(make_candidate(90, "new"))
        backlog.add(make_candidate(91, "style 0"))  # the one forgotten
        backlog.add(make_candidate(92, "style 1"))
        assert take(backlog) == [92]
        assert take(backlog) == [90]

    def test_using_a_style_keeps_it_held(self, make_candidate: Maker) -> None:
        backlog = Backlog()
        for number in range(2 * STYLES_HELD):
            backlog.add(make_candidate(number, "favourite", f"other {number}"))
            take(backlog)
        backlog.add(make_candidate(90, "new"))
        backlog.add(make_candidate(91, "favourite"))
        assert take(backlog) == [91]

    def test_a_worker_that_is_gone_holds_nothing(self, make_candidate: Maker) -> None:
        backlog = backlog_of(make_candidate(0, "a"))
        take(backlog)
        backlog.forget("w")
        backlog.forget("never seen")
        backlog.add(make_candidate(1, "b"))
        backlog.add(make_candidate(2, "a"))
        assert take(backlog) == [1]


class TestPassingOver:
    @staticmethod
    def waits(backlog: Backlog, number: int, refill: Iterator[Candidate], is_idle: bool = True) -> int:
        """How many batches go before the pair, while younger pairs keep coming.

        A busy worker that gets nothing runs out of work, and asks again.
        """
        for waited in range(10 * MOST_PASSED_OVER):
            batch = take(backlog, workers=2, is_idle=is_idle) or take(backlog, workers=2)
            if number in batch:
                return waited
            backlog.add(next(refill))
        return 10 * MOST_PASSED_OVER

    def test_a_pair_is_passed_over_only_so_often(self, make_candidate: Maker) -> None:
        refill = (make_candidate(i, "popular") for i in range(100, 10_000))
        backlog = backlog_of(next(refill), make_candidate(0, "rare"), next(refill))
        take(backlog)
        assert self.waits(backlog, 0, refill) == MOST_PASSED_OVER

    def test_so_is_the_next_pair_after_it(self, make_candidate: Maker) -> None:
        refill = (make_candidate(i, "popular") for i in range(100, 10_000))
        rare = [make_candidate(i, f"rare {i}") for i in range(3)]
        backlog = backlog_of(next(refill), *rare, next(refill))
        take(backlog)
        for number in range(3):
            assert self.waits(backlog, number, refill) <= MOST_PASSED_OVER

    def test_a_suspect_at_the_front_does_not_hold_up_those_behind_it(self, make_candidate: Maker) -> None:
        refill = (make_candidate(i, "popular") for i in range(100, 10_000))
        suspect = make_candidate(0, "cursed", is_suspect=True)
        backlog = backlog_of(next(refill), suspect, make_candidate(1, "rare"), next(refill))
        take(backlog, is_idle=False)
        assert self.waits(backlog, 1, refill, is_idle=False) <= MOST_PASSED_OVER + 1  # and the suspect

    def test_nobody_is_passed_over_where_the_oldest_goes(self, make_candidate: Maker) -> None:
        backlog = backlog_of(*(make_candidate(i, "same") for i in range(2 * MOST_PASSED_OVER)))
        taken = [backlog.take("w", 1, True)[0] for _ in range(2 * MOST_PASSED_OVER)]
        assert {candidate.passed_over for candidate in taken} == {0}


class TestBatches:
    def test_pairs_of_a_group_share_a_batch(self, make_candidate: Maker) -> None:
        backlog = backlog_of(*(make_candidate(i, group="ab"[i % 2], largest_batch=4) for i in range(12)))
        assert take(backlog) == [0, 2, 4, 6]
        assert take(backlog) == [1, 3, 5, 7]
        assert take(backlog) == [8, 10]
        assert take(backlog) == [9, 11]

    def test_the_anchor_says_how_many(self, make_candidate: Maker) -> None:
        backlog = backlog_of(*(make_candidate(i, largest_batch=1) for i in range(3)))
        assert [take(backlog) for _ in range(3)] == [[0], [1], [2]]

    def test_the_anchor_comes_first_then_the_oldest_of_its_group(self, make_candidate: Maker) -> None:
        backlog = backlog_of(make_candidate(0, "a", largest_batch=1))
        take(backlog)
        for number, style in ((1, "b"), (2, "b"), (3, "a")):
            backlog.add(make_candidate(number, style, largest_batch=2))
        assert take(backlog) == [3, 1]

    def test_what_waits_is_shared_out_evenly(self, make_candidate: Maker) -> None:
        backlog = backlog_of(*(make_candidate(i, largest_batch=16) for i in range(10)))
        batches = [take(backlog, f"worker {i}", workers=4) for i in range(4)]
        assert [len(batch) for batch in batches] == [3, 2, 2, 1]
        assert batches[0] == [0, 1, 2]

    @pytest.mark.parametrize("workers", [1, 2, 3, 7])
    @pytest.mark.parametrize("waiting", [1, 2, 6, 7, 20])
    def test_no_worker_starves_near_the_end(self, make_candidate: Maker, workers: int, waiting: int) -> None:
        backlog = backlog_of(*(make_candidate(i, largest_batch=16) for i in range(waiting)))
        served = sum(bool(take(backlog, f"worker {i}", workers)) for i in range(workers))
        assert served == min(workers, waiting)

    def test_a_large_backlog_fills_whole_batches(self, make_candidate: Maker) -> None:
        backlog = backlog_of(*(make_candidate(i, largest_batch=16) for i in range(64)))
        assert len(take(backlog, workers=4)) == 16

    def test_equal_candidates_are_still_two(self, make_candidate: Maker) -> None:
        backlog = backlog_of(make_candidate(0, largest_batch=1), make_candidate(0, largest_batch=1))
        assert (take(backlog), len(backlog)) == ([0], 1)


class TestSuspects:
    def test_a_suspect_runs_alone(self, make_candidate: Maker) -> None:
        suspect = make_candidate(0, largest_batch=8, is_suspect=True)
        backlog = backlog_of(suspect, *(make_candidate(i, largest_batch=8) for i in (1, 2)))
        assert take(backlog) == [0]
        assert take(backlog) == [1, 2]

    def test_nobody_takes_a_suspect_along(self, make_candidate: Maker) -> None:
        suspect = make_candidate(1, largest_batch=8, is_suspect=True)
        backlog = backlog_of(make_candidate(0, largest_batch=8), suspect, make_candidate(2, largest_batch=8))
        assert take(backlog) == [0, 2]
        assert take(backlog) == [1]

    def test_a_busy_worker_gets_no_suspect(self, make_candidate: Maker) -> None:
        backlog = backlog_of(make_candidate(0, is_suspect=True), make_candidate(1))
        assert take(backlog, is_idle=False) == [1]
        assert take(backlog, is_idle=False) == []
        assert take(backlog, is_idle=True) == [0]

    def test_a_suspect_is_not_preferred_for_its_style(self, make_candidate: Maker) -> None:
        backlog = backlog_of(make_candidate(0, "a"))
        take(backlog)
        backlog.add(make_candidate(1, "b"))
        backlog.add(make_candidate(2, "a", is_suspect=True))
        assert [take(backlog), take(backlog)] == [[1], [2]]


class TestAfterLoss:
    def test_a_pair_that_was_alone_is_charged(self, make_candidate: Maker) -> None:
        (lost,) = after_loss([make_candidate(0, deaths=1, losses=1)], has_died=True)
        assert (lost.deaths, lost.losses) == (2, 2)
        assert (lost.is_suspect, lost.task.attempt, lost.passed_over) == (True, 2, 0)

    def test_pairs_that_were_together_are_suspects_without_a_charge(self, make_candidate: Maker) -> None:
        lost = list(after_loss([make_candidate(0), make_candidate(1, passed_over=9)], has_died=True))
        assert [(one.deaths, one.losses, one.is_suspect) for one in lost] == [(0, 1, True)] * 2
        assert lost[1].passed_over == 0

    def test_nobody_is_to_blame_where_the_machine_is_gone(self, make_candidate: Maker) -> None:
        (lost,) = after_loss([make_candidate(0)], has_died=False)
        assert (lost.deaths, lost.losses, lost.is_suspect, lost.task.attempt) == (0, 1, False, 2)

    @pytest.mark.parametrize("has_died", [True, False])
    def test_another_attempt_looks_for_a_checkpoint(self, make_candidate: Maker, has_died: bool) -> None:
        (lost,) = after_loss([make_candidate(0)], has_died)
        assert lost.task.has_checkpoint

    def test_an_idle_worker_takes_nobody_along(self) -> None:
        assert list(after_loss([], has_died=True)) == []

    def test_a_pair_is_given_up_after_three_deaths_alone(self, make_candidate: Maker) -> None:
        assert MOST_DEATHS == 3
        candidate, verdicts = make_candidate(0), []
        (candidate, _) = after_loss([candidate, make_candidate(1)], has_died=True)
        verdicts.append(is_poison(candidate))
        for _ in range(3):
            (candidate,) = after_loss([candidate], has_died=True)
            verdicts.append(is_poison(candidate))
        assert verdicts == [False, False, False, True]

    def test_losses_are_bounded_whatever_the_reason(self, make_candidate: Maker) -> None:
        """A pair that takes whole machines down must not loop forever."""
        candidate, losses = make_candidate(0), 0
        while not is_poison(candidate):
            (candidate,) = after_loss([candidate], has_died=False)
            losses += 1
        assert losses == MOST_LOSSES == 10

    def test_a_poisonous_pair_ends_and_its_neighbours_do_not(self, make_candidate: Maker) -> None:
        """A whole run in which one pair kills whoever works on it."""
        backlog = backlog_of(*(make_candidate(i, largest_batch=4) for i in range(8)))
        done, given_up, deaths = [], [], 0
        while len(backlog):
            batch = backlog.take("w", 1, is_idle=True)
            if 5 not in rows(batch):
                done += rows(batch)
                continue
            deaths += 1
            for candidate in after_loss(batch, has_died=True):
                if is_poison(candidate):
                    given_up += rows([candidate])
                else:
                    backlog.add(candidate)
        assert (sorted(done), given_up, deaths) == ([0, 1, 2, 3, 4, 6, 7], [5], 4)


class TestWhatIsKnownOfAPair:
    @pytest.mark.parametrize(
        ("deaths", "losses", "may"),
        [(0, 0, True), (1, 1, True), (2, 2, False), (0, 8, True), (0, 9, False)],
    )
    def test_it_has_no_more_workers_than_it_may_still_lose(
        self, make_candidate: Maker, deaths: int, losses: int, may: bool
    ) -> None:
        assert may_lose(make_candidate(0, deaths=deaths, losses=losses), 2) is may

    @pytest.mark.parametrize("change", [{"is_suspect": True}, {"retries": 1}, {"losses": 1}])
    def test_what_begins_anew(self, make_candidate: Maker, change: dict[str, int]) -> None:
        assert make_candidate(0, **change).is_repeated
        assert not make_candidate(0, attempt=2).is_repeated  # an earlier run of the job tried it

    def test_the_more_that_either_knows_is_the_truth(self, make_candidate: Maker) -> None:
        one = make_candidate(0, deaths=1, losses=1, retries=2, attempt=5, passed_over=3)
        other = make_candidate(0, deaths=2, losses=2, is_suspect=True, attempt=3)
        for known in (known_by_both(one, other), known_by_both(other, one)):
            assert (known.deaths, known.losses, known.retries) == (2, 2, 2)
            assert (known.is_suspect, known.task.attempt) == (True, 5)
        assert known_by_both(one, one) == one


class TestRetries:
    @pytest.mark.parametrize(
        ("can_retry", "retries", "expected"),
        [(True, 0, True), (True, MOST_RETRIES - 1, True), (True, MOST_RETRIES, False), (False, 0, False)],
    )
    def test_retries_are_bounded(
        self, make_candidate: Maker, can_retry: bool, retries: int, expected: bool
    ) -> None:
        candidate = make_candidate(0, retries=retries)
        assert should_retry(candidate, Outcome(candidate.task, {}, can_retry=can_retry)) is expected

    def test_a_pair_is_tried_three_times(self, make_candidate: Maker) -> None:
        candidate, tries = make_candidate(0), 1
        while should_retry(candidate, Outcome(candidate.task, {}, can_retry=True)):
            candidate, tries = retried(candidate), tries + 1
        assert (tries, candidate.task.attempt) == (3, 3)

    def test_lost_workers_use_up_no_retry(self, make_candidate: Maker) -> None:
        candidate = make_candidate(0)
        for _ in range(5):
            (candidate,) = after_loss([candidate], has_died=False)
        assert candidate.task.attempt == 6
        assert should_retry(candidate, Outcome(candidate.task, {}, can_retry=True))

    def test_a_retried_pair_waits_like_a_new_one(self, make_candidate: Maker) -> None:
        again = retried(make_candidate(0, passed_over=7, is_suspect=True, deaths=2))
        assert (again.passed_over, again.is_suspect, again.retries) == (0, True, 1)
        assert (again.deaths, again.task.attempt) == (2, 2)

    def test_an_isolated_pair_has_a_worker_to_itself(self, make_candidate: Maker) -> None:
        again = isolated(make_candidate(0))
        assert (again.is_suspect, again.deaths, again.losses, again.task.attempt) == (True, 0, 0, 2)


@dataclass
class Simulation:
    """Workers that take batches as the driver gives them, from a stream through a bounded backlog."""

    stream: Iterator[Candidate]
    chance: random.Random
    workers: int = 3
    depth: int = 24
    takes: int = 0
    backlog: Backlog = field(default_factory=Backlog)
    batches: dict[str, list[list[Candidate]]] = field(default_factory=dict)
    entered: dict[int, int] = field(default_factory=dict)
    """The number of takes when each row began to wait."""
    waits: dict[int, int] = field(default_factory=dict)
    """Takes from then until its batch was given out."""
    is_exhausted: bool = False

    def run(self) -> None:
        self.batches = {f"worker {i}": [] for i in range(self.workers)}
        while not self.is_exhausted or len(self.backlog) or any(self.batches.values()):
            self._refill()
            for held in range(BATCHES_PER_WORKER):
                for worker, batches in self.batches.items():
                    if len(batches) == held:
                        self._give(worker, batches)
            busy = [worker for worker, batches in self.batches.items() if batches]
            if busy:
                self.batches[self.chance.choice(busy)].pop(0)

    def _refill(self) -> None:
        while len(self.backlog) < self.depth and not self.is_exhausted:
            candidate = next(self.stream, None)
            if candidate is None:
                self.is_exhausted = True
                return
            self.backlog.add(candidate)
            self.entered[candidate.task.pair.row] = self.takes

    def _give(self, worker: str, batches: list[list[Candidate]]) -> None:
        if any(candidate.is_suspect for batch in batches for candidate in batch):
            return
        batch = self.backlog.take(worker, self.workers, is_idle=not batches)
        if not batch:
            return
        self.takes += 1
        batches.append(batch)
        if any(candidate.is_suspect for candidate in batch):
            assert len(batch) == len(batches) == 1
        assert len({candidate.group for candidate in batch}) == 1
        assert len(batch) <= batch[0].largest_batch
        for row in rows(batch):
            assert row not in self.waits, "dispatched twice"
            self.waits[row] = self.takes - self.entered[row]


def longest_wait(depth: int) -> int:
    """All before it in the backlog, each passed over as often as is allowed, and some for dispatching."""
    return depth * (MOST_PASSED_OVER + 2)


class TestWholeRuns:
    @pytest.mark.parametrize("seed", range(8))
    def test_every_pair_goes_once_and_none_waits_forever(self, make_candidate: Maker, seed: int) -> None:
        chance = random.Random(seed)
        popular = ["popular"] * chance.randint(0, 20)
        stream = [
            make_candidate(
                i,
                chance.choice([*popular, *"abcdefghijklmnopqrstuvwxyz"]),
                group=chance.choice("xyz"),
                largest_batch=chance.choice([1, 2, 8]),
            )
            for i in range(600)
        ]
        simulation = Simulation(iter(stream), chance, workers=chance.randint(1, 5))
        simulation.run()
        assert sorted(simulation.waits) == list(range(600))
        assert max(simulation.waits.values()) <= longest_wait(simulation.depth)

    def test_a_suspect_does_not_wait_for_the_end_of_the_manifest(self, make_candidate: Maker) -> None:
        """Workers always have a batch waiting, so none is ever idle unless the policy sees to it."""
        depth, pairs = 24, 4000
        stream = [make_candidate(i, "popular", is_suspect=i == 10) for i in range(pairs)]
        simulation = Simulation(iter(stream), random.Random(0), depth=depth)
        simulation.run()
        assert sorted(simulation.waits) == list(range(pairs))
        assert simulation.waits[10] <= longest_wait(depth)
