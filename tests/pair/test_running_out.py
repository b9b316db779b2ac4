"""Batches for which there is not enough memory: foreseen, told by a failure, and with real failures."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from inmemory import MemoryStore, picture_bytes

from stylebatch.layout import Layout
from stylebatch.pair import making, memory
from stylebatch.pair.batch import BatchRunner
from stylebatch.pair.memory import gigabytes
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import batch_bytes, measuring_bytes
from stylebatch.work import Outcome, Task

PairMaker = Callable[..., Pair]
PROGRAM = Path(__file__).with_name("little_memory.py")


class Scarce:
    """Memory for so many pictures: a batch of more is told so, or fails, and is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 1
        self.batches: list[int] = []
        self.error: Exception = MemoryError()
        self.frees = 0
        self._synthesize = making.synthesize
        monkeypatch.setattr(making, "synthesize", self.synthesize)
        monkeypatch.setattr(making, "available_bytes", lambda device: self.foreseen)
        self.foreseen: int | None = None

    def synthesize(self, network: Any, problems: Any, **named: Any) -> Any:
        self.batches.append(len(problems))
        if len(problems) > self.most:
            raise self.error
        return self._synthesize(network, problems, **named)


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Scarce:
    return Scarce(monkeypatch)


@pytest.fixture
def runner(store: MemoryStore, network: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchRunner]:
    monkeypatch.setattr(making, "load_network", lambda *_: network)
    with ThreadPoolExecutor(1) as compute:
        yield BatchRunner(store, Layout("/out"), "cpu", compute)


@pytest.fixture
def tasks(make_pair: PairMaker) -> list[Task]:
    return [Task(make_pair("c", "s", pair_id=f"p{row}", row=row, seed=row), 0) for row in range(5)]


def statuses(outcomes: list[Outcome]) -> list[str]:
    ordered = sorted(outcomes, key=lambda outcome: outcome.task.pair.row)
    return [str((outcome.row or {})["status"]) for outcome in ordered]


def notices(outcomes: list[Outcome]) -> list[str]:
    return [notice for outcome in outcomes for notice in outcome.notices]


class TestABatch:
    def test_that_runs_out_is_halved_down_to_one(
        self, runner: BatchRunner, scarce: Scarce, tasks: list[Task]
    ) -> None:
        outcomes = runner.run(tasks)
        assert statuses(outcomes) == ["ok"] * 5
        assert scarce.batches == [5, 3, 2, 1, 1, 1, 2, 1, 1]
        assert {(outcome.row or {})["batch"] for outcome in outcomes} == {1}
        assert len(notices(outcomes)) == 4
        assert notices(outcomes)[0].startswith("5 pictures of 48 x 36 pixels were made 3 at a time: together")

    def test_only_as_far_as_it_must(self, runner: BatchRunner, scarce: Scarce, tasks: list[Task]) -> None:
        scarce.most = 3
        runner.run(tasks)
        assert scarce.batches == [5, 3, 2]

    def test_of_one_picture_is_tried_twice_and_fails(
        self, runner: BatchRunner, scarce: Scarce, tasks: list[Task]
    ) -> None:
        scarce.most = 0
        outcome, _ = runner.run(tasks[:2])
        assert scarce.batches == [2, 1, 1, 1, 1]
        row = outcome.row or {}
        assert row["error_type"] == "MemoryExceededError"
        needed = gigabytes(batch_bytes(tasks[0].pair.recipe, 36, 48))
        assert f"this picture of 48 x 36 pixels needs about {needed} (projected)" in row["error"]
        assert row["error"].endswith("use a smaller size")
        assert not outcome.can_retry
        assert not outcome.stops_job

    def test_of_one_picture_has_the_targets_room_the_second_time(
        self, runner: BatchRunner, scarce: Scarce, tasks: list[Task], network: Any
    ) -> None:
        scarce.most = 0
        runner.run(tasks[:1])
        assert network.calls == 4  # content and style, measured twice
        hits = runner.targets.hits
        runner.run(tasks[:1])
        assert runner.targets.hits == hits  # an empty cache by then

    def test_that_is_foreseen_not_to_fit_is_not_tried(
        self, runner: BatchRunner, scarce: Scarce, tasks: list[Task]
    ) -> None:
        scarce.most = 2
        scarce.foreseen = int(2.9 * batch_bytes(tasks[0].pair.recipe, 36, 48))
        outcomes = runner.run(tasks)
        assert statuses(outcomes) == ["ok"] * 5
        assert scarce.batches == [2, 2, 1]
        (notice,) = notices(outcomes)
        assert notice.startswith(
            "5 pictures of 48 x 36 pixels were made 2 at a time: together they need about 0.0"
        )

    def test_of_which_no_picture_can_fit_fails_at_once(
        self, runner: BatchRunner, scarce: Scarce, tasks: list[Task]
    ) -> None:
        scarce.foreseen = 1000
        outcomes = runner.run(tasks)
        assert statuses(outcomes) == ["failed"] * 5
        assert scarce.batches == []
        assert "there are 1e-06 GB on" in (outcomes[0].row or {})["error"]

    def test_whose_thread_is_spoilt_goes_on_in_another(
        self, runner: BatchRunner, scarce: Scarce, tasks: list[Task]
    ) -> None:
        threads: list[int] = []
        scarce.error = RuntimeError("could not create a primitive")
        real = scarce.synthesize

        def noted(*arguments: Any, **named: Any) -> Any:
            threads.append(torch.get_num_threads())
            return real(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(making, "synthesize", noted)
            before = runner._compute._executor
            outcomes = runner.run(tasks[:2])
        assert statuses(outcomes) == ["ok", "ok"]
        assert runner._compute._executor is not before
        assert len(set(threads)) == 1

    def test_with_other_errors_is_not_halved(
        self, runner: BatchRunner, scarce: Scarce, tasks: list[Task]
    ) -> None:
        scarce.error = RuntimeError("a bug")
        with pytest.raises(RuntimeError, match="a bug"):
            runner.run(tasks)
        assert scarce.batches == [5]

    def test_goes_on_from_its_checkpoints(
        self,
        store: MemoryStore,
        network: Any,
        scarce: Scarce,
        make_pair: PairMaker,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It runs out after three evaluations, in the middle of a batch of two."""
        monkeypatch.setattr(making, "load_network", lambda *_: network)
        tasks = [Task(make_pair("c", "s", pair_id=f"p{row}", row=row, iterations=6), 0) for row in range(2)]
        done: list[int] = []
        scarce.most = 2
        with ThreadPoolExecutor(1) as compute:
            runner = BatchRunner(
                store, Layout("/out"), "cpu", compute, checkpoint_seconds=0, clock=lambda: 0.0
            )

            def synthesize(network: Any, problems: Any, **named: Any) -> Any:
                def count(evaluations: int) -> None:
                    runner._keeper.background.submit(int).result()
                    done.append(evaluations)
                    if len(problems) == 2 and evaluations == 3:
                        raise MemoryError

                return scarce.synthesize(network, problems, **{**named, "on_evaluation": count})

            monkeypatch.setattr(making, "synthesize", synthesize)
            outcomes = runner.run(tasks)
        assert statuses(outcomes) == ["ok", "ok"]
        assert done == [1, 2, 3, 3, 4, 5, 6, 3, 4, 5, 6]
        assert not [uri for uri in store.objects if uri.endswith(".ckpt")]


def test_an_image_too_large_to_measure_fails_its_pair_alone(
    runner: BatchRunner, store: MemoryStore, make_pair: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("/in/large.png", picture_bytes(400, 300))
    room = measuring_bytes(Recipe().style_layers, 100, 100)
    monkeypatch.setattr(memory, "available_bytes", lambda device: room)
    pairs = [make_pair("c", style, pair_id=f"p{row}", row=row) for row, style in enumerate(["s", "large"])]
    small, large = pairs[0], Pair("p1", 1, pairs[1].content, pairs[1].styles, Recipe(size=48, style_size=400))
    outcomes = runner.run([Task(small, 0), Task(large, 0)])
    assert statuses(outcomes) == ["ok", "failed"]
    row = next(outcome.row for outcome in outcomes if outcome.task.pair is large) or {}
    assert row["error_type"] == "MemoryExceededError"
    assert "to measure an image of 400 x 300 pixels takes about 0.07" in row["error"]
    assert row["error"].endswith("use a smaller size, or style_size for a style")


def test_images_that_cannot_be_decoded_fail_their_pair_alone(
    runner: BatchRunner, make_pair: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pair: Pair) -> None:
        raise MemoryError("no room for pixels")

    monkeypatch.setattr(runner._loader, "load", fail)
    (outcome,) = runner.run([Task(make_pair("c", "s"), 0)])
    assert (outcome.row or {})["error_type"] == "MemoryExceededError"
    assert "the images of this pair do not fit into the memory of" in (outcome.row or {})["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
class TestAllocationsThatReallyFail:
    """In a process with a limited address space; room is counted in pictures by their projected bytes."""

    def run(self, pictures: float, foresight: str) -> Any:
        # Without a heap, what is freed is given back: the room is what it is said to be.
        heap = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
        command = [sys.executable, "-W", "error", str(PROGRAM), str(pictures), foresight]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | heap)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def test_four_fail_and_two_fit(self) -> None:
        """The tensors of the batch that failed are gone: there is no room for them beside the halves."""
        told = self.run(2.5, "blind")
        assert [row["batch"] for row in told["rows"]] == [2, 2, 2, 2]
        assert len(told["reasons"]) == 1
        assert "can't allocate memory" in told["reasons"][0]
        assert len(told["notices"]) == 1

    def test_with_foresight_nothing_fails(self) -> None:
        told = self.run(1.4, "foresight")
        assert [row["batch"] for row in told["rows"]] == [1, 1, 1, 1]
        assert told["reasons"] == []
        assert "were made 1 at a time" in told["notices"][0]

    def test_where_nothing_fits_every_pair_fails_and_the_worker_lives(self) -> None:
        told = self.run(0.5, "blind")
        assert [row["error_type"] for row in told["rows"]] == ["MemoryExceededError"] * 4
        assert "which ran out (" in told["rows"][0]["error"]
        assert told["again"] == ["ok"]
