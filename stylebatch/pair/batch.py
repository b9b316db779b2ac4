"""Run one batch of pairs: load, synthesize, publish. What fails for one pair fails for it alone."""

import socket
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from stylebatch.errors import CredentialsError, StorageFullError, StylebatchError, SynthesisError
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.loading import LoadedPair, Loader
from stylebatch.pair.networks import load_network
from stylebatch.pair.publishing import publish, solution_facts
from stylebatch.pair.targets import TargetCache
from stylebatch.pictures import DEFAULT_MAX_PIXELS
from stylebatch.pictures.encoding import as_published
from stylebatch.recipe import Recipe
from stylebatch.results import Layout
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.synthesize import Problem, Solution, synthesize
from stylebatch.synthesis.vgg import VGG19
from stylebatch.work import Activity, Facts, Outcome, Task, failed_row

TRANSFER_THREADS = 8

Loaded = tuple[Task, LoadedPair]


@dataclass(frozen=True)
class Limits:
    """What a worker may use."""

    picture_cache_bytes: int = 256 * 2**20
    """For decoded images."""
    target_cache_bytes: int = 512 * 2**20
    """For responses and Gram matrices."""
    max_pixels: int = DEFAULT_MAX_PIXELS
    """Of a source image; a larger one is refused before it is decoded."""


class BatchRunner:
    """Runs batches with one network, one storage client and its caches.

    Any number of threads may call :meth:`run`: images are fetched and published in the caller's thread and
    a few more, while all synthesis happens in a single thread, one batch after the other.

    Args:
        store: Where images are read and written.
        layout: The output.
        device: A torch device.
        compute: Runs the synthesis; an executor with one thread.
        limits: Sizes of the caches.
    """

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        device: str,
        compute: ThreadPoolExecutor,
        limits: Limits = Limits(),
    ) -> None:
        self.activity = Activity()
        self.targets = TargetCache(limits.target_cache_bytes)
        self._store = store
        self._layout = layout
        self._device = device
        self._compute = compute
        self._transfer = ThreadPoolExecutor(TRANSFER_THREADS, thread_name_prefix="transfer")
        self._loader = Loader(store, limits.picture_cache_bytes, limits.max_pixels)
        self._networks: dict[tuple[str, str | None], VGG19] = {}
        self._lock = threading.Lock()

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Work on pairs; those that came out alike in shape and settings share forward passes.

        Returns:
            One outcome for each task, in any order. Nothing is raised for what is wrong with a pair.
        """
        loaded = list(self._transfer.map(self._load, tasks))
        outcomes = [item for item in loaded if isinstance(item, Outcome)]
        ready = [item for item in loaded if not isinstance(item, Outcome)]
        for group in _alike(ready):
            outcomes += self._compute_and_publish(group)
        return outcomes

    def network(self, recipe: Recipe) -> VGG19:
        """The network of a recipe; the one used last stays loaded."""
        key = (recipe.weights, recipe.weights_family)
        with self._lock:
            if key not in self._networks:
                self._networks.clear()
                self._networks[key] = load_network(recipe, self._store, self._device)
            return self._networks[key]

    def _load(self, task: Task) -> Loaded | Outcome:
        try:
            return task, self._loader.load(task.pair)
        except StylebatchError as error:
            return _failure(task, error)

    def _compute_and_publish(self, group: Sequence[Loaded]) -> list[Outcome]:
        tasks = [task for task, _ in group]
        try:
            made = self._compute.submit(self._synthesize, group).result()
        except StylebatchError as error:
            return [_failure(task, error) for task in tasks]
        return made.failures + list(self._transfer.map(lambda one: self._publish(made, *one), made.pictures))

    def _synthesize(self, group: Sequence[Loaded]) -> "_Made":
        recipe = group[0][1].recipe
        self.activity = Activity("loading weights", tuple(task.pair.pair_id for task, _ in group))
        try:
            network = self.network(recipe)
            started = time.perf_counter()
            ready, problems, failures = self._problems(network, group)
            pair_ids = tuple(task.pair.pair_id for task, _ in ready)
            self.activity = Activity("synthesizing", pair_ids, 0, recipe.iterations)
            solutions = self._solve(network, problems)
            seconds = (time.perf_counter() - started) / max(1, len(ready))
        finally:
            self.activity = Activity()
        pictures = [(*one, solution) for one, solution in zip(ready, solutions, strict=True)]
        return _Made(network, pictures, failures, seconds)

    def _problems(
        self, network: VGG19, group: Sequence[Loaded]
    ) -> tuple[list[Loaded], list[Problem], list[Outcome]]:
        """The pairs that have a problem to solve, their problems, and what became of the others."""
        ready, problems, failures = [], [], []
        for task, loaded in group:
            try:
                problems.append(self.targets.problem(network, loaded))
                ready.append((task, loaded))
            except SynthesisError as error:
                failures.append(_failure(task, error))
        return ready, problems, failures

    def _solve(self, network: VGG19, problems: Sequence[Problem]) -> list[Solution]:
        if not problems:
            return []
        return synthesize(
            network,
            problems,
            publish=lambda image, recipe: as_published(image, recipe.format, recipe.quality),
            on_evaluation=self._count,
        )

    def _count(self, evaluations: int) -> None:
        self.activity = replace(self.activity, evaluations=evaluations)

    def _publish(self, made: "_Made", task: Task, loaded: LoadedPair, solution: Solution) -> Outcome:
        run: Facts = {
            "seconds": made.seconds,
            "attempts": task.attempt,
            "batch": len(made.pictures),
            "device": self._device,
            "host": socket.gethostname(),
        }
        try:
            check_solution(solution)
            facts = solution_facts(made.network, loaded, solution)
            row = publish(self._store, self._layout, task.unit, task.pair, solution, facts, run)
        except StylebatchError as error:
            return _failure(task, error, is_output=True)
        return Outcome(task, row)


@dataclass(frozen=True)
class _Made:
    """What came of a group of pairs."""

    network: VGG19
    """That made the pictures."""
    pictures: list[tuple[Task, LoadedPair, Solution]]
    """Not yet published."""
    failures: list[Outcome]
    """Of pairs that could not be worked on."""
    seconds: float
    """For each picture."""


def check_solution(solution: Solution) -> None:
    """Raise SynthesisError for a picture that the optimiser could not work on."""
    if solution.stop_reason is StopReason.NOT_FINITE:
        raise SynthesisError(
            f"the loss was not finite after {solution.evaluations} evaluations, again after a restart from "
            "the last good image with a smaller step; use smaller weights"
        )
    curve = solution.loss_curve
    if solution.stop_reason is StopReason.NO_DESCENT and not curve[-1] < curve[0]:
        raise SynthesisError(
            f"no step lowers the loss ({curve[0]:.4g}) of the start image; use another start or other weights"
        )


def _failure(task: Task, error: StylebatchError, is_output: bool = False) -> Outcome:
    """The outcome of an error. Around a pair's own images and weights, little concerns the other pairs."""
    concerns_all = is_output or isinstance(error, CredentialsError | StorageFullError)
    row = failed_row(task.pair, type(error).__name__, str(error), task.attempt)
    return Outcome(task, row, can_retry=error.can_retry, stops_job=error.stops_job and concerns_all)


def _alike(
    ready: Iterable[Loaded],
) -> Iterable[list[Loaded]]:
    """Groups that can share forward passes."""
    groups: dict[object, list[Loaded]] = {}
    for task, loaded in ready:
        key = (
            loaded.start.shape,
            loaded.content is None,
            not loaded.styles,
            loaded.recipe.shared_settings,
        )
        groups.setdefault(key, []).append((task, loaded))
    return groups.values()
