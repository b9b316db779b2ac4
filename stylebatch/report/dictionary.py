"""The set as a table that any program reads, and the data dictionary that explains it, both as in BIDS.

BIDS (Brain Imaging Data Structure) tables are tab-separated, with ``n/a`` for what is missing; a JSON file of
the same name explains every column.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from typing import Any

from stylebatch.report.columns import described

MISSING = "n/a"
"""What stands for null."""


class TabTable:
    """A tab-separated table that grows row by row.

    A text with a tab, a line break or a double quote in it is put in double quotes, with quotes doubled.

    Args:
        columns: The names of its columns, in order.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._bytes = io.BytesIO()
        self._text = io.TextIOWrapper(self._bytes, encoding="utf-8", newline="")
        self._writer = csv.writer(self._text, "excel-tab", lineterminator="\n")
        self._writer.writerow(columns)

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row; a column that it lacks is null."""
        self._writer.writerow([cell(row.get(name)) for name in self._columns])

    def encoded(self) -> bytes:
        """The file so far, in UTF-8."""
        self._text.flush()
        return self._bytes.getvalue()


def cell(value: Any) -> str:
    """A value as a table holds it: ``n/a`` for null, lists and maps as JSON, numbers to their last digit."""
    match value:
        case None:
            return MISSING
        case bool():
            return "true" if value else "false"
        case float():
            return MISSING if math.isnan(value) else repr(value)
        case list() | tuple() | dict():
            return json.dumps(value, ensure_ascii=False, default=cell)
        case date() | time():  # a datetime is a date
            return value.isoformat()
        case bytes():
            return value.hex()
    return str(value)


def data_dictionary(columns: Iterable[str]) -> bytes:
    """The JSON file that explains columns: LongName, Description, Units and Levels if there are any."""
    entries = {name: described(name).entry() for name in columns}
    return json.dumps(entries, indent=2, ensure_ascii=False).encode() + b"\n"
