"""What is left to do: the pairs that have not ended, as a stream of tasks."""

import itertools
from collections.abc import Iterator, Sequence

from stylebatch.job.book import UnitBook
from stylebatch.job.history import History, unit_history
from stylebatch.job.identity import Job
from stylebatch.job.ledger import Ledger
from stylebatch.job.opening import OpenedOutput
from stylebatch.pairs import Pair
from stylebatch.work import Task


def pending_tasks(job: Job, opened: OpenedOutput, book: UnitBook) -> Iterator[Task]:
    """Stream the pairs that have not ended, opening their units in the book.

    Pairs of open units that have ended before are added to the book instead. Finished units are skipped
    without reading their rows. Damaged records are told to ``opened.notices``.

    Raises:
        JobError: The part that a unit had before its failed rows run again is damaged.
    """
    ledger = opened.ledger
    for run in _runs([unit for unit in job.units if unit not in ledger.finished]):
        stream = job.manifest.pairs(job.recipe, run.start * job.unit_size)
        for unit in run:
            pairs = list(itertools.islice(stream, len(job.unit_rows(unit))))
            history = unit_history(job, opened.store, ledger, unit, pairs, opened.notices.append)
            book.open(unit)
            for pair in pairs:
                if pair.pair_id in history.kept:
                    book.keep(unit, pair.row)
                elif row := history.ended.get(pair.pair_id):
                    book.add(unit, row, is_new=False)
                else:
                    yield _task(job, ledger, history, unit, pair)


def _runs(units: Sequence[int]) -> Iterator[range]:
    """Maximal ranges of consecutive numbers."""
    start = 0
    for i in range(1, len(units) + 1):
        if i == len(units) or units[i] != units[i - 1] + 1:
            yield range(units[start], units[i - 1] + 1)
            start = i


def _task(job: Job, ledger: Ledger, history: History, unit: int, pair: Pair) -> Task:
    checkpoint = job.layout.checkpoint(unit, pair.pair_id)
    return Task(
        pair,
        unit,
        attempt=history.attempts.get(pair.pair_id, 0) + 1,
        has_checkpoint=checkpoint in ledger.checkpoints.get(unit, ()),
    )
