"""How many workers, with how many threads."""

import random

import pytest

from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.plans import FleetPlan, Resources, plan_fleet, plan_run, workers_per_gpu
from stylebatch.cluster.scaling import WorkerLimits
from stylebatch.errors import ClusterError


def cpu(workers: int, threads: int) -> FleetPlan:
    """So many workers, no more and no fewer, on processor cores."""
    return FleetPlan(WorkerLimits(workers, workers), threads, gpus=0)


def gpu(workers: int, threads: int) -> FleetPlan:
    """So many with a GPU each."""
    return FleetPlan(WorkerLimits(workers, workers), threads, gpus=1)


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "plan"),
    [
        (1, 0, None, cpu(1, 1)),
        (2, 0, None, cpu(1, 2)),
        (4, 0, None, cpu(1, 4)),
        (7, 0, None, cpu(1, 7)),
        (8, 0, None, cpu(2, 4)),
        (64, 0, None, cpu(16, 4)),
        (2, 0, 2, cpu(2, 1)),
        (8, 0, 3, cpu(3, 2)),
        (8, 1, None, gpu(1, 4)),
        (2, 1, None, gpu(1, 2)),
        (96, 8, None, gpu(8, 4)),
        (4, 8, None, gpu(8, 1)),
        (16, 4, 2, gpu(2, 4)),
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
        (8, 2, None, "cpu", cpu(2, 4)),
        (8, 2, None, "gpu", gpu(2, 4)),
        (2, 0, None, "gpu", gpu(1, 2)),
        (0, 0, None, "gpu", gpu(1, 1)),
        (0, 0, 20, "gpu", gpu(20, 1)),
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
    assert 1 <= plan.limits.least * plan.threads <= cpus


@pytest.mark.parametrize(
    ("cores", "workers", "plan"),
    [
        ((0, 1, 1), 2, cpu(2, 1)),
        ((0, 1, 1, 1, 1), 2, cpu(2, 1)),  # two nodes that Ray does not know to be dead
        ((8, 8), 1, cpu(1, 8)),
        ((8, 8), 3, cpu(3, 4)),
        ((3, 3), 2, cpu(2, 3)),
        ((3, 3), 3, cpu(3, 1)),
        ((2, 2), None, cpu(2, 2)),
        ((0, 16, 4), None, cpu(5, 4)),
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


class TestRanges:
    """``--workers MIN:MAX``, and what ``auto`` means where machines may join."""

    def test_a_cluster_may_grow_beyond_what_it_has(self) -> None:
        plan = plan_fleet(Resources((0, 16, 4), 0), None, can_grow=True)
        assert plan == FleetPlan(WorkerLimits(5, None), 4, gpus=0)
        plan = plan_fleet(Resources((4, 4), 2), None, can_grow=True)
        assert plan == FleetPlan(WorkerLimits(2, None), 4, gpus=1)
        plan = plan_fleet(Resources((0,), 0), None, "gpu", can_grow=True)
        assert plan == FleetPlan(WorkerLimits(1, None), 1, gpus=1)

    def test_the_options_say_whether(self) -> None:
        here = Resources((8,), 0)
        assert plan_run(here, RunOptions()) == cpu(2, 4)
        assert plan_run(here, RunOptions(address="auto")).limits == WorkerLimits(2, None)
        options = RunOptions(workers=WorkerLimits(1, 9), address="auto")
        assert plan_run(here, options).limits == WorkerLimits(1, 9)

    def test_a_machine_of_ones_own_does_not(self) -> None:
        assert plan_fleet(Resources((4,), 0), WorkerLimits(1, 64)) == FleetPlan(WorkerLimits(1, 4), 1, gpus=0)
        assert plan_fleet(Resources((8,), 2), WorkerLimits(1, 64)).limits == WorkerLimits(1, 2)

    @pytest.mark.parametrize(
        ("cores", "limits", "threads"),
        [
            ((8,), WorkerLimits(1, 4), 2),  # all have a place now
            ((2,), WorkerLimits(1, 2), 1),
            ((8, 8), WorkerLimits(1, 100), 4),  # others are to come
            ((2, 2), WorkerLimits(1, 100), 2),
            ((0,), WorkerLimits(1, 100), 1),
        ],
    )
    def test_threads_suit_all_of_them(
        self, cores: tuple[int, ...], limits: WorkerLimits, threads: int
    ) -> None:
        assert plan_fleet(Resources(cores, 0), limits, "cpu", can_grow=True).threads == threads

    def test_more_than_there_is_must_be_asked_for_by_device(self) -> None:
        nothing, limits = Resources((0,), 0), WorkerLimits(2, 9)
        with pytest.raises(ClusterError, match=r"^--workers 2 needs as many processor cores, but Ray has 0"):
            plan_fleet(nothing, limits, can_grow=True)
        for device in ("cpu", "gpu"):
            assert plan_fleet(nothing, limits, device, can_grow=True).limits == limits


class TestSharedGpus:
    @pytest.mark.parametrize(
        ("share", "workers"), [(1, 1), (0.7, 1), (0.5, 2), (1 / 3, 3), (0.25, 4), (0.1, 10), (0.01, 100)]
    )
    def test_so_many_share_one(self, share: float, workers: int) -> None:
        assert workers_per_gpu(share) == workers

    def test_by_default_as_many_workers_as_fit(self) -> None:
        plan = plan_fleet(Resources((16,), 2), None, gpus_per_worker=0.5)
        assert plan == FleetPlan(WorkerLimits(4, 4), 4, gpus=0.5)
        assert plan.is_gpu

    def test_more_than_fit_are_refused(self) -> None:
        with pytest.raises(
            ClusterError, match=r"^5 workers need 0\.5 of a GPU each, but Ray has 2; give fewer"
        ):
            plan_fleet(Resources((16,), 2), 5, gpus_per_worker=0.5)

    @pytest.mark.parametrize("share", [0, -1, 0.001, 1.5, 2, float("nan")])
    def test_a_share_is_one(self, share: float) -> None:
        with pytest.raises(ClusterError, match=r"it must be from 0\.01 to 1: a worker computes on one GPU"):
            plan_fleet(Resources((16,), 2), 1, gpus_per_worker=share)

    def test_it_says_nothing_to_workers_without(self) -> None:
        assert plan_fleet(Resources((8,), 2), None, "cpu", gpus_per_worker=0.5) == cpu(2, 4)
