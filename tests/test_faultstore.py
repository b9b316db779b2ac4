"""The misbehaving store: every misbehaviour happens in another process, and only there."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from faultstore import EXIT_CODE, FaultStore, Misbehaviour, Trap, tries
from ray import cloudpickle

READ = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).get(sys.argv[1]))"


def read_elsewhere(store: FaultStore, path: Path) -> subprocess.CompletedProcess[bytes]:
    """Read a file with the store in a process that cannot import the tests."""
    command = [sys.executable, "-c", READ, str(path)]
    return subprocess.run(
        command, input=cloudpickle.dumps(store), capture_output=True, timeout=60, check=False
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """One that is no trap and one that is."""
    paths = tmp_path / "good.png", tmp_path / "poison.png"
    for path in paths:
        path.write_bytes(path.stem.encode())
    return paths


@pytest.mark.parametrize(
    ("misbehaviour", "code", "message"),
    [
        (Misbehaviour.EXIT, EXIT_CODE, ""),
        (Misbehaviour.MEMORY, 1, "MemoryError"),
        (Misbehaviour.ERROR, 1, "RuntimeError: a fault while"),
    ],
)
def test_a_trap_springs_in_a_worker_so_many_times(
    tmp_path: Path, files: tuple[Path, Path], misbehaviour: Misbehaviour, code: int, message: str
) -> None:
    good, poison = files
    trap = Trap("poison", misbehaviour, str(tmp_path / "tries"), times=1)
    store = FaultStore(trap)

    assert store.get(str(poison)) == b"poison"
    assert read_elsewhere(store, good).stdout == b"good"
    assert tries(trap) == []
    done = read_elsewhere(store, poison)
    assert (done.returncode, done.stdout) == (code, b"")
    assert message in done.stderr.decode()
    assert read_elsewhere(store, poison).stdout == b"poison"
    assert len(tries(trap)) == len(set(tries(trap))) == 2


def test_a_stall_does_not_end(tmp_path: Path, files: tuple[Path, Path]) -> None:
    trap = Trap("poison", Misbehaviour.STALL, str(tmp_path / "tries"))
    store = cloudpickle.dumps(FaultStore(trap))
    with subprocess.Popen([sys.executable, "-c", READ, str(files[1])], stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(store)
        process.stdin.close()
        while not tries(trap):
            assert process.poll() is None
            time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()
    assert tries(trap) == [process.pid]
