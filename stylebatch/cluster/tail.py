"""Second runs of what is slow, by workers that have nothing else to do; the end of runs that lost."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from stylebatch.cluster.events import Tell, batch_dispatched
from stylebatch.cluster.fleet import Fleet
from stylebatch.cluster.members import Member
from stylebatch.cluster.schedule import Candidate, moved
from stylebatch.cluster.stragglers import Durations, HeldBatch, SecondRuns, worth_a_second_run


class Tail:
    """Gives batches that workers have had for long to idle ones as well.

    Args:
        fleet: The workers.
        second_runs: Which pairs run twice; whoever settles outcomes asks it which of them count.
        is_safe: Whether the storage lets only the first of two runs commit a pair; else none runs twice.
        tell: Takes note of what a worker is given.
    """

    def __init__(self, fleet: Fleet[Candidate], second_runs: SecondRuns, is_safe: bool, tell: Tell) -> None:
        self.notices: list[str] = []
        self.durations = Durations()
        self._fleet = fleet
        self._second_runs = second_runs
        self._is_safe = is_safe
        self._tell = tell

    def repeat(self, ready: Sequence[Member[Candidate]]) -> None:
        """Nothing waits any more: let idle workers run what is slow a second time.

        Args:
            ready: The workers that may be given something.
        """
        idle = [member for member in ready if not member.batches]
        if not idle or not self._is_safe:
            return
        now, owners = time.monotonic(), self._fleet.owners
        worth = worth_a_second_run(self._held(now), self.durations.median)
        for reference, member in zip(worth, idle, strict=False):
            self._repeat(owners[reference], reference, member, now)

    def _held(self, now: float) -> Iterator[HeldBatch]:
        """The batches that may be run a second time."""
        for member in self._fleet.members:
            for position, (reference, batch) in enumerate(member.batches.items()):
                if all(self._may_be_repeated(candidate) for candidate in batch):
                    is_leaving = member.leaves is not None
                    yield HeldBatch(reference, now - member.began, position > 0, is_leaving)

    def _may_be_repeated(self, candidate: Candidate) -> bool:
        return not candidate.is_suspect and not self._second_runs.was_begun(candidate.task.pair.row)

    def _repeat(self, owner: Member[Candidate], reference: Any, other: Member[Candidate], now: float) -> None:
        self._fleet.ask_for_checkpoint(owner)  # the other goes on from there, if it comes in time
        batch = owner.batches[reference]
        for candidate in batch:
            self._second_runs.begin(candidate.task.pair.row)
        other.give([moved(candidate) for candidate in batch], now)
        self._tell(batch_dispatched(other.progress, batch))
        (host, process), (_, second) = owner.place, other.place
        self.notices.append(
            f"{len(batch)} pairs that a worker on {host} (process {process}) has had for long run a second "
            f"time (process {second}); the first picture counts"
        )

    def losers(self) -> list[Member[Candidate]]:
        """The workers all of whose pairs have their pictures from other workers."""
        if not self._second_runs:
            return []
        return [member for member in self._fleet.members if member.batches and self._has_lost(member)]

    def _has_lost(self, member: Member[Candidate]) -> bool:
        return all(self._second_runs.is_won(candidate.task.pair.row) for candidate in member.candidates)
