"""What merging the parts of a large job takes: seconds, memory, bytes; and what reading them takes before and after.

    python benchmarks/merging.py --rows 1000000

No picture is made: the rows are made up, with as many digits as real ones have.
"""

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.job import merge_output
from stylebatch.job.identity import encode_identity
from stylebatch.layout import FORMAT_VERSION, Layout
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.results import encode_part, read_results
from stylebatch.storage import LocalStore
from stylebatch.work import source_facts

UNIT_SIZE = 256
DIFFERENT_PARTS = 8
"""So many are made; the others repeat them under other numbers, which saves most of the time."""
CURVE = 20
"""Values of the loss curve of a row; as many as it has evaluations."""


def made_up_row(number: int, digits: random.Random) -> dict[str, Any]:
    """A row whose hashes and losses are random."""
    pair = Pair(f"photo-{number:08d}", number, f"s3://photos/{number}.jpg", ("s3://styles/a.jpg",), Recipe())
    sha256 = [f"{digits.getrandbits(256):064x}" for _ in range(3)]
    layers = ["content_conv4_2", *(f"style_conv{block}_1" for block in range(1, 6))]
    return {
        **source_facts(pair),
        **pair.recipe.to_dict(),
        "status": "ok" if number % 1000 else "failed",
        "error_type": None if number % 1000 else "NotFoundError",
        "error": None if number % 1000 else "it is missing",
        "image": f"s3://out/images/{number}.png",
        "recipe_sha256": "a" * 64,
        "weights_sha256": "b" * 64,
        "content_sha256": sha256[0],
        "style_sha256": [sha256[1]],
        "image_sha256": sha256[2],
        "width": 512,
        "height": 384,
        "loss": digits.random(),
        "layer_losses": {layer: digits.random() for layer in layers},
        "loss_curve": [digits.random() for _ in range(CURVE)],
        "seconds": digits.random(),
        "evaluations": CURVE,
        "attempts": 1,
    }


def make_output(store: LocalStore, layout: Layout, rows: int) -> None:
    """An output of so many rows, with a part for each unit."""
    identity = {"format_version": FORMAT_VERSION, "recipe": {}, "rows": rows, "unit_size": UNIT_SIZE}
    store.put(layout.job, encode_identity(identity))
    digits = random.Random(0)
    tables = []
    for unit in range(min(DIFFERENT_PARTS, rows // UNIT_SIZE)):
        made = [made_up_row(unit * UNIT_SIZE + number, digits) for number in range(UNIT_SIZE)]
        tables.append(
            pq.read_table(
                pa.BufferReader(encode_part(made, pa.table({"row": pa.nulls(UNIT_SIZE)}).select([])))
            )
        )
    for unit in range(rows // UNIT_SIZE):
        table = tables[unit % len(tables)]
        numbers = pa.array(range(unit * UNIT_SIZE, (unit + 1) * UNIT_SIZE), pa.int64())
        names = pa.array([f"photo-{number:08d}" for number in numbers.to_pylist()])
        table = table.set_column(table.schema.get_field_index("row"), "row", numbers)
        table = table.set_column(table.schema.get_field_index("pair_id"), "pair_id", names)
        Path(layout.results).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, layout.part(unit), compression="zstd")


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def size_of(layout: Layout) -> str:
    files = [path for path in Path(layout.results).rglob("*.parquet")]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB"


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", help="where the output is made; default: a temporary folder")
    options = parser.parse_args()
    rows = options.rows // UNIT_SIZE * UNIT_SIZE
    store = LocalStore()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        layout = Layout(f"{folder}/out")
        make_output(store, layout, rows)
        columns = ["pair_id", "status", "loss"]
        print(f"{rows} rows in parts: {size_of(layout)}")
        print(
            f"  three columns by Arrow: {seconds(lambda: pq.read_table(layout.results, columns=columns)):.1f} s"
        )
        before = peak()
        print(f"merging: {seconds(lambda: merge_output(store, layout.output)):.1f} s")
        print(f"  memory: {before:.0f} MB before, {peak():.0f} MB at most")
        print(f"merged: {size_of(layout)}")
        print(
            f"  three columns by Arrow: {seconds(lambda: pq.read_table(layout.results, columns=columns)):.1f} s"
        )
        read = seconds(lambda: read_results(store, layout.output)) if rows <= 100_000 else None
        print("  all columns, read_results:", "not tried" if read is None else f"{read:.1f} s")


if __name__ == "__main__":
    main()
