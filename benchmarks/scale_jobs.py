"""What the rows of scale.py are measured on: trivial pairs, long manifests, nearly finished outputs."""

import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stylebatch.cluster.jobs import make_job
from stylebatch.job import Job, open_output
from stylebatch.layout import Row
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.results import encode_part
from stylebatch.storage import UriStore
from stylebatch.work import source_facts

TRIVIAL = Recipe(
    size=16, iterations=0, start="content", content_layers=("conv1_1",), style_layers=("conv1_1",), history=1
)
"""Publishes the content at 16 pixels: what is left is the machinery."""
CONTENTS, STYLES = 200, 50
CHUNK = 500_000
"""Rows of a manifest that are made at once."""
HASH = "0123456789abcdef" * 4


def write_pictures(folder: Path) -> None:
    """Small pictures for contents and styles."""
    dice = np.random.default_rng(0)
    for name in [*(f"c{i}" for i in range(CONTENTS)), *(f"s{i}" for i in range(STYLES))]:
        Image.fromarray(dice.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{name}.png")


def trivial_manifest(folder: Path, rows: int) -> Path:
    """Pairs of those pictures, with their styles in random order."""
    dice = random.Random(0)
    table = pa.table(
        {
            "pair_id": [f"pair-{i:09}" for i in range(rows)],
            "content": [f"c{i % CONTENTS}.png" for i in range(rows)],
            "style": [f"s{dice.randrange(STYLES)}.png" for _ in range(rows)],
        }
    )
    path = folder / "pairs.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=10_000)
    return path


def long_manifest(path: Path, rows: int, with_ids: bool, repeated: int = 3) -> None:
    """Rows with a content and a seed of their own, 50 styles, and a few ids or rows that are there twice."""
    writer = None
    for start in range(0, rows, CHUNK):
        numbers = np.arange(start, min(rows, start + CHUNK))
        if start + CHUNK >= rows:
            numbers[-repeated:] = np.arange(repeated)
        table = _table(numbers, with_ids)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=100_000)
    assert writer is not None
    writer.close()


def _table(numbers: np.ndarray[Any, Any], with_ids: bool) -> pa.Table:
    own = {"pair_id": [f"pair-{i:09}" for i in numbers]} if with_ids else {}
    return pa.table(
        {
            **own,
            "content": [f"photographs/{i // 1000:05}/{i:09}.jpg" for i in numbers],
            "style": [f"s3://paintings/{i % STYLES}.jpg" for i in numbers],
            "seed": numbers,
        }
    )


def trivial_job(folder: Path, rows: int) -> Job:
    """A job of trivial pairs whose output is new."""
    write_pictures(folder)
    return make_job(UriStore(), str(trivial_manifest(folder, rows)), f"{folder}/out", TRIVIAL)


def fabricate(job: Job, open_units: int) -> None:
    """Publish the parts of all units but the last few, as a run would have left them, without pictures."""
    store = UriStore()
    open_output(job, store).lease.release()
    (Path(job.output) / "results").mkdir(exist_ok=True)
    done = job.units[: len(job.units) - open_units]
    with ProcessPoolExecutor(2) as processes:
        for _ in processes.map(partial(_publish, job.output), _unit_pairs(job, done), chunksize=8):
            pass


def _unit_pairs(job: Job, units: range) -> Iterator[tuple[int, list[Pair]]]:
    pairs = job.manifest.pairs(job.recipe)
    for unit in units:
        yield unit, [next(pairs) for _ in job.unit_rows(unit)]


def _publish(output: str, unit_pairs: tuple[int, list[Pair]]) -> None:
    from stylebatch.layout import Layout

    unit, pairs = unit_pairs
    part = Path(Layout(output).part(unit))
    part.write_bytes(encode_part([ok_row(pair, output) for pair in pairs], pa.table({})))


def reopen(job: Job, units: int) -> None:
    """Take the parts and pictures of the last units away."""
    for unit in job.units[-units:]:
        Path(job.layout.part(unit)).unlink()
        shutil.rmtree(job.layout.images(unit))


def ok_row(pair: Pair, output: str) -> Row:
    """A result row as a worker makes it."""
    loss = {"content_conv1_1": 0.25, "style_conv1_1": 1.5 + pair.row}
    return {
        **source_facts(pair),
        **pair.recipe.to_dict(),
        "recipe_sha256": HASH,
        "width": 16,
        "height": 16,
        "loss": 0.5 + pair.row,
        "content_loss": 0.25,
        "style_loss": 0.25 + pair.row,
        "layer_losses": loss,
        "solver_loss": None,
        "layer_residuals": loss,
        "clipped_fraction": 0.0,
        "adjusted_clipped_fraction": 0.0,
        "achieved": {},
        "evaluations": 0,
        "smaller_evaluations": [],
        "stop_reason": "iterations",
        "content_sha256": HASH,
        "style_sha256": [HASH],
        "weights_sha256": HASH,
        "stylebatch_version": "0.1.0",
        "torch_version": "2",
        "seconds": 0.01,
        "attempts": 1,
        "batch": 1,
        "target_hits": 1,
        "target_misses": 1,
        "device": "cpu",
        "host": "here",
        "status": "ok",
        "image": f"{output}/images/{pair.row // 256:06}/{pair.pair_id}.png",
        "image_sha256": HASH,
        "loss_curve": [],
    }
