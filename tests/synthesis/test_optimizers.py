"""Adam over a batch: the same steps as torch's, and per-image care for losses that are not finite."""

import pytest
import torch
from torch import Tensor

from stylebatch.synthesis.optimizers import Adam, StopReason

RATE = 4.0


def losses_and_gradients(points: Tensor) -> tuple[Tensor, Tensor]:
    """A bowl at 100 with a different curvature for every pixel."""
    curvatures = torch.linspace(0.01, 3, points.shape[1], dtype=points.dtype)
    return (curvatures * (points - 100).square()).sum(1) / 2, curvatures * (points - 100)


def start_points() -> Tensor:
    return 255 * torch.rand(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_steps_equal_torch_s_adam() -> None:
    start = start_points()
    ours = Adam(start, RATE)
    theirs = start.clone().requires_grad_()
    reference = torch.optim.Adam([theirs], lr=RATE)
    for _ in range(30):
        trial = ours.propose().clone()
        torch.testing.assert_close(trial, theirs.detach(), rtol=0, atol=1e-3)  # grey levels
        ours.observe(*losses_and_gradients(trial))
        theirs.grad = losses_and_gradients(theirs.detach())[1]
        reference.step()
    assert (ours.propose() - start).abs().max() > 20


def test_the_best_image_is_kept() -> None:
    optimizer = Adam(torch.zeros(2, 3), RATE)
    seen = []
    for losses in ([5.0, 5.0], [3.0, 6.0], [4.0, 4.0], [9.0, 9.0]):
        seen.append(optimizer.propose().clone())
        optimizer.observe(torch.tensor(losses), torch.tensor([[1.0, -1, 2], [0.5, 1, 1]]))
    assert optimizer.losses.tolist() == [3.0, 4.0]
    assert torch.equal(optimizer.points, torch.stack([seen[1][0], seen[2][1]]))
    assert optimizer.stopped == [None, None]


def test_a_loss_that_is_not_finite_goes_back_to_the_best_image_with_smaller_steps() -> None:
    optimizer, untouched = Adam(start_points(), RATE), Adam(start_points(), RATE)
    for evaluation in range(40):
        losses, gradients = losses_and_gradients(optimizer.propose())
        untouched.observe(*losses_and_gradients(untouched.propose()))
        if evaluation == 8:
            losses[0] = torch.nan
            best = optimizer.points[0].clone()
        optimizer.observe(losses, gradients)
        if evaluation == 8:
            assert torch.equal(optimizer.propose()[0], best)
        if evaluation == 9:
            assert (optimizer.propose()[0] - best).abs().max() == pytest.approx(RATE / 10, rel=1e-3)
        torch.testing.assert_close(optimizer.propose()[1], untouched.propose()[1])
    assert optimizer.stopped == [None, None]
    assert optimizer.losses[0] < losses_and_gradients(best[None])[0][0]


def test_a_loss_that_is_not_finite_again_stops_at_the_best_image() -> None:
    optimizer = Adam(start_points(), RATE)
    for evaluation in range(12):
        losses, gradients = losses_and_gradients(optimizer.propose())
        if evaluation in (4, 9):
            gradients[1, 3] = torch.inf
        assert optimizer.stopped == [None, None]
        best = optimizer.points[1].clone()
        optimizer.observe(losses, gradients)
        if evaluation == 9:
            break
    assert optimizer.stopped == [None, StopReason.NOT_FINITE]
    assert torch.equal(optimizer.points[1], best)
    assert torch.isfinite(optimizer.points).all()


def test_a_start_that_is_not_finite_stops_at_once() -> None:
    start = start_points()
    optimizer = Adam(start, RATE)
    _, gradients = losses_and_gradients(optimizer.propose())
    optimizer.observe(torch.tensor([torch.nan, 1.0], dtype=torch.float64), gradients)
    assert optimizer.stopped == [StopReason.NOT_FINITE, None]
    assert torch.equal(optimizer.points, start)


def test_kept_rows_go_on_as_before() -> None:
    optimizer, reduced = Adam(start_points(), RATE), Adam(start_points(), RATE)
    for evaluation in range(20):
        optimizer.observe(*losses_and_gradients(optimizer.propose()))
        reduced.observe(*losses_and_gradients(reduced.propose()))
        if evaluation == 7:
            reduced.keep(torch.tensor([1]))
    assert torch.equal(optimizer.propose()[1:], reduced.propose())
    assert torch.equal(optimizer.points[1:], reduced.points)
    assert len(reduced.stopped) == 1
