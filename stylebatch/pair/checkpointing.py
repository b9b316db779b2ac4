"""When checkpoints are stored, and what is gone on from: the checkpoints of one worker's pairs."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from stylebatch.errors import AccessDeniedError, NotFoundError, StorageError
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.checkpoints import (
    Checkpoint,
    decode_checkpoint,
    differences,
    encode_checkpoint,
    pair_identity,
)
from stylebatch.pair.loading import LoadedPair
from stylebatch.pair.memory import COMFORTABLE_SHARE, gigabytes, host_bytes, is_out_of_memory
from stylebatch.synthesis.projection import state_bytes
from stylebatch.synthesis.state import ImageState, TakeStates
from stylebatch.synthesis.vgg import VGG19
from stylebatch.work import Task

MOST_SHARE = 0.05
"""Of the time: what checkpoints may take. Where taking and storing them is slow, there are fewer of them."""


@dataclass
class PairUnderWay:
    """A pair on its way through a worker, and what is learned there."""

    task: Task
    """The pair."""
    loaded: LoadedPair
    """Its pictures."""
    may_have_checkpoint: bool
    """Whether there may be one in storage now."""
    standing: ImageState | None = None
    """Where it goes on; None: at its start image."""
    seconds: float = 0.0
    """Spent on it before :attr:`standing`."""
    ran_out_of_memory: bool = False
    """Whether that has happened once while it had the worker to itself."""
    target_hits: int = 0
    """Its targets that the worker had at hand."""
    target_misses: int = 0
    """Its targets that were computed for it."""
    notices: list[str] = field(default_factory=list)
    """What the user should be told."""

    @property
    def place(self) -> tuple[int, int]:
        """Where it goes on: after so many smaller sizes, and so many evaluations of the next."""
        standing = self.standing
        return (len(standing.smaller_evaluations), standing.evaluations) if standing else (0, 0)

    def let_go(self) -> ImageState:
        """Where it goes on, which is not kept any longer."""
        standing, self.standing = self.standing, None
        assert standing is not None
        return standing

    def tell(self, notice: str) -> None:
        """Note what the user should be told, once."""
        if notice not in self.notices:
            self.notices.append(notice)


class CheckpointKeeper:
    """Reads, stores and removes checkpoints.

    Args:
        store: Where the output is.
        layout: Names below it.
        seconds: Between two checkpoints of a batch; None stores none.
        clock: Seconds from some moment on.
        on_stored: Called after each that was stored.
    """

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        seconds: float | None,
        clock: Callable[[], float],
        on_stored: Callable[[], None] = lambda: None,
    ) -> None:
        self.seconds = seconds
        self.clock = clock
        self.is_wanted_soon = threading.Event()
        self.background = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._store = store
        self._layout = layout
        self._on_stored = on_stored

    def recall(self, network: VGG19, pair: PairUnderWay) -> None:
        """Learn where an earlier attempt stood, if there is a checkpoint that fits; if it does not, say so.

        Raises:
            StorageError: The storage cannot be asked now.
        """
        if not pair.may_have_checkpoint or pair.standing:
            return
        uri = self._uri(pair.task)
        try:
            found = self._usable(network, pair, uri)
        except NotFoundError:
            pair.may_have_checkpoint = False
        else:
            if isinstance(found, Checkpoint):
                pair.standing, pair.seconds = found.state, found.seconds
            else:
                pair.tell(f"the checkpoint {uri} was ignored, the pair starts anew: {found}")

    def _usable(self, network: VGG19, pair: PairUnderWay, uri: str) -> Checkpoint | str:
        """The checkpoint, or why it cannot be used."""
        if lack := lack_of_memory([pair], copies=3):  # the object, its payload and the tensors
            return lack
        try:
            checkpoint = decode_checkpoint(self._store.get(uri))
        except AccessDeniedError as error:
            return str(error)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return "there is not enough memory for it"
        if checkpoint is None:
            return "it is damaged, or of another version's format"
        differing = differences(checkpoint.identity, pair_identity(network, pair.loaded))
        return f"it belongs to other work (another {', '.join(differing)})" if differing else checkpoint

    def put(self, network: VGG19, pair: PairUnderWay, state: ImageState, seconds: float) -> None:
        """Store where a pair stands, in place of what was stored before; where that fails, say so."""
        uri = self._uri(pair.task)
        pair.may_have_checkpoint = True
        try:
            data = encode_checkpoint(Checkpoint(pair_identity(network, pair.loaded), state, seconds))
            self._store.put(uri, data)
        except StorageError as error:
            pair.tell(f"the checkpoint {uri} could not be stored: {error}")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            pair.tell(f"the checkpoint {uri} could not be stored: there is not enough memory to encode it")
        else:
            self._on_stored()

    def remove(self, task: Task) -> str | None:
        """Remove the checkpoint of a pair that has ended; what to tell if that fails."""
        uri = self._uri(task)
        try:
            self._store.delete(uri)
        except StorageError as error:
            return f"the checkpoint {uri} of a pair that has ended could not be removed: {error}"
        return None

    def _uri(self, task: Task) -> str:
        return self._layout.checkpoint(task.unit, task.pair.pair_id)


class BatchWatch:
    """Stores where the pairs of one batch stand whenever it is time, while their synthesis goes on."""

    def __init__(self, keeper: CheckpointKeeper, network: VGG19) -> None:
        self._keeper = keeper
        self._network = network
        self._started = keeper.clock()
        self._due = self._started + (keeper.seconds or 0)
        self._pairs: Sequence[PairUnderWay] = ()
        self._storing: Future[None] | None = None
        self._is_over = threading.Event()

    def begin(self, pairs: Sequence[PairUnderWay]) -> None:
        """The synthesis of these pairs begins."""
        self._pairs = pairs

    @property
    def seconds(self) -> float:
        """Since the start, for each pair."""
        return (self._keeper.clock() - self._started) / max(1, len(self._pairs))

    def offer(self, take_states: TakeStates) -> None:
        """Copy where the images stand, if it is time; they are stored in the background."""
        if not self._is_time():
            return
        keeper, began, seconds = self._keeper, self._keeper.clock(), self.seconds
        keeper.is_wanted_soon.clear()
        self._due = began + (keeper.seconds or 0)
        states = self._taken(take_states)
        if states:
            self._storing = keeper.background.submit(self._store, states, began, seconds)

    def end(self) -> None:
        """The synthesis is over: what is not being stored yet will not be."""
        self._is_over.set()

    def wait(self) -> None:
        """Return when nothing is being stored any more, after :meth:`end`."""
        if self._storing is not None:
            self._storing.result()

    def _is_time(self) -> bool:
        """Whether the timer or somebody asks for it, and the last ones are stored."""
        keeper = self._keeper
        if keeper.seconds is None or (self._storing is not None and not self._storing.done()):
            return False
        return keeper.is_wanted_soon.is_set() or keeper.clock() >= self._due

    def _taken(self, take_states: TakeStates) -> list[ImageState]:
        """The states; none, and a notice, where there is no memory for a copy."""
        lack = lack_of_memory(self._pairs, copies=1)
        try:
            states = [] if lack else take_states()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            states, lack = [], "out of memory"
        if lack:
            self._pairs[0].tell(f"no checkpoint of {len(self._pairs)} pictures could be taken: {lack}")
        return states

    def _store(self, states: list[ImageState], began: float, seconds: float) -> None:
        """In the background: one object after the other, each state let go once it is stored."""
        for pair in self._pairs:
            if self._is_over.is_set():
                return
            self._keeper.put(self._network, pair, states.pop(0), pair.seconds + seconds)
        taken = self._keeper.clock() - began
        self._due = began + max(self._keeper.seconds or 0, taken / MOST_SHARE)


def lack_of_memory(pairs: Sequence[PairUnderWay], copies: int) -> str | None:
    """What to say if this machine has no memory for so many copies of pairs' states, and an encoded one."""
    recipe, shape = pairs[0].loaded.recipe, pairs[0].loaded.start.shape
    needed, available = state_bytes(recipe, *shape[1:]) * (copies * len(pairs) + 1), host_bytes()
    if available is None or needed <= COMFORTABLE_SHARE * available:
        return None
    return f"that takes {gigabytes(needed)} of memory and there are {gigabytes(available)}"
