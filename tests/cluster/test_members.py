"""When a worker counts as hung, and how long its batches take it, by the driver's clock."""

import pytest

from stylebatch.cluster.members import Member
from stylebatch.cluster.worker import WorkerInfo
from stylebatch.work import Activity


@pytest.fixture
def member() -> Member:
    return Member(handle=Handle(), preparing=None, info=WorkerInfo("host", 1, "cpu", "here"))


class TestStalls:
    """A worker that does nothing new is told from one that is slow, by the driver's clock."""

    def test_an_idle_worker_never_stalls(self, member: Member) -> None:
        member.note(Activity(), now=0)
        assert not member.has_stalled(now=1e6, timeout=10)

    def test_a_worker_that_does_nothing_new_stalls(self, member: Member) -> None:
        member.give([], now=100)
        assert not member.has_stalled(now=110, timeout=10)
        assert member.has_stalled(now=110.1, timeout=10)

    def test_every_new_activity_counts(self, member: Member) -> None:
        member.give([], now=0)
        for second in range(1, 50):
            member.note(Activity("synthesizing", ("p",), progress=second // 5), now=second)
            assert not member.has_stalled(now=second, timeout=5)
        for second in range(50, 56):
            member.note(Activity("synthesizing", ("p",), progress=9), now=second)
        assert member.has_stalled(now=55, timeout=5)

    def test_a_second_batch_is_no_progress(self, member: Member) -> None:
        member.give([], now=0)
        member.give([], now=8)
        assert member.has_stalled(now=11, timeout=10)

    def test_a_worker_without_a_place_waits_as_long_as_it_takes(self, member: Member) -> None:
        member.info = None
        assert not member.has_stalled(now=1e6, timeout=10)

    def test_a_worker_that_has_a_place_must_become_ready(self, member: Member) -> None:
        member.info = None
        member.note(Activity(), now=0)
        assert member.has_stalled(now=11, timeout=10)


class Handle:
    """Stands for a Ray actor that takes batches."""

    class run:  # noqa: N801
        @staticmethod
        def remote(tasks: list[object]) -> object:
            return object()


class TestDurations:
    def test_each_batch_takes_the_time_in_which_it_is_the_first(self, member: Member) -> None:
        for now in (0, 3):
            member.give([], now)
        first, second = member.batches
        assert member.take_back(first, 10) == ([], 10)
        assert member.take_back(second, 14) == ([], 4)
        assert not member.batches

    def test_one_that_overtakes_the_one_before_it_counts_from_when_it_was_given(self, member: Member) -> None:
        for now in (0, 3):
            member.give([], now)
        first, second = member.batches
        assert member.take_back(second, 5) == ([], 2)
        assert member.take_back(first, 10) == ([], 10)

    def test_an_idle_time_is_nobodys(self, member: Member) -> None:
        for now in (0, 100):
            member.give([], now)
            (reference,) = member.batches
            assert member.take_back(reference, now + 7) == ([], 7)


def test_who_takes_work() -> None:
    member: Member = Member(handle=None, preparing=None)
    assert not member.takes_work
    assert not member.is_placed
    member.note(Activity("loading weights"), now=1)
    assert member.is_placed
    assert not member.takes_work
    member.info = WorkerInfo("host", 1, "cpu", "here")
    assert member.takes_work
    assert member.place == ("host", 1)
    member.leaves = 120.0
    assert not member.takes_work
