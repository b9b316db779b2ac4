"""A batch of pairs: what can share a forward pass does, and what fails for one fails for it alone."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from inmemory import MemoryStore, picture_bytes

from stylebatch.errors import (
    BucketNotFoundError,
    CredentialsError,
    NotFoundError,
    StorageFullError,
    StorageUnavailableError,
    SynthesisError,
    WeightsError,
)
from stylebatch.layout import Layout, image_sha256
from stylebatch.pair import making
from stylebatch.pair.batch import BatchRunner, Limits
from stylebatch.pair.monitor import Monitor
from stylebatch.pair.outcomes import check_solution
from stylebatch.pairs import Pair
from stylebatch.pictures import decode
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.problems import Solution
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import Weights
from stylebatch.work import Activity, Outcome, Task

PairMaker = Callable[..., Pair]
LAYOUT = Layout("/out")
INFINITE = {"style_weight": 1e15, "style_layer_weights": [1e15] * 5}
"""A style loss that no float32 holds."""


@pytest.fixture
def runner(store: MemoryStore, network: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchRunner]:
    monkeypatch.setattr(making, "load_network", lambda *_: network)
    with ThreadPoolExecutor(1) as compute:
        yield BatchRunner(store, LAYOUT, "cpu", compute)


@pytest.fixture
def group_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many problems each call of ``synthesize`` got."""
    sizes: list[int] = []
    real = making.synthesize

    def counted(network: Any, problems: Any, **named: Any) -> list[Solution]:
        sizes.append(len(problems))
        return real(network, problems, **named)

    monkeypatch.setattr(making, "synthesize", counted)
    return sizes


@pytest.fixture
def make_tasks(make_pair: PairMaker) -> Callable[..., list[Task]]:
    """``make_tasks(("c", "s"), ("d", "s", {"seed": 1}), ...)``: one task for each, numbered."""

    def make(*pairs: tuple[Any, ...], **shared: Any) -> list[Task]:
        tasks = []
        for row, parts in enumerate(pairs):
            names = [part for part in parts if not isinstance(part, dict)]
            recipe = shared | next((part for part in parts if isinstance(part, dict)), {})
            tasks.append(Task(make_pair(*names, pair_id=f"p{row}", row=row, **recipe), unit=row // 2))
        return tasks

    return make


TaskMaker = Callable[..., list[Task]]


def by_row(outcomes: list[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.task.pair.row)


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [str(outcome.row and outcome.row["status"]) for outcome in by_row(outcomes)]


class TestGroups:
    def test_pairs_of_one_shape_share_a_forward_pass(
        self, runner: BatchRunner, make_tasks: TaskMaker, group_sizes: list[int], store: MemoryStore
    ) -> None:
        tasks = make_tasks(("c", "s"), ("d", "s", {"seed": 4}), ("c", "t", {"style_weight": 5.0}))
        outcomes = by_row(runner.run(tasks))
        assert group_sizes == [3]
        assert [outcome.task for outcome in outcomes] == tasks
        assert statuses(outcomes) == ["ok"] * 3
        for outcome in outcomes:
            row, unit = outcome.row, outcome.task.unit
            assert row is not None
            assert row["image"] == f"/out/images/{unit:06d}/{outcome.task.pair.pair_id}.png"
            assert row["image_sha256"] == image_sha256(store.objects[row["image"]])
            assert decode(store.objects[row["image"]], "x").size == (48, 36)
            assert (row["batch"], row["device"], row["attempts"]) == (3, "cpu", 1)
            assert row["seconds"] > 0

    def test_mixed_shapes_and_settings_are_split(
        self, runner: BatchRunner, make_tasks: TaskMaker, group_sizes: list[int]
    ) -> None:
        tasks = make_tasks(
            ("c", "s"), ("tall", "s"), ("d", "s"), ("c",), (None, "t"), ("c", "s", {"pooling": "max"}), ("d",)
        )
        outcomes = runner.run(tasks)
        assert statuses(outcomes) == ["ok"] * 7
        assert sorted(group_sizes) == [1, 1, 1, 2, 2]
        batches = [outcome.row["batch"] for outcome in by_row(outcomes) if outcome.row]
        assert batches == [2, 1, 2, 2, 1, 1, 2]

    def test_formats_may_differ_in_a_batch(
        self, runner: BatchRunner, make_tasks: TaskMaker, group_sizes: list[int], store: MemoryStore
    ) -> None:
        formats = ["png", "jpeg", "npy"]
        outcomes = runner.run(make_tasks(*(("c", "s", {"format": format}) for format in formats)))
        assert group_sizes == [3]
        assert [outcome.row and outcome.row["image"][-4:] for outcome in by_row(outcomes)] == [
            ".png",
            ".jpg",
            ".npy",
        ]

    def test_nothing_to_do(self, runner: BatchRunner) -> None:
        assert runner.run([]) == []


class TestFailures:
    def test_a_bad_image_fails_its_pair_alone(
        self, runner: BatchRunner, make_tasks: TaskMaker, store: MemoryStore
    ) -> None:
        store.put("/in/text.png", b"a shopping list")
        store.put("/in/cut.png", picture_bytes(64, 48)[:-300])
        outcomes = by_row(
            runner.run(make_tasks(("c", "s"), ("text", "s"), ("gone", "s"), ("c", "cut"), ("d", "s")))
        )
        assert statuses(outcomes) == ["ok", "failed", "failed", "failed", "ok"]
        rows = [outcome.row or {} for outcome in outcomes]
        assert [row.get("error_type") for row in rows[1:4]] == [
            "PictureError",
            "NotFoundError",
            "PictureError",
        ]
        assert rows[1]["error"].startswith("/in/text.png is not a picture in a format that")
        assert rows[2]["error"] == "/in/gone.png: nothing is there"
        assert rows[1]["attempts"] == 1
        assert not any(outcome.can_retry or outcome.stops_job for outcome in outcomes)

    def test_an_image_over_the_limit_fails_its_pair(
        self, store: MemoryStore, network: Any, make_tasks: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(making, "load_network", lambda *_: network)
        with ThreadPoolExecutor(1) as compute:
            runner = BatchRunner(store, LAYOUT, "cpu", compute, Limits(max_pixels=3000))
            outcomes = runner.run(make_tasks(("c", "s"), (None, "s")))
        assert statuses(outcomes) == ["failed", "ok"]

    def test_a_loss_that_is_not_finite_fails_its_pair_alone(
        self, runner: BatchRunner, make_tasks: TaskMaker, group_sizes: list[int], store: MemoryStore
    ) -> None:
        outcomes = by_row(runner.run(make_tasks(("c", "s"), ("d", "s", INFINITE))))
        assert group_sizes == [2]
        assert statuses(outcomes) == ["ok", "failed"]
        row = outcomes[1].row or {}
        assert row["error_type"] == "SynthesisError"
        assert "the loss was not finite after" in row["error"]
        assert row["error"].endswith("use smaller weights")
        assert (outcomes[1].can_retry, outcomes[1].stops_job) == (False, False)
        assert not [uri for uri in store.objects if "p1" in uri]

    def test_a_style_too_small_for_its_layers_fails_its_pair_alone(
        self, runner: BatchRunner, make_tasks: TaskMaker, store: MemoryStore
    ) -> None:
        store.put("/in/strip.png", picture_bytes(400, 10))  # 48 x 1 pixels at this size
        outcomes = by_row(runner.run(make_tasks(("c", "s"), ("d", "strip"), ("c", "t"))))
        assert "too small for conv5_1" in str((outcomes[1].row or {}).get("error"))
        assert statuses(outcomes) == ["ok", "failed", "ok"]

    def test_a_neighbour_that_fails_changes_no_picture(
        self, runner: BatchRunner, make_tasks: TaskMaker, store: MemoryStore
    ) -> None:
        runner.run(make_tasks(("c", "s"), ("gone", "s")))
        alone = store.objects.pop("/out/images/000000/p0.png")
        runner.run(make_tasks(("c", "s")))
        assert store.objects["/out/images/000000/p0.png"] == alone

    def test_a_storage_that_is_away_can_be_tried_again(
        self, runner: BatchRunner, make_tasks: TaskMaker, store: MemoryStore
    ) -> None:
        store.errors["get_range", "/in/d.png"] = StorageUnavailableError("/in/d.png: the storage is away")
        outcomes = by_row(runner.run(make_tasks(("c", "s"), ("d", "s"))))
        assert statuses(outcomes) == ["ok", "failed"]
        assert [outcome.can_retry for outcome in outcomes] == [False, True]
        assert not any(outcome.stops_job for outcome in outcomes)

    @pytest.mark.parametrize(
        ("method", "uri", "error", "stops"),
        [
            ("get_range", "/in/c.png", CredentialsError("wrong key"), True),
            ("put_if_absent", "/out/images/000000/p0.png", StorageUnavailableError("no answer"), True),
            ("put_if_absent", "/out/images/000000/p0.png", CredentialsError("wrong key"), True),
            ("put_if_absent", "/out/images/000000/p0.png", StorageFullError("no room"), True),
            ("put_if_absent", "/out/images/000000/p0.png", BucketNotFoundError("no bucket"), True),
            ("get_range", "/in/c.png", BucketNotFoundError("no bucket"), False),
            ("get_range", "/in/c.png", NotFoundError("no object"), False),
        ],
    )
    def test_what_every_pair_would_meet_stops_the_job(
        self,
        runner: BatchRunner,
        make_tasks: TaskMaker,
        store: MemoryStore,
        method: str,
        uri: str,
        error: Exception,
        stops: bool,
    ) -> None:
        store.errors[method, uri] = error
        (outcome,) = runner.run(make_tasks(("c", "s")))
        assert outcome.stops_job is stops
        assert outcome.row is not None
        assert (outcome.row["status"], outcome.row["error"]) == ("failed", str(error))

    def test_a_row_s_own_weights_that_are_wrong_fail_its_pairs_alone(
        self, runner: BatchRunner, make_tasks: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> None:
            raise WeightsError("w.pth is not a VGG-19")

        monkeypatch.setattr(making, "load_network", refuse)
        outcomes = runner.run(make_tasks(("c", "s"), ("d", "s")))
        assert [outcome.stops_job for outcome in outcomes] == [False, False]
        assert {outcome.row["error"] for outcome in outcomes if outcome.row} == {"w.pth is not a VGG-19"}
        assert runner.activity.stage == "idle"

    def test_another_attempt_that_was_first_has_the_row(
        self, runner: BatchRunner, make_tasks: TaskMaker, store: MemoryStore
    ) -> None:
        store.put("/out/images/000000/p0.png", b"the winner's")
        (outcome,) = runner.run(make_tasks(("c", "s")))
        assert outcome.row is None
        assert not outcome.stops_job

    def test_an_unexpected_error_is_not_hidden(
        self, runner: BatchRunner, make_tasks: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(making, "synthesize", broken)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            runner.run(make_tasks(("c", "s")))


class TestCheckSolution:
    def test_a_stop_for_want_of_progress_is_fine(self, solution: Solution) -> None:
        check_solution(solution)
        check_solution(_stopped(solution, StopReason.NO_DESCENT, (9.0, 4.0)))
        check_solution(_stopped(solution, StopReason.CONVERGED, (9.0, 9.0)))

    def test_a_start_that_nothing_improves_is_a_failure(self, solution: Solution) -> None:
        with pytest.raises(SynthesisError, match=r"no step lowers the loss \(9\) of the start image"):
            check_solution(_stopped(solution, StopReason.NO_DESCENT, (9.0, 9.0)))

    def test_the_message_says_how_far_it_came(self, solution: Solution) -> None:
        with pytest.raises(SynthesisError, match="not finite after 3 evaluations, again after a restart"):
            check_solution(_stopped(solution, StopReason.NOT_FINITE, (9.0, 4.0)))


def _stopped(solution: Solution, reason: StopReason, curve: tuple[float, ...]) -> Solution:
    return Solution(**{**vars(solution), "stop_reason": reason, "loss_curve": curve})


class TestState:
    def test_the_last_network_stays_loaded(
        self, store: MemoryStore, network: Any, make_pair: PairMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded: list[str] = []

        def load(recipe: Any, *_: Any) -> Any:
            loaded.append(recipe.weights)
            return network

        monkeypatch.setattr(making, "load_network", load)
        with ThreadPoolExecutor(1) as compute:
            runner = BatchRunner(store, LAYOUT, "cpu", compute)
            for weights in ("caffe", "caffe", "/w.pth", "/w.pth", "caffe"):
                runner.network(make_pair("c", weights=weights).recipe)
        assert loaded == ["caffe", "/w.pth", "caffe"]

    def test_a_recipe_that_looks_deeper_gets_a_deeper_network(
        self, store: MemoryStore, weights: Weights, make_pair: PairMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded: list[str] = []

        def load(recipe: Any, store: Any, device: str, deepest: str) -> VGG19:
            loaded.append(deepest)
            return VGG19(weights, deepest)

        monkeypatch.setattr(making, "load_network", load)
        with ThreadPoolExecutor(1) as compute:
            runner = BatchRunner(store, LAYOUT, "cpu", compute)
            for layer in ("conv3_1", "conv2_1", "conv5_2", "conv5_1"):
                runner.network(make_pair("c", style_layers=[layer], content_layers=["conv1_1"]).recipe)
        assert loaded == ["conv3_1", "conv5_2"]

    def test_targets_are_kept_between_batches(
        self, runner: BatchRunner, make_tasks: TaskMaker, network: Any
    ) -> None:
        runner.run(make_tasks(("c", "s"), iterations=0))
        assert network.calls == 3  # two targets and the published picture
        runner.run(make_tasks(("c", "s"), iterations=0, style_weight=3.0))
        assert network.calls == 4

    def test_small_caches_change_nothing(
        self, store: MemoryStore, network: Any, make_tasks: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(making, "load_network", lambda *_: network)
        images = []
        for limits in (Limits(), Limits(0, 0)):
            with ThreadPoolExecutor(1) as compute:
                BatchRunner(store, LAYOUT, "cpu", compute, limits).run(make_tasks(("c", "s")))
            images.append(store.objects.pop("/out/images/000000/p0.png"))
        assert images[0] == images[1]

    def test_the_activity_tells_what_is_being_done(
        self, runner: BatchRunner, make_tasks: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Activity] = []
        real = Monitor.evaluated

        def watched(self: Monitor, evaluations: int) -> None:
            real(self, evaluations)
            seen.append(self.activity)

        monkeypatch.setattr(Monitor, "evaluated", watched)
        runner.run(make_tasks(("c", "s"), ("d", "s"), iterations=3))
        before = seen[0].progress - 1
        assert seen == [Activity("synthesizing", ("p0", "p1"), done, 3, before + done) for done in (1, 2, 3)]
        assert runner.activity.stage == "idle"

    def test_progress_grows_with_everything_that_is_done(
        self, runner: BatchRunner, make_tasks: TaskMaker
    ) -> None:
        seen = [runner.activity.progress]
        for tasks in (
            make_tasks(("gone", "s")),
            make_tasks(("c", "s")),
            make_tasks(("c", "s"), iterations=9),
        ):
            runner.run(tasks)
            seen.append(runner.activity.progress)
        steps = [after - before for before, after in itertools.pairwise(seen)]
        assert steps[0] == 0
        assert steps[1] >= 1 + 1 + 2 + 1  # images fetched, targets measured, evaluations, picture stored
        assert steps[2] == steps[1] + 7

    def test_batches_may_overlap_while_one_thread_computes(
        self, runner: BatchRunner, make_tasks: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: set[int] = set()
        real = making.synthesize

        def noted(*arguments: Any, **named: Any) -> list[Solution]:
            threads.add(threading.get_ident())
            return real(*arguments, **named)

        monkeypatch.setattr(making, "synthesize", noted)
        tasks = make_tasks(("c", "s"), ("d", "s"), ("tall", "s"), ("c", "t"))
        with ThreadPoolExecutor(2) as callers:
            outcomes = [one for run in callers.map(runner.run, (tasks[:2], tasks[2:])) for one in run]
        assert statuses(outcomes) == ["ok"] * 4
        assert len(threads) == 1
