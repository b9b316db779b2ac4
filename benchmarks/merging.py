"""What merging the parts of a large job takes, and reading them before and after.

    python benchmarks/merging.py --rows 1000000

No picture is made: the rows are made up, with as many digits as real ones have.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stylebatch.job import merge_output
from stylebatch.job.identity import encode_identity
from stylebatch.layout import FORMAT_VERSION, Layout
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.results import encode_part, open_results
from stylebatch.storage import LocalStore
from stylebatch.work import source_facts

UNIT_SIZE = 256
EVALUATIONS = 20
"""Of each row; its loss curve has as many values."""
LAYERS = ("content_conv4_2", *(f"style_conv{block}_1" for block in range(1, 6)))
COLUMNS = ["pair_id", "status", "loss"]


def made_up_row(number: int) -> dict[str, Any]:
    """What rows have in common, and what follows from their number; every 1000th failed."""
    pair = Pair(f"photo-{number:08d}", number, f"s3://photos/{number}.jpg", ("s3://styles/a.jpg",), Recipe())
    facts = {**source_facts(pair), **pair.recipe.to_dict(), "recipe_sha256": "a" * 64, "attempts": 1}
    if number % 1000 == 0:
        return facts | {"status": "failed", "error_type": "NotFoundError", "error": "it is missing"}
    random = np.random.default_rng(number)
    return facts | {
        "status": "ok",
        "image": f"s3://out/images/{number}.png",
        **dict.fromkeys(("weights_sha256",), "b" * 64),
        **{name: os.urandom(32).hex() for name in ("content_sha256", "image_sha256")},
        "style_sha256": [os.urandom(32).hex()],
        "width": 512,
        "height": 384,
        "loss": random.random(),
        "layer_losses": dict(zip(LAYERS, random.random(len(LAYERS)).tolist(), strict=True)),
        "loss_curve": random.random(EVALUATIONS).tolist(),
        "seconds": random.random(),
        "evaluations": EVALUATIONS,
    }


def make_output(store: LocalStore, layout: Layout, rows: int) -> None:
    """An output of so many rows, with a part for each unit."""
    identity = {"format_version": FORMAT_VERSION, "recipe": {}, "rows": rows, "unit_size": UNIT_SIZE}
    store.put(layout.job, encode_identity(identity))
    Path(layout.results).mkdir()
    no_extras = pa.table({"row": pa.nulls(UNIT_SIZE)}).select([])
    for unit in range(rows // UNIT_SIZE):
        made = [made_up_row(unit * UNIT_SIZE + number) for number in range(UNIT_SIZE)]
        Path(layout.part(unit)).write_bytes(encode_part(made, no_extras))


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def size_of(layout: Layout) -> str:
    """How many files, and how large."""
    sizes = [path.stat().st_size for path in Path(layout.results).rglob("*.parquet")]
    return f"{len(sizes)} files, {sum(sizes) / 2**20:.0f} MB, the largest {max(sizes) / 2**20:.1f} MB"


def peak() -> float:
    """The most memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_by_arrow(layout: Layout) -> str:
    """How long three columns take."""
    taken = seconds(lambda: pq.read_table(layout.results, columns=COLUMNS))
    return f"  three columns by Arrow: {taken:.2f} s"


def read_by_unit(store: LocalStore, layout: Layout) -> str:
    """How long the whole table takes, unit by unit."""
    taken = seconds(lambda: [table.num_rows for table in open_results(store, layout.output).tables()])
    return f"  all columns, unit by unit: {taken:.1f} s"


def main() -> None:
    """Make an output, read it, merge it, read it again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", help="where the output is made; default: a temporary folder")
    options = parser.parse_args()
    rows = options.rows // UNIT_SIZE * UNIT_SIZE
    store = LocalStore()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        layout = Layout(f"{folder}/out")
        make_output(store, layout, rows)
        print(f"{rows} rows in parts: {size_of(layout)}")
        before = peak()
        print(f"merging: {seconds(lambda: merge_output(store, layout.output)):.1f} s")
        print(f"  memory: {before:.0f} MB before, {peak():.0f} MB at most")
        print(f"merged: {size_of(layout)}")
        print(read_by_arrow(layout), read_by_unit(store, layout), sep="\n")
        print(f"  opened again: {seconds(lambda: open_results(store, layout.output)):.3f} s")


if __name__ == "__main__":
    main()
