"""One pass over a manifest that collects every problem before any work is done."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyarrow.types import is_dictionary

from stylebatch.errors import ManifestError
from stylebatch.manifest.reading import Manifest
from stylebatch.manifest.repetitions import Hasher, Hashes, IdHashes, short_id
from stylebatch.manifest.rows import Indices, PairMaker, Row, read_rows
from stylebatch.manifest.schema import (
    LOCATION_COLUMNS,
    readable_columns,
    schema_problems,
    unreadable_columns,
)
from stylebatch.manifest.screening import Screen
from stylebatch.pairs import Pair
from stylebatch.quoting import quoted
from stylebatch.recipe import Recipe

MAX_REPORTED = 20
"""Rows whose problems are listed, and again pairs of rows that are alike; the others are counted."""
MOST_COMPARED = 1000
"""Rows with the hash of an earlier one that are read again, to see whether they have its id and what else;
any more are counted. Of a hundred million rows, two share a hash by chance in one of 3,700 manifests."""
MOST_BAD = 1_000_000
"""Rows with problems after which the others are not looked at: a small file may hold a hundred million."""


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

    The memory that it takes does not depend on how many rows there are; of more than four million, 16 bytes
    each are in temporary files. Recipes are built once for rows with the same recipe columns.

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
    try:
        with IdHashes(manifest.num_rows) as hashes:
            stop = _check_rows(manifest, maker, rows, hashes)
            unchecked = [f"... and the rows from {stop:,} on were not checked"] * (stop < manifest.num_rows)
            return rows.report() + unchecked + _repetition_lines(manifest, maker, hashes)
    except ManifestError as error:  # the file is damaged further on
        return [*rows.report(), str(error)]


def _check_rows(manifest: Manifest, maker: PairMaker, rows: _Findings, hashes: IdHashes) -> int:
    """Collect the problems of each row, and a hash of each row's id without its letter case.

    Returns:
        The first row that was not looked at, since there are too many problems already.
    """
    screen, ids = Screen(maker, manifest.folder), _Ids(manifest, maker)
    for number, batch in manifest.batches():
        with manifest.text_errors(number, batch):
            doubtful = screen.doubtful(batch)
            looked_at = read_rows(batch, number, doubtful)
            hashes.add(number, ids.hashes(batch, number, doubtful))
        for row in looked_at:
            pair = maker.make(row)
            if not isinstance(pair, Pair):
                rows.add(pair, f"row {row.number}: ")
        if rows.count >= MOST_BAD:
            return int(number + batch.num_rows)
    return manifest.num_rows


class _Ids:
    """The ids of rows, by hash."""

    def __init__(self, manifest: Manifest, maker: PairMaker) -> None:
        # Rows may differ in a column that cannot be read: then ids made from the others prove nothing.
        self._are_whole = not unreadable_columns(manifest.schema)
        self._maker = maker
        self._hash = Hasher()

    def hashes(self, batch: pa.RecordBatch, first_row: int, doubtful: Indices) -> Hashes:
        """Of each row's id; ids that the rows give themselves and that are safe are hashed as they stand."""
        hashes = np.empty(batch.num_rows, np.uint64)
        is_plain = np.zeros(batch.num_rows, np.bool_)
        if "pair_id" in batch.schema.names:
            is_plain = batch.column("pair_id").is_valid().to_numpy(zero_copy_only=False).copy()
            is_plain[doubtful] = False
            given = batch.column("pair_id").filter(pa.array(is_plain))
            hashes[is_plain] = self._hash(given.dictionary_decode() if is_dictionary(given.type) else given)
        others = np.flatnonzero(~is_plain)
        texts = [self._text(row) for row in read_rows(batch, first_row, others)]
        hashes[others] = self._hash(pa.array(texts, pa.large_string()))
        return hashes

    def _text(self, row: Row) -> str:
        if self._are_whole or row.pair_id is not None:
            return short_id(self._maker.pair_id(row))
        return f"no id {row.number}"


def _repetition_lines(manifest: Manifest, maker: PairMaker, hashes: IdHashes) -> list[str]:
    """What rows with the same id have in common; each is read again, as two ids can share a hash."""
    lines = _Findings(manifest.uri, "rows that have the id of an earlier row")
    repetitions = hashes.repetitions(MOST_COMPARED)
    left = repetitions.count
    for first, later in repetitions.first:
        if lines.count == MAX_REPORTED:
            break
        left -= 1
        if problem := _repetition(maker, _row(manifest, first), _row(manifest, later)):
            lines.add([problem])
    lines.count += left
    return lines.report()


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
