"""Merging the parts of a job into a few large files when every row of it has ended."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from stylebatch.errors import JobError
from stylebatch.job.generations import finish_switch, merged_tally
from stylebatch.job.identity import Job, read_identity
from stylebatch.job.lease import Lease
from stylebatch.job.ledger import sweep
from stylebatch.job.merge_plan import (
    DEFAULT_LIMITS,
    MergeLimits,
    is_worthwhile,
    may_be_worthwhile,
    plan_merge,
)
from stylebatch.job.merged_files import Output, make_generation
from stylebatch.job.opening import OpenedOutput
from stylebatch.job.publishing import encode_counts
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.results.generations import Holdings, look_at_results

Notify = Callable[[str], None]
"""Told what the user should know."""


@dataclass(frozen=True)
class Merging:
    """What merging came to."""

    parts: int
    """Parts whose rows are in merged files now."""
    files: int
    """Merged files that there are."""
    notices: tuple[str, ...] = ()
    """What the user should be told."""


def merge_at_end(
    job: Job,
    opened: OpenedOutput,
    notify: Notify = lambda notice: None,
    limits: MergeLimits = DEFAULT_LIMITS,
) -> None:
    """Merge the parts of a job whose rows have all ended, if that is worth it; else nothing is touched.

    ``_SUCCESS`` is written afterwards: until then no reader takes what is there for complete.

    Args:
        job: The job.
        opened: Its output, whose lease is held.
        notify: Told what the user should know.
        limits: What is worth it, and how large merged files are.

    Raises:
        JobError: A part is damaged.
        ConfigurationError: There is no room for a temporary file.
    """
    if not may_be_worthwhile(len(job.units), limits):
        return
    output = Output(opened.store, job.layout, job.manifest.num_rows, job.unit_size, opened.lease.check)
    held = look_at_results(output.store, job.layout)
    if not _missing(output, held) and is_worthwhile(held.files, held.parts, limits):
        notify(
            f"the results of {len(held.parts)} units are merged into few files; --no-merge leaves "
            "them as they are"
        )
        _merge(output, held, limits, notify)


def merge_output(store: ObjectStore, output: str, limits: MergeLimits = DEFAULT_LIMITS) -> Merging:
    """Take the lease on an output and merge all its parts, however few; one part alone stays.

    Args:
        store: Where it is.
        output: Canonical URI of the output folder of a job whose rows have all ended.
        limits: How large merged files are.

    Raises:
        LeaseError: A driver works there.
        JobError: It is no output, is not complete, or a part is damaged.
        ConfigurationError: There is no room for a temporary file.
    """
    layout = Layout(output)
    if not store.has_conditional_puts(output):
        store = store.unconditional()
    lease = Lease.take(store, layout)
    try:
        return _merge_all(_opened(store, layout, lease.check), limits)
    finally:
        lease.release()


def _opened(store: ObjectStore, layout: Layout, check: Callable[[], None]) -> Output:
    identity = read_identity(store, layout)
    if identity is None:
        raise JobError(f"there is no {layout.job}; is {layout.output} the output of a stylebatch run?")
    if identity.get("restarting"):
        raise JobError(
            f"a restart of {layout.output} was interrupted; run again with --restart to complete it"
        )
    rows, unit_size = identity.get("rows"), identity.get("unit_size")
    if not isinstance(rows, int) or not isinstance(unit_size, int) or unit_size < 1:
        raise JobError(f"{layout.job} does not say how many rows the job has; put it back from a copy")
    return Output(store, layout, rows, unit_size, check)


def _merge_all(output: Output, limits: MergeLimits) -> Merging:
    held = finish_switch(
        output.store, output.layout, look_at_results(output.store, output.layout), output.check
    )
    if missing := _missing(output, held):
        raise JobError(
            f"{output.layout.output} is not complete: {missing} of {len(output.units)} units have no results "
            "yet; run the job to its end, then merge"
        )
    if len(held.parts) == 1 and not held.files:
        return Merging(0, 0)
    notices: list[str] = []
    after = _merge(output, held, limits, notices.append) if held.parts else held
    output.check()
    # Also where nothing was left to merge: a merge that was killed may have left all but this.
    output.store.put_if_absent(output.layout.success, encode_counts(merged_tally(after.files)))
    return Merging(len(held.parts), len(after.files), tuple(notices))


def _missing(output: Output, held: Holdings) -> int:
    """How many units have no results."""
    return len({*output.units} - held.parts.keys() - held.merged_units)


def _merge(output: Output, held: Holdings, limits: MergeLimits, notify: Notify) -> Holdings:
    """Merge all parts. ``_SUCCESS`` goes first: while it is there, every row is in the folder once."""
    output.check()
    output.store.delete(output.layout.success)
    for notice in sweep(output.store, [output.layout.merging]):
        notify(notice)
    known = held.parts.keys() & {*output.units}
    parts = {unit: size for unit, size in held.parts.items() if unit in known}
    plan = plan_merge(held.files, parts, output.unit_size, limits)
    return make_generation(output, replace(held, parts=parts), plan, limits)
