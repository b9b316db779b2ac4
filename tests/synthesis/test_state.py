"""A synthesis that was interrupted goes on to the very same bytes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from stylebatch.errors import SynthesisError
from stylebatch.recipe import Recipe
from stylebatch.synthesis import batch as batch_module
from stylebatch.synthesis import bounds as bounds_module
from stylebatch.synthesis.lbfgs import CurvaturePairs
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.problems import Problem, Solution
from stylebatch.synthesis.projection import state_bytes
from stylebatch.synthesis.state import ImageState, TakeStates
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.vgg import VGG19

Photograph = Callable[..., Tensor]
MakeProblem = Callable[..., Problem]

EVALUATIONS = 40
CHECK_EVERY = 16
"""So that the bounds tighten in a test that is short: after evaluations 16 and 32."""


@pytest.fixture(autouse=True)
def bounds_that_tighten_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "MOST_PENALTY", 1e-5)
    monkeypatch.setattr(batch_module, "CHECK_EVERY", CHECK_EVERY)


@pytest.fixture(scope="module")
def problems_of(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem
) -> Callable[..., list[Problem]]:
    """Three different images of one batch, of which the first stops early."""

    def make(**shared: Any) -> list[Problem]:
        specifications: list[tuple[str, str, dict[str, Any]]] = [
            ("chelsea", "gravel", {"start": "content", "style_weight": 1.0}),
            ("rocket", "hubble_deep_field", {"seed": 2, "style_weight": 1e5, "tv_weight": 10}),
            (
                "astronaut",
                "ihc",
                {"start": "content", "convention": "neural-style", "content_weight": 5, "style_weight": 100},
            ),
        ]
        settings = {"iterations": EVALUATIONS, "tolerance": 0.12, "history": 12} | shared
        return [
            make_problem(
                network,
                Recipe(**fields, **settings),
                photograph(content, 32, 48),
                photograph(style, 40, 40),
            )
            for content, style, fields in specifications
        ]

    return make


class Watched:
    """The states of a batch after each evaluation."""

    def __init__(self) -> None:
        self.states: dict[int, list[ImageState]] = {}

    def __call__(self, take_states: TakeStates) -> None:
        states = take_states()
        self.states[states[0].evaluations] = states


def assert_same(found: Sequence[Solution], expected: Sequence[Solution]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.image.numpy().tobytes() == other.image.numpy().tobytes()
        assert replace(one, image=other.image, to_encode=other.to_encode) == other


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_batch_that_goes_on_gives_the_same_bytes(
    network: VGG19, problems_of: Callable[..., list[Problem]], optimizer: str
) -> None:
    """From before and after bounds tighten, the history is full, and images have left the batch."""
    problems = problems_of(optimizer=optimizer)
    watched = Watched()
    undisturbed = synthesize(network, problems, offer=watched)
    ends = sorted(solution.evaluations for solution in undisturbed)
    assert ends[0] < ends[-1] == EVALUATIONS
    assert list(watched.states) == list(range(1, EVALUATIONS))
    for evaluations in (1, CHECK_EVERY, ends[0], EVALUATIONS - 1):
        assert_same(synthesize(network, problems, resume=watched.states[evaluations]), undisturbed)


def test_the_bounds_of_these_problems_do_tighten(
    network: VGG19, problems_of: Callable[..., list[Problem]]
) -> None:
    """The test above would say too little otherwise."""
    watched = Watched()
    synthesize(network, problems_of(iterations=CHECK_EVERY + 1), offer=watched)
    stiffness = [
        [float(state.tensors["stiffness"]) for state in states] for states in watched.states.values()
    ]
    assert stiffness[0] == stiffness[CHECK_EVERY - 2]
    assert stiffness[CHECK_EVERY - 2] != stiffness[CHECK_EVERY - 1]


def test_going_on_twice_is_going_on(network: VGG19, problems_of: Callable[..., list[Problem]]) -> None:
    problems = problems_of(iterations=22)
    first, second = Watched(), Watched()
    undisturbed = synthesize(network, problems, offer=first)
    synthesize(network, problems, resume=first.states[9], offer=second)
    assert list(second.states) == list(range(10, 22))
    assert_same(synthesize(network, problems, resume=second.states[18]), undisturbed)


def test_evaluations_are_counted_on(network: VGG19, problems_of: Callable[..., list[Problem]]) -> None:
    problems = problems_of(iterations=12)
    watched = Watched()
    synthesize(network, problems, offer=watched)
    seen: list[int] = []
    synthesize(network, problems, resume=watched.states[9], on_evaluation=seen.append)
    assert seen == [10, 11, 12]


def test_images_that_have_all_stopped_are_only_measured(
    network: VGG19, problems_of: Callable[..., list[Problem]]
) -> None:
    problems = problems_of()
    watched, seen = Watched(), list[int]()
    undisturbed = synthesize(network, problems, offer=watched)
    stopped = watched.states[EVALUATIONS - 1][0]
    assert stopped.stop_reason is StopReason.CONVERGED
    assert stopped.tensors.keys() == {"points"}
    (solution,) = synthesize(network, problems[:1], resume=[stopped], on_evaluation=seen.append)
    assert seen == []
    assert torch.equal(solution.image, undisturbed[0].image)
    assert solution.loss_curve == undisturbed[0].loss_curve
    assert solution.stop_reason is StopReason.CONVERGED


def test_images_of_several_batches_go_on_together(
    network: VGG19, problems_of: Callable[..., list[Problem]]
) -> None:
    """Within the tolerance that docs/conventions.md gives for another batch."""
    problems = problems_of(iterations=24, tolerance=0.0)
    states = []
    for problem in problems:
        watched = Watched()
        synthesize(network, [problem], offer=watched)
        states += watched.states[16]
    together = synthesize(network, problems, resume=states)
    for solution, expected in zip(together, synthesize(network, problems), strict=True):
        assert solution.loss_curve[:6] == pytest.approx(expected.loss_curve[:6], rel=1e-3)
        assert solution.loss_curve[:8] == pytest.approx(expected.loss_curve[:8], rel=5e-3)
        assert solution.loss == pytest.approx(expected.loss, rel=0.1)
        assert solution.evaluations == 24


def test_a_state_shares_no_memory_with_what_goes_on(
    network: VGG19, problems_of: Callable[..., list[Problem]]
) -> None:
    problems = problems_of(iterations=20)
    taken: list[tuple[ImageState, dict[str, Tensor]]] = []

    def take_once(take_states: TakeStates) -> None:
        if not taken:
            taken.extend(
                (state, {name: tensor.clone() for name, tensor in state.tensors.items()})
                for state in take_states()
            )

    synthesize(network, problems, offer=take_once)
    for state, tensors in taken:
        for name, tensor in tensors.items():
            assert torch.equal(state.tensors[name], tensor), name
            assert tensor.numel() * tensor.element_size() == state.tensors[name].untyped_storage().nbytes()


def test_only_the_filled_part_of_the_history_is_in_a_state(
    network: VGG19, problems_of: Callable[..., list[Problem]]
) -> None:
    (problem, *_) = problems_of(history=30, tolerance=0.0)
    watched = Watched()
    synthesize(network, [problem], offer=watched)
    sizes = {evaluations: _bytes_of(state) for evaluations, (state,) in watched.states.items()}
    pixels = 3 * problem.start[0].numel()
    assert 4 * 3 * pixels <= sizes[1] < 4 * 3 * pixels + 1000
    assert sizes[4] == pytest.approx((4 * 3 + 2 * 2 * 3) * pixels, rel=0.02)
    most = state_bytes(problem.recipe, *problem.start.shape[1:])
    assert sizes[EVALUATIONS - 1] == pytest.approx(most, rel=0.03)


def _bytes_of(state: ImageState) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.tensors.values())


def test_a_history_that_was_cleared_goes_on_too() -> None:
    pairs, other = (CurvaturePairs(torch.zeros(1, 4), history=3) for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    for step in range(7):
        change = torch.randn(1, 4, generator=generator)
        pairs.append(torch.tensor([True]), change, 2 * change)
        if step == 2:
            pairs.clear(torch.tensor([True]))
        if step == 4:
            other.restore(0, pairs.state(0))
        if step > 4:
            other.append(torch.tensor([True]), change, 2 * change)
    gradient = torch.randn(1, 4, generator=generator)
    assert torch.equal(pairs.newton_directions(gradient), other.newton_directions(gradient))


def test_states_that_do_not_fit_are_refused(
    network: VGG19, problems_of: Callable[..., list[Problem]]
) -> None:
    problems = problems_of(iterations=4)
    watched = Watched()
    synthesize(network, problems, offer=watched)
    one, two = watched.states[1], watched.states[2]
    for states, told in [
        (one[:2], r"3 pictures cannot go on from 2 states, taken after \[\(0, 1\)\] smaller"),
        ([*one, one[0]], "3 pictures cannot go on from 4 states"),
        (
            [one[0], two[1], two[2]],
            r"taken after \[\(0, 1\), \(0, 2\)\] smaller sizes and",
        ),
    ]:
        with pytest.raises(SynthesisError, match=told):
            synthesize(network, problems, resume=states)


def test_states_are_let_go_once_they_are_read(
    network: VGG19, problems_of: Callable[..., list[Problem]]
) -> None:
    problems = problems_of(iterations=3)
    watched = Watched()
    synthesize(network, problems, offer=watched)
    waiting = watched.states.pop(1)

    def consumed() -> Any:
        while waiting:
            yield waiting.pop(0)

    left: list[int] = []
    synthesize(network, problems, resume=consumed(), on_evaluation=lambda done: left.append(len(waiting)))
    assert left == [0, 0]
