"""The ledger: what an output says has ended, by the names of its objects alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from stylebatch.errors import StorageError
from stylebatch.job.identity import Job
from stylebatch.job.parallel import for_each
from stylebatch.job.parts import reopened_part, reopened_unit
from stylebatch.objectstore import ObjectStore, parent_uri
from stylebatch.recipe import FILE_SUFFIXES
from stylebatch.results.generations import Holdings, look_at_results

RECORD_SUFFIXES = (".json",)
CHECKPOINT_SUFFIXES = (".ckpt",)
IMAGE_SUFFIXES = tuple(FILE_SUFFIXES.values())

LEFTOVER_SECONDS = 3600.0
"""What an interrupted put has left is removed when it is so old that nobody can still be at work on it."""
DRIVER_LEFTOVER_SECONDS = 1.0
"""The same in the output's own folder, where only drivers put small objects, one after the other."""

UnitObjects = Mapping[int, frozenset[str]]
"""URIs by unit."""


@dataclass(frozen=True)
class Ledger:
    """Where an output stands."""

    finished: frozenset[int] = frozenset()
    """Units whose rows are published, in a part or in a merged file."""
    reopened: frozenset[int] = frozenset()
    """Units whose former part is there; its failed rows run again, unless the unit is finished."""
    records: UnitObjects = field(default_factory=dict)
    """Records of the units that have some."""
    checkpoints: UnitObjects = field(default_factory=dict)
    """Checkpoints of the units that have some."""
    held: Holdings = field(default_factory=Holdings)
    """What stands in the folder of results."""

    @property
    def in_parts(self) -> frozenset[int]:
        """The finished units whose rows are in a part."""
        return self.finished - self.held.merged_units


def read_ledger(job: Job, store: ObjectStore) -> Ledger:
    """List what an output holds."""
    layout = job.layout
    held = look_at_results(store, layout)
    copies = (reopened_unit(layout, stored.uri) for stored in store.list(layout.reopened))
    return Ledger(
        finished=frozenset(_known(job, chain(held.parts, held.merged_units))),
        reopened=frozenset(_known(job, copies)),
        records=_by_unit(job, store, layout.all_records, RECORD_SUFFIXES),
        checkpoints=_by_unit(job, store, layout.all_checkpoints, CHECKPOINT_SUFFIXES),
        held=held,
    )


def tidy(job: Job, store: ObjectStore, ledger: Ledger, check: Callable[[], None]) -> Ledger:
    """Delete what finished units have left beside their parts, which have taken it over.

    Args:
        job: The job.
        store: Where its output is.
        ledger: What the output holds; the parts have been found sound.
        check: Called before anything is deleted; raises if this driver must not.

    Returns:
        What the output holds now: of everything but parts, only what is of open units.
    """
    finished = ledger.finished
    objects = (ledger.records, ledger.checkpoints)
    stale = [uri for unit in finished for of in objects for uri in of.get(unit, ())]
    stale += [reopened_part(job.layout, unit) for unit in finished & ledger.reopened]
    if stale:
        check()
        for_each(store.delete, stale)
    records, checkpoints = (_without(of, finished) for of in objects)
    reopened = ledger.reopened - finished
    return replace(ledger, reopened=reopened, records=records, checkpoints=checkpoints)


def _known(job: Job, units: Iterable[int | None]) -> Iterator[int]:
    """Those that are units of this job."""
    return (unit for unit in units if unit is not None and unit in job.units)


def _by_unit(job: Job, store: ObjectStore, folder: str, suffixes: tuple[str, ...]) -> UnitObjects:
    found: dict[int, set[str]] = {}
    for unit, uri in unit_objects(store, folder, suffixes):
        if unit in job.units:
            found.setdefault(unit, set()).add(uri)
    return {unit: frozenset(uris) for unit, uris in found.items()}


def _without(objects: UnitObjects, units: frozenset[int]) -> UnitObjects:
    return {unit: uris for unit, uris in objects.items() if unit not in units}


def unit_objects(store: ObjectStore, folder: str, suffixes: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """The objects ``folder/NNNNNN/name`` whose name ends as ours do, each after its unit, and no others."""
    for stored in store.list(folder):
        number, _, name = stored.uri.removeprefix(folder + "/").partition("/")
        is_number = number.isascii() and number.isdigit() and f"{int(number):06d}" == number
        if is_number and "/" not in name and name.endswith(suffixes):
            yield int(number), stored.uri


def sweep_leftovers(job: Job, store: ObjectStore, ledger: Ledger) -> Iterator[str]:
    """Remove what interrupted puts have left where work was going on; yields what should be said about it."""
    busy = [uri for of in (ledger.records, ledger.checkpoints) for uris in of.values() for uri in uris]
    images = [job.layout.images(unit) for unit in ledger.records.keys() | ledger.checkpoints.keys()]
    folders = {job.layout.results, job.layout.reopened, *map(parent_uri, busy), *images}
    return sweep(store, sorted(folders))


def sweep(store: ObjectStore, folders: Iterable[str], older_than: float = LEFTOVER_SECONDS) -> Iterator[str]:
    """Remove what interrupted puts have left in these folders. Where that is not possible, it is said."""
    for folder in folders:
        try:
            store.sweep(folder, older_than)
        except StorageError as error:
            if error.stops_job:
                raise
            yield f"what interrupted puts may have left in {folder} stays there: {error}"
