"""What a worker is doing, noted by the threads that do it and read by any other."""

import threading
from collections.abc import Sequence
from dataclasses import replace

from stylebatch.work import Activity


class Monitor:
    """The activity of one worker. Its progress only ever grows."""

    def __init__(self) -> None:
        self._activity = Activity()
        self._lock = threading.Lock()

    @property
    def activity(self) -> Activity:
        """What is being done now."""
        return self._activity

    def begin(self, stage: str = "idle", pair_ids: Sequence[str] = (), iterations: int = 0) -> None:
        """A new stage has begun, of no pair in particular or of a batch."""
        with self._lock:
            self._activity = Activity(stage, tuple(pair_ids), 0, iterations, self._activity.progress + 1)

    def advance(self) -> None:
        """Something is done: an image fetched, targets measured, a picture or a checkpoint stored."""
        with self._lock:
            self._activity = replace(self._activity, progress=self._activity.progress + 1)

    def evaluated(self, evaluations: int) -> None:
        """The batch has used so many evaluations."""
        with self._lock:
            self._activity = replace(
                self._activity, evaluations=evaluations, progress=self._activity.progress + 1
            )
