"""How many workers, with how many threads."""

import random

import pytest

from stylebatch.cluster.fleet import FleetPlan, Member, Resources, plan_fleet
from stylebatch.cluster.worker import WorkerInfo
from stylebatch.errors import ClusterError
from stylebatch.work import Activity


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "plan"),
    [
        (1, 0, None, FleetPlan(1, 1, is_gpu=False)),
        (2, 0, None, FleetPlan(1, 2, is_gpu=False)),
        (4, 0, None, FleetPlan(1, 4, is_gpu=False)),
        (7, 0, None, FleetPlan(1, 7, is_gpu=False)),
        (8, 0, None, FleetPlan(2, 4, is_gpu=False)),
        (64, 0, None, FleetPlan(16, 4, is_gpu=False)),
        (2, 0, 2, FleetPlan(2, 1, is_gpu=False)),
        (8, 0, 3, FleetPlan(3, 2, is_gpu=False)),
        (8, 1, None, FleetPlan(1, 4, is_gpu=True)),
        (2, 1, None, FleetPlan(1, 2, is_gpu=True)),
        (96, 8, None, FleetPlan(8, 4, is_gpu=True)),
        (4, 8, None, FleetPlan(8, 1, is_gpu=True)),
        (16, 4, 2, FleetPlan(2, 4, is_gpu=True)),
    ],
)
def test_the_fleet_suits_the_machine(cpus: int, gpus: int, workers: int | None, plan: FleetPlan) -> None:
    assert plan_fleet(Resources((cpus,), gpus), workers) == plan


def test_more_workers_than_cores_are_refused() -> None:
    with pytest.raises(
        ClusterError, match=r"^--workers 3 needs as many processor cores, but Ray has 2; give fewer, or"
    ):
        plan_fleet(Resources((2,), 0), 3)


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "device", "plan"),
    [
        (8, 2, None, "cpu", FleetPlan(2, 4, is_gpu=False)),
        (8, 2, None, "gpu", FleetPlan(2, 4, is_gpu=True)),
        (2, 0, None, "gpu", FleetPlan(1, 2, is_gpu=True)),
        (0, 0, None, "gpu", FleetPlan(1, 1, is_gpu=True)),
        (0, 0, 20, "gpu", FleetPlan(20, 1, is_gpu=True)),
    ],
)
def test_the_user_may_say_what_to_work_on(
    cpus: int, gpus: int, workers: int | None, device: str, plan: FleetPlan
) -> None:
    """A cluster that starts GPU machines on demand has none before there is work."""
    assert plan_fleet(Resources((cpus,), gpus), workers, device) == plan


@pytest.mark.parametrize("cpus", range(1, 40))
@pytest.mark.parametrize("workers", [None, 1])
def test_workers_never_ask_for_more_cores_than_there_are(cpus: int, workers: int | None) -> None:
    plan = plan_fleet(Resources((cpus,), 0), workers)
    assert 1 <= plan.workers * plan.threads <= cpus


@pytest.mark.parametrize(
    ("cores", "workers", "plan"),
    [
        ((0, 1, 1), 2, FleetPlan(2, 1, is_gpu=False)),
        ((0, 1, 1, 1, 1), 2, FleetPlan(2, 1, is_gpu=False)),  # two nodes that Ray does not know to be dead
        ((8, 8), 1, FleetPlan(1, 8, is_gpu=False)),
        ((8, 8), 3, FleetPlan(3, 4, is_gpu=False)),
        ((3, 3), 2, FleetPlan(2, 3, is_gpu=False)),
        ((3, 3), 3, FleetPlan(3, 1, is_gpu=False)),
        ((2, 2), None, FleetPlan(2, 2, is_gpu=False)),
        ((0, 16, 4), None, FleetPlan(5, 4, is_gpu=False)),
    ],
)
def test_every_worker_fits_a_machine(cores: tuple[int, ...], workers: int | None, plan: FleetPlan) -> None:
    """One that fits no machine would wait for ever."""
    assert plan_fleet(Resources(cores, 0), workers) == plan


@pytest.mark.parametrize("seed", range(20))
def test_all_workers_have_a_place_at_once(seed: int) -> None:
    chance = random.Random(seed)
    cores = (1, *(chance.randint(0, 9) for _ in range(chance.randint(1, 6))))
    for workers in range(1, sum(cores) + 1):
        plan = plan_fleet(Resources(cores, 0), workers)
        assert sum(number // plan.threads for number in cores) >= workers


class TestStalls:
    """A worker that does nothing new is told from one that is slow, by the driver's clock."""

    @pytest.fixture
    def member(self) -> Member:
        return Member(handle=None, preparing=None, info=WorkerInfo("host", 1, "cpu", "here"))

    def give(self, member: Member, now: float) -> None:
        member.handle = Handle()
        member.give([], now)

    def test_an_idle_worker_never_stalls(self, member: Member) -> None:
        member.note(Activity(), now=0)
        assert not member.has_stalled(now=1e6, timeout=10)

    def test_a_worker_that_does_nothing_new_stalls(self, member: Member) -> None:
        self.give(member, now=100)
        assert not member.has_stalled(now=110, timeout=10)
        assert member.has_stalled(now=110.1, timeout=10)

    def test_every_new_activity_counts(self, member: Member) -> None:
        self.give(member, now=0)
        for second in range(1, 50):
            member.note(Activity("synthesizing", ("p",), progress=second // 5), now=second)
            assert not member.has_stalled(now=second, timeout=5)
        for second in range(50, 56):
            member.note(Activity("synthesizing", ("p",), progress=9), now=second)
        assert member.has_stalled(now=55, timeout=5)

    def test_a_second_batch_is_no_progress(self, member: Member) -> None:
        self.give(member, now=0)
        self.give(member, now=8)
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
