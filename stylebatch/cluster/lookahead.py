"""From a stream of tasks to candidates: a bounded look-ahead that learns the shape each picture will have.

Pairs share a forward pass only if their pictures come out at one shape, which depends on the content image's
size. Where a batch could hold more than one picture, the driver reads the first bytes of each content image;
no pixel is decoded.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue

from stylebatch.cluster.schedule import Candidate
from stylebatch.errors import StylebatchError
from stylebatch.job import READERS, ShapeReader, batch_group
from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import largest_batch
from stylebatch.work import Task

FLATTEST = 4
"""Pictures up to this ratio of sides are told apart by shape; flatter ones may run alone."""

Known = tuple[int, "Future[Candidate]"]
"""A candidate that is known, or why it is not, after its number in the stream."""


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
        self._depth = depth
        self._is_gpu = is_gpu
        self._most = most
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="header")
        self._known: SimpleQueue[Known] = SimpleQueue()
        self._pulled = 0
        self._taken = 0
        self._is_at_the_end = False
        self._shapes = ShapeReader(store)

    @property
    def is_exhausted(self) -> bool:
        """Whether every task has been handed out."""
        return self._is_at_the_end and not self._held

    @property
    def _held(self) -> int:
        """Tasks that are held, whether their headers are read or not."""
        return self._pulled - self._taken

    def take(self, room: int, timeout: float) -> list[Candidate]:
        """At most ``room`` candidates whose shape is known, in order where possible.

        Args:
            room: How many can wait elsewhere.
            timeout: Seconds to wait if none is known yet.
        """
        self._fill(room)
        ready: list[Known] = []
        while self._held and len(ready) < room:
            try:
                ready.append(self._known.get(timeout=0 if ready else timeout))
            except Empty:
                break
            self._taken += 1
        return [future.result() for _, future in sorted(ready, key=lambda known: known[0])]

    def close(self) -> None:
        """Stop reading."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _fill(self, room: int) -> None:
        while not self._is_at_the_end and self._held < min(self._depth, room):
            task = next(self._tasks, None)
            if task is None:
                self._is_at_the_end = True
                return
            self._look_at(self._pulled, task)
            self._pulled += 1

    def _look_at(self, number: int, task: Task) -> None:
        """Put a task's candidate into the queue: at once, or when a thread has read its header."""
        if self._most == 1 or self._smallest_batch_is_one(task.pair.recipe):
            future: Future[Candidate] = Future()
            future.set_result(_alone(task))
        else:
            future = self._readers.submit(self._candidate, task)
        future.add_done_callback(partial(self._note, number))

    def _note(self, number: int, future: "Future[Candidate]") -> None:
        self._known.put((number, future))

    def _candidate(self, task: Task) -> Candidate:
        try:
            width, height = self._shapes.output_size(task.pair)
        except StylebatchError:
            return _alone(task)  # the worker meets the same error and reports it as the pair's own
        most = largest_batch(height, width, self._is_gpu)
        return Candidate(task, batch_group(task.pair, width, height), min(most, self._most or most))

    def _smallest_batch_is_one(self, recipe: Recipe) -> bool:
        """Whether even a flat picture of this recipe would be alone in its batch."""
        sides = recipe.size or 0, recipe.shorter_side or 0
        smallest = recipe.pixels or sides[0] ** 2 // FLATTEST or sides[1] ** 2
        return largest_batch(smallest, 1, self._is_gpu) == 1


def _alone(task: Task) -> Candidate:
    return Candidate(task, group=("alone", task.pair.row), largest_batch=1)
