"""What idle workers run a second time: the books of a real fleet, actors that only take notes."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from stylebatch.cluster.events import BatchDispatched, Event
from stylebatch.cluster.fleet import Fleet
from stylebatch.cluster.members import Member
from stylebatch.cluster.plans import FleetPlan
from stylebatch.cluster.scaling import WorkerLimits
from stylebatch.cluster.schedule import Candidate
from stylebatch.cluster.stragglers import SecondRuns
from stylebatch.cluster.tail import FORESIGHT, Tail
from stylebatch.cluster.worker import WorkerInfo

Maker = Callable[..., Candidate]
MEDIAN = 10.0


class Method:
    """Stands for a method of a Ray actor."""

    def __init__(self) -> None:
        self.calls = 0

    def remote(self, *arguments: object) -> object:
        self.calls += 1
        return object()


class Handle:
    """Stands for a Ray actor that takes batches."""

    def __init__(self) -> None:
        self.run, self.checkpoint_soon = Method(), Method()


class Hall:
    """A tail, and the workers that it looks after."""

    def __init__(self, ended: int, is_safe: bool = True) -> None:
        plan = FleetPlan(WorkerLimits(1, None), threads=1, gpus=0)
        self.fleet: Fleet[Candidate] = Fleet(plan, settings=None, stall_timeout=600)
        self.runs = SecondRuns()
        self.events: list[Event] = []
        self.tail = Tail(self.fleet, self.runs, is_safe, self.events.append)
        for _ in range(ended):
            self.tail.durations.add(MEDIAN)

    def add(self, *batches: list[Candidate], seconds: float = 0.0) -> Member[Candidate]:
        """A worker that has had the first of its batches for so long."""
        number = len(self.fleet.members)
        member: Member[Candidate] = Member(Handle(), None, info=WorkerInfo("host", number, "cpu", "here"))
        for batch in batches:
            member.give(batch, time.monotonic() - seconds)
        self.fleet.members.append(member)
        return member

    def repeat(self) -> None:
        self.tail.repeat(self.fleet.members)


def rows(member: Member[Any]) -> list[int]:
    return [candidate.task.pair.row for candidate in member.candidates]


@pytest.mark.parametrize(("seconds", "ended"), [(16, 3), (6, 200)])
def test_an_idle_worker_runs_what_is_late_or_may_end_last(
    make_candidate: Maker, seconds: float, ended: int
) -> None:
    hall = Hall(ended)
    owner, idle = hall.add([make_candidate(0)], seconds=seconds), hall.add()
    hall.repeat()
    assert rows(idle) == rows(owner) == [0]
    assert all(candidate.task.has_checkpoint for candidate in idle.candidates)
    assert owner.handle.checkpoint_soon.calls == 1
    assert [type(event) for event in hall.events] == [BatchDispatched]
    third = hall.add()
    hall.repeat()
    assert rows(third) == []


def test_a_small_job_runs_twice_only_what_is_late(make_candidate: Maker) -> None:
    hall = Hall(ended=99)
    hall.add([make_candidate(0)], seconds=14)
    repeated = hall.add([make_candidate(1, losses=1)])
    idle = hall.add()
    hall.repeat()
    assert rows(idle) == []
    assert not hall.tail.notices
    hall.tail.durations.add(MEDIAN)
    hall.repeat()
    assert rows(idle) == rows(repeated)


def test_no_more_than_can_be_spared(make_candidate: Maker) -> None:
    hall = Hall(ended=399)
    for row in range(10):
        hall.add([make_candidate(row)], seconds=6 + row / 10)
    late = hall.add([make_candidate(10)], seconds=20)
    idle = [hall.add() for _ in range(8)]
    hall.repeat()
    assert [rows(member) for member in idle] == [rows(late), [0], [1], [], [], [], [], []]
    hall.repeat()
    assert not rows(idle[-1])


def test_late_ones_are_told_singly_and_the_others_once(make_candidate: Maker) -> None:
    hall = Hall(ended=1000)
    for row in range(4):
        hall.add([make_candidate(row)], seconds=6)
    hall.add([make_candidate(4)], seconds=20)
    for _ in range(5):
        hall.add()
    hall.repeat()
    late, *others = hall.tail.notices
    assert "(process 4) has had for long run a second time (process 5)" in late
    assert others == [FORESIGHT]


def test_a_pair_that_loses_one_of_its_two_workers_gets_another(make_candidate: Maker) -> None:
    hall = Hall(ended=1000)
    owner, second = hall.add([make_candidate(0)], seconds=6), hall.add()
    hall.repeat()
    assert rows(second) == [0]
    assert not hall.runs.needs_another(make_candidate(0, deaths=1, losses=1, is_suspect=True))
    hall.fleet.members.remove(owner)
    third = hall.add()
    hall.repeat()
    (candidate,) = third.candidates
    assert (candidate.task.pair.row, candidate.deaths, candidate.is_suspect) == (0, 1, True)


def test_nothing_runs_twice_where_the_last_of_two_would_win(make_candidate: Maker) -> None:
    hall = Hall(ended=1000, is_safe=False)
    hall.add([make_candidate(0)], seconds=100)
    idle = hall.add()
    hall.repeat()
    assert rows(idle) == []


def test_workers_all_of_whose_pairs_are_won_have_lost(make_candidate: Maker) -> None:
    hall = Hall(ended=1000)
    loser, other = hall.add([make_candidate(0)], seconds=6), hall.add([make_candidate(1)])
    winner = hall.add()
    hall.repeat()
    assert hall.tail.losers() == []
    assert hall.runs.decides(0, has_picture=True)
    winner.batches.clear()
    assert hall.tail.losers() == [loser]
    assert rows(other) == [1]
