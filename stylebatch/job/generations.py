"""Switching from one generation of merged files to the next; see :mod:`stylebatch.results.generations`.

Whoever calls these functions holds the output's lease and has checked it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from stylebatch.errors import JobError
from stylebatch.job.book import Tally
from stylebatch.job.parallel import for_each
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.results.generations import (
    Generation,
    Holdings,
    MergedFile,
    encode_generation,
    read_generation,
)

PIECE = 8 * 2**20
"""Bytes of a stored file that are read at once."""


def merged_tally(files: Iterable[MergedFile]) -> Tally:
    """What the rows of merged files come to, counted as ended before this run. No file is read for it."""
    tally = Tally()
    for file in files:
        examples = {kind: [*found] for kind, found in file.error_examples.items()}
        tally.add(Tally(file.ok, file.failed, file.rows, Counter(file.error_counts), examples))
    return tally


def file_sha256(store: ObjectStore, uri: str, size: int) -> str:
    """The SHA-256 of the first ``size`` bytes of an object, read a piece at a time."""
    found = hashlib.sha256()
    for start in range(0, size, PIECE):
        found.update(store.get_range(uri, start, min(PIECE, size - start)))
    return found.hexdigest()


def switch(
    store: ObjectStore,
    layout: Layout,
    before: Generation | None,
    after: Generation,
    check: Callable[[], None],
) -> None:
    """Let the files of another generation count, in one atomic step; they are in ``results/_merging/``.

    Args:
        store: Where the output is.
        layout: The output.
        before: The generation that counts until now.
        after: The one that is to count.
        check: Raises if this driver must change nothing.

    Raises:
        JobError: Another driver has switched meanwhile.
    """
    uri, data = layout.generation, encode_generation(after)
    if before is None:
        check()
        is_done = store.put_if_absent(uri, data)
    else:
        version = store.version(uri)
        is_same = read_generation(store, layout) == before
        check()
        is_done = is_same and store.put_if_version(uri, data, version) is not None
    if not is_done:
        raise JobError(f"{uri} was changed by another driver; nothing was merged. Run again")


def finish_switch(store: ObjectStore, layout: Layout, held: Holdings, check: Callable[[], None]) -> Holdings:
    """Let plain readers see what counts, and nothing else. Where a switch is complete, this costs nothing.

    A merged file is read back where it will stay before anything is deleted whose rows it holds.

    Args:
        store: Where the output is.
        layout: The output.
        held: What stands in its folder of results.
        check: Called before every change; raises if this driver must make none.

    Returns:
        What stands there now.

    Raises:
        JobError: A merged file is not what it was when it was written; nothing that it replaces is deleted.
    """

    def delete(uri: str) -> None:
        check()
        store.delete(uri)

    for file in held.files:
        covered = [unit for span in file.units for unit in span if unit in held.covered]
        if covered or file.name in held.staged:
            _bring_out(store, layout, file, file.name in held.hidden, check)
            for_each(delete, map(layout.part, covered))
    for_each(delete, (*held.stale, *map(layout.staged, sorted(held.staged))))
    return replace(held, covered=frozenset(), hidden=frozenset(), staged=frozenset(), stale=())


def _bring_out(
    store: ObjectStore, layout: Layout, file: MergedFile, is_hidden: bool, check: Callable[[], None]
) -> None:
    """Put a merged file where every reader finds it, and make sure that it is sound there."""
    uri = layout.merged(file.name)
    if is_hidden:
        check()
        store.copy(layout.staged(file.name), uri)
    if file_sha256(store, uri, file.size) != file.sha256:
        raise JobError(
            f"{uri} is damaged: its SHA-256 is not the one in {layout.generation}. What it was made of is "
            "still there: delete the damaged file, and run again"
        )
