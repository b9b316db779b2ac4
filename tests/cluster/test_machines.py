"""Machines that come and go, and workers that are slow: on a real Ray of several nodes, with real weights."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fakemetadata import running_metadata
from faultcluster import OBJECT_STORE_BYTES, child_workers
from faultstore import FaultStore, Misbehaviour, Trap, tries
from inmemory import picture_bytes

from stylebatch.cluster import jobs
from stylebatch.cluster.driver import run_job
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Progress
from stylebatch.cluster.scaling import WorkerLimits
from stylebatch.errors import ClusterError
from stylebatch.job import Job
from stylebatch.manifest import write_manifest
from stylebatch.recipe import Recipe
from stylebatch.results import read_results
from stylebatch.storage import UriStore

MakeJob = Callable[..., Job]


class Machines:
    """A head without processor cores, and nodes with one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def head(self) -> str:
        """Ray's id of the head."""
        return str(self._cluster.head_node.node_id)

    def add(self, **resources: Any) -> None:
        memory = {"object_store_memory": OBJECT_STORE_BYTES}
        self.nodes.append(self._cluster.add_node(**{"num_cpus": 1} | memory | resources))

    def have(self, number: int) -> None:
        """So many nodes, new ones where there are fewer."""
        while len(self.nodes) < number:
            self.add()
        while len(self.nodes) > number:
            self.remove(self.nodes[-1])

    def remove(self, node: Any) -> None:
        self.nodes.remove(node)
        self._cluster.remove_node(node)  # which Ray hears of at once

    def workers(self) -> list[int]:
        """Process ids of all workers."""
        return [worker for node in self.nodes for worker in child_workers(node)]

    def node_of(self, process: int) -> Any:
        return next(node for node in self.nodes if process in child_workers(node))

    def demand(self) -> int:
        """Actors that wait for a place, as an autoscaler would see them."""
        from ray._raylet import GcsClient
        from ray.autoscaler.v2.sdk import get_cluster_resource_state

        state = get_cluster_resource_state(GcsClient(address=self.address))
        return sum(request.count for request in state.pending_resource_requests)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    cluster = Machines()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """``make_job(pairs, recipe fields...)``: pairs of small pictures in a folder, in units of two."""

    def make(pairs: int, **fields: Any) -> Job:
        for number in range(pairs):
            (tmp_path / f"c{number}.png").write_bytes(picture_bytes(40, 30, number))
        (tmp_path / "s.png").write_bytes(picture_bytes(32, 32, 99))
        contents = [f"c{number}.png" for number in range(pairs)]
        table = pa.table({"pair_id": contents, "content": contents, "style": ["s.png"] * pairs})
        store = UriStore()
        write_manifest(store, f"{tmp_path}/pairs.parquet", table)
        recipe = Recipe(**{"size": 32, "iterations": 3} | fields)
        return jobs.make_job(store, f"{tmp_path}/pairs.parquet", f"{tmp_path}/out", recipe, unit_size=2)

    return make


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not become so"
        time.sleep(0.2)


def rows_of(job: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_results(UriStore(), job.output).to_pylist()
    return rows


def nothing_is_left(job: Job) -> bool:
    """Whether the output holds what a finished job holds, and no more."""
    store, layout = UriStore(), job.layout
    folders = (layout.all_records, layout.all_checkpoints, layout.reopened, layout.lease)
    return not any(list(store.list(folder)) for folder in folders)


class Watch:
    """Collects what a run tells, and calls ``act`` until it has acted, and ``hear`` with every notice."""

    def __init__(
        self,
        act: Callable[[Progress], bool] = lambda progress: True,
        hear: Callable[[str], None] = lambda notice: None,
    ) -> None:
        self.notices: list[str] = []
        self.seen: list[Progress] = []
        self._act = act
        self._hear = hear
        self._has_acted = False

    def __call__(self, progress: Progress) -> None:
        self.notices += progress.notices
        for notice in progress.notices:
            self._hear(notice)
        self.seen.append(progress)
        self._has_acted = self._has_acted or self._act(progress)


def command(job: Job, address: str, *options: str) -> list[str]:
    run = ["run", job.manifest.uri, "--output", job.output, "--address", address, "--device", "cpu"]
    return [sys.executable, "-m", "stylebatch", *run, *options]


def stop_now() -> None:
    """End the run of this process at once, as Ctrl-C does that comes twice."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_machine_that_joins_gets_a_worker(machines: Machines, make_job: MakeJob) -> None:
    machines.have(1)
    job = make_job(4, iterations=1_000_000)
    at_work: set[int] = set()

    def act(progress: Progress) -> bool:
        at_work.update(worker.process for worker in progress.workers if worker.activity.evaluations)
        if at_work and len(machines.nodes) == 1:
            assert machines.demand() > 0  # an autoscaler would bring it
            machines.add()
        if len(at_work) == 2:
            stop_now()
        return len(at_work) == 2

    watch = Watch(act)
    options = RunOptions(workers=WorkerLimits(1, 3), address=machines.address, device="cpu", largest_batch=1)
    with pytest.raises(KeyboardInterrupt):
        run_job(job, UriStore(), options, watch)

    assert {len(progress.workers) for progress in watch.seen} <= {1, 2}  # those that wait are not shown
    wait_until(lambda: machines.demand() == 0 and not machines.workers())


def test_a_machine_is_found_by_its_address(machines: Machines) -> None:
    from stylebatch.cluster.draining import own_node

    machines.have(0)
    assert own_node(machines.address) == machines.head
    machines.have(1)  # another node of the same machine
    with pytest.raises(ClusterError, match=r"^2 of the cluster's 2 machines have the address .*--node-id"):
        own_node(machines.address)
    assert own_node(machines.address, machines.nodes[0].node_id) == machines.nodes[0].node_id


def test_a_driver_that_is_killed_leaves_no_demand(machines: Machines, make_job: MakeJob) -> None:
    machines.have(1)
    job = make_job(8, iterations=100_000)
    driver = subprocess.Popen(
        command(job, machines.address, "--workers", "1:4"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: machines.demand() >= 2 and bool(machines.workers()))
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: machines.demand() == 0 and not machines.workers())


def test_workers_without_work_are_let_go(machines: Machines) -> None:
    import ray

    from stylebatch.cluster.connecting import connected
    from stylebatch.cluster.fleet import Fleet
    from stylebatch.cluster.plans import FleetPlan

    machines.have(2)
    with connected(machines.address):
        fleet: Fleet[Any] = Fleet(FleetPlan(WorkerLimits(1, None), 1, 0), None, 600, idle_worker())

        def ready() -> int:
            fleet.poll()
            fleet.scale(pairs_left=100)
            return sum(member.info is not None for member in fleet.members)

        wait_until(lambda: ready() == 2 and len(fleet.members) == 4)
        assert fleet.size == 2
        wait_until(lambda: machines.demand() == 2)
        assert len(fleet.scale(pairs_left=1)) == 2  # the straggler could be repeated by the other
        assert sum(member.info is not None for member in fleet.members) == 2
        wait_until(lambda: machines.demand() == 0)
        assert len(fleet.scale(pairs_left=0)) == 2
        assert not fleet.members
        wait_until(lambda: ray.available_resources().get("CPU") == 2)


def test_workers_share_a_gpu(machines: Machines) -> None:
    import ray

    from stylebatch.cluster.connecting import connected
    from stylebatch.cluster.fleet import Fleet
    from stylebatch.cluster.plans import plan_fleet

    machines.have(0)
    machines.add(num_cpus=4, num_gpus=1)
    with connected(machines.address) as resources:
        plan = plan_fleet(resources, WorkerLimits(1, 3), gpus_per_worker=0.5, can_grow=True)
        fleet: Fleet[Any] = Fleet(plan, None, 600, idle_worker())

        def ready() -> int:
            fleet.poll()
            fleet.scale(pairs_left=100)
            return sum(member.info is not None for member in fleet.members)

        wait_until(lambda: ready() == 2 and len(fleet.members) == 3)
        wait_until(lambda: ray.available_resources().get("GPU", 0) == 0)
        assert machines.demand() == 1  # the third waits for another GPU
    machines.have(0)


def idle_worker() -> type[Any]:
    """An actor that does nothing; a class of a function, because nodes cannot import the tests."""

    class IdleWorker:
        def __init__(self, settings: object) -> None:
            pass

        def prepare(self) -> Any:
            from stylebatch.cluster.worker import located

            return located("cpu")

        def activity(self) -> Any:
            from stylebatch.work import Activity

            return Activity()

    return IdleWorker


class SpotWatcher:
    """``stylebatch watch-spot`` on the node of a worker."""

    def __init__(self, machines: Machines, worker: int, *options: str) -> None:
        node = machines.node_of(worker).node_id
        command = ["watch-spot", "--address", machines.address, "--node-id", node, *options]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stylebatch", *command], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.said = [self._process.stdout.readline()]  # it watches

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        rest, _ = self._process.communicate(timeout=60)
        self.said += rest.splitlines(keepends=True)
        assert self._process.returncode == 0, self.said


def test_a_pair_goes_on_from_its_checkpoint_when_its_spot_machine_goes(
    machines: Machines, make_job: MakeJob
) -> None:
    machines.have(2)
    job = make_job(1, iterations=1_000_000)
    first: dict[int, int] = {}
    """The evaluations that each worker told of first."""
    watchers: list[SpotWatcher] = []

    def act(progress: Progress) -> bool:
        for worker in progress.workers:
            if worker.activity.evaluations >= 50:
                first.setdefault(worker.process, worker.activity.evaluations)
        if first and not watchers:
            watchers.append(SpotWatcher(machines, *first, "--metadata", metadata.endpoint))
            metadata.announce(10)
        if len(first) == 2:
            stop_now()
        return len(first) == 2

    watch = Watch(act)
    options = RunOptions(workers=1, address=machines.address, device="cpu", checkpoint_seconds=3600)
    with running_metadata() as metadata:
        with pytest.raises(KeyboardInterrupt):
            run_job(job, UriStore(), options, watch)
        watchers[0].end()

    here, elsewhere = first.values()
    assert elsewhere > here, "it did not go on from its checkpoint"
    assert "for a spot notice or SIGTERM" in watchers[0].said[0]
    assert watchers[0].said[1].startswith("spot notice to terminate: ")
    machines.remove(ended_node(machines))


def ended_node(machines: Machines) -> Any:
    """The node that Ray has ended, because it was to leave and had nothing more to do."""

    def has_ended(node: Any) -> bool:
        return any(raylet.process.poll() is not None for raylet in node.all_processes["raylet"])

    wait_until(lambda: any(has_ended(node) for node in machines.nodes))
    return next(node for node in machines.nodes if has_ended(node))


class TestPairsOfAMachineThatLeaves:
    """One pair hangs, on the worker that reads its image first, until its machine leaves."""

    @pytest.fixture
    def trap(self, tmp_path: Path) -> Trap:
        return Trap("c0.png", Misbehaviour.STALL, f"{tmp_path}/tries", times=1)

    def run(
        self,
        machines: Machines,
        job: Job,
        trap: Trap,
        workers: int,
        grace: float,
        after: Callable[[str], None] = lambda notice: None,
    ) -> tuple[Watch, float]:
        """The run, and the seconds after which it ended once the machine was known to leave."""
        watchers: list[tuple[SpotWatcher, float]] = []

        def leave(progress: Progress) -> bool:
            if progress.ok < 1 or not tries(trap):
                return False
            options = ("--metadata", "none", "--grace", str(grace))
            watchers.append((SpotWatcher(machines, tries(trap)[0], *options), time.monotonic()))
            watchers[0][0].terminate()
            return True

        watch = Watch(leave, after)
        options = RunOptions(workers=workers, address=machines.address, device="cpu", largest_batch=1)
        tally = run_job(job, FaultStore(trap), options, watch)
        assert (tally.ok, tally.failed) == (2, 0), tally.error_examples
        ((watcher, left),) = watchers
        seconds = time.monotonic() - left
        watcher.end()
        assert watcher.said[1].startswith("SIGTERM: ")
        return watch, seconds

    def test_they_end_elsewhere_and_are_charged_with_nothing(
        self, machines: Machines, make_job: MakeJob, trap: Trap
    ) -> None:
        machines.have(1)
        job = make_job(2)

        def bring_another(notice: str) -> None:
            if "leaves the cluster" in notice:
                machines.add()  # not before: its worker would take the pair at once

        watch, _ = self.run(machines, job, trap, workers=1, grace=8, after=bring_another)
        first, _ = dict.fromkeys(tries(trap))
        assert [row["attempts"] for row in rows_of(job)] == [1, 1]
        (notice,) = [notice for notice in watch.notices if "leaves the cluster" in notice]
        assert f"(process {first}) is let go; its 1 pairs wait for another" in notice
        assert not [notice for notice in watch.notices if "is replaced" in notice]
        assert nothing_is_left(job)
        machines.remove(ended_node(machines))

    def test_an_idle_worker_takes_them_at_once(
        self, machines: Machines, make_job: MakeJob, trap: Trap
    ) -> None:
        machines.have(2)
        job = make_job(2)
        watch, seconds = self.run(machines, job, trap, workers=2, grace=600)
        assert seconds < 60
        assert [row["attempts"] for row in rows_of(job)] == [1, 1]
        assert len([notice for notice in watch.notices if "a second time" in notice]) == 1
        assert nothing_is_left(job)
        machines.remove(ended_node(machines))


def test_a_pair_that_hangs_is_run_a_second_time(
    machines: Machines, make_job: MakeJob, tmp_path: Path
) -> None:
    machines.have(2)
    job, watch = make_job(6), Watch()
    trap = Trap("c1.png", Misbehaviour.STALL, f"{tmp_path}/tries", times=1)
    options = RunOptions(workers=2, address=machines.address, device="cpu", largest_batch=1)
    started = time.monotonic()

    tally = run_job(job, FaultStore(trap), options, watch)

    assert time.monotonic() - started < 60  # the read takes an hour
    assert (tally.ok, tally.failed) == (6, 0), tally.error_examples
    first, second = dict.fromkeys(tries(trap))
    assert [row["attempts"] for row in rows_of(job)] == [1] * 6
    (notice,) = [notice for notice in watch.notices if "a second time" in notice]
    assert f"(process {first})" in notice
    assert f"(process {second})" in notice
    wait_until(lambda: first not in machines.workers())
    assert nothing_is_left(job)


def test_sigterm_still_ends_a_run_that_waits_for_machines(machines: Machines, make_job: MakeJob) -> None:
    machines.have(0)
    job = make_job(2)
    driver = subprocess.Popen(
        command(job, machines.address, "--workers", "1:2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    wait_until(lambda: machines.demand() == 2)
    driver.send_signal(signal.SIGTERM)
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 3, told
    assert "stopped by SIGTERM: 0 of 2 pairs have ended" in told
    wait_until(lambda: machines.demand() == 0)
