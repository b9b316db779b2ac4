"""A head and two workers on hosts of their own; one is cut off in the middle of a job, and comes back."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultchecks import output_problems, part_rows
from inmemory import picture_bytes
from networkhosts import REQUIRED, Hosts, NoHostsError, namespaces_of, running_hosts
from rayhead import RayProcesses

PAIRS = 40
UNIT = 8
RAY_PORT = 6379
PATIENCE = 60
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

    def wait_until_started(self, name: str, times: int = 1) -> None:
        """Wait until ``ray start`` has said so often that all is well."""
        wait_until(
            lambda: self._ray.log(name).count("Ray runtime started") >= times, lambda: self._ray.log(name)
        )

    def run(self, manifest: Path, output: Path, log: Path) -> "subprocess.Popen[bytes]":
        """Start a driver on the head's host."""
        words = ["run", str(manifest), "--output", str(output), "--address", self.address, "--workers=2"]
        words += ["--device=cpu", f"--unit-size={UNIT}", "--set=size=64", "--set=iterations=30"]
        words += ["--set=tolerance=0", "--set=start=content"]
        with log.open("wb") as file:
            return subprocess.Popen(
                [*self._hosts.within("head"), sys.executable, "-m", "stylebatch", *words],
                env=self._ray.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )


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

    wait_until(lambda: images() >= 4, words)
    hosts.cut_off("far")
    wait_until(lambda: "is replaced" in words(), words)
    before = images()
    wait_until(lambda: images() > before, words)  # the other host goes on meanwhile
    assert driver.poll() is None, f"the job was over before the host came back:\n{words()}"
    hosts.connect("far")
    nodes["far"].wait(PATIENCE)  # it learns that it was given up; whoever watches over it starts it again
    cluster.start("far")
    cluster.wait_until_started("far", times=2)

    assert driver.wait(PATIENCE) == 0, words()
    text = log.read_text()
    assert len(re.findall(r"is replaced: .*; its \d+ pairs wait for another", text)) == 1, text
    objects = {
        str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()
    }
    assert [*output_problems(objects, pair_ids)] == []
    assert max(row["attempts"] for row in part_rows(objects)) == 2
