"""Publishing that changes nothing: for tests that look at the solver's own image."""

from torch import Tensor

from stylebatch.synthesis.problems import Published


def as_it_is(image: Tensor, number: int) -> Published:
    """The image, neither clipped nor rounded."""
    return Published(image, image, 0.0, {})
