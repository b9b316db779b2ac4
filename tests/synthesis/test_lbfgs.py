"""L-BFGS over a batch: what each image gets, alone and among others, and when its loss goes wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from stylebatch.synthesis.lbfgs import (
    BAND_FACTORS,
    FIRST_STEP,
    LBFGS,
    LONGEST_STEP,
    SAFER_STEP,
    CurvaturePairs,
)
from stylebatch.synthesis.optimizers import StopReason

Function = Callable[[Tensor], Tensor]

SIZE = 12


def quadratic(condition: float, scale: float = 1.0) -> Function:
    """``scale/2 sum d_i (x_i - 100)^2`` with the d_i from 1 to a condition number."""
    curvatures = torch.logspace(0, float(torch.tensor(condition).log10()), SIZE)
    return lambda x: scale * (curvatures.to(x) * (x - 100).square()).sum() / 2


def rosenbrock(x: Tensor) -> Tensor:
    """The chained Rosenbrock function; its valley ends at 50 (1, ..., 1)."""
    u = x / 50
    return (100 * (u[1:] - u[:-1].square()).square() + (1 - u[:-1]).square()).sum()


def quartic(x: Tensor) -> Tensor:
    """Nearly flat at its minimum at 30, very steep away from it: full steps overshoot."""
    return ((x - 30) / 10).pow(4).sum()


def hills(x: Tensor) -> Tensor:
    """Many minima, and directions of negative curvature between them."""
    return (1 - (x / 15).cos()).sum() + 1e-4 * (x - 20).square().sum()


def kink(x: Tensor) -> Tensor:
    """No Hessian at the minimum at 100: full steps overshoot, and the search backtracks all the time."""
    return (x - 100).abs().sum()


def wall(x: Tensor) -> Tensor:
    """A shallow bowl with a wall through it, ten million times as steep."""
    return 1e-3 * (x - 100).square().sum() + 1e4 * (100 - x).clamp(min=0).square().sum()


@dataclass
class Trace:
    """What one image of a batch went through."""

    trials: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    point: Tensor | None = None
    stopped: StopReason | None = None


def minimise(
    functions: Sequence[Function], start: Tensor, evaluations: int, history: int = 10
) -> list[Trace]:
    """Run a batch, one function for each row; rows that stop are taken out, as the synthesis does."""
    optimizer = LBFGS(start, history)
    traces = [Trace() for _ in functions]
    active = list(range(len(functions)))
    for _ in range(evaluations):
        trials = optimizer.propose().detach().requires_grad_()
        losses = torch.stack([functions[i](row) for i, row in zip(active, trials, strict=True)])
        (gradients,) = torch.autograd.grad(losses.sum(), trials)
        losses = losses.detach()
        optimizer.observe(losses, gradients)
        for row, i in enumerate(active):
            traces[i].trials.append(trials.detach()[row].clone())
            traces[i].losses.append(float(losses[row]))
            traces[i].best.append(float(optimizer.losses[row]))
            traces[i].point, traces[i].stopped = optimizer.points[row].clone(), optimizer.stopped[row]
        going = [row for row, reason in enumerate(optimizer.stopped) if reason is None]
        if not going:
            break
        if len(going) < len(active):
            active = [active[row] for row in going]
            optimizer.keep(torch.tensor(going))
    return traces


def start_points(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return 255 * torch.rand(count, SIZE, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize(
    ("function", "evaluations"),
    [(quadratic(1), 20), (quadratic(100), 60), (quadratic(1e4), 200), (quartic, 80), (rosenbrock, 300)],
    ids=["sphere", "condition 100", "condition 1e4", "quartic", "rosenbrock"],
)
def test_it_converges(function: Function, evaluations: int) -> None:
    for trace in minimise([function] * 3, start_points(3, torch.float64), evaluations):
        assert trace.best[-1] < 1e-6 * trace.best[0]


def test_the_scale_of_a_loss_does_not_matter() -> None:
    for scale in (2.0**-50, 1.0, 2.0**58):
        (found,) = minimise([quadratic(100, scale)], start_points(1), 40)
        assert found.best[-1] < 1e-6 * found.best[0], scale


DIFFERENT: dict[str, Function] = {
    "condition 100": quadratic(100),
    "rosenbrock": rosenbrock,
    "quartic": quartic,
    "hills": hills,
    "wall": wall,
    "kink": kink,
    "already there": lambda x: (x - x.detach()).square().sum(),
    "tiny": quadratic(10, 1e-8),
    "never finite": lambda x: x.sum() * torch.nan,
}


def test_each_row_gets_what_it_gets_alone() -> None:
    """In float64 within 1e-5 of a grey level: products over a batch may round differently."""
    start = start_points(len(DIFFERENT), torch.float64)
    together = minimise(list(DIFFERENT.values()), start, 40)
    for row, (name, function) in enumerate(DIFFERENT.items()):
        (alone,) = minimise([function], start[row : row + 1], 40)
        assert together[row].stopped == alone.stopped, name
        assert len(together[row].trials) == len(alone.trials), name
        for found, expected in zip(together[row].trials, alone.trials, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, msg=name)
    stops = {name: trace.stopped for name, trace in zip(DIFFERENT, together, strict=True)}
    assert stops["already there"] is StopReason.CONVERGED
    assert stops["never finite"] is StopReason.NOT_FINITE
    assert stops["rosenbrock"] is None
    for name in ("wall", "kink"):
        trace = together[list(DIFFERENT).index(name)]
        assert sum(loss > best for loss, best in zip(trace.losses, trace.best, strict=True)) >= 10, name


def test_the_first_step_is_a_few_grey_levels() -> None:
    for scale in (1e-10, 1.0, 1e10):
        (trace,) = minimise([quadratic(100, scale)], start_points(1), 2)
        assert (trace.trials[1] - trace.trials[0]).abs().max().item() == pytest.approx(FIRST_STEP, rel=1e-5)


def test_no_step_is_longer_than_the_longest() -> None:
    """A bowl so flat that a Newton step would cross the whole range."""
    functions: list[Function] = [lambda x: (1 + ((x - 5000) / 1000).square()).sqrt().sum(), rosenbrock, hills]
    longest = 0.0
    for trace in minimise(functions, start_points(3, torch.float64), 100):
        best, point = torch.inf, trace.trials[0]
        for trial, loss in zip(trace.trials, trace.losses, strict=True):
            change = float((trial - point).abs().max())
            assert change <= LONGEST_STEP * (1 + 1e-9)
            longest = max(longest, change)
            if loss < best:
                best, point = loss, trial
    assert longest > 0.99 * LONGEST_STEP


@pytest.mark.parametrize("function", [quartic, hills, wall, kink, rosenbrock])
def test_accepted_losses_only_fall(function: Function) -> None:
    (trace,) = minimise([function], start_points(1, torch.float64), 60)
    assert all(later <= earlier for earlier, later in zip(trace.best, trace.best[1:], strict=False))
    assert trace.best[-1] == min(trace.losses)
    assert trace.point is not None
    assert float(function(trace.point)) == pytest.approx(trace.best[-1], rel=1e-12)


def newest_curvature(pairs: Sequence[tuple[Tensor, Tensor]], vector: Tensor) -> Tensor:
    """The usual first guess of the inverse Hessian, times a vector."""
    s, y = pairs[-1]
    return ((s @ y) / (y @ y)) * vector


def two_loop_direction(
    pairs: Sequence[tuple[Tensor, Tensor]],
    gradient: Tensor,
    guess: Callable[[Sequence[tuple[Tensor, Tensor]], Tensor], Tensor] = newest_curvature,
) -> Tensor:
    """Nocedal & Wright (2006), algorithm 7.4, line by line, for one image; pairs are oldest first."""
    q = gradient.clone()
    alphas = []
    for s, y in reversed(pairs):
        alpha = (1 / (y @ s)) * (s @ q)
        q = q - alpha * y
        alphas.append(alpha)
    r = guess(pairs, q)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = (1 / (y @ s)) * (y @ r)
        r = r + s * (alpha - beta)
    return -r


@pytest.mark.parametrize("history", [1, 2, 5, 30])
def test_directions_equal_a_literal_two_loop_recursion(history: int) -> None:
    """Rows with histories of different lengths; the longest goes round the store more than twice."""
    generator = torch.Generator().manual_seed(0)
    hessians = [torch.diag(torch.logspace(0, exponent, SIZE, dtype=torch.float64)) for exponent in (0, 2, 4)]
    start = torch.zeros(3, SIZE, dtype=torch.float64)
    pairs = CurvaturePairs(start, history)
    remembered: list[list[tuple[Tensor, Tensor]]] = [[], [], []]
    for step in range(2 * history + 3):
        s = torch.randn(3, SIZE, generator=generator, dtype=torch.float64)
        y = torch.stack([row @ hessian for row, hessian in zip(s, hessians, strict=True)])
        rows = torch.tensor([True, step % 3 == 0, step == 1])
        pairs.append(rows, s, y)
        for row in rows.nonzero().flatten().tolist():
            remembered[row] = [*remembered[row], (s[row], y[row])][-history:]
        gradients = torch.randn(3, SIZE, generator=generator, dtype=torch.float64)
        directions = pairs.newton_directions(gradients)
        assert pairs.counts.tolist() == [len(kept) for kept in remembered]
        for row, kept in enumerate(remembered):
            expected = two_loop_direction(kept, gradients[row]) if kept else -gradients[row]
            torch.testing.assert_close(directions[row], expected, rtol=1e-8, atol=1e-8)


def test_the_first_guess_has_a_factor_for_each_band() -> None:
    """Halves of the vectors as bands, the second four times as curved, and an empty one."""

    class Halves:
        count = 3
        masks = torch.zeros(3, SIZE, dtype=torch.float64)
        masks[0, : SIZE // 2] = masks[1, SIZE // 2 :] = 1

        def products(self, left: Tensor, right: Tensor) -> Tensor:
            return (left * right) @ self.masks.T

        def scaled(self, vectors: Tensor, factors: Tensor) -> Tensor:
            return vectors * (factors @ self.masks)

    def guess(remembered: Sequence[tuple[Tensor, Tensor]], vector: Tensor) -> Tensor:
        curvatures, squares = (
            sum(
                Halves.masks @ (one * y) / (y @ y)
                for one, y in ((pair[which], pair[1]) for pair in remembered)
            )
            for which in (0, 1)
        )
        whole = curvatures.sum() / squares.sum()  # type: ignore[union-attr]
        factors = Halves.masks.T @ (curvatures / squares / whole).nan_to_num().clamp(*BAND_FACTORS)
        s, y = remembered[-1]
        return (s @ y) / (y @ (factors * y)) * factors * vector

    generator = torch.Generator().manual_seed(0)
    hessian = torch.where(torch.arange(SIZE) < SIZE // 2, 1.0, 4.0).double()
    pairs = CurvaturePairs(torch.zeros(1, SIZE, dtype=torch.float64), 5, Halves())
    remembered: list[tuple[Tensor, Tensor]] = []
    for step in range(9):
        s = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        pairs.append(torch.tensor([True]), s[None], (hessian * s)[None])
        remembered = [*remembered, (s, hessian * s)][-5:]
        gradient = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        (direction,) = pairs.newton_directions(gradient[None])
        torch.testing.assert_close(direction, two_loop_direction(remembered, gradient, guess))
        if step == 8:
            exact = -gradient / hessian
            usual = two_loop_direction(remembered, gradient)
            assert (direction - exact).norm() < 0.3 * (usual - exact).norm()


def test_in_float32_a_direction_is_accurate_to_a_hundredth() -> None:
    """The recursion runs on inner products; on an ill-conditioned path they must not cancel away."""
    optimizer = LBFGS(start_points(1), 30)
    function = quadratic(1e4)
    pairs: list[tuple[Tensor, Tensor]] = []
    previous: tuple[Tensor, Tensor] | None = None
    for _ in range(40):
        trial = optimizer.propose()[0].detach().clone().requires_grad_()
        loss = function(trial)
        (gradient,) = torch.autograd.grad(loss, trial)
        before = float(optimizer.losses[0])
        optimizer.observe(loss.detach()[None], gradient[None])
        if float(optimizer.losses[0]) >= before:
            continue
        point = trial.detach()
        if previous is not None:
            pairs = [*pairs, (point - previous[0], gradient - previous[1])][-30:]
            next_step = (optimizer.propose() - optimizer.points)[0].double()
            exact = two_loop_direction([(s.double(), y.double()) for s, y in pairs], gradient.double())
            cosine = torch.cosine_similarity(next_step, exact, dim=0)
            assert float(cosine) > 0.9999
        previous = point, gradient


def test_pairs_without_clearly_positive_curvature_are_not_kept() -> None:
    pairs = CurvaturePairs(torch.zeros(4, 3), 5)
    s = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    y = torch.tensor([[2.0, 1, 0], [-2, 1, 0], [0, 1, 0], [1e-10, 1, 0]])
    pairs.append(torch.tensor([True] * 4), s, y)
    assert pairs.counts.tolist() == [1, 0, 0, 0]
    gradients = torch.tensor([[0.0, 0, 3]]).repeat(4, 1)
    assert torch.equal(pairs.newton_directions(gradients)[1:], -gradients[1:])


def test_forgotten_pairs_leave_no_trace() -> None:
    generator = torch.Generator().manual_seed(2)
    cleared, fresh = CurvaturePairs(torch.zeros(2, 6), 3), CurvaturePairs(torch.zeros(2, 6), 3)
    every = torch.tensor([True, True])
    for _ in range(5):
        s = torch.randn(2, 6, generator=generator)
        cleared.append(every, s, 3 * s)
    cleared.clear(every)
    for _ in range(2):
        s, gradients = torch.randn(2, 6, generator=generator), torch.randn(2, 6, generator=generator)
        for pairs in (cleared, fresh):
            pairs.append(every, s, 2 * s)
        assert torch.equal(cleared.newton_directions(gradients), fresh.newton_directions(gradients))


def test_a_function_of_negative_curvature_is_still_lowered() -> None:
    (trace,) = minimise([lambda x: -(x - 120).square().sum()], start_points(1, torch.float64), 10)
    assert trace.best[-1] < trace.best[0]
    assert trace.stopped is None


def nan_at(function: Function, *calls: int) -> Function:
    """The same function, but not a number at some of its calls (from 1 on)."""
    count = 0

    def evaluate(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return function(x) * (torch.nan if count in calls else 1.0)

    return evaluate


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_loss_that_is_not_finite_once_costs_one_evaluation(bad: float) -> None:
    calls = 0

    def evaluate(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return quadratic(100)(x) * (bad if calls == 10 else 1.0)

    (trace,) = minimise([evaluate], start_points(1, torch.float64), 80)
    last_good = trace.trials[min(range(9), key=lambda i: trace.losses[i])]
    assert float((trace.trials[10] - last_good).abs().max()) == pytest.approx(SAFER_STEP)
    assert trace.best[9] == trace.best[8]
    assert trace.best[-1] < 1e-3 * trace.best[8]
    assert trace.stopped is None


def test_a_gradient_that_is_not_finite_counts_as_well() -> None:
    optimizer = LBFGS(torch.full((2, 3), 100.0), 5)
    ones = torch.ones(2, 3)
    optimizer.observe(torch.tensor([5.0, 5.0]), ones)
    optimizer.propose()
    optimizer.observe(torch.tensor([4.0, 4.0]), torch.tensor([[1.0, torch.nan, 1], [1, 1, 1]]))
    assert optimizer.losses.tolist() == [5.0, 4.0]
    assert (optimizer.propose() - optimizer.points)[0].abs().max() == SAFER_STEP


def test_a_loss_that_is_not_finite_again_stops_at_the_last_good_image() -> None:
    (trace,) = minimise([nan_at(rosenbrock, 8, 20)], start_points(1, torch.float64), 60)
    assert trace.stopped is StopReason.NOT_FINITE
    assert len(trace.trials) == 20
    best = min(range(19), key=lambda i: float("inf") if i == 7 else trace.losses[i])
    assert trace.point is not None
    assert torch.equal(trace.point, trace.trials[best])
    assert trace.best[-1] == trace.losses[best]


def test_a_start_that_is_not_finite_stops_at_once() -> None:
    start = start_points(1)
    (trace,) = minimise([nan_at(rosenbrock, 1)], start, 10)
    assert trace.stopped is StopReason.NOT_FINITE
    assert len(trace.trials) == 1
    assert trace.point is not None
    assert torch.equal(trace.point, start[0])


def test_a_gradient_of_zero_is_convergence() -> None:
    (trace,) = minimise([lambda x: (0 * x).sum() + 3], start_points(1), 10)
    assert trace.stopped is StopReason.CONVERGED
    assert trace.best == [3.0]


def test_no_descent_is_given_up_after_one_restart() -> None:
    """A gradient that points the wrong way: no step along it can help."""

    class Liar(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            return x.square().sum()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
            return -torch.ones(SIZE, dtype=torch.float64)

    start = start_points(1, torch.float64)
    (trace,) = minimise([lambda x: Liar.apply(x)], start, 100)
    assert trace.stopped is StopReason.NO_DESCENT
    assert len(trace.trials) <= 30
    assert trace.point is not None
    assert torch.equal(trace.point, start[0])
    steps = [float((trial - start[0]).abs().max()) for trial in trace.trials]
    assert steps[1] == pytest.approx(FIRST_STEP, rel=1e-4)
    assert any(step == pytest.approx(SAFER_STEP, rel=1e-4) for step in steps[5:])


def test_the_image_that_was_given_is_not_written_to() -> None:
    start = start_points(2)
    before = start.clone()
    minimise([rosenbrock, hills], start, 5)
    assert torch.equal(start, before)


def test_a_revised_objective_changes_the_losses_and_the_way_but_not_the_points() -> None:
    optimizer = LBFGS(start_points(2, torch.float64), 10)
    for _ in range(6):
        trials = optimizer.propose()
        optimizer.observe((trials - 100).square().sum(1), 2 * (trials - 100))
    points, losses = optimizer.points.clone(), optimizer.losses.clone()
    other_row = optimizer.propose()[1].clone()
    added = torch.zeros_like(points)
    added[0] = 1e4
    optimizer.revise(torch.tensor([7.0, 0.0], dtype=torch.float64), added)
    assert torch.equal(optimizer.points, points)
    assert torch.equal(optimizer.losses, losses + torch.tensor([7.0, 0.0]))
    proposed = optimizer.propose()
    assert torch.equal(proposed[1], other_row)
    assert (proposed[0] < points[0]).all()
