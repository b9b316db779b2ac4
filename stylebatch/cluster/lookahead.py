"""From a stream of tasks to candidates: a bounded look-ahead that learns the shape each picture will have.

Pairs share a forward pass only if their pictures come out at one shape, which depends on the content image's
size. Where a batch could hold more than one picture, the driver reads the first bytes of each content image;
no pixel is decoded.
"""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from stylebatch.cluster.schedule import Candidate
from stylebatch.errors import StylebatchError
from stylebatch.job import READERS, ShapeReader, batch_group
from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import largest_batch
from stylebatch.work import Task

FLATTEST = 4
"""Pictures up to this ratio of sides are told apart by shape; flatter ones may run alone."""


class LookAhead:
    """Turns tasks into candidates, a bounded number at a time.

    Args:
        tasks: The stream.
        store: Where the images are.
        depth: How many tasks are held while their headers are read.
        is_gpu: Whether GPUs do the work.
        most: The most pictures in a batch, whatever would fit; None is no limit.
    """

    def __init__(
        self,
        tasks: Iterator[Task],
        store: ObjectStore,
        depth: int,
        is_gpu: bool,
        most: int | None = None,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._depth = depth
        self._is_gpu = is_gpu
        self._most = most
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="header")
        self._reading: list[Future[Candidate]] = []
        self._is_exhausted = False
        self._shapes = ShapeReader(store)

    @property
    def is_exhausted(self) -> bool:
        """Whether every task has been handed out."""
        return self._is_exhausted and not self._reading

    def take(self, room: int, timeout: float) -> list[Candidate]:
        """At most ``room`` candidates whose shape is known, in order where possible.

        Args:
            room: How many can wait elsewhere.
            timeout: Seconds to wait if none is known yet.
        """
        self._fill(room)
        if self._reading and not any(future.done() for future in self._reading[:room]):
            wait(self._reading[:room], timeout, FIRST_COMPLETED)
        ready = [future for future in self._reading if future.done()][:room]
        self._reading = [future for future in self._reading if future not in ready]
        return [future.result() for future in ready]

    def close(self) -> None:
        """Stop reading."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _fill(self, room: int) -> None:
        while not self._is_exhausted and len(self._reading) < min(self._depth, room):
            task = next(self._tasks, None)
            if task is None:
                self._is_exhausted = True
            else:
                self._reading.append(self._readers.submit(self._candidate, task))

    def _candidate(self, task: Task) -> Candidate:
        alone = Candidate(task, group=("alone", task.pair.row), largest_batch=1)
        if self._most == 1 or self._smallest_batch_is_one(task.pair.recipe):
            return alone
        try:
            width, height = self._shapes.output_size(task.pair)
        except StylebatchError:
            return alone  # the worker meets the same error and reports it as the pair's own
        most = largest_batch(height, width, self._is_gpu)
        return Candidate(task, batch_group(task.pair, width, height), min(most, self._most or most))

    def _smallest_batch_is_one(self, recipe: Recipe) -> bool:
        """Whether even a flat picture of this recipe would be alone in its batch."""
        sides = recipe.size or 0, recipe.shorter_side or 0
        smallest = recipe.pixels or sides[0] ** 2 // FLATTEST or sides[1] ** 2
        return largest_batch(smallest, 1, self._is_gpu) == 1
