"""One pass over a manifest that collects every problem before any work is done."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from stylebatch.errors import ManifestError
from stylebatch.manifest.reading import Manifest
from stylebatch.manifest.rows import PairMaker, Row
from stylebatch.manifest.schema import (
    LOCATION_COLUMNS,
    readable_columns,
    schema_problems,
    unreadable_columns,
)
from stylebatch.pairs import Pair
from stylebatch.quoting import quoted
from stylebatch.recipe import Recipe

MAX_REPORTED = 20
"""Rows whose problems are listed, and again pairs of rows that are alike; the others are counted."""


@dataclass
class _Findings:
    """Problems of one kind: the first in full, the others counted."""

    manifest: str
    others: str
    """What is counted, as in "... and 3 more rows with problems"."""
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problems: list[str], place: str = "") -> None:
        """Note the problems of one place."""
        self.count += 1
        if self.count <= MAX_REPORTED:
            self.lines += [f"{self.manifest}: {place}{problem}" for problem in problems]

    def report(self) -> list[str]:
        """The lines, and how much they leave out."""
        more = self.count - MAX_REPORTED
        return self.lines + ([f"... and {more:,} more {self.others}"] if more > 0 else [])


def validate(manifest: Manifest, default: Recipe, reserved: frozenset[str]) -> None:
    """Check every column and every row in a streaming pass, after one over the extra columns.

    Memory: 25 bytes a row. Recipes are built once for rows with the same recipe columns.

    Args:
        manifest: What to check.
        default: The recipe of a row that has no recipe columns.
        reserved: Names of result columns, which no extra column may have.

    Raises:
        ManifestError: All problems, one on a line: columns first, then the first 20 bad rows, then the first
            20 pairs of rows that are the same.
    """
    columns = [f"{manifest.uri}: {problem}" for problem in schema_problems(manifest.schema, reserved)]
    lines = columns[:MAX_REPORTED] or _extra_lines(manifest)
    if len(columns) > MAX_REPORTED:
        lines.append(f"... and {len(columns) - MAX_REPORTED:,} more problems with columns")
    lines += _row_lines(manifest, default)
    if lines:
        heading = f"the manifest cannot be used (rows count from 0 over all of {manifest.uri}):"
        raise ManifestError("\n".join([heading, *lines]))


def _extra_lines(manifest: Manifest) -> list[str]:
    try:
        manifest.check_extras()
    except ManifestError as error:
        return [str(error)]
    return []


def _row_lines(manifest: Manifest, default: Recipe) -> list[str]:
    if not unreadable_columns(manifest.schema).isdisjoint(LOCATION_COLUMNS):
        return ["... and the rows were not checked, because their content or style cannot be read"]
    maker = PairMaker(default, manifest.folder, readable_columns(manifest.schema))
    rows = _Findings(manifest.uri, "rows with problems")
    hashes = array("q")
    try:
        _check_rows(manifest, maker, rows, hashes)
        return rows.report() + _repetition_lines(manifest, maker, hashes)
    except ManifestError as error:  # the file is damaged further on
        return [*rows.report(), str(error)]


def _check_rows(manifest: Manifest, maker: PairMaker, rows: _Findings, hashes: "array[int]") -> None:
    """Collect the problems of each row, and a 64-bit hash of each row's id without its letter case."""
    # Rows may differ in a column that cannot be read: then ids made from the others prove nothing.
    ids_are_whole = not unreadable_columns(manifest.schema)
    for row in manifest.rows():
        pair = maker.make(row)
        if not isinstance(pair, Pair):
            rows.add(pair, f"row {row.number}: ")
        if ids_are_whole or row.pair_id is not None:
            pair_id = pair.pair_id if isinstance(pair, Pair) else maker.pair_id(row)
            hashes.append(hash(pair_id.lower()))
        else:
            hashes.append(hash(("no id", row.number)))


def _repetition_lines(manifest: Manifest, maker: PairMaker, hashes: "array[int]") -> list[str]:
    """What rows with the same id have in common; each is read again, as two ids can share a hash."""
    repetitions = _Findings(manifest.uri, "rows that have the id of an earlier row")
    for first, later in _equal_places(np.frombuffer(hashes, dtype=np.int64)):
        if repetitions.count >= MAX_REPORTED:
            repetitions.count += 1
        elif problem := _repetition(maker, _row(manifest, first), _row(manifest, later)):
            repetitions.add([problem])
    return repetitions.report()


def _equal_places(values: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Iterator[tuple[int, int]]:
    """Each place whose value was there before, in order, after the first place that has it."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    again = np.flatnonzero(ranked[1:] == ranked[:-1]) + 1
    firsts = order[np.searchsorted(ranked, ranked[again])]
    places = sorted(zip(order[again].tolist(), firsts.tolist(), strict=True))
    return ((first, later) for later, first in places)


def _row(manifest: Manifest, number: int) -> Row:
    return next(manifest.rows(number))


def _repetition(maker: PairMaker, first: Row, later: Row) -> str | None:
    """What to say about two rows whose ids have the same hash; None if the ids differ."""
    places = f"rows {first.number} and {later.number}"
    ids = maker.pair_id(first), maker.pair_id(later)
    if ids[0].lower() != ids[1].lower():
        return None
    if first.pair_id is None and first[1:] == later[1:]:
        return (
            f"{places} are the same pair with the same recipe; "
            "drop one, give them different seeds, or give each a pair_id"
        )
    if first.pair_id is None and later.pair_id is None:
        return f"the ids made for {places} happen to be equal; give one of them a pair_id"
    if ids[0] == ids[1]:
        return f"{places} have the same pair_id {quoted(ids[0])}; each pair needs its own"
    return (
        f"{places} have the pair_ids {quoted(ids[0])} and {quoted(ids[1])}, which differ only by letter "
        "case; some disks take them for one file, so rename one"
    )
