"""Starting over: everything that the job has written goes, and nothing else."""

from collections.abc import Callable, Iterator

from stylebatch.errors import JobError
from stylebatch.job.identity import RESTARTING, Job, encode_identity, read_identity
from stylebatch.job.ledger import CHECKPOINT_SUFFIXES, IMAGE_SUFFIXES, RECORD_SUFFIXES, sweep, unit_objects
from stylebatch.job.parallel import in_threads
from stylebatch.job.parts import reopened_unit
from stylebatch.layout import Layout, generation_of
from stylebatch.objectstore import ObjectStore, parent_uri


def start_over(job: Job, store: ObjectStore, check: Callable[[], None]) -> list[str]:
    """Empty the output of what a stylebatch job has written there, and claim it for this job.

    A marker stands in ``job.json`` until that is done, so an interruption is noticed. Objects with other
    names than a job's stay.

    Args:
        job: The job that the output is for.
        store: Where it is.
        check: Called before everything that is deleted; raises if this driver must not.

    Returns:
        What the user should be told.

    Raises:
        JobError: The output is no job's, or of another format.
    """
    check()
    notices: list[str] = []
    if read_identity(store, job.layout) is not None:
        store.put(job.layout.job, encode_identity(RESTARTING))
        notices += _empty(job, store, check)
    else:
        _refuse_strangers(job, store)
    check()
    store.put(job.layout.job, encode_identity(job.identity()))
    return notices


def _refuse_strangers(job: Job, store: ObjectStore) -> None:
    others = (stored.uri for stored in store.list(job.output) if stored.uri != job.layout.lease)
    if found := next(others, None):
        raise JobError(
            f"{job.output} holds {found} but no job.json, so it is not the output of a stylebatch job and "
            "nothing in it is deleted; check --output, or run without --restart"
        )


def _empty(job: Job, store: ObjectStore, check: Callable[[], None]) -> Iterator[str]:
    def delete(uri: str) -> str:
        check()
        store.delete(uri)
        return parent_uri(uri)

    delete(job.layout.success)
    delete(job.layout.progress)
    delete(job.layout.generation)  # before the files that it lists
    folders = set(in_threads(delete, _written(job, store)))
    return sweep(store, sorted(folders))


def _written(job: Job, store: ObjectStore) -> Iterator[str]:
    """Everything with a name that a job gives, in the order in which it goes."""
    layout = job.layout
    found = [stored.uri for stored in store.list(layout.results)]
    yield from (uri for uri in found if layout.part_unit(uri) is not None or _is_merged(layout, uri))
    copies = (stored.uri for stored in store.list(layout.reopened))
    yield from (uri for uri in copies if reopened_unit(layout, uri) is not None)
    for folder, suffixes in (
        (layout.all_records, RECORD_SUFFIXES),
        (layout.all_images, IMAGE_SUFFIXES),
        (layout.all_checkpoints, CHECKPOINT_SUFFIXES),
    ):
        yield from (uri for _, uri in unit_objects(store, folder, suffixes))


def _is_merged(layout: Layout, uri: str) -> bool:
    """Whether this is a file that parts were merged into, wherever it stands."""
    folder, _, name = uri.rpartition("/")
    return folder in (layout.results, layout.merging) and generation_of(name) is not None
