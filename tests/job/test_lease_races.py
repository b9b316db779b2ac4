"""The lease on real storage, between real threads and processes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stylebatch.errors import LeaseError
from stylebatch.job.lease import LEASE_SECONDS, Holder, Lease, Machine
from stylebatch.job.processes import has_died, process_mark
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.storage import LocalStore, S3Store

DRIVERS = 16
PROCESSES = 8
ROUNDS = 5

HOLD = """
import sys, time
from stylebatch.job import Lease
from stylebatch.layout import Layout
from stylebatch.storage import LocalStore

lease = Lease.take(LocalStore(), Layout(sys.argv[1]))
print(lease.holder.process_mark, flush=True)
time.sleep(600)
"""


class AgedLocalStore(LocalStore):
    """One version of an object was stored long ago."""

    old_version = ""

    def age(self, uri: str) -> float:
        is_old = self.version(uri) == self.old_version
        return super().age(uri) + LEASE_SECONDS * is_old


class AgedS3Store(S3Store):
    """The same on S3."""

    old_version = ""

    def age(self, uri: str) -> float:
        is_old = self.version(uri) == self.old_version
        return super().age(uri) + LEASE_SECONDS * is_old


def race(stores: list[ObjectStore], layout: Layout) -> list[Lease | LeaseError]:
    """What each driver gets when all start at once."""
    barrier = threading.Barrier(len(stores))

    def start(store: ObjectStore) -> Lease | LeaseError:
        barrier.wait()
        try:
            return Lease.take(store, layout)
        except LeaseError as error:
            return error

    with ThreadPoolExecutor(len(stores)) as drivers:
        return list(drivers.map(start, stores))


def check_one_won(results: list[Lease | LeaseError], store: ObjectStore, layout: Layout) -> None:
    winners = [result for result in results if isinstance(result, Lease)]
    assert len(winners) == 1
    winners[0].renew()
    winners[0].check()
    for result in results:
        if isinstance(result, LeaseError):
            assert f"in use by another driver: process {os.getpid()} on " in str(result)
    winners[0].release()
    assert [stored.uri for stored in store.list(layout.output)] == []


def race_for_new_and_expired(stores: list[ObjectStore], output: str) -> None:
    for number in range(ROUNDS):
        layout = Layout(f"{output}/new-{number}")
        check_one_won(race(stores, layout), stores[0], layout)
    for number in range(ROUNDS):
        layout = Layout(f"{output}/expired-{number}")
        stores[0].put(layout.lease, Holder("gone", "elsewhere", 1, "long ago", "another machine").encode())
        for store in stores:
            store.old_version = store.version(layout.lease)  # type: ignore[attr-defined]
        check_one_won(race(stores, layout), stores[0], layout)


def test_one_of_sixteen_wins_in_a_folder(tmp_path: Path) -> None:
    race_for_new_and_expired([AgedLocalStore() for _ in range(DRIVERS)], str(tmp_path))


def test_one_of_sixteen_wins_on_s3(s3_bucket: str) -> None:
    race_for_new_and_expired([AgedS3Store() for _ in range(DRIVERS)], f"{s3_bucket}/out")


def test_one_of_several_processes_wins(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "out"))
    LocalStore().put(layout.lease, Holder("gone", "here", 1, "just now", dead_mark()).encode())
    processes = [holder_process(layout) for _ in range(PROCESSES)]
    try:
        held = [process for process in processes if first_line(process)]
        assert len(held) == 1
        assert decoded(layout)["process"] == held[0].pid
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def holder_process(layout: Layout) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, layout.output],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    """What it prints once it holds the lease; '' if it ended without."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def decoded(layout: Layout) -> dict[str, object]:
    found: dict[str, object] = json.loads(LocalStore().get(layout.lease))
    return found


def dead_mark() -> str:
    """The mark of a process of this machine that has ended."""
    program = "from stylebatch.job.processes import process_mark; print(process_mark())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    process = holder_process(Layout(str(tmp_path)))
    assert first_line(process)
    yield process
    process.kill()
    process.communicate()


def test_a_live_process_is_named(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    found = decoded(layout)
    with pytest.raises(LeaseError) as raised:
        Lease.take(LocalStore(), layout)
    who = f"process {holder.pid} on {found['host']}, since {found['since']}"
    assert f"{tmp_path} is in use by another driver: {who}" in str(raised.value)
    assert "stop it, or give another --output" in str(raised.value)


@pytest.mark.skipif(not process_mark(), reason="this system has no /proc")
@pytest.mark.parametrize("is_reaped", [False, True])
def test_a_killed_process_is_followed_at_once(
    holder: "subprocess.Popen[str]", tmp_path: Path, is_reaped: bool
) -> None:
    holder.send_signal(signal.SIGKILL)
    if is_reaped:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    lease = Lease.take(LocalStore(), Layout(str(tmp_path)))
    lease.check()
    lease.release()
    assert not any(tmp_path.glob("lease.json"))


@pytest.mark.skipif(not process_mark(), reason="this system has no /proc")
class TestProcesses:
    def test_this_process_is_alive(self) -> None:
        mark = process_mark()
        assert mark.split()[2] == str(os.getpid())
        assert process_mark() == mark
        assert not has_died(mark)

    def test_a_process_that_ended_is_dead(self) -> None:
        assert has_died(dead_mark())

    def test_a_process_with_the_id_of_a_dead_one_is_another(self) -> None:
        boot, namespace, process, started = process_mark().split()
        assert has_died(f"{boot} {namespace} {process} {int(started) - 1}")

    @pytest.mark.parametrize("change", [0, 1])
    def test_of_other_machines_and_containers_nothing_is_known(self, change: int) -> None:
        parts = dead_mark().split()
        parts[change] = "another"
        assert not has_died(" ".join(parts))

    @pytest.mark.parametrize("mark", ["", "x", "a b c d", "a b c d e"])
    def test_of_what_is_no_mark_nothing_is_known(self, mark: str) -> None:
        assert not has_died(mark)

    @pytest.mark.parametrize("process", ["x", "-1", "99999999999999999999"])
    def test_an_id_that_no_process_can_have(self, process: str) -> None:
        boot, namespace, *_ = process_mark().split()
        assert not has_died(f"{boot} {namespace} {process} 1")

    def test_a_process_that_proc_hides_is_alive(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """As with hidepid=2, where another user's process is not to be seen, but its id is taken."""
        mark = process_mark()
        monkeypatch.setattr("stylebatch.job.processes._state_and_start", hides(mark))
        assert not has_died(mark.replace(f" {os.getpid()} ", f" {os.getppid()} "))

    def test_without_proc_only_expiry_counts(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        dead = dead_mark()
        monkeypatch.setattr("stylebatch.job.processes.PROC", tmp_path)
        assert process_mark() == ""
        assert not has_died(dead)
        assert not has_died("")
        assert Machine.here().process_mark == ""


def hides(mark: str) -> Callable[[int], tuple[str, str]]:
    def state_and_start(process: int) -> tuple[str, str]:
        if process != os.getpid():
            raise FileNotFoundError
        return "R", mark.split()[3]

    return state_and_start
