"""The way back through the poolings, against automatic differentiation."""

import pytest
import torch
from torch.nn import functional

from stylebatch.synthesis.poolings import POOLINGS
from stylebatch.synthesis.workspace import Workspace

OF_TORCH = {"average": functional.avg_pool2d, "max": functional.max_pool2d}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 6), (4, 7), (5, 3), (2, 2)])
def test_the_way_back_is_the_gradient(pooling: str, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    responses = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)
    responses = responses.contiguous(memory_format=torch.channels_last).requires_grad_()
    pooled = OF_TORCH[pooling](responses, 2)
    gradient = torch.rand(pooled.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(pooled, responses, gradient)
    own, back = POOLINGS[pooling](responses.detach(), Workspace())
    torch.testing.assert_close(own, pooled)
    torch.testing.assert_close(back(gradient), expected)
