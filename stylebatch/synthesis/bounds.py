"""Soft bounds: a penalty that keeps pixels within 0..255 while the solver works.

The paper is silent on pixels that leave the displayable range; clipping them at the end raises the loss of
the picture that people get. The penalty is ``stiffness * sum(outside^2)``, with ``outside`` the distance of a
pixel value to the range. Each image's stiffness starts as a share of its own first gradient, so that one
setting holds for every convention, size and weight, and grows while clipping would still cost too much (the
quadratic penalty method: Nocedal & Wright 2006, section 17.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stylebatch.synthesis.optimizers import keep_rows, restore_row, row_state

LOW, HIGH = 0.0, 255.0
FIRST_STIFFNESS = 0.04
"""Gradient of the penalty one grey level outside, in root mean squares of the first loss gradient."""
MOST_PENALTY = 0.01
"""Share of the loss. At a minimum of loss + penalty, clipping costs about twice the penalty."""
GROWTH = 4.0
"""Factor on the stiffness of an image whose penalty is too large."""
CHECK_EVERY = 80
"""Evaluations between two looks at the penalty."""


def outside_fraction(image: Tensor) -> float:
    """The share of an image's values that no picture can show."""
    return float(((image < LOW) | (image > HIGH)).float().mean())


@dataclass(frozen=True)
class Penalty:
    """The penalty of a batch of images at some point."""

    values: Tensor
    """``(B,)``."""
    gradients: Tensor
    """``(B, n)``."""


class SoftBounds:
    """The penalties of a batch of images."""

    def __init__(self, batch: int, device: torch.device) -> None:
        self._stiffness = torch.zeros(batch, device=device)

    def penalty(self, rows: Tensor, loss_gradients: Tensor) -> Penalty:
        """The penalty at images ``(B, n)`` in grey levels.

        Args:
            rows: The images.
            loss_gradients: The loss's gradients there; the first finite one sets an image's stiffness.
        """
        size = loss_gradients.square().mean(dim=1).sqrt()
        is_new = (self._stiffness == 0) & torch.isfinite(size)
        self._stiffness = torch.where(is_new, FIRST_STIFFNESS / 2 * size, self._stiffness)
        return _penalty(rows, self._stiffness)

    def tighten(self, rows: Tensor, losses: Tensor) -> Penalty | None:
        """Raise the stiffness of the images whose penalty is too large a share of their losses ``(B,)``.

        Returns:
            What that adds to the penalty at these images; None if nothing changed.
        """
        penalty = _penalty(rows, self._stiffness)
        too_large = penalty.values > MOST_PENALTY * losses
        if not bool(too_large.any()):
            return None
        added = torch.where(too_large, (GROWTH - 1) * self._stiffness, 0.0)
        self._stiffness = self._stiffness + added
        return _penalty(rows, added)

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these (indices)."""
        keep_rows(self, rows)

    def state(self, row: int) -> dict[str, Tensor]:
        """A copy, on the CPU, of what is known of one image."""
        return row_state(self, row)

    def restore(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` took."""
        restore_row(self, row, state)


def _penalty(rows: Tensor, stiffness: Tensor) -> Penalty:
    outside = rows - rows.clamp(LOW, HIGH)
    return Penalty(stiffness * outside.square().sum(dim=1), 2 * stiffness[:, None] * outside)
