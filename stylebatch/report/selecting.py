"""Choosing rows and columns of a table of results, by conditions as people type them."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stylebatch.errors import QueryError
from stylebatch.objectstore import ObjectFile, ObjectStore
from stylebatch.output import planned_rows
from stylebatch.quoting import quoted, reason
from stylebatch.results import open_results
from stylebatch.results.reading import plain_errors

NULL = "null"
"""The value that stands for a missing one."""
COUNTED = ("status", "error_type")
"""Columns that are read of every row, to be counted."""
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_CONDITION = re.compile(r"\s*([^<>=!]*[^<>=!\s])\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """What must hold for a row."""

    column: str
    """By its name."""
    comparison: str
    """One of = != < <= > >=."""
    value: str
    """As it was typed; ``null`` is a missing value."""


def parse_condition(text: str) -> Condition:
    """A condition as it is typed: ``status=failed``, ``loss>1e9``, ``condition!=null``.

    Raises:
        QueryError: It is none.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise QueryError(
            f"{quoted(text)} is not a condition; write COLUMN=VALUE with one of = != < <= > >=, in quotes, "
            "as in 'loss>1e9'"
        )
    column, comparison, value = found.groups()
    return Condition(column, "=" if comparison == "==" else comparison, value)


@dataclass
class Counts:
    """How many rows were looked at, and what those came to that were chosen."""

    rows: int = 0
    """All rows."""
    statuses: Counter[str] = field(default_factory=Counter)
    """The chosen ones by status."""
    errors: Counter[str] = field(default_factory=Counter)
    """The chosen ones that failed, by type of error."""

    @property
    def chosen(self) -> int:
        """How many were chosen."""
        return self.statuses.total()

    def add(self, rows: int, chosen: pa.Table) -> None:
        """So many rows more, and those of them that were chosen."""
        self.rows += rows
        self.statuses.update(_values(chosen, "status"))
        self.errors.update(kind for kind in _values(chosen, "error_type") if kind is not None)


def _values(table: pa.Table, column: str) -> list[Any]:
    found: list[Any] = table.column(column).to_pylist()
    return found


class Query:
    """Which rows and columns of an output's results are wanted.

    Args:
        store: Where the output is.
        output: Canonical URI of the output folder.
        conditions: What must hold for a row, all of it.
        columns: Those that are wanted; None is all.

    Raises:
        QueryError: There is no such column, or a condition does not fit one.
        JobError: There are no results, or a file of them is damaged.
    """

    def __init__(
        self,
        store: ObjectStore,
        output: str,
        conditions: Sequence[Condition] = (),
        columns: Sequence[str] | None = None,
    ) -> None:
        self._results = results = open_results(store, output)
        self.planned = planned_rows(store, output)
        self._conditions = conditions
        with plain_errors(results.files[0]):
            schema = pq.read_schema(ObjectFile(store, results.files[0]))
        self.columns = list(dict.fromkeys(schema.names if columns is None else columns))
        needed = [*self.columns, *(condition.column for condition in conditions), *COUNTED]
        self._needed = list(dict.fromkeys(needed))
        _check_columns(self._needed, schema)
        _chosen(schema.empty_table(), conditions)  # whether the values fit
        self.counts = Counts()

    def tables(self) -> Iterator[pa.Table]:
        """The wanted columns of the chosen rows, in order of row and a unit at a time; they are counted."""
        for table in self._results.tables(self._needed):
            chosen = _chosen(table, self._conditions)
            self.counts.add(table.num_rows, chosen)
            yield chosen.select(self.columns)


def _check_columns(names: Sequence[str], schema: pa.Schema) -> None:
    for name in names:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise QueryError(
                f"there is no column {quoted(name)}; {meant}the columns are {', '.join(schema.names)}"
            )


def _chosen(table: pa.Table, conditions: Sequence[Condition]) -> pa.Table:
    for condition in conditions:
        table = table.filter(_mask(table.column(condition.column), condition))
    return table


def _mask(column: pa.ChunkedArray, condition: Condition) -> pa.ChunkedArray:
    """Whether the condition holds for each value. A missing one differs from every other and is no larger."""
    is_unequal = condition.comparison == "!="
    if condition.value == NULL and condition.comparison in ("=", "!="):
        return column.is_valid() if is_unequal else column.is_null()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    value = _scalar(condition, column.type)
    return pc.fill_null(_COMPARISONS[condition.comparison](column, value), is_unequal)


def _scalar(condition: Condition, kind: pa.DataType) -> pa.Scalar:
    """The value of a condition, to be compared with a column of this type."""
    is_order = condition.comparison not in ("=", "!=")
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or (is_order and pa.types.is_boolean(kind)):
        raise QueryError(
            f"{condition.column} is of type {kind}, which cannot be compared by {condition.comparison}; "
            f"= {NULL} and != {NULL} can be asked of it" + " and = true" * pa.types.is_boolean(kind)
        )
    try:
        return _typed(condition.value, kind)
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise QueryError(
            f"{quoted(condition.value)} is no value of {condition.column}, which is of type {kind}: "
            f"{reason(error)}"
        ) from error


def _typed(text: str, kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_floating(kind):
        return pa.scalar(float(text))
    if pa.types.is_integer(kind):
        is_whole = re.fullmatch(r"[+-]?[0-9]+", text) is not None
        return pa.scalar(int(text)) if is_whole else pa.scalar(float(text))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.scalar(text, kind)
    return pa.scalar(text).cast(kind)
