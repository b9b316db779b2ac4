"""The book of a run: which rows of the open units have ended, and how."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from stylebatch.job.identity import Job
from stylebatch.layout import Row

MOST_EXAMPLES = 3
"""Pairs that are remembered by name for each kind of error."""


@dataclass
class Tally:
    """How many pairs have ended, and why some failed."""

    ok: int = 0
    """Pairs with a picture."""
    failed: int = 0
    """Pairs without."""
    skipped: int = 0
    """Of these, how many had ended before this run."""
    error_counts: Counter[str] = field(default_factory=Counter)
    """Failed pairs by error type."""
    error_examples: dict[str, list[str]] = field(default_factory=dict)
    """A few failures of each type, as ``pair_id: message``."""

    def count(self, row: Row, is_new: bool) -> None:
        """Add a result row."""
        self.skipped += not is_new
        if row["status"] == "ok":
            self.ok += 1
            return
        self.failed += 1
        kind = str(row["error_type"])
        self.error_counts[kind] += 1
        self._remember(kind, [f"{row['pair_id']}: {row['error']}"])

    def add(self, other: "Tally") -> None:
        """Add what another tally has counted."""
        self.ok += other.ok
        self.failed += other.failed
        self.skipped += other.skipped
        self.error_counts.update(other.error_counts)
        for kind, examples in other.error_examples.items():
            self._remember(kind, examples)

    def _remember(self, kind: str, examples: list[str]) -> None:
        known = self.error_examples.setdefault(kind, [])
        known += examples[: MOST_EXAMPLES - len(known)]

    @property
    def ended(self) -> int:
        """All of them."""
        return self.ok + self.failed


class UnitBook:
    """The rows of open units; a unit whose rows have all ended is handed out once, to be published.

    Args:
        job: The job.
        tally: What finished units come to; the rows of the open ones are added to it.
    """

    def __init__(self, job: Job, tally: Tally | None = None) -> None:
        self.tally = tally or Tally()
        self._job = job
        self._rows: dict[int, dict[int, Row | None]] = {}
        self._closed = bytearray(len(job.units))  # of a hundred million rows, a set would take 20 MB
        self._complete: list[int] = []

    def open(self, unit: int) -> None:
        """Expect the rows of a unit."""
        self._rows[unit] = {}

    def add(self, unit: int, row: Row, is_new: bool) -> None:
        """Note that a row has ended; of a row that is reported again only the first report counts."""
        if self._closed[unit] or int(row["row"]) in self._rows[unit]:
            return
        self.tally.count(row, is_new)
        self._end(unit, int(row["row"]), row)

    def keep(self, unit: int, number: int) -> None:
        """Note that a good row of the unit's former part stays as it is there."""
        self.tally.ok += 1
        self.tally.skipped += 1
        self._end(unit, number, None)

    def _end(self, unit: int, number: int, row: Row | None) -> None:
        self._rows[unit][number] = row
        if len(self._rows[unit]) == len(self._job.unit_rows(unit)):
            self._complete.append(unit)

    def take_complete(self) -> list[tuple[int, list[Row]]]:
        """The units that have become complete since the last call, with their rows in order.

        Rows that are kept from a former part are not among them.
        """
        complete, self._complete = self._complete, []
        for unit in complete:
            self._closed[unit] = True
        return [(unit, _in_order(self._rows.pop(unit))) for unit in complete]


def _in_order(rows: Mapping[int, Row | None]) -> list[Row]:
    return [row for _, row in sorted(rows.items()) if row is not None]
