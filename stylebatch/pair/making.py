"""Make the pictures of loaded pairs: everything that happens in the compute thread."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from stylebatch.errors import MemoryExceededError, StylebatchError, SynthesisError
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.checkpointing import BatchWatch, CheckpointKeeper, PairUnderWay
from stylebatch.pair.finishing import finish
from stylebatch.pair.memory import (
    available_bytes,
    even_sizes,
    free_unused,
    is_out_of_memory,
    pieces,
    spoils_thread,
    trim_heap,
)
from stylebatch.pair.monitor import Monitor
from stylebatch.pair.networks import load_network, reaches
from stylebatch.pair.targets import TargetCache
from stylebatch.recipe import Recipe
from stylebatch.synthesis.problems import Problem, Solution
from stylebatch.synthesis.projection import batch_bytes
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.vgg import VGG19


@dataclass(frozen=True)
class Made:
    """What came of a batch of pairs."""

    network: VGG19
    """That made the pictures."""
    pictures: list[tuple[PairUnderWay, Solution]]
    """Not yet published."""
    failures: list[tuple[PairUnderWay, StylebatchError]]
    """The pairs that could not be worked on."""
    seconds: float
    """For each picture."""
    watch: BatchWatch
    """That stored checkpoints, and may still be storing the last."""


@dataclass(frozen=True)
class Shortage:
    """There is not enough memory for a batch as it is."""

    sizes: list[int]
    """Of the pieces in which to try it; empty if nothing more is to be tried."""
    available: int | None
    """Bytes that there were; None where nobody tells."""
    reason: str = ""
    """What the failed allocation said; empty where nothing was tried."""


class PictureMaker:
    """Holds the network and the targets, and runs the synthesis of one batch at a time.

    Args:
        store: Where weights are read.
        device: Where the work is done.
        targets: The targets of earlier batches.
        keeper: Of checkpoints.
        monitor: Is told what is being done.
        renew_thread: Has the next batch run in another thread than this one.
    """

    def __init__(
        self,
        store: ObjectStore,
        device: torch.device,
        targets: TargetCache,
        keeper: CheckpointKeeper,
        monitor: Monitor,
        renew_thread: Callable[[], None],
    ) -> None:
        self._store = store
        self._device = device
        self._targets = targets
        self._keeper = keeper
        self._monitor = monitor
        self._renew_thread = renew_thread
        self._networks: dict[tuple[str, str | None], VGG19] = {}
        self._lock = threading.Lock()

    def network(self, recipe: Recipe) -> VGG19:
        """The network of a recipe; the one used last stays loaded."""
        key = (recipe.weights, recipe.weights_family)
        with self._lock:
            if key not in self._networks or not reaches(self._networks[key], recipe):
                self._networks.clear()
                self._networks[key] = load_network(
                    recipe, self._store, str(self._device), recipe.deepest_layer
                )
            return self._networks[key]

    def prepare(self, pairs: Sequence[PairUnderWay]) -> VGG19:
        """The network of a batch."""
        self._monitor.begin("loading weights", _ids(pairs))
        try:
            return self.network(pairs[0].loaded.recipe)
        finally:
            self._monitor.begin()

    def attempt(self, network: VGG19, pairs: Sequence[PairUnderWay]) -> Made | Shortage:
        """Make the pictures of a batch, or find that there is not enough memory for them."""
        recipe = pairs[0].loaded.recipe
        self._monitor.begin("synthesizing", _ids(pairs), recipe.scales * recipe.iterations)
        watch = BatchWatch(self._keeper, network)
        try:
            return self._foreseen_shortage(pairs) or self._make(network, pairs, watch)
        except Exception as error:
            watch.end()
            watch.wait()
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        finally:
            watch.end()
            self._monitor.begin()
        # Only here, with the exception, are the frames gone that hold on to the batch's tensors.
        self._make_room()
        if spoils_thread(reason):
            self._renew_thread()
        return Shortage(_smaller_sizes(pairs), available_bytes(self._device), reason)

    def _foreseen_shortage(self, pairs: Sequence[PairUnderWay]) -> Shortage | None:
        """What the batch will lack, judged by its projected bytes before it is started."""
        loaded = pairs[0].loaded
        needed = partial(batch_bytes, loaded.recipe, *loaded.start.shape[1:])
        available = available_bytes(self._device)
        if pieces(len(pairs), needed, available) == [len(pairs)]:
            return None
        self._make_room()
        available = available_bytes(self._device)
        sizes = pieces(len(pairs), needed, available)
        return None if sizes == [len(pairs)] else Shortage(sizes, available)

    def _make_room(self) -> None:
        self._targets.clear()
        free_unused(self._device)

    def _make(self, network: VGG19, pairs: Sequence[PairUnderWay], watch: BatchWatch) -> Made:
        ready, problems, failures = self._problems(network, pairs)
        trim_heap()  # measuring left pieces that are too small for what comes
        watch.begin(ready)
        solutions = self._solve(network, ready, problems, watch)
        return Made(network, list(zip(ready, solutions, strict=True)), failures, watch.seconds, watch)

    def _problems(
        self, network: VGG19, pairs: Sequence[PairUnderWay]
    ) -> tuple[list[PairUnderWay], list[Problem], list[tuple[PairUnderWay, StylebatchError]]]:
        """The pairs that have a problem to solve, their problems, and the others with the reason."""
        ready: list[PairUnderWay] = []
        problems: list[Problem] = []
        failures: list[tuple[PairUnderWay, StylebatchError]] = []
        for pair in pairs:
            hits, misses = self._targets.hits, self._targets.misses
            try:
                problems.append(self._targets.problem(network, pair.loaded))
                ready.append(pair)
            except (SynthesisError, MemoryExceededError) as error:
                failures.append((pair, error))
            pair.target_hits, pair.target_misses = self._targets.hits - hits, self._targets.misses - misses
            self._monitor.advance()
        return ready, problems, failures

    def _solve(
        self, network: VGG19, ready: Sequence[PairUnderWay], problems: Sequence[Problem], watch: BatchWatch
    ) -> list[Solution]:
        if not problems:
            return []
        return synthesize(
            network,
            problems,
            publish=lambda image, number: finish(image, ready[number].loaded),
            on_evaluation=self._monitor.evaluated,
            resume=(pair.let_go() for pair in ready) if ready[0].standing else (),
            offer=watch.offer,
        )


def _ids(pairs: Sequence[PairUnderWay]) -> list[str]:
    return [pair.task.pair.pair_id for pair in pairs]


def _smaller_sizes(pairs: Sequence[PairUnderWay]) -> list[int]:
    """Two halves; a single picture is tried once more, now that there is as much room as can be made."""
    if len(pairs) > 1:
        return even_sizes(len(pairs), 2)
    (pair,) = pairs
    sizes = [] if pair.ran_out_of_memory else [1]
    pair.ran_out_of_memory = True
    return sizes
