"""Run one batch of pairs: load, synthesize, publish. What fails for one pair fails for it alone."""

import socket
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from stylebatch.errors import MemoryExceededError, StorageError, StylebatchError
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.checkpointing import CheckpointKeeper, PairUnderWay
from stylebatch.pair.computing import ComputeThread, transfer_threads
from stylebatch.pair.loading import LoadedPair, Loader
from stylebatch.pair.making import Made, PictureMaker, Shortage
from stylebatch.pair.memory import is_out_of_memory, picture_exceeds, too_many_pictures
from stylebatch.pair.meter import Meter, MeteredStore
from stylebatch.pair.monitor import Monitor
from stylebatch.pair.outcomes import check_solution, failure, is_final
from stylebatch.pair.publishing import is_committed, publish, solution_facts
from stylebatch.pair.targets import TargetCache
from stylebatch.pictures import DEFAULT_MAX_PIXELS
from stylebatch.recipe import Recipe
from stylebatch.synthesis.problems import Solution
from stylebatch.synthesis.vgg import VGG19
from stylebatch.work import Activity, Facts, Outcome, Task

TRANSFER_THREADS = 8
CHECKPOINT_SECONDS = 60.0


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
        checkpoint_seconds: After so many, and so often, a batch stores where it stands; None: never.
        clock: Seconds from some moment on.
    """

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        device: str,
        compute: ThreadPoolExecutor,
        limits: Limits = Limits(),
        checkpoint_seconds: float | None = CHECKPOINT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.targets = TargetCache(limits.target_cache_bytes)
        self.meter = Meter(clock)
        store = MeteredStore(store, self.meter)
        self._store = store
        self._layout = layout
        self._device = torch.device(device)
        self._compute = ComputeThread(compute)
        self._transfer = transfer_threads(TRANSFER_THREADS)
        self._loader = Loader(store, limits.picture_cache_bytes, limits.max_pixels)
        self._monitor = Monitor()
        self._keeper = CheckpointKeeper(store, layout, checkpoint_seconds, clock, self._monitor.advance)
        self._maker = PictureMaker(
            store, self._device, self.targets, self._keeper, self._monitor, self._compute.renew
        )

    @property
    def activity(self) -> Activity:
        """What is being done now."""
        return self._monitor.activity

    def checkpoint_soon(self) -> None:
        """Store where the batch in work stands after its next evaluation, whatever the timer says."""
        self._keeper.is_wanted_soon.set()

    def network(self, recipe: Recipe) -> VGG19:
        """The network of a recipe; the one used last stays loaded."""
        return self._compute.run(lambda: self._maker.network(recipe))

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Work on pairs; those that came out alike in shape and settings share forward passes.

        Returns:
            One outcome for each task, in any order. Nothing is raised for what is wrong with a pair.
        """
        loaded = list(self._transfer.map(self._load, tasks))
        outcomes = [item for item in loaded if isinstance(item, Outcome)]
        pairs = [item for item in loaded if not isinstance(item, Outcome)]
        for group in _groups(pairs, _what_must_be_alike):
            outcomes += self._work_on(group)
        return outcomes

    def _load(self, task: Task) -> PairUnderWay | Outcome:
        """A pair's pictures, unless it needs no work: a run whose fate was unknown may have ended it."""
        has_run = task.attempt > 1 or task.has_checkpoint
        if has_run and is_committed(self._store, self._layout, task.unit, task.pair):
            return self._conclude(Outcome(task), may_have_checkpoint=True)
        try:
            with self.meter.timed("fetch_seconds"):
                loaded = self._fetch(task)
        except StylebatchError as error:
            return self._conclude(failure(task, error), may_have_checkpoint=has_run)
        self._monitor.advance()
        return PairUnderWay(task, loaded, may_have_checkpoint=has_run)

    def _fetch(self, task: Task) -> LoadedPair:
        try:
            return self._loader.load(task.pair)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            told = f"the images of this pair do not fit into the memory of {socket.gethostname()}: {error}"
        raise MemoryExceededError(told)

    def _work_on(self, pairs: Sequence[PairUnderWay]) -> list[Outcome]:
        """Pairs that can share forward passes where they stand at the same size and number of evaluations."""
        try:
            network = self._compute.run(lambda: self._maker.prepare(pairs))
        except StylebatchError as error:
            return [self._failed(pair, error) for pair in pairs]
        outcomes, ready = [], []
        for pair in pairs:  # one after the other: a state may take as much memory as half the work
            try:
                self._keeper.recall(network, pair)
                ready.append(pair)
            except StorageError as error:
                outcomes.append(self._failed(pair, error, is_output=True))
        for group in _groups(ready, lambda pair: pair.place):
            outcomes += self._make_and_publish(network, group)
        return outcomes

    def _make_and_publish(self, network: VGG19, pairs: Sequence[PairUnderWay]) -> list[Outcome]:
        try:
            made = self._compute.run(lambda: self._attempt(network, pairs))
        except StylebatchError as error:
            return [self._failed(pair, error) for pair in pairs]
        if isinstance(made, Shortage):
            return self._make_in_pieces(pairs, made)
        outcomes = [self._failed(pair, error) for pair, error in made.failures]
        return outcomes + list(self._transfer.map(lambda one: self._publish(made, *one), made.pictures))

    def _attempt(self, network: VGG19, pairs: Sequence[PairUnderWay]) -> Made | Shortage:
        with self.meter.timed("synthesize_seconds"):
            return self._maker.attempt(network, pairs)

    def _make_in_pieces(self, pairs: Sequence[PairUnderWay], shortage: Shortage) -> list[Outcome]:
        """Less at a time, from where the last checkpoints stand; or the end, if that is no help."""
        loaded, available = pairs[0].loaded, shortage.available
        height, width = loaded.start.shape[1:]
        if not shortage.sizes:
            error = picture_exceeds(loaded.recipe, width, height, self._device, available, shortage.reason)
            return [self._failed(pair, error) for pair in pairs]
        if len(pairs) > 1:
            pairs[0].tell(
                too_many_pictures(loaded.recipe, width, height, self._device, available, shortage.sizes)
            )
        outcomes, waiting = [], list(pairs)
        for size in shortage.sizes:
            outcomes += self._work_on(waiting[:size])
            del waiting[:size]
        return outcomes

    def _publish(self, made: Made, pair: PairUnderWay, solution: Solution) -> Outcome:
        with self.meter.timed("publish_seconds"):
            outcome = self._published(made, pair, solution)
        self._monitor.advance()
        made.watch.wait()  # so that no checkpoint can come after the one that is removed
        return self._conclude(outcome, pair.may_have_checkpoint, pair.notices)

    def _published(self, made: Made, pair: PairUnderWay, solution: Solution) -> Outcome:
        task = pair.task
        run: Facts = {
            "seconds": pair.seconds + made.seconds,
            "attempts": task.attempt,
            "batch": len(made.pictures),
            "target_hits": pair.target_hits,
            "target_misses": pair.target_misses,
            "device": str(self._device),
            "host": socket.gethostname(),
        }
        try:
            check_solution(solution)
            facts = solution_facts(made.network, pair.loaded, solution)
            row = publish(self._store, self._layout, task.unit, task.pair, solution, facts, run)
        except StylebatchError as error:
            return failure(task, error, is_output=True)
        return Outcome(task, row)

    def _failed(self, pair: PairUnderWay, error: StylebatchError, is_output: bool = False) -> Outcome:
        outcome = failure(pair.task, error, is_output)
        return self._conclude(outcome, pair.may_have_checkpoint, pair.notices)

    def _conclude(self, outcome: Outcome, may_have_checkpoint: bool, notices: Sequence[str] = ()) -> Outcome:
        """The outcome with its notices; of a pair that has ended, no checkpoint is left."""
        notice = self._keeper.remove(outcome.task) if may_have_checkpoint and is_final(outcome) else None
        return replace(outcome, notices=(*notices, notice) if notice else tuple(notices))


def _what_must_be_alike(pair: PairUnderWay) -> Hashable:
    """What pairs must agree on to share forward passes."""
    loaded = pair.loaded
    settings = loaded.recipe.shared_settings
    return loaded.start.shape, loaded.sizes, loaded.content is None, not loaded.styles, settings


def _groups(
    pairs: Iterable[PairUnderWay], key: Callable[[PairUnderWay], Hashable]
) -> Iterable[list[PairUnderWay]]:
    """The pairs with equal keys, in order."""
    groups: dict[Hashable, list[PairUnderWay]] = {}
    for pair in pairs:
        groups.setdefault(key(pair), []).append(pair)
    return groups.values()
