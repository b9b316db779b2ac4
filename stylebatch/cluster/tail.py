"""Second runs of what is late or may end last, by idle workers; the end of runs that lost."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from stylebatch.cluster.events import Tell, batch_dispatched
from stylebatch.cluster.fleet import Fleet
from stylebatch.cluster.members import Member
from stylebatch.cluster.schedule import Candidate, moved
from stylebatch.cluster.stragglers import (
    Durations,
    HeldBatch,
    SecondRuns,
    may_end_last,
    spared_runs,
    worth_a_second_run,
)

FORESIGHT = (
    "idle workers run a second time what may end last, at most one batch for a hundred that have ended; "
    "the first picture counts"
)
"""Said once in a run: there may be hundreds of them."""


class Tail:
    """Gives batches that workers have had for long, or that may end last, to idle ones as well.

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
        self._begun = 0
        self._has_said = False
        self._is_safe = is_safe
        self._tell = tell

    def repeat(self, ready: Sequence[Member[Candidate]]) -> None:
        """Nothing waits any more: let idle workers run what is late, or may end last, a second time.

        Args:
            ready: The workers that may be given something.
        """
        members = [member for member in ready if not member.batches]
        if not members or not self._is_safe:
            return
        owners, held, median = self._fleet.owners, [*self._held()], self.durations.median
        idle = iter(members)
        for reference, member in zip(worth_a_second_run(held, median), idle, strict=False):
            self._say_late(owners[reference], reference, member)
            self._repeat(owners[reference], reference, member)
        spared = spared_runs(self.durations.ended, self._begun)
        for reference, member in zip(may_end_last(held, median)[:spared], idle, strict=False):
            self._say_foresight()
            self._repeat(owners[reference], reference, member)

    def _held(self) -> Iterator[HeldBatch]:
        """The batches that may be run a second time."""
        now = time.monotonic()
        for member in self._fleet.members:
            for position, (reference, batch) in enumerate(member.batches.items()):
                if self._second_runs.may_begin(batch):
                    yield HeldBatch(
                        reference,
                        now - member.began,
                        is_waiting=position > 0,
                        is_leaving=member.leaves is not None,
                        is_repeated=self._second_runs.known(batch[0]).is_repeated,
                    )

    def _repeat(self, owner: Member[Candidate], reference: Any, other: Member[Candidate]) -> None:
        self._fleet.ask_for_checkpoint(owner)  # the other goes on from there, if it comes in time
        batch = [moved(self._second_runs.known(candidate)) for candidate in owner.batches[reference]]
        for candidate in batch:
            self._second_runs.begin(candidate.task.pair.row)
        self._begun += 1
        other.give(batch, time.monotonic())
        self._tell(batch_dispatched(other.progress, batch))

    def _say_late(self, owner: Member[Candidate], reference: Any, other: Member[Candidate]) -> None:
        (host, process), (_, second) = owner.place, other.place
        self.notices.append(
            f"{len(owner.batches[reference])} pairs that a worker on {host} (process {process}) has had for "
            f"long run a second time (process {second}); the first picture counts"
        )

    def _say_foresight(self) -> None:
        if not self._has_said:
            self.notices.append(FORESIGHT)
        self._has_said = True

    def losers(self) -> list[Member[Candidate]]:
        """The workers all of whose pairs have their pictures from other workers."""
        if not self._second_runs:
            return []
        return [member for member in self._fleet.members if member.batches and self._has_lost(member)]

    def _has_lost(self, member: Member[Candidate]) -> bool:
        return all(self._second_runs.is_won(candidate.task.pair.row) for candidate in member.candidates)
