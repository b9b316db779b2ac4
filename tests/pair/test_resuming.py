"""A batch that was interrupted anywhere publishes the very files that it would have published undisturbed."""

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inmemory import MemoryStore

from stylebatch.errors import AccessDeniedError, StorageUnavailableError
from stylebatch.layout import Layout
from stylebatch.pair import making
from stylebatch.pair.batch import BatchRunner
from stylebatch.pair.checkpoints import decode_checkpoint
from stylebatch.pair.monitor import Monitor
from stylebatch.synthesis import batch as batch_module
from stylebatch.synthesis import bounds as bounds_module
from stylebatch.work import Facts, Outcome, Task

PROGRAM = Path(__file__).with_name("long_pairs.py")
LAYOUT = Layout("/out")
CHECK_EVERY = 16
"""So that the bounds tighten in a test that is short: after evaluations 16 and 32."""
DIFFERS_WHEN_RESUMED = ("seconds", "attempts", "target_hits", "target_misses")


def _long_pairs() -> Any:
    specification = importlib.util.spec_from_file_location("long_pairs", PROGRAM)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


long_pairs = _long_pairs()


class InterruptedWorkerError(Exception):
    """Stands for the end of a worker."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({f"/in/{name}": data for name, data in long_pairs.pictures().items()})


class Worker:
    """Every call is a new worker, which stores a checkpoint whenever it can."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.evaluations: list[int] = []
        """That the last worker did."""
        self._store = store
        self._monkeypatch = monkeypatch
        self._evaluated = Monitor.evaluated

    def __call__(self, tasks: list[Task], dies_after: int | None = None, **settings: Any) -> list[Outcome]:
        """What it makes of a batch; it may die, with InterruptedWorkerError, after so many evaluations."""
        self.evaluations = []
        options = {"checkpoint_seconds": 0, "clock": lambda: 0.0} | settings
        with ThreadPoolExecutor(1) as compute:
            runner = BatchRunner(self._store, LAYOUT, "cpu", compute, **options)

            def evaluated(monitor: Monitor, done: int) -> None:
                runner._keeper.background.submit(int).result()  # so that no checkpoint is left out
                if dies_after is not None and done > dies_after:
                    raise InterruptedWorkerError
                self.evaluations.append(done)
                self._evaluated(monitor, done)

            self._monkeypatch.setattr(Monitor, "evaluated", evaluated)
            outcomes = runner.run(tasks)
        return sorted(outcomes, key=lambda outcome: outcome.task.pair.row)


@pytest.fixture
def worker(store: MemoryStore, network: Any, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(making, "load_network", lambda *_: network)
    return Worker(store, monkeypatch)


def resumed(tasks: list[Task]) -> list[Task]:
    """The tasks in another run, which has seen that there are checkpoints."""
    return [replace(task, has_checkpoint=True) for task in tasks]


def images(store: MemoryStore) -> dict[str, bytes]:
    return {uri: data for uri, data in store.objects.items() if uri.startswith("/out/images/")}


def checkpoints(store: MemoryStore) -> list[str]:
    return [uri for uri in store.objects if uri.startswith("/out/checkpoints/")]


def comparable(outcomes: list[Outcome]) -> list[Facts]:
    return [comparable_row(outcome.row or {}) for outcome in outcomes]


def comparable_row(row: Facts) -> Facts:
    return {name: value for name, value in row.items() if name not in DIFFERS_WHEN_RESUMED}


def clear_output(store: MemoryStore) -> None:
    store.objects = {uri: data for uri, data in store.objects.items() if uri.startswith("/in/")}


@pytest.mark.parametrize(("optimizer", "tolerance"), [("lbfgs", 0.3), ("adam", 0.7)])
def test_interrupted_again_and_again_it_publishes_the_same_bytes(
    worker: Worker, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, optimizer: str, tolerance: float
) -> None:
    """Before and after bounds tighten, the history is full, and an image has left the batch."""
    monkeypatch.setattr(batch_module, "CHECK_EVERY", CHECK_EVERY)
    monkeypatch.setattr(bounds_module, "MOST_PENALTY", 1e-5)
    tasks = long_pairs.make_tasks("/in", optimizer=optimizer, tolerance=tolerance)
    undisturbed = worker(tasks, checkpoint_seconds=None)
    expected = images(store)
    ends = [outcome.row["evaluations"] for outcome in undisturbed if outcome.row]
    assert CHECK_EVERY < ends[0] < max(ends) == 40
    clear_output(store)
    for death in (1, CHECK_EVERY, ends[0] - 1, ends[0] + 1, 39):
        with pytest.raises(InterruptedWorkerError):
            worker(resumed(tasks), dies_after=death)
        assert len(checkpoints(store)) == 3
        assert not images(store)
    ended = worker([replace(task, attempt=2) for task in tasks])
    assert images(store) == expected
    assert comparable(ended) == comparable(undisturbed)
    assert [outcome.row and outcome.row["attempts"] for outcome in ended] == [2, 2, 2]
    assert [outcome.notices for outcome in ended] == [(), (), ()]
    assert checkpoints(store) == []


@pytest.fixture(scope="module")
def undisturbed_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A process that nobody interrupted: its folder, and its rows."""
    folder = _new_folder(tmp_path_factory.mktemp("undisturbed"))
    return folder, _finish(folder)


@pytest.mark.parametrize("death", [["17"], ["33", "0"]], ids=["between", "writing"])
def test_a_killed_process_leaves_what_another_goes_on_from(
    tmp_path: Path, undisturbed_folder: tuple[Path, Any], death: list[str]
) -> None:
    """Between two evaluations, and while a checkpoint is being written: the one before it is still whole."""
    folder = _new_folder(tmp_path / "killed")
    killed = subprocess.run([sys.executable, PROGRAM, folder, *death], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    stored = sorted((folder / "out/checkpoints/000000").glob("*.ckpt"))
    assert [path.name for path in stored] == ["p0.ckpt", "p1.ckpt", "p2.ckpt"]
    for path in stored:
        checkpoint = decode_checkpoint(path.read_bytes())
        assert checkpoint is not None
        assert checkpoint.state.evaluations == int(death[0]) - 1
    ended = _finish(folder)
    expected_folder, expected = undisturbed_folder
    for name in ("p0.png", "p1.png", "p2.png"):
        made, other = (place / "out/images/000000" / name for place in (folder, expected_folder))
        assert made.read_bytes() == other.read_bytes()
    assert ended["notices"] == [[], [], []]
    for row, other_row in zip(ended["rows"], expected["rows"], strict=True):
        assert (row["loss_curve"], row["evaluations"]) == (other_row["loss_curve"], other_row["evaluations"])
        assert (row["attempts"], other_row["attempts"]) == (2, 1)
    assert not list((folder / "out/checkpoints").rglob("*.ckpt"))


def _new_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in long_pairs.pictures().items():
        (folder / name).write_bytes(data)
    return folder


def _finish(folder: Path) -> Any:
    done = subprocess.run([sys.executable, PROGRAM, folder], capture_output=True, check=True)
    return json.loads(done.stdout)


class TestWhatIsFound:
    """Checkpoints of another moment, of other work, damaged, out of reach."""

    @pytest.fixture
    def task(self) -> Task:
        return long_pairs.make_tasks("/in", iterations=6, tolerance=0.0)[0]

    @pytest.fixture
    def uri(self, worker: Worker, task: Task) -> str:
        """A worker died after three evaluations and left this."""
        with pytest.raises(InterruptedWorkerError):
            worker([task], dies_after=3)
        return LAYOUT.checkpoint(0, "p0")

    def test_it_is_gone_on_from(self, worker: Worker, store: MemoryStore, task: Task, uri: str) -> None:
        worker(resumed([task]))
        assert worker.evaluations == [4, 5, 6]
        assert uri not in store.objects

    @pytest.mark.parametrize("damage", ["cut", "flipped", "other format", "empty"])
    def test_a_damaged_one_is_ignored_and_said(
        self, worker: Worker, store: MemoryStore, task: Task, uri: str, damage: str
    ) -> None:
        data = store.objects[uri]
        store.objects[uri] = {
            "cut": data[:-1],
            "flipped": data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
            "other format": b"stylebatch checkpoint 0\n" + data[24:],
            "empty": b"",
        }[damage]
        (outcome,) = worker(resumed([task]))
        assert (outcome.row or {})["status"] == "ok"
        assert worker.evaluations == [1, 2, 3, 4, 5, 6]
        assert "was ignored, the pair starts anew" in outcome.notices[0]
        assert uri not in store.objects

    def test_what_is_said(self, worker: Worker, store: MemoryStore, task: Task, uri: str) -> None:
        store.objects[uri] = b"a shopping list"
        (outcome,) = worker(resumed([task]))
        assert outcome.row is not None
        assert outcome.row["status"] == "ok"
        assert outcome.notices == (
            "the checkpoint /out/checkpoints/000000/p0.ckpt was ignored, the pair starts anew: "
            "it is damaged, or of another version's format",
        )

    def test_one_of_other_work_is_ignored_and_said(
        self, worker: Worker, store: MemoryStore, task: Task, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stylebatch.pair.checkpoints.torch.__version__", "1.0")
        store.put("/in/c.png", store.objects["/in/d.png"])
        (outcome,) = worker(resumed([task]))
        assert outcome.notices[0].endswith("it belongs to other work (another torch, content)")
        assert (outcome.row or {})["status"] == "ok"

    def test_one_that_may_not_be_read_is_ignored_and_said(
        self, worker: Worker, store: MemoryStore, task: Task, uri: str
    ) -> None:
        store.errors["get", uri] = AccessDeniedError(f"{uri}: access denied")
        (outcome,) = worker(resumed([task]))
        assert f"the pair starts anew: {uri}: access denied" in outcome.notices[0]
        assert (outcome.row or {})["status"] == "ok"

    def test_a_storage_that_is_away_is_not_taken_for_a_missing_checkpoint(
        self, worker: Worker, store: MemoryStore, task: Task, uri: str
    ) -> None:
        store.errors["get", uri] = StorageUnavailableError("no answer")
        (outcome,) = worker(resumed([task]))
        assert outcome.stops_job
        assert uri in store.objects

    def test_without_memory_for_it_the_pair_starts_anew(
        self, worker: Worker, store: MemoryStore, task: Task, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stylebatch.pair.checkpointing.host_bytes", lambda: 100_000)
        (outcome,) = worker(resumed([task]), checkpoint_seconds=None)
        assert "that takes 0.00" in outcome.notices[0]
        assert "and there are 0.0001 GB" in outcome.notices[0]
        assert (outcome.row or {})["status"] == "ok"

    def test_another_attempt_asks_for_it_unasked(
        self, worker: Worker, store: MemoryStore, task: Task, uri: str
    ) -> None:
        worker([replace(task, attempt=2)])
        assert worker.evaluations == [4, 5, 6]

    def test_the_time_spent_before_counts(self, worker: Worker, store: MemoryStore, task: Task) -> None:
        """By a clock that goes on by one second whenever somebody looks at it."""
        with pytest.raises(InterruptedWorkerError):
            worker([task], dies_after=3, clock=_ticking())
        checkpoint = decode_checkpoint(store.objects[LAYOUT.checkpoint(0, "p0")])
        assert checkpoint is not None
        assert checkpoint.seconds >= 1
        (alone,) = worker([task], checkpoint_seconds=None, clock=_ticking())
        clear = {uri: data for uri, data in store.objects.items() if "/images/" not in uri}
        store.objects = clear
        (ended,) = worker(resumed([task]), checkpoint_seconds=None, clock=_ticking())
        assert ended.row is not None
        assert alone.row is not None
        assert ended.row["seconds"] == alone.row["seconds"] + checkpoint.seconds

    def test_pairs_that_stand_elsewhere_are_not_in_one_batch(
        self, worker: Worker, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tasks = long_pairs.make_tasks("/in", iterations=6, tolerance=0.0)
        with pytest.raises(InterruptedWorkerError):
            worker(tasks[:2], dies_after=3)
        outcomes = worker(resumed(tasks))
        assert [outcome.row and outcome.row["batch"] for outcome in outcomes] == [2, 2, 1]
        assert [outcome.row and outcome.row["evaluations"] for outcome in outcomes] == [6, 6, 6]


def _ticking() -> Callable[[], float]:
    moments = iter(range(100_000))
    return lambda: float(next(moments))
