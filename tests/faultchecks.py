"""What must be true of a finished output, judged from its objects alone. Each check yields sentences."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

LOSSES = ("loss", "content_loss", "style_loss", "solver_loss")
TOLERANCE = 0.1
"""Between losses of a pair that ran in a batch and alone, relative; see docs/conventions.md."""
ALLOWED = re.compile(r"job\.json|progress\.json|_SUCCESS|images/\d{6}/[^/]+|results/part-\d{6}\.parquet")
"""Names of what may be there at the end."""

Objects = Mapping[str, bytes]
"""The objects of an output by name, relative to the output."""
Row = Mapping[str, Any]


def part_rows(objects: Objects) -> list[Row]:
    """The rows of all parts, in order of part, as they stand there."""
    parts = sorted(name for name in objects if name.startswith("results/"))
    return [row for name in parts for row in pq.read_table(io.BytesIO(objects[name])).to_pylist()]


def output_problems(
    objects: Objects, pair_ids: Sequence[str], reference: Mapping[str, Row] | None = None
) -> Iterator[str]:
    """Everything that is wrong with an output.

    Args:
        objects: What is there.
        pair_ids: Of the manifest, in order of row.
        reference: The rows of an undisturbed run in which every pair ran alone, by pair id.
    """
    rows = part_rows(objects)
    yield from row_problems(rows, pair_ids)
    yield from image_problems(objects, rows)
    yield from success_problems(objects, len(pair_ids))
    yield from (f"{name} is left over" for name in objects if not ALLOWED.fullmatch(name))
    if reference is not None:
        yield from loss_problems(rows, reference)


def row_problems(rows: Sequence[Row], pair_ids: Sequence[str]) -> Iterator[str]:
    """Every row of the manifest is in the parts exactly once, in order, and ok."""
    counts = Counter(row["pair_id"] for row in rows)
    for pair_id in pair_ids:
        if counts[pair_id] != 1:
            yield f"{pair_id} is in the parts {counts[pair_id]} times"
    yield from (f"{pair_id} is in no manifest" for pair_id in counts if pair_id not in pair_ids)
    for row in rows:
        if row["status"] != "ok":
            yield f"{row['pair_id']} is {row['status']}: {row['error_type']}: {row['error']}"
    if [row["row"] for row in rows] != list(range(len(pair_ids))):
        yield "the parts' rows are not in the manifest's order"


def image_problems(objects: Objects, rows: Sequence[Row]) -> Iterator[str]:
    """Every row's image is there with the hash that the row states, and no other image is."""
    images = {name for name in objects if name.startswith("images/")}
    for row in rows:
        named = [name for name in images if str(row["image"]).endswith(f"/{name}")]
        images.difference_update(named)
        if not named:
            yield f"{row['pair_id']}: its image {row['image']} is not there"
        elif hashlib.sha256(objects[named[0]]).hexdigest() != row["image_sha256"]:
            yield f"{row['pair_id']}: its image is not the one that its row describes"
    yield from (f"{name} belongs to no row" for name in sorted(images))


def success_problems(objects: Objects, count: int) -> Iterator[str]:
    """``_SUCCESS`` says that all pairs are ok."""
    expected = {"rows": count, "ok": count, "failed": 0}
    found = objects.get("_SUCCESS")
    if found is None:
        yield "_SUCCESS is not there"
    elif {name: json.loads(found).get(name) for name in expected} != expected:
        yield f"_SUCCESS says {found.decode()}"


def loss_problems(rows: Sequence[Row], reference: Mapping[str, Row]) -> Iterator[str]:
    """The losses are those of an undisturbed run: the same if alone, within :data:`TOLERANCE` in a batch."""
    for row in rows:
        undisturbed = reference[row["pair_id"]]
        tolerance = 0.0 if row["batch"] == undisturbed["batch"] == 1 else TOLERANCE
        for name in LOSSES:
            here, there = row[name], undisturbed[name]
            if here is None or abs(here - there) > tolerance * abs(there):
                yield f"{row['pair_id']}: {name} is {here} in a batch of {row['batch']}, undisturbed {there}"


def computation_problems(computations: Mapping[str, int], in_flight: Mapping[str, int]) -> Iterator[str]:
    """No pair was computed more than once for each kill that it was in flight at, and once more."""
    for pair_id, count in computations.items():
        kills = in_flight.get(pair_id, 0)
        if count > 1 + kills:
            yield f"{pair_id} was computed {count} times, but in flight at {kills} kills"
