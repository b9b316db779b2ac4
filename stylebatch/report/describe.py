"""Describe a finished set: methods in prose, the table for other programs, and what its columns mean."""

from collections.abc import Iterable
from dataclasses import dataclass

from stylebatch.objectstore import ObjectStore, join_uri
from stylebatch.output import finished_parts, part_columns, part_rows, planned_rows
from stylebatch.report.columns import COLUMNS
from stylebatch.report.dictionary import TabTable, data_dictionary
from stylebatch.report.gathering import Gathered
from stylebatch.report.methods import methods_text

FOLDER = "description"
"""Below the output, where nothing else is said."""


@dataclass(frozen=True)
class Description:
    """What was written."""

    files: tuple[str, ...]
    """Canonical URIs: the methods, the table, its data dictionary."""
    ok: int
    """Stimuli."""
    failed: int
    """Pairs without one."""
    planned: int | None
    """Rows of the whole job; None if nobody knows."""


def describe(store: ObjectStore, output: str, folder: str | None = None) -> Description:
    """Write ``methods.md``, ``stimuli.tsv`` and ``stimuli.json`` of an output, finished or not.

    The rows are read part by part; the table that is written is held in memory as a whole.

    Args:
        store: Where everything is.
        output: Canonical URI of the output folder.
        folder: Canonical URI of where to write; None is ``description`` below the output.

    Raises:
        JobError: There are no results, or a part is damaged.
        StorageError: Something cannot be read or written.
    """
    folder = folder or join_uri(output, FOLDER)
    parts = finished_parts(store, output)
    columns = _columns(store, parts.values())
    found, table = Gathered(), TabTable(columns)
    for uri in parts.values():
        for row in part_rows(store, uri):
            found.add(row)
            table.add(row)
    planned = planned_rows(store, output)
    files = {
        "methods.md": methods_text(found, planned).encode(),
        "stimuli.tsv": table.encoded(),
        "stimuli.json": data_dictionary(columns),
    }
    for name, data in files.items():
        store.put(join_uri(folder, name), data)
    written = tuple(join_uri(folder, name) for name in files)
    return Description(written, found.ok, found.failed.total(), planned)


def _columns(store: ObjectStore, parts: Iterable[str]) -> list[str]:
    """Every column that any part has: those of the results in their order, then the experiment's own."""
    seen = dict.fromkeys(name for uri in parts for name in part_columns(store, uri))
    return [*(name for name in COLUMNS if name in seen), *(name for name in seen if name not in COLUMNS)]
