"""The command ``results``: print, filter, count, export, merge."""

import argparse
import math
from collections.abc import Iterator
from typing import Any

from stylebatch.cli.arguments import whole
from stylebatch.cli.exits import ALL_OK
from stylebatch.errors import QueryError

SHOWN = ("row", "pair_id", "status", "loss", "evaluations", "seconds", "error")
"""Columns that are printed if none are named."""
DEFAULT_LIMIT = 20
"""Rows that are printed if no number is given."""
WIDE = 4096
"""Characters of a line where no terminal limits it."""


def results(options: argparse.Namespace) -> int:
    """Print, filter, count or export the rows of a running or finished output, or merge its files."""
    if options.merge:
        return _merge(options)
    from stylebatch.display import count
    from stylebatch.objectstore import resolve_uri
    from stylebatch.report.exporting import export, export_format
    from stylebatch.report.selecting import Query, parse_condition
    from stylebatch.storage import UriStore

    store = UriStore()
    destination = resolve_uri(options.destination) if options.destination else None
    if destination:
        export_format(destination)
    conditions = [parse_condition(text) for text in options.where]
    query = Query(store, resolve_uri(options.folder), conditions, _columns(options))
    if destination:
        rows = export(store, _limited(query.tables(), options.limit), destination)
        print(f"{destination}: {count(rows, 'row')}, {count(len(query.columns), 'column')}")
        return ALL_OK
    limit = 0 if options.count else DEFAULT_LIMIT if options.limit is None else options.limit
    _show(query, limit)
    if query.planned is not None and query.counts.rows < query.planned:
        print(f"The job is not finished: {query.counts.rows} of {query.planned} rows have ended.")
    return ALL_OK


def _columns(options: argparse.Namespace) -> list[str] | None:
    """The columns that are asked for; None is all."""
    if options.columns:
        return [name.strip() for text in options.columns for name in text.split(",")]
    return None if options.destination else [*SHOWN]


def _limited(tables: Iterator[Any], limit: int | None) -> Iterator[Any]:
    """Tables until so many rows have come; the first one in any case."""
    left = math.inf if limit is None else limit
    for number, table in enumerate(tables):
        if left <= 0 and number:
            return
        yield table if table.num_rows <= left else table.slice(0, int(left))
        left -= table.num_rows


def _show(query: Any, limit: int) -> None:
    """Print the first rows, and count all."""
    from stylebatch.report.exporting import flat

    rows: list[list[str]] = []
    for table in query.tables():
        some = flat(table.slice(0, max(0, limit - len(rows))))
        rows += [[cell(value) for value in row.values()] for row in some.to_pylist()]
    if rows:
        _print_table(query.columns, rows)
    counts = query.counts
    more = f", the first {len(rows)} are shown" if 0 < len(rows) < counts.chosen else ""
    states = ", ".join(f"{number} {status}" for status, number in sorted(counts.statuses.items()))
    print(f"{counts.chosen} of {counts.rows} rows" + f" ({states})" * bool(states) + more)
    for kind, number in counts.errors.most_common():
        print(f"  {number} x {kind}")


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(Text(cell(name)), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def cell(value: Any) -> str:
    """A value as it is printed: on one line, numbers to six digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _merge(options: argparse.Namespace) -> int:
    """Merge the parts of a finished job into few files."""
    from stylebatch.display import count
    from stylebatch.job import merge_output
    from stylebatch.objectstore import resolve_uri
    from stylebatch.storage import UriStore

    others = ("where", "columns", "limit", "count", "destination")
    if any(getattr(options, name) for name in others):
        raise QueryError("--merge goes alone: it changes files, and shows no rows")
    merging = merge_output(UriStore(), resolve_uri(options.folder))
    for notice in merging.notices:
        print(f"Note: {notice}")
    files = count(merging.files or 1, "file")
    if merging.parts:
        print(f"{count(merging.parts, 'part')} merged; the results are in {files}.")
    else:
        print(f"Nothing to merge: the results are in {files} already.")
    return ALL_OK


def add_results(commands: Any) -> None:
    """Add ``results`` to the command line."""
    parser = commands.add_parser(
        "results", help="print, filter or export the table of results", description=results.__doc__
    )
    parser.add_argument("folder", metavar="OUT", help="the output folder of a run, local or s3://")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only rows for which this holds: COLUMN=VALUE, or with != < <= > >=, in quotes, as in "
        "'loss>1e9'; null is a missing value; repeatable",
    )
    parser.add_argument(
        "--columns",
        action="append",
        metavar="A,B,...",
        help=f"only these; default: {','.join(SHOWN)}, or all with -o",
    )
    parser.add_argument("--limit", type=whole, metavar="N", help="at most N rows (20, or all with -o)")
    parser.add_argument("--count", action="store_true", help="count the rows, and show none")
    parser.add_argument(
        "--output", "-o", dest="destination", metavar="FILE", help="write a .parquet or .csv file instead"
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="merge the files of a finished job into few, as run does for many",
    )
    parser.set_defaults(command=results)
