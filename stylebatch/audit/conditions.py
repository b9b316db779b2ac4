"""The experiment's own columns of the table, against the manifest that they were carried over from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stylebatch.audit.accounting import Plan
from stylebatch.audit.files import concerns_all
from stylebatch.errors import StylebatchError
from stylebatch.manifest import Manifest, open_manifest
from stylebatch.objectstore import ObjectStore
from stylebatch.output import plain_rows
from stylebatch.quoting import shown
from stylebatch.results import RESULT_SCHEMA

Row = Mapping[str, Any]


class Conditions:
    """What the manifest says of each row's conditions, if it is still the file that the job ran.

    Args:
        store: Where it is.
        plan: Of the job, which says where, and what its fingerprint was.

    Raises:
        StorageError: The storage cannot be asked.
    """

    def __init__(self, store: ObjectStore, plan: Plan) -> None:
        self.why_unknown = ""
        """Why there is nothing to compare with; empty if there is."""
        self._manifest: Manifest | None = None
        try:
            manifest = open_manifest(store, plan.manifest)
            if manifest.fingerprint() == plan.manifest_sha256:
                self._manifest = manifest
            else:
                self.why_unknown = f"{plan.manifest} is another file than the one that the job ran"
        except StylebatchError as error:
            if concerns_all(error):
                raise
            self.why_unknown = str(error)

    def problems(self, span: range, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
        """What the rows of a unit say otherwise than the manifest.

        Args:
            span: The numbers of the unit's rows.
            rows: Those of the table, in whatever order.

        Yields:
            A pair's id, and a clause, for each value that differs.
        """
        if self._manifest is None:
            return
        written = plain_rows(self._manifest.extras(span.start, len(span))) or [{}] * len(span)
        by_number = dict(zip(span, written, strict=True))
        for row in rows:
            if row["row"] in by_number:  # that others do not belong here is said elsewhere
                yield from ((row["pair_id"], what) for what in _differences(row, by_number[row["row"]]))


def has_own_columns(row: Row) -> bool:
    """Whether a row of the table has columns of the experiment's own."""
    return bool(row.keys() - {*RESULT_SCHEMA.names})


def _differences(row: Row, written: Row) -> Iterator[str]:
    for name, value in written.items():
        if name not in row:
            yield f"{name} is missing in the table and {shown(value)} in the manifest"
        elif repr(row[name]) != repr(value):  # two values that are not a number are the same
            yield f"{name} is {shown(row[name])} in the table and {shown(value)} in the manifest"
    for name in sorted(row.keys() - {*RESULT_SCHEMA.names, *written}):
        yield f"{name} is {shown(row[name])} in the table and no column of the manifest"
