"""The start of a run: the output is taken, made this job's, and looked over."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from stylebatch.job.book import Tally
from stylebatch.job.generations import finish_switch, merged_tally
from stylebatch.job.identity import Job, claim_output
from stylebatch.job.lease import Lease, Leased
from stylebatch.job.ledger import DRIVER_LEFTOVER_SECONDS, Ledger, read_ledger, sweep, sweep_leftovers, tidy
from stylebatch.job.parallel import in_threads
from stylebatch.job.parts import part_tally
from stylebatch.job.reopening import reopen_failed
from stylebatch.job.restarting import start_over
from stylebatch.job.unmerging import check_generation, reopen_merged
from stylebatch.objectstore import ObjectStore, parent_uri


@dataclass(frozen=True)
class TakenOutput:
    """An output that no other driver works on."""

    lease: Lease
    """To be checked before anything is published, and released at the end."""
    store: ObjectStore
    """To be used from here on: it knows whether the storage has conditional puts."""
    is_conditional: bool
    """Whether it has."""
    notices: list[str]
    """What the user should be told."""


@dataclass(frozen=True)
class OpenedOutput:
    """An output that this driver alone works on."""

    lease: Lease
    """To be checked before anything is published, and released at the end."""
    store: ObjectStore
    """To be used from here on, also by workers: it knows whether the storage has conditional puts."""
    is_new: bool
    """Whether nothing has been done there before."""
    ledger: Ledger = field(default_factory=Ledger)
    """What the output holds beside images."""
    tally: Tally = field(default_factory=Tally)
    """What the finished units come to."""
    notices: list[str] = field(default_factory=list)
    """What the user should be told; :func:`~stylebatch.job.pending_tasks` adds to it as it looks at units."""
    is_conditional: bool = True
    """Whether conditional puts hold what they promise there: of two runs of a pair, only the first counts."""

    @property
    def finished(self) -> frozenset[int]:
        """Units whose part is published."""
        return self.ledger.finished


def open_output(
    job: Job, store: ObjectStore, *, restart: bool = False, retry_failed: bool = False
) -> OpenedOutput:
    """Take the lease, claim or empty the output, and find out what has been done.

    Args:
        job: The job.
        store: Where its output is.
        restart: Delete what the output's job has written, and start over.
        retry_failed: Let the rows run again that failed.

    Raises:
        LeaseError: Another driver works there.
        JobError: The output belongs to another job, is of another format, or is damaged.
    """
    taken = take_output(store, job.layout, DRIVER_LEFTOVER_SECONDS)
    try:
        opened = _claim(job, taken, restart)
        return opened if opened.is_new else _look_over(job, opened, retry_failed)
    except BaseException:
        taken.lease.release()
        raise


def take_output(store: ObjectStore, places: Leased, leftover_seconds: float) -> TakenOutput:
    """Take the lease on an output, and find out what its storage can do.

    Args:
        store: Where the output is.
        places: Where the lease stands.
        leftover_seconds: What interrupted puts have left in its folder is removed when it is so old.

    Raises:
        LeaseError: Another driver works there.
    """
    notices, folder = [], parent_uri(places.lease)
    is_conditional = store.has_conditional_puts(folder)
    if not is_conditional:
        store = store.unconditional()
        notices.append(
            f"the storage of {folder} has no conditional puts, so nothing is atomic there: of two "
            "attempts at a pair the last one stays, and two drivers may not notice each other; "
            "do not run two at once"
        )
    lease = Lease.take(store, places)
    try:
        notices += sweep(store, [folder], leftover_seconds)
    except BaseException:
        lease.release()
        raise
    return TakenOutput(lease, store, is_conditional, notices)


def _claim(job: Job, taken: TakenOutput, restart: bool) -> OpenedOutput:
    if restart:
        taken.notices.extend(start_over(job, taken.store, taken.lease.check))
    is_new = restart or claim_output(job, taken.store)
    return OpenedOutput(
        taken.lease, taken.store, is_new, notices=taken.notices, is_conditional=taken.is_conditional
    )


def _look_over(job: Job, opened: OpenedOutput, retry_failed: bool) -> OpenedOutput:
    """Find out what earlier runs have done, and open units again whose failed rows are to run again."""
    store, check = opened.store, opened.lease.check
    ledger = _settled(job, store, read_ledger(job, store), check)
    tally, failing = _tallies(job, store, ledger)
    ledger = tidy(job, store, ledger, check)
    if len(ledger.finished) < len(job.units):
        check()
        store.delete(job.layout.success)  # of a job that was complete until somebody removed a part
    if retry_failed:
        ledger = reopen_failed(job, store, ledger, failing, check)
        ledger = reopen_merged(job, store, ledger, check)
    opened.notices.extend(sweep_leftovers(job, store, ledger))
    tally.add(merged_tally(ledger.held.files))
    for unit, found in failing.items():
        if unit in ledger.in_parts:
            tally.add(found)
    return replace(opened, ledger=ledger, tally=tally)


def _settled(job: Job, store: ObjectStore, ledger: Ledger, check: Callable[[], None]) -> Ledger:
    """Complete a merge that was interrupted after its files had begun to count, and forget any other."""
    check_generation(job, ledger)
    return replace(ledger, held=finish_switch(store, job.layout, ledger.held, check))


def _tallies(job: Job, store: ObjectStore, ledger: Ledger) -> tuple[Tally, dict[int, Tally]]:
    """What all units in parts without failed rows come to, and each of the others, in order of unit."""
    whole, failing = Tally(), {}
    units = sorted(ledger.in_parts)
    found = in_threads(lambda unit: part_tally(job, store, unit), units)
    for unit, tally in zip(units, found, strict=True):
        if tally.failed:
            failing[unit] = tally
        else:
            whole.add(tally)
    return whole, failing
