"""From targets and a start image to a picture, with its losses and the reason why it ended."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain

from torch import Tensor
from torch.nn import functional

from stylebatch.synthesis.batch import Batch
from stylebatch.synthesis.bounds import HIGH, LOW, outside_fraction
from stylebatch.synthesis.problems import Problem, Publish, Published, Solution, check_alike
from stylebatch.synthesis.state import ImageState, OfferStates, TakeStates
from stylebatch.synthesis.vgg import VGG19


def clip_and_round(image: Tensor, number: int) -> Published:
    """What an 8-bit file keeps of an image ``(3, H, W)``."""
    pixels = image.round().clamp(LOW, HIGH)
    return Published(pixels, pixels, outside_fraction(image), {})


def offer_nothing(take_states: TakeStates) -> None:
    """Nobody wants to know where the images of a batch stand."""


def synthesize(
    network: VGG19,
    problems: Sequence[Problem],
    publish: Publish = clip_and_round,
    on_evaluation: Callable[[int], None] = lambda evaluations: None,
    *,
    resume: Iterable[ImageState] = (),
    offer: OfferStates = offer_nothing,
) -> list[Solution]:
    """Minimise equation (7) for a batch of pictures; each gets what it would get alone.

    A problem with smaller sizes is solved at those first; what came of one is where the next one starts.

    Args:
        network: The VGG-19; its device is where the work is done.
        problems: At least one. All have the same shapes, target layers and ``recipe.shared_settings``.
        publish: What the published file keeps of the image of the problem of that number, from 0; losses are
            measured on that.
        on_evaluation: Called after each with how many of ``recipe.scales * recipe.iterations`` evaluations
            are behind; those that a smaller size did not use count, too.
        resume: Where each problem stood when its state was taken, in order, all at the same size and number
            of evaluations; each is let go once it is read. None at all: from the start images.
        offer: Called after each evaluation but a size's last with a function that takes the states of all
            images.

    Returns:
        One solution for each problem, in order. A loss that is not finite is no exception: the stop reason
        says so and the image is the last good one.

    Raises:
        SynthesisError: The problems cannot share a batch, or the images are too small for the layers.
    """
    check_alike(problems)
    by_size = [*zip(*(problem.sizes for problem in problems), strict=True)]
    batch, done = _begin(network, by_size, resume)
    recipe = problems[0].recipe
    skipped = recipe.scales - len(by_size)
    while True:
        _work(batch, (skipped + done) * recipe.iterations, on_evaluation, offer)
        if done + 1 == len(by_size):
            return batch.solutions(publish)
        images, used = batch.images(), batch.all_evaluations
        del batch  # its memory is wanted now
        done += 1
        batch = Batch(network, _carried_on(images, by_size[done - 1], by_size[done]), used)


def _begin(
    network: VGG19, by_size: Sequence[Sequence[Problem]], resume: Iterable[ImageState]
) -> tuple[Batch, int]:
    """The batch with which to begin, and how many smaller sizes are done before it."""
    states = iter(resume)
    first = next(states, None)
    done = len(first.smaller_evaluations) if first else 0
    batch = Batch(network, by_size[done], [()] * len(by_size[done]))
    if first:
        standing = chain([first], states)
        del first  # so that each state is let go once it is read
        batch.restore(standing)
    return batch, done


def _work(batch: Batch, before: int, on_evaluation: Callable[[int], None], offer: OfferStates) -> None:
    """Work on a batch, with so many evaluations behind it, until every image of it has ended."""
    while not batch.is_finished:
        batch.evaluate()
        on_evaluation(before + batch.evaluations)
        if not batch.is_finished:
            offer(batch.states)


def _carried_on(images: Tensor, smaller: Sequence[Problem], problems: Sequence[Problem]) -> list[Problem]:
    """The problems of the next size, starting from what came of the smaller one, images ``(B, 3, h, w)``.

    What was changed is enlarged and added to the start image, which keeps the details that the small image
    could not show; of noise there are none worth keeping.
    """
    return [
        replace(problem, start=_enlarged(image, problem))
        if problem.recipe.start == "noise"
        else replace(problem, start=problem.start + _enlarged(image - former.start, problem))
        for image, former, problem in zip(images, smaller, problems, strict=True)
    ]


def _enlarged(image: Tensor, problem: Problem) -> Tensor:
    size = problem.start.shape[-2:]
    return functional.interpolate(image[None], size, mode="bicubic")[0]
