"""The book of a run: which rows of the open units have ended, and how."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from stylebatch.job.identity import Job
from stylebatch.results import Row

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
        examples = self.error_examples.setdefault(kind, [])
        if len(examples) < MOST_EXAMPLES:
            examples.append(f"{row['pair_id']}: {row['error']}")

    @property
    def ended(self) -> int:
        """All of them."""
        return self.ok + self.failed


class UnitBook:
    """The rows of open units; a unit whose rows have all ended is handed out once, to be published."""

    def __init__(self, job: Job) -> None:
        self.tally = Tally()
        self._job = job
        self._rows: dict[int, list[Row]] = {}
        self._complete: list[int] = []

    def open(self, unit: int) -> None:
        """Expect the rows of a unit."""
        self._rows[unit] = []

    def add(self, unit: int, row: Row, is_new: bool) -> None:
        """Note that a row has ended."""
        self.tally.count(row, is_new)
        self._rows[unit].append(row)
        if len(self._rows[unit]) == len(self._job.unit_rows(unit)):
            self._complete.append(unit)

    def take_complete(self) -> Iterator[tuple[int, list[Row]]]:
        """The units that have become complete, with their rows in order."""
        for unit in self._complete:
            yield unit, sorted(self._rows.pop(unit), key=lambda row: int(row["row"]))
        self._complete = []
