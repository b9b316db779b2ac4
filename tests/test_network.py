"""A head and two workers on hosts of their own; one is cut off in the middle of a job, and comes back."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultchecks import output_problems, part_rows
from faultcluster import WORKER_TITLE
from inmemory import picture_bytes
from networkhosts import REQUIRED, Hosts, NoHostsError, namespaces_of, remove_abandoned, running_hosts
from rayhead import RayProcesses

PAIRS = 20
UNIT = 4
RAY_PORT = 6379
PATIENCE = 150
"""Seconds; a quiet machine needs a tenth of it for the longest step."""
QUICK_TO_NOTICE = {
    # A host that is silent for some seconds is lost; with Ray's own settings it takes much longer.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "2",
    # A host that comes back asks every two seconds whether it is still one of the cluster, not every minute.
    "RAY_raylet_liveness_self_check_interval_ms": "2000",
}


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with ExitStack() as stack:
        try:
            running = stack.enter_context(running_hosts(["head", "near", "far"]))
        except NoHostsError as error:
            if os.environ.get(REQUIRED) == "1":
                raise
            pytest.skip(str(error))
        yield running
    assert namespaces_of(os.getpid()) == []


@pytest.fixture
def ray(hosts: Hosts) -> Iterator[RayProcesses]:
    """For nodes on these hosts; they have the disk in common, as with a shared file system."""
    with tempfile.TemporaryDirectory(prefix="sb-net-", ignore_cleanup_errors=True) as name:
        processes = RayProcesses(Path(name), QUICK_TO_NOTICE | {"OMP_NUM_THREADS": "1"})
        try:
            yield processes
        finally:
            processes.end()


class Cluster:
    """Ray on three hosts."""

    def __init__(self, hosts: Hosts, ray: RayProcesses) -> None:
        self._hosts = hosts
        self._ray = ray
        self.address = f"{hosts.addresses['head']}:{RAY_PORT}"

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Start Ray on a host: the head without cores, or a worker with one."""
        role = (
            ["--head", f"--port={RAY_PORT}", "--num-cpus=0", "--include-dashboard=false"]
            if name == "head"
            else [f"--address={self.address}", "--num-cpus=1"]
        )
        own = [f"--node-ip-address={self._hosts.addresses[name]}", f"--temp-dir={self._ray.folder}/{name}"]
        return self._ray.start(name, [*role, *own], self._hosts.within(name))

    def wait_until_started(self, name: str) -> None:
        """Wait until ``ray start`` has said that all is well."""
        log = partial(self._ray.log, name)
        wait_until(lambda: "Ray runtime started" in log(), lambda: log()[-3000:])

    def run(self, manifest: Path, output: Path, log: Path) -> "subprocess.Popen[bytes]":
        """Start a driver on the head's host."""
        words = ["run", str(manifest), "--output", str(output), "--address", self.address, "--workers=2"]
        words += ["--device=cpu", f"--unit-size={UNIT}", "--batch=1", "--set=size=48", "--set=iterations=20"]
        words += ["--set=tolerance=0", "--set=start=content"]
        with log.open("wb") as file:
            return subprocess.Popen(
                [*self._hosts.within("head"), sys.executable, "-m", "stylebatch", *words],
                env=self._ray.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )


@contextmanager
def paused(hosts: Hosts, name: str) -> Iterator[None]:
    """Let the workers of a host stand still until the block ends."""
    workers = hosts.processes(name, WORKER_TITLE)
    assert workers
    send(workers, signal.SIGSTOP)
    yield
    send(workers, signal.SIGCONT)


def send(processes: set[int], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process, number)


def wait_until(happens: Callable[[], bool], words: Callable[[], str], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"nothing happened in {seconds:g} s:\n{words()}"
        time.sleep(0.1)


def write_job(folder: Path) -> tuple[Path, list[str]]:
    """Pictures and a manifest; its path and the pairs' ids."""
    pair_ids = [f"p{number:02}" for number in range(PAIRS)]
    for number, pair_id in enumerate(pair_ids):
        (folder / f"{pair_id}.png").write_bytes(picture_bytes(48, 36, number))
    (folder / "style.png").write_bytes(picture_bytes(40, 40, 1000))
    table = {
        "pair_id": pair_ids,
        "content": [f"{pair_id}.png" for pair_id in pair_ids],
        "style": ["style.png"] * PAIRS,
    }
    pq.write_table(pa.table(table), folder / "pairs.parquet")
    return folder / "pairs.parquet", pair_ids


def test_what_a_killed_test_left_is_removed(hosts: Hosts) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    other = Hosts(["gone"], killed.pid)
    other.make()
    left = subprocess.Popen([*other.within("gone"), "sleep", "600"])
    while not other.processes("gone", b"sleep"):
        time.sleep(0.05)  # before that it is not yet there
    remove_abandoned()
    assert namespaces_of(killed.pid) == []
    assert left.wait(10) == -signal.SIGKILL
    assert len(namespaces_of(os.getpid())) == len(hosts.addresses) + 1


@pytest.mark.timeout(600)
def test_a_host_that_is_cut_off_and_comes_back(hosts: Hosts, ray: RayProcesses, tmp_path: Path) -> None:
    manifest, pair_ids = write_job(tmp_path)
    output, log = tmp_path / "out", tmp_path / "log"
    cluster = Cluster(hosts, ray)
    cluster.start("head")
    cluster.wait_until_started("head")
    nodes = {name: cluster.start(name) for name in ("near", "far")}
    for name in nodes:
        cluster.wait_until_started(name)
    driver = cluster.run(manifest, output, log)

    def images() -> int:
        return len([*output.glob("images/*/*.png")])

    def words() -> str:
        return log.read_text(errors="replace")[-4000:]

    def wait_for_more(count: int) -> None:
        wait_until(lambda: driver.poll() is not None or images() > count, words)
        assert driver.poll() is None, f"the job is over already:\n{words()}"

    wait_for_more(3)
    lost = hosts.processes("far", WORKER_TITLE)
    send(lost, signal.SIGSTOP)  # what it is at shall be for another to do, though the disk is in reach
    with paused(hosts, "near"):  # else a fast machine would end the job before the loss is noticed
        hosts.cut_off("far")
        wait_until(lambda: "is replaced" in words(), words)
    wait_for_more(images())
    with paused(hosts, "near"):
        hosts.connect("far")
        nodes["far"].wait(PATIENCE)  # it learns that it was given up; whoever watches over it starts it again
        send(lost & hosts.processes("far", WORKER_TITLE), signal.SIGKILL)
        cluster.start("far")
        wait_for_more(images())  # made there, since nobody else works

    assert driver.wait(PATIENCE) == 0, words()
    text = log.read_text()
    assert len(re.findall(r"is replaced: .*; its \d+ pairs wait for another", text)) == 1, text
    objects = {
        str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()
    }
    assert [*output_problems(objects, pair_ids)] == []
    assert max(row["attempts"] for row in part_rows(objects)) == 2
