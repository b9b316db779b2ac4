"""Describe a finished set: methods in prose, the table for other programs, and what its columns mean."""

from dataclasses import dataclass

from stylebatch.objectstore import ObjectStore, join_uri
from stylebatch.output import file_columns, planned_rows, unit_rows
from stylebatch.report.columns import COLUMNS
from stylebatch.report.dictionary import TabTable, data_dictionary
from stylebatch.report.gathering import Gathered
from stylebatch.report.methods import methods_text
from stylebatch.results import Results, open_results

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

    The rows are read unit by unit; the table that is written is held in memory as a whole.

    Args:
        store: Where everything is.
        output: Canonical URI of the output folder.
        folder: Canonical URI of where to write; None is ``description`` below the output.

    Raises:
        JobError: There are no results, or a part is damaged.
        StorageError: Something cannot be read or written.
    """
    folder = folder or join_uri(output, FOLDER)
    results = open_results(store, output)
    columns = _columns(store, results)
    found, table = Gathered(), TabTable(columns)
    for unit in results.units:
        for row in unit_rows(results, unit):
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


def _columns(store: ObjectStore, results: Results) -> list[str]:
    """Every column that any file has: those of the results in their order, then the experiment's own."""
    seen = dict.fromkeys(name for uri in results.files for name in file_columns(store, uri))
    return [*(name for name in COLUMNS if name in seen), *(name for name in seen if name not in COLUMNS)]
