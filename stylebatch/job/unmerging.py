"""Running failed rows of merged files again: their units are taken out of the files, and opened again.

The rows of such a unit are put into ``reopened/`` first. Then a generation without it is switched to, in one
step for all units: before it they are finished; after it they are open, and their good rows are in
``reopened/``. The other units of the same files are written anew without them, so that no reader of the
folder finds a row that is out of date.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from stylebatch.errors import JobError
from stylebatch.job.identity import Job
from stylebatch.job.ledger import Ledger
from stylebatch.job.merge_plan import DEFAULT_LIMITS, MergeLimits, MergePlan, plan_without
from stylebatch.job.merged_files import Output, make_generation
from stylebatch.job.parallel import for_each
from stylebatch.job.parts import reopened_part
from stylebatch.objectstore import ObjectStore
from stylebatch.results import Results, encode_table

AT_ONCE = 64
"""Units whose rows are held in memory while they are copied."""


def reopen_merged(
    job: Job,
    store: ObjectStore,
    ledger: Ledger,
    check: Callable[[], None],
    limits: MergeLimits = DEFAULT_LIMITS,
) -> Ledger:
    """Let every failed row of merged files run again; without any, nothing is touched.

    Args:
        job: The job.
        store: Where its output is.
        ledger: What the output holds; no switch is under way.
        check: Called before every change; raises if this driver must make none.
        limits: How large merged files are.

    Returns:
        What the output holds now.

    Raises:
        JobError: A merged file is damaged.
    """
    held = ledger.held
    concerned = [file for file in held.files if file.failed_units]
    if not concerned:
        return ledger
    units = frozenset(unit for file in concerned for span in file.failed_units for unit in span)
    check()
    store.delete(job.layout.success)
    _copy_out(job, store, Results(store, job.layout, lambda: held), sorted(units), check)
    kept = tuple(file for file in held.files if not file.failed_units)
    runs = tuple(run for file in concerned for run in plan_without(file, units, job.unit_size, limits))
    output = Output(store, job.layout, job.manifest.num_rows, job.unit_size, check)
    return replace(
        ledger,
        held=make_generation(output, held, MergePlan(kept, runs), limits),
        finished=ledger.finished - units,
        reopened=ledger.reopened | units,
    )


def _copy_out(
    job: Job, store: ObjectStore, results: Results, units: Sequence[int], check: Callable[[], None]
) -> None:
    """Put the rows of units of merged files where the rows of units stand whose failed rows run again."""

    def put(copy: tuple[int, bytes]) -> None:
        check()
        store.put(reopened_part(job.layout, copy[0]), copy[1])

    for first in range(0, len(units), AT_ONCE):
        some = units[first : first + AT_ONCE]
        for_each(put, [(unit, encode_table(results.read(unit))) for unit in some])


def check_generation(job: Job, ledger: Ledger) -> None:
    """Make sure that merged files are of this job.

    Raises:
        JobError: They are not.
    """
    generation = ledger.held.generation
    mine = (job.manifest.num_rows, job.unit_size)
    if generation and (generation.rows, generation.unit_size) != mine:
        raise JobError(
            f"{job.layout.generation} is of a job of {generation.rows} rows in units of "
            f"{generation.unit_size}, this one has {mine[0]} in units of {mine[1]}; put it back from a copy"
        )
